"""What a look inside a model shows: curves of its training, its world, its styles, its judge.

All of it is drawn from what lies beside the model folder, where `fit` left it, and left out where
it is not there: a model that came alone has no run.
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
import yaml
from numpy.typing import NDArray

from crossband.core.registry import build
from crossband.errors import CrossbandError
from crossband.evaluation.report import plots
from crossband.evaluation.report.layers import picture_uri
from crossband.evaluation.report.pictures import stretch
from crossband.model import Model
from crossband.networks import Discriminator
from crossband.networks.conditions import Conditions, style_of
from crossband.networks.layers.location import LocationEncoder
from crossband.raster.grid import Window

#: Curves that are drawn, and points of one: more cannot be told apart.
CURVES, POINTS = 8, 400
#: Degrees between two places of the world map, and styles from one code to another.
STEP, STYLES = 2, 5
#: Side of the window of a pair that styles and discriminators are shown on.
SIDE = 256

Curve = tuple[list[float], list[float]]


def curves(model: Model) -> list[dict[str, str]]:
    """Return the figure of what the model's run logged; none where there is no log."""
    run = _run(model)
    found = _logged(run / "logs") if run is not None else {}
    wanted = [k for k in found if k.startswith(("val/", "loss/"))]
    wanted.sort(key=lambda k: not k.startswith("val/"))
    chosen = {k: _thinned(found[k]) for k in wanted[:CURVES] if len(found[k][0]) > 1}
    if not chosen:
        return []
    return [{"caption": "by generator step", **plots.curves(chosen)}]


def _run(model: Model) -> Path | None:
    """Return the folder of the run that left the model; None where it came alone."""
    if model.folder is None:
        return None
    run = model.folder.resolve().parent
    return run if (run / "config.yaml").is_file() else None


def _logged(folder: Path) -> dict[str, Curve]:
    table = folder / "metrics.csv"
    if table.is_file():
        return _from_csv(table)
    if any(folder.glob("events.out.tfevents.*")):
        return _from_events(folder)
    return {}


def _from_csv(path: Path) -> dict[str, Curve]:
    out: dict[str, Curve] = {}
    with path.open(newline="") as lines:
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


