"""docs/systems.md: tables and pictures of the runs of `systems.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from systems_budget import BATCH, BUDGET, CROP, SEEDS

from crossband import Model, load
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader
from crossband.metrics import MODEL, Metric, describe
from crossband.raster.grid import Window
from crossband.training import recipe
from crossband.translate.window import translate_window

BASELINES = ("mean", "linear", "mlp", "bicubic")
METRICS = ("mae", "psnr", "ssim", "r", "NDVI_mae", "EVI_mae")
TITLES = {
    "rgb2nir": "RGB to near infrared",
    "sar2optical": "Radar to colour",
    "rgb2thermal": "RGB to thermal",
    "super-resolution": "Coarse to fine, x2",
}
DATA = {
    "rgb2nir": "Sentinel-2 and HLS scenes in reflectance; the places of the first fold of the "
    "bundled model are judged.",
    "sar2optical": "Sentinel-1 VV and VH in decibels to Sentinel-2 red, green and blue in "
    "reflectance: TerraMesh and BigEarthNet; every third place is judged. Seven pairs are far too "
    "few to say which recipe is better.",
    "rgb2thermal": "RoadScene: 8-bit pictures of a car's cameras, thermal with automatic gain. A "
    "part begins where 100 frames of the drive or more are missing, and every third part is "
    "judged. Its own split (`run --own-split`) judges one stretch of road of another brightness, "
    "where pix2pix gets worse the longer it learns: seed 0 has 0.178 after 1,500 samples and 0.192 "
    "after 6,000 (`--budget 6000`), `mean` 0.184. Its pictures are for research and are not shown "
    "here: only what the models made of one.",
    "super-resolution": "Red, green and blue of Sentinel-2, HLS and Landsat scenes in reflectance; "
    "the source is made by MATLAB's bicubic resize. The places of the first fold of the bundled "
    "models are judged.",
}
#: Tasks whose images may not be handed on: of these only what a model made is drawn.
PRIVATE = {"rgb2thermal"}
#: Pixels of a picture's side, and dots per inch.
SIDE, DPI = 128, 110


def write(runs: Path, docs: Path, to_json: Path | None) -> None:
    """Write docs/systems.md and its pictures from the finished runs in a folder."""
    numbers = collect(runs)
    (docs / "systems").mkdir(exist_ok=True)
    parts = [_head(CROP, BATCH, SEEDS)]
    missing = [n for n in recipe.available() if n not in numbers]
    if missing:
        parts.append(f"Not run yet: {', '.join(f'`{n}`' for n in missing)}.")
    for task in BUDGET:
        own = {n: v for n, v in numbers.items() if n.split("/")[0] == task}
        if not own:
            continue
        picture = draw(task, own, runs, docs / "systems" / f"{task}.png")
        judged = manifests.read(runs / f"{task}.csv")
        count = judged["split"].value_counts()
        parts.append(
            f"## {TITLES[task]}\n\n{DATA[task]} {count['train']} pairs to train on, "
            f"{count['test']} to judge; **{BUDGET[task]:,} samples** seen by each recipe.\n\n"
            f"{table(own)}\n\n"
            f"![{_drawn(task)} of one judged pair, a row for each recipe]"
            f"(systems/{picture.name})"
        )
    (docs / "systems.md").write_text("\n\n".join(parts) + "\n")
    if to_json:
        to_json.write_text(json.dumps(numbers, indent=1) + "\n")
    print(docs / "systems.md")


def _drawn(task: str) -> str:
    return "Output" if task in PRIVATE else "Source, target, output and error"


def collect(runs: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured: recipe -> seeds, metrics over the seeds, facts of the run."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(runs.glob("*/*/seed-*/run.json")):
        name = "/".join(path.parts[-4:-2])
        images = pd.read_csv(path.parent / "report" / "per_image.csv")
        images = images[images["by"] == MODEL]  # baselines are recipes here
        own = found.setdefault(name, {"seeds": [], "metrics": {}, "seconds": []})
        own["seeds"].append(int(path.parts[-2].split("-")[1]))
        own["seconds"].append(json.loads(path.read_text())["seconds"]["fit"])
        for metric in METRICS:
            # NaN is what the truth does not define (r of a flat target), for every recipe alike;
            # an output that is not finite must not pass for it.
            if metric in images and not images["n_nonfinite"].any():
                own["metrics"].setdefault(metric, []).append(float(images[metric].mean()))
        config = recipe.load(name)
        own["paired"] = config["data"]["init_args"].get("paired", True)
        own["method"] = config["method"]["class_path"]
        own["parameters"] = load(path.parent / "run" / "model").parameters_total
    return found


def table(numbers: dict[str, dict[str, Any]]) -> str:
    """Return the table of a task: the baselines first, then the recipes by MAE."""
    metrics = [m for m in METRICS if any(m in v["metrics"] for v in numbers.values())]
    names = sorted(numbers, key=lambda n: (_order(n), np.mean(numbers[n]["metrics"]["mae"])))
    mean = next((numbers[n] for n in names if n.endswith("/mean")), None)
    heads = ["recipe", "method", "pairs", "weights", "seeds", *(_heading(m) for m in metrics)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        own = numbers[name]
        cells = [f"`{name.split('/')[1]}`", own["method"], "yes" if own["paired"] else "no"]
        cells += [f"{own['parameters']:,}", str(len(own["seeds"]))]
        for m in metrics:
            values = own["metrics"].get(m, [])
            cells.append(_cell(values, _metric(m).format))
            if m == "mae" and mean is not None and values:
                worse = np.mean(values) > np.mean(mean["metrics"]["mae"])
                cells[-1] += " *" if worse else ""
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _metric(name: str) -> Metric:
    found = describe(name)
    assert found is not None
    return found


def _heading(name: str) -> str:
    about = _metric(name)
    return f"{about.heading}, dB" if about.unit == "dB" else about.heading


def _order(name: str) -> int:
    stem = name.split("/")[1]
    return BASELINES.index(stem) if stem in BASELINES else len(BASELINES)


def _cell(values: list[float], form: str) -> str:
    """Mean and spread: half the distance between the smallest and the largest."""
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return "-"
    words = format(np.mean(known), form)
    return words if len(known) == 1 else f"{words} ± {format(np.ptp(known) / 2, form)}"


def draw(task: str, numbers: dict[str, dict[str, Any]], runs: Path, path: Path) -> Path:
    """Draw one judged pair, the one in the middle of the table, with a row for each recipe."""
    rows = manifests.read(runs / f"{task}.csv")
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    rows = rows.iloc[[len(rows) // 2]].reset_index(drop=True)
    names = sorted(numbers, key=lambda n: (_order(n), np.mean(numbers[n]["metrics"]["mae"])))
    columns = 1 if task in PRIVATE else 4
    width = columns * 1.5 + 1.7
    figure = Figure(figsize=(width, len(names) * 1.5 + 0.3), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), columns, squeeze=False)
    figure.subplots_adjust(1.65 / width, 0.005, 0.995, 1 - 0.3 / figure.get_figheight(), 0.03, 0.03)
    for number, (line, name) in enumerate(zip(axes, names, strict=True)):
        seed = min(numbers[name]["seeds"])
        model = load(runs / name / f"seed-{seed}" / "run" / "model")
        source, target = _pair(model, rows)
        output = translate_window(model, source)
        low, high = np.percentile(target.values[:, target.mask], [1, 99])
        scale = model.network.scale
        error = np.abs(output.values - target.values).mean(axis=0)
        own = np.percentile(source.values[:, source.mask], [1, 99])
        pictures = [
            (_shown(source.values, *own), f"source, {model.network.in_channels} band(s)"),
            (_shown(target.values, low, high), "target"),
            (_shown(output.values, low, high), "output"),
            (error, "|error|"),
        ]
        if columns == 1:  # the error, too, would show the picture that may not be shown
            pictures = pictures[2:3]
        for axis, (values, title) in zip(line, pictures, strict=True):
            side = SIDE // scale if title.startswith("source") else SIDE
            cut = _middle(values, side)
            if title == "|error|":
                axis.imshow(cut, cmap="magma", vmin=0, vmax=(high - low) / 2)
            else:
                axis.imshow(cut, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if number == 0:
                axis.set_title(title.split(",")[0], fontsize=9)
        line[0].set_ylabel(name.split("/")[1], rotation=0, ha="right", va="center", fontsize=8)
    figure.savefig(path)
    _palette(path)
    return path


def _palette(path: Path) -> None:
    """Store the picture with 256 colours: a third of the bytes, and no difference to be seen."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def _pair(model: Model, rows: pd.DataFrame) -> tuple[Window, Window]:
    reader = PairReader(rows, model.signature, model.network.scale)
    info = reader.info(0)
    pixels = reader.read(0, info.grid.box)
    signature, unit = model.signature, info.unit
    fine = info.grid.zoom(model.network.scale)
    source = Window(pixels.source, pixels.source_mask, info.grid, tuple(signature.source), unit)
    target = Window(
        pixels.target, pixels.mask, fine, tuple(signature.target), signature.target_unit(unit)
    )
    return source, target


