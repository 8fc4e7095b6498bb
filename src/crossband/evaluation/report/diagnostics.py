"""Diagnostics of a model: training curves, location embedding, styles and discriminator maps.

Curves and discriminator come from the run folder that `fit` wrote around the model folder. They are
left out for a model without a run folder.
"""

from __future__ import annotations

import csv
import math
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossband.core.registry import build
from crossband.core.yaml_text import read_yaml
from crossband.errors import CrossbandError
from crossband.evaluation.report import plots
from crossband.evaluation.report.layers import picture_uri
from crossband.evaluation.report.pictures import stretch
from crossband.model import Model
from crossband.networks import Discriminator
from crossband.networks.conditions import Conditions, style_of
from crossband.networks.layers.location import LocationEncoder
from crossband.networks.size_limit import limit_of_weights
from crossband.raster.grid import Window

#: Largest number of curves, and of points of a curve.
MAX_CURVES, MAX_POINTS = 8, 400
#: Degrees between two places of the world map, and number of styles between two codes.
STEP, STYLES = 2, 5
#: Largest side of the central part of a pair that styles and discriminator maps show.
MAX_SIDE = 256

Curve = tuple[list[float], list[float]]


def training_curves(model: Model) -> list[dict[str, str]]:
    """Return the figure of the training curves; empty without a log."""
    run = _run_folder(model)
    logged = _read_log(run / "logs") if run is not None else {}
    wanted = [k for k in logged if k.startswith(("val/", "loss/"))]
    wanted.sort(key=lambda k: not k.startswith("val/"))
    selected = {k: _thin_out(logged[k]) for k in wanted[:MAX_CURVES] if len(logged[k][0]) > 1}
    if not selected:
        return []
    return [{"caption": "by generator step", **plots.curves(selected)}]


def _run_folder(model: Model) -> Path | None:
    """Return the folder of the run that trained the model; None if there is none."""
    if model.folder is None:
        return None
    run = model.folder.resolve().parent
    return run if (run / "config.yaml").is_file() else None


def _read_log(folder: Path) -> dict[str, Curve]:
    table = folder / "metrics.csv"
    if table.is_file():
        return _from_csv(table)
    if any(folder.glob("events.out.tfevents.*")):
        return _from_events(folder)
    return {}


def _from_csv(path: Path) -> dict[str, Curve]:
    out: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for key, text in row.items():
                if key != "step" and text and row.get("step"):
                    steps, values = out.setdefault(key, ([], []))
                    steps.append(float(row["step"]))
                    values.append(float(text))
    return out