def _thinned(curve: Curve) -> Curve:
    """Return at most `POINTS` means of neighbouring points."""
    steps, values = curve
    width = -(-len(steps) // POINTS)
    cut = range(0, len(steps), width)
    return (
        [float(np.mean(steps[i : i + width])) for i in cut],
        [float(np.mean(values[i : i + width])) for i in cut],
    )


def world(model: Model) -> list[dict[str, str]]:
    """Return the world coloured by the first three principal components of its embedding.

    As Klemmer et al. 2023 (SatCLIP) show it: places of one colour are alike to the network. None
    for a model without a location encoder.
    """
    encoder = next((m for m in model.network.modules() if isinstance(m, LocationEncoder)), None)
    if encoder is None:
        return []
    lat = torch.arange(90 - STEP / 2, -90, -STEP, dtype=torch.float64)
    lon = torch.arange(-180 + STEP / 2, 180, STEP, dtype=torch.float64)
    places = torch.stack(torch.meshgrid(lat, lon, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    with torch.no_grad():
        found = encoder.to("cpu")(places.float()).double().numpy()
    weight = np.cos(np.deg2rad(places[:, 1].numpy()))[:, None]  # a degree is less ground up north
    centred = found - (found * weight).sum(axis=0) / weight.sum()
    _, spread, axes = np.linalg.svd(centred * np.sqrt(weight), full_matrices=False)
    parts = (centred @ axes[:3].T).reshape(len(lat), len(lon), -1)
    picture = np.zeros((*parts.shape[:2], 3), np.uint8)
    for n in range(parts.shape[2]):
        low, high = stretch(parts[..., n])
        picture[..., n] = np.clip(255 * (parts[..., n] - low) / (high - low), 0, 255)
    share = float((spread[:3] ** 2).sum() / max((spread**2).sum(), 1e-12))
    words = f"red, green, blue: the first three principal components ({share:.0%} of the variance)"
    return [{"caption": words, "uri": picture_uri(picture), "alt": "The world by its embedding"}]


@torch.no_grad()
def styles(model: Model, source: Window) -> list[dict[str, str]]:
    """Return targets of one source whose style goes from one code to another, in a row.

    Codes are drawn from seeds 0 and 1; between them w (or z, where a network has no w) moves on a
    straight line. None for a model without styles.
    """
    network = model.network
    if not network.style:
        return []
    x, _ = _normal(model, source)
    codes = [torch.from_numpy(style_of(seed, network.style))[None] for seed in (0, 1)]
    made = []
    for share in np.linspace(0, 1, STYLES):
        between: Any = getattr(network, "between", None)
        if between is not None:
            made.append(between(x, *codes, float(share)))
        else:
            code = torch.lerp(codes[0], codes[1], float(share))
            made.append(network.forward_conditioned(x, Conditions(style=code)))
    row = np.concatenate([m[0, 0].float().numpy() for m in made], axis=1)
    low, high = stretch(row)
    grey = np.clip(255 * (row - low) / (high - low), 0, 255).astype(np.uint8)
    words = f"{model.signature.target[0]} of one source; style 0 at the left, style 1 at the right"
    uri = picture_uri(np.repeat(grey[:, :, None], 3, axis=2))
    return [{"caption": words, "uri": uri, "alt": "Between two styles"}]


@torch.no_grad()
def judged(model: Model, source: Window, target: Window, output: Window) -> list[dict[str, str]]:
    """Return what each layer of the discriminator finds in the true and in the synthetic target.

    A map is the mean magnitude over a layer's channels; the last is the score, both on one scale.
    From the run's last checkpoint: none where there is none, or a run without discriminator.
    """
    found = _discriminator(model)
    if found is None or target.mask.shape != source.mask.shape:
        return []
    x, box = _normal(model, source)
    rows, cols = box
    unit = source.unit
    maps = []
    for window in (target, output):
        values = torch.from_numpy(np.nan_to_num(window.values[:, rows, cols]).copy())[None]
        maps.append(found.features(x, model.signature.normalise(values, [unit], "target")))
    out = []
    for judge, (true, made) in enumerate(zip(*maps, strict=True)):
        for number, (one, two) in enumerate(zip(true, made, strict=True), start=1):
            last = number == len(true)
            pair = [
                (t[0].mean(0) if last else t[0].abs().mean(0)).float().numpy() for t in (one, two)
            ]
            low, high = stretch(np.concatenate([p.ravel() for p in pair]))
            gap = np.full((pair[0].shape[0], max(pair[0].shape[1] // 16, 1)), np.nan)
            sheet = np.concatenate([pair[0], gap, pair[1]], axis=1)
            what = "score" if last else f"layer {number}"
            words = f"judge {judge + 1}, {what}: true left, synthetic right"
            uri = picture_uri(_viridis(sheet, low, high))
            out.append({"caption": words, "uri": uri, "alt": words})
    return out


def _discriminator(model: Model) -> Discriminator | None:
    run = _run(model)
    last = None if run is None else run / "checkpoints" / "last.ckpt"
    if run is None or last is None or not last.is_file():
        return None
    try:
        method = yaml.safe_load((run / "config.yaml").read_text())["method"]["init_args"]
        spec = method["discriminator"]
        name = spec["class_path"].rsplit(".", 1)[-1]
        network: Discriminator = build(Discriminator, name, dict(spec.get("init_args") or {}))
        state = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
        own = dict(_under(state, "discriminator."))
        network.load_state_dict(own)
    except (
        CrossbandError, OSError, KeyError, TypeError, ValueError, RuntimeError,
        yaml.YAMLError, pickle.UnpicklingError, zipfile.BadZipFile,
    ):  # fmt: skip
        return None  # another version's run, or none of ours: the report does not hang on it
    return network.eval()


def _under(state: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), value


def _normal(model: Model, source: Window) -> tuple[torch.Tensor, tuple[slice, slice]]:
    """Return the normalised middle of a source, [1, Cs, h, w], and where it lies."""
    slices = []
    for size in source.mask.shape:
        side = min(size, SIDE)
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