def _shown(values: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """Return one band, or the first three as colours, between low and high as 0..1."""
    values = values[:3] if len(values) >= 3 else values[:1]
    shown = np.clip((values - low) / max(high - low, 1e-9), 0, 1).transpose(1, 2, 0)
    return shown[..., 0] if shown.shape[2] == 1 else shown


def _middle(values: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    top, left = ((n - min(side, n)) // 2 for n in values.shape[:2])
    return values[top : top + side, left : left + side]


def _head(crop: int, batch: int, seeds: tuple[int, ...]) -> str:
    return f"""\
# How do the recipes compare after a short training?

Each bundled recipe was trained for a few minutes on a CPU on real pairs of its task, and judged on
pairs that it never saw. This answers two questions. Does every system train, save and translate on
real images? Is it better than a trivial baseline after so few samples? It does not say how good a
system is when it is trained as its paper does: that takes a hundred to ten thousand times as many
samples.

    python benchmarks/systems.py run --data FOLDER
    python benchmarks/systems.py doc

All recipes of a task have the same pairs, the same number of samples, crops of at most {crop}
pixels, and batches of {batch}. A network of over a million parameters runs at a quarter of its
width. Parts for which a crop of {crop} is too small are left out (levels of a U-Net, a scale of a
discriminator). Numbers of steps in a recipe are scaled with the length of the training. Nothing
was tuned. The baselines `mean`,
`linear`, `mlp` are fitted as their own recipes say, on the same pairs.

Each number is the mean over the judged pictures (at most 256 x 256 pixels from the middle of
each), then over the seeds ({", ".join(map(str, seeds))}; `seeds` says how many were run, one where
nothing is random); ± is half the distance between the lowest and the highest seed. `*` marks
what is worse than `mean` in MAE. `pairs` says whether the recipe learns from pairs. `weights`
counts the generator as it was run. Pictures: one judged pair, the middle of the list; the first
seed; the error from 0 to half of the target's range."""