def _from_events(folder: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    out = {}
    for key in events.Tags()["scalars"]:
        points = events.Scalars(key)
        out[key] = [float(p.step) for p in points], [float(p.value) for p in points]
    return out


def _thin_out(curve: Curve) -> Curve:
    """Return at most `MAX_POINTS` points, each the mean of neighbouring points."""
    steps, values = curve
    width = -(-len(steps) // MAX_POINTS)
    cut = range(0, len(steps), width)
    return (
        [float(np.mean(steps[i : i + width])) for i in cut],
        [float(np.mean(values[i : i + width])) for i in cut],
    )


def location_map(model: Model) -> list[dict[str, str]]:
    """Return a world map of the first three principal components of the location embedding.

    As in Klemmer et al. 2023 (SatCLIP): places of the same colour have similar embeddings. Empty
    for a model without a location encoder.
    """
    encoder = next((m for m in model.network.modules() if isinstance(m, LocationEncoder)), None)
    if encoder is None:
        return []
    lat = torch.arange(90 - STEP / 2, -90, -STEP, dtype=torch.float64)
    lon = torch.arange(-180 + STEP / 2, 180, STEP, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(lat, lon, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    with torch.no_grad():
        embedding = encoder.to("cpu")(places.float()).double().numpy()
    weight = np.cos(np.deg2rad(places[:, 1].numpy()))[:, None]  # area of a cell of the map
    centred = embedding - (embedding * weight).sum(axis=0) / weight.sum()
    _, singular, axes = np.linalg.svd(centred * np.sqrt(weight), full_matrices=False)
    components = (centred @ axes[:3].T).reshape(len(lat), len(lon), -1)
    picture = np.zeros((*components.shape[:2], 3), np.uint8)
    for n in range(components.shape[2]):
        low, high = stretch(components[..., n])
        picture[..., n] = np.clip(255 * (components[..., n] - low) / (high - low), 0, 255)
    share = float((singular[:3] ** 2).sum() / max((singular**2).sum(), 1e-12))
    words = f"red, green, blue: the first three principal components ({share:.0%} of the variance)"
    return [{"caption": words, "uri": picture_uri(picture), "alt": "The world by its embedding"}]


@torch.no_grad()
def style_sheet(model: Model, source: Window) -> list[dict[str, str]]:
    """Return a row of outputs of one source, with styles between two codes.

    The codes have the seeds 0 and 1. Between them w (or z, for a network without w) is
    interpolated linearly. Empty for a model without styles.
    """
    network = model.network
    if not network.style:
        return []
    x, _ = _normalised_centre(model, source)
    codes = [torch.from_numpy(style_of(seed, network.style))[None] for seed in (0, 1)]
    outputs = []
    for share in np.linspace(0, 1, STYLES):
        between: Any = getattr(network, "between", None)
        if between is not None:
            outputs.append(between(x, *codes, float(share)))
        else:
            code = torch.lerp(codes[0], codes[1], float(share))
            outputs.append(network.forward_conditioned(x, Conditions(style=code)))
    row = np.concatenate([m[0, 0].float().numpy() for m in outputs], axis=1)
    low, high = stretch(row)
    grey = np.clip(255 * (row - low) / (high - low), 0, 255).astype(np.uint8)
    words = f"{model.signature.target[0]} of one source; style 0 at the left, style 1 at the right"
    uri = picture_uri(np.repeat(grey[:, :, None], 3, axis=2))
    return [{"caption": words, "uri": uri, "alt": "Between two styles"}]


@torch.no_grad()
def discriminator_maps(
    model: Model, source: Window, target: Window, output: Window
) -> list[dict[str, str]]:
    """Return the feature maps of the discriminator for the true and the synthetic target.

    A map is the mean magnitude over the channels of a layer. The last map is the score. Both maps
    of a figure have the same scale. The discriminator comes from the last checkpoint of the run;
    empty without one.
    """
    discriminator = _discriminator(model)
    if discriminator is None or target.mask.shape != source.mask.shape:
        return []
    x, (rows, cols) = _normalised_centre(model, source)
    unit = source.unit
    maps = []
    for window in (target, output):
        values = torch.from_numpy(np.nan_to_num(window.values[:, rows, cols]).copy())[None]
        maps.append(discriminator.features(x, model.signature.normalise(values, [unit], "target")))
    out = []
    for part, (true, synthetic) in enumerate(zip(*maps, strict=True), start=1):
        for number, layers in enumerate(zip(true, synthetic, strict=True), start=1):
            last = number == len(true)
            pair = [(t[0].mean(0) if last else t[0].abs().mean(0)).float().numpy() for t in layers]
            low, high = stretch(np.concatenate([p.ravel() for p in pair]))
            gap = np.full((pair[0].shape[0], max(pair[0].shape[1] // 16, 1)), np.nan)
            sheet = np.concatenate([pair[0], gap, pair[1]], axis=1)
            what = "score" if last else f"layer {number}"
            words = f"discriminator {part}, {what}: true left, synthetic right"
            uri = picture_uri(_viridis(sheet, low, high))
            out.append({"caption": words, "uri": uri, "alt": words})
    return out


def _discriminator(model: Model) -> Discriminator | None:
    run = _run_folder(model)
    if run is None:
        return None
    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return None
    try:
        method = read_yaml(run / "config.yaml")["method"]["init_args"]
        spec = method["discriminator"]
        name = spec["class_path"].rsplit(".", 1)[-1]
        whole = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
        state = dict(_below(whole, "discriminator."))
        with limit_of_weights([value.numel() for value in state.values()]):
            network: Discriminator = build(Discriminator, name, dict(spec.get("init_args") or {}))
        network.load_state_dict(state)
    except (
        CrossbandError, OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError,
        pickle.UnpicklingError, zipfile.BadZipFile,
    ):  # fmt: skip
        return None  # a run of another version; the report is complete without these maps
    return network.eval()


def _below(state: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), value


def _normalised_centre(model: Model, source: Window) -> tuple[torch.Tensor, tuple[slice, slice]]:
    """Return the normalised central part of a source, [1, Cs, h, w], and its rows and columns."""
    slices = []
    for size in source.mask.shape:
        side = min(size, MAX_SIDE)
        first = (size - side) // 2
        slices.append(slice(first, first + side))
    rows, cols = slices
    values = torch.from_numpy(np.ascontiguousarray(source.values[:, rows, cols]))[None]
    return model.signature.normalise(values, [source.unit], "source"), (rows, cols)


def _viridis(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    large = max(1, math.ceil(160 / max(values.shape[0], 1)))
    colours = (colormaps["viridis"](np.nan_to_num(share))[..., :3] * 255).astype(np.uint8)
    colours[np.isnan(values)] = 255
    return np.asarray(colours.repeat(large, axis=0).repeat(large, axis=1))
