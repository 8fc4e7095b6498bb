"""What reference runs show: their curves, what each must show, and whether it does."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from crossband import Model, load
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader
from crossband.evaluation.baselines import fit_baselines
from crossband.metrics import MODEL
from crossband.metrics.distances import kid_full
from crossband.metrics.extractors.thermal import thermal_signature
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.raster.grid import Window
from crossband.training import recipe
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

#: A recipe of several members: what they are worth as draws is the baseline of samplers.
MEMBERS = "rgb2nir/local-pyramid"
#: Cells of a picture along a side, of which gradients are counted for KID.
CELLS = 4
#: Draws of a sampler at a place, and places at most of which something is computed here.
DRAWS, PLACES = 16, 40
#: Metrics in which a system that learns from pairs must beat the mean; less is better in these.
LESS, MORE = ("mae", "rmse"), ("psnr", "ssim", "r")
#: Luminance of red, green and blue (ITU-R BT.601): colour taken for the target as it is.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

Array = NDArray[np.float32]


def wanted(name: str) -> tuple[str, ...]:
    """Return what a recipe's run shows beside its report, as `further` names it."""
    config = recipe.load(name)
    if config["method"]["class_path"] in ("FlowMatching", "Diffusion"):
        return ("draws", "members")
    if not config["data"]["init_args"].get("paired", True):
        return ("unpaired",)
    return ("shuffled",) if name.endswith("satclip") else ()


def further(
    name: str,
    folder: Path,
    known: Mapping[str, Any],
    *,
    manifest: Path | None = None,
    members: Path | None = None,
) -> dict[str, Any]:
    """Return what the report of a run does not have, and `known` lacks.

    draws: `_draws`, of the model. members: the same of the members of MEMBERS, fitted to the same
    rows; see `_members`. shuffled: `_shuffled`. unpaired: `_unpaired`. rows: the rows that
    draws and members are of.

    Args:
        name: the recipe.
        folder: of its run.
        known: what was found before.
        manifest: its pairs, by default pairs.csv of the folder.
        members: the model of MEMBERS, by default that in the folder.
    """
    found = dict(known)
    missing = [what for what in wanted(name) if what not in found]
    if not missing:
        return found
    model = load(folder / "run" / "model")
    table = manifests.read(manifest or folder / "pairs.csv")
    rows = table[table["split"] == "test"]
    if "rows" in found:  # those of an earlier run
        rows = rows[rows["row"].isin(found["rows"])]
    else:
        rows = rows.iloc[:: -(-len(rows) // PLACES)]  # of all families
    rows = rows.reset_index(drop=True)
    for what in missing:
        if what == "draws":
            found |= {"draws": _draws(model, rows), "rows": [int(row) for row in rows["row"]]}
        elif what == "members":
            found["members"] = _members(load(members or folder / "members" / "model"), rows)
        elif what == "shuffled":
            found["shuffled"] = _shuffled(model, rows)
        else:
            found["unpaired"] = _unpaired(model, table)
    return found


def read_pairs(model: Model, rows: pd.DataFrame) -> list[tuple[Window, Array, NDArray[np.bool_]]]:
    """Return source, target [C, H, W] in physical units and mask [H, W] of each place."""
    reader, found = PairReader(rows, model.signature, model.network.scale), []
    for position in range(len(rows)):
        info = reader.info(position)
        pixels = reader.read(position, info.grid.box)
        bands = tuple(model.signature.source)
        source = Window(pixels.source, pixels.source_mask, info.grid, bands, info.unit)
        if pixels.mask.any():
            found.append((source, pixels.target, pixels.mask))
    return found


def _draws(model: Model, rows: pd.DataFrame) -> dict[str, float]:
    """Judge DRAWS draws at each place as a distribution; see `judge_draws`."""
    return judge_draws(
        (
            np.stack(
                [
                    translate_window(model, source, TileOptions(seed=seed)).values[:, mask]
                    for seed in range(DRAWS)
                ]
            ),
            target[:, mask],
        )
        for source, target, mask in read_pairs(model, rows)
    )


def _members(model: Model, rows: pd.DataFrame) -> dict[str, float]:
    """Judge the members of an ensemble as draws; see `judge_draws`.

    This is the members' baseline: networks that differ in their start alone, trained on the same
    rows, are what one would take for draws without a sampler. The estimate of the score is fair for
    any number of draws, so that three members may be held against sixteen draws.
    """
    alone = copy.deepcopy(model)
    network = alone.network
    assert isinstance(network, LocalPyramid)  # MEMBERS
    members = list(network.members)

    def outputs(source: Window, mask: NDArray[np.bool_]) -> Array:
        found = []
        for member in members:
            network.members = nn.ModuleList([member])
            found.append(translate_window(alone, source).values[:, mask])
        return np.stack(found)

    return judge_draws((outputs(s, mask), t[:, mask]) for s, t, mask in read_pairs(model, rows))


def judge_draws(places: Iterable[tuple[Array, Array]]) -> dict[str, float]:
    """Judge draws [N, C, P] of a truth [C, P] at places as distributions, in physical units.

    crps: the mean of |draw - truth| minus half of that of |draw - other draw|, the fair estimate
    (Gneiting and Raftery 2007, eq. 21; Ferro 2014). Of one value it is the absolute error, so that
    it may be held against that of the line. spread_error: the rank correlation of the draws'
    standard deviation with the error of their mean, over places.
    """
    errors, scores, spreads = [], [], []
    for drawn, truth in places:
        errors.append(float(np.abs(drawn.mean(axis=0) - truth).mean()))
        scores.append(float(crps(drawn, truth).mean()))
        spreads.append(float(drawn.std(axis=0, ddof=1).mean()))
    return {
        "places": len(errors),
        "mae_of_mean": float(np.mean(errors)),
        "crps": float(np.mean(scores)),
        "spread": float(np.mean(spreads)),
        "spread_error": float(spearmanr(spreads, errors).statistic) if len(errors) > 2 else 0.0,
    }


def crps(drawn: Array, truth: Array) -> Array:
    """Return the continuous ranked probability score of draws [N, ...] of a truth [...]."""
    count = len(drawn)
    ordered = np.sort(drawn, axis=0)
    # The sum of |a - b| over all pairs, from the order: each value counts by its rank.
    ranks = 2.0 * np.arange(count) - count + 1.0
    apart = 2.0 * np.tensordot(ranks, ordered, axes=1) / (count * (count - 1))
    return np.asarray(np.abs(drawn - truth).mean(axis=0) - 0.5 * apart)


def _shuffled(model: Model, rows: pd.DataFrame) -> dict[str, float]:
    """Return the error with the right places, and with each place's picture at another one."""
    read = read_pairs(model, rows)
    found: dict[str, list[float]] = {"right": [], "shuffled": []}
    for number, (source, target, mask) in enumerate(read):
        other = read[(number + len(read) // 2) % len(read)][0].grid
        there = dataclasses.replace(other, height=source.grid.height, width=source.grid.width)
        for kind, grid in (("right", source.grid), ("shuffled", there)):
            out = translate_window(model, dataclasses.replace(source, grid=grid)).values
            found[kind].append(float(np.abs(out - target)[:, mask].mean()))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def luminance(source: Array) -> Array:
    """Return the luminance of red, green and blue [3, H, W]: [1, H, W]."""
    return np.asarray(np.tensordot(LUMINANCE, source, axes=1)[None], np.float32)


def _unpaired(model: Model, table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return MAE and KID of the model, of the mean of the training rows, and of luminance."""
    test, train = (
        table[table["split"] == split].reset_index(drop=True) for split in ("test", "train")
    )
    mean = fit_baselines(train, test, model.signature, 1)["mean"]
    places = read_pairs(model, test)
    names = (MODEL, "mean", "luminance")
    outputs: dict[str, list[Array]] = {name: [] for name in names}
    errors: dict[str, list[float]] = {name: [] for name in names}
    for source, target, mask in places:
        made = (
            translate_window(model, source).values,
            mean({}, source, source.grid).values,
            luminance(source.values),
        )
        for name, values in zip(names, made, strict=True):
            outputs[name].append(np.where(mask, values, np.nan))
            errors[name].append(float(np.abs(values - target)[:, mask].mean()))
    limits = model.signature.units[places[0][0].unit].target
    truth = described([np.where(mask, target, np.nan) for _, target, mask in places], limits)
    return {
        name: {
            "mae": float(np.mean(errors[name])),
            "kid": kid_full(truth, described(outputs[name], limits), paired=True),
        }
        for name in names
    }


def described(pictures: list[Array], limits: Sequence[tuple[float, float]]) -> Array:
    """Return features of pictures [C, H, W] that need no trained network, [N, D].

    They are those by which ThermalGAN's pictures are told from others (`thermal_signature`): of
    each band a histogram of its values and histograms of oriented gradients in CELLS x CELLS cells,
    each of length 1, of the middle that all pictures have. The weights of FID's Inception-v3 cannot
    be had without a network. So this KID can only be compared with itself. The features are scaled
    so that its kernel is (x . y + 1)^3.
    """
    side = min(min(p.shape[-2:]) for p in pictures) // CELLS * CELLS
    rows = []
    for picture in pictures:
        top, left = ((n - side) // 2 for n in picture.shape[-2:])
        middle = picture[:, top : top + side, left : left + side]
        parts = [
            thermal_signature(band, limits=limit, cell=side // CELLS)
            for band, limit in zip(middle, limits, strict=True)
        ]
        rows.append(np.concatenate(parts))
    found = np.stack(rows)
    return np.asarray(found * math.sqrt(found.shape[1]))


# The curve.


def curve(folder: Path, key: str = "val/score") -> pd.DataFrame:
    """Return the columns `step` and `value` of a logged number; none where nothing is logged."""
    path = folder / "run" / "logs" / "metrics.csv"
    log = pd.read_csv(path) if path.is_file() else pd.DataFrame()  # closed forms take no steps
    if key not in log:
        return pd.DataFrame({"step": [], "value": []})
    log = log[log[key].notna()].drop_duplicates("step", keep="last").sort_values("step")
    return pd.DataFrame({"step": log["step"].to_numpy(), "value": log[key].to_numpy()})


def slope(points: pd.DataFrame) -> float:
    """Return the slope over the last half of a curve, in per cent of its last value.

    It is that of a straight line, over as many steps as that half has: -1 says that going on for
    half as long again, at this rate, would lower the value by one per cent.
    """
    last = points.iloc[len(points) // 2 :]
    if len(last) < 2:
        return float("nan")
    x = last["step"].to_numpy(float)
    x = (x - x[0]) / (x[-1] - x[0])
    rate = np.polyfit(x, last["value"].to_numpy(float), 1)[0]
    return float(100.0 * rate / last["value"].iloc[-1])


# What each must show.


@dataclasses.dataclass(frozen=True)
class Claim:
    """A thing that a run must show.

    Attributes:
        text: what is compared, with its numbers.
        holds: whether it does.
    """

    text: str
    holds: bool


def less(what: str, value: float, than: str, other: float) -> Claim:
    """Claim that a value is below another one; NaN is not."""
    return Claim(f"{what} {value:.4f}, {than} {other:.4f}", bool(value < other))


def falls(what: str, points: pd.DataFrame) -> Claim:
    """Claim that the last fifth of a curve is below its first."""
    part = max(len(points) // 5, 1)
    first, last = points["value"].iloc[:part].mean(), points["value"].iloc[-part:].mean()
    return Claim(f"{what}: from {first:.4g} to {last:.4g}", bool(last < first))


def claims(name: str, folder: Path) -> list[Claim]:
    """Return what a finished run must show."""
    images = pd.read_csv(folder / "report" / "per_image.csv")
    means = {
        str(by): {str(k): float(v) for k, v in part.mean(numeric_only=True).items()}
        for by, part in images.groupby("by")
    }
    shown = json.loads((folder / "shown.json").read_text())
    config = recipe.load(name)
    method = config["method"]["init_args"]
    own = means[MODEL]
    found = [falls("error at unseen places", curve(folder))]
    line = next((b for b in ("linear", "bicubic") if b in means), None)
    if drawn := shown.get("draws"):
        same = images[(images["by"] == line) & images["row"].isin(shown["rows"])]
        base = float(same["mae"].mean())
        found += [
            less("MAE of the mean of 16 draws", drawn["mae_of_mean"], str(line), base),
            less("CRPS", drawn["crps"], f"absolute error of {line}", base),
            Claim(
                f"spread against error: rank correlation {drawn['spread_error']:.2f}",
                drawn["spread_error"] > 0,
            ),
        ]
        if members := shown.get("members"):
            found.append(less("CRPS", drawn["crps"], f"members of {MEMBERS}", members["crps"]))
    elif by := shown.get("unpaired"):
        found += [
            less(metric.upper(), by[MODEL][metric], other, by[other][metric])
            for metric in ("mae", "kid")
            for other in ("mean", "luminance")
        ]
        found.append(falls("cycle error", curve(folder, "loss/cycle")))
    else:
        if line:
            found.append(less("MAE", own["mae"], line, means[line]["mae"]))
        if "mean" in means:
            mean = means["mean"]
            found += [less(m.upper(), own[m], "mean", mean[m]) for m in LESS]
            found += [
                Claim(f"{m.upper()} {own[m]:.4f}, mean {mean[m]:.4f}", bool(own[m] > mean[m]))
                for m in MORE
                # The correlation of a constant is not defined.
                if m in own and np.isfinite(mean[m])
            ]
    if config["method"]["class_path"] == "ThermalGAN":
        found.append(less("histogram distance", own["swd"], "mean", means["mean"]["swd"]))
    if method.get("adversarial") == "wasserstein":
        points = curve(folder, "loss/discriminator")
        found.append(falls("critic's estimate", points.assign(value=-points["value"])))
    if moved := shown.get("shuffled"):
        found.append(less("MAE", moved["right"], "places shuffled", moved["shuffled"]))
    return found


def length(name: str, folder: Path) -> int:
    """Return how many samples a finished run saw."""
    given = dict(
        option.removeprefix("--").split("=", 1)
        for option in json.loads((folder / "shown.json").read_text())["options"]
    )
    config = recipe.load(name)
    batch = int(given.get("data.batch", config["data"]["init_args"]["batch"]))
    critic = int(config["method"]["init_args"].get("critic_steps", 1))
    return int(given["method.max_steps"]) * batch * critic


def table(names: list[str], runs: Path) -> str:
    """Return what each run shows, as Markdown."""
    return "\n".join([HEAD, *(row(name, name, runs / name) for name in names)])


#: The head of a table of `row`.
HEAD = "| recipe | samples | slope at the end | shows | does not show |\n" + "|" + "---|" * 5


def row(label: str, name: str, folder: Path) -> str:
    """Return what a run of a recipe shows, as a row of a table in Markdown."""
    if not (folder / "shown.json").is_file():
        return f"| `{label}` | not finished | | | |"
    known = json.loads((folder / "shown.json").read_text())
    if missing := [what for what in wanted(name) if what not in known]:
        return f"| `{label}` | not judged: {', '.join(missing)} | | | |"
    sides: dict[bool, list[str]] = {True: [], False: []}
    for claim in claims(name, folder):
        sides[claim.holds].append(claim.text)
    rate = slope(curve(folder))
    cells = [f"`{label}`", f"{length(name, folder):,}"]
    cells += [f"{rate:+.1f} %" if np.isfinite(rate) else "-"]
    cells += ["; ".join(sides[holds]) for holds in (True, False)]
    return "| " + " | ".join(cells) + " |"


def draw_curves(names: list[str], runs: Path) -> Path:
    """Draw the error at unseen places by steps, also of runs that go on; return the picture."""
    begun = {n: curve(runs / n) for n in names if (runs / n / "run/logs/metrics.csv").is_file()}
    figure = Figure(figsize=(10, 3.0 * max(-(-len(begun) // 3), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, points) in enumerate(begun.items()):
        axes = figure.add_subplot(-(-len(begun) // 3), 3, number + 1)
        axes.plot(points["step"], points["value"], color="#1f5f8b", marker=".")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("steps", fontsize=8)
        axes.set_ylabel("error, of the range", fontsize=8)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
    path = runs / "reference.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
