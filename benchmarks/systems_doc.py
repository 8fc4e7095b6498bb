"""docs/systems.md: numbers and pictures of finished runs, for the page of `systems_page.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import relations_shown
import systems_page
import systems_reference
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from reference_shown import curve
from systems_budget import BATCH, BUDGET, LEFT_OUT
from systems_page import METRICS, order

from crossband import Model, load
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader
from crossband.metrics import MODEL
from crossband.raster.grid import Window
from crossband.training import recipe
from crossband.translate.window import translate_window

#: Tasks whose images may not be handed on: of these only what a model made is drawn.
PRIVATE = {"rgb2thermal"}
#: Pixels of a picture's side, and dots per inch.
SIDE, DPI = 128, 110


def write(runs: Path, docs: Path, *, root: Path) -> None:
    """Write docs/systems.md from all finished runs, and their numbers and pictures into docs.

    Of a task whose recipes are not all run, and of reference runs and relations that are not
    finished, the numbers and pictures in docs stay.

    Args:
        runs: of `systems.py run`.
        docs: folder of the page.
        root: folder with the runs `reference` and `relations`.
    """
    (docs / "systems").mkdir(exist_ok=True)
    kept = json.loads((docs / "systems.json").read_text())
    for task in BUDGET:
        numbers = collect(runs, task)
        # Those with a reference run may have that one alone.
        needed = [n for n in names(task) if not recipe.load(n).get("reference")]
        missing = [n for n in needed if n not in numbers]
        if missing:
            print(f"{task}: {len(missing)} recipes are not run; its numbers stay as they are")
            continue
        draw(task, numbers, runs, docs / "systems" / f"{task}.png")
        draw_curves(numbers, runs, docs / "systems" / f"{task}-curves.png")
        count = manifests.read(runs / f"{task}.csv")["split"].value_counts()
        facts = {"train": int(count["train"]), "test": int(count["test"]), "samples": BUDGET[task]}
        kept[task] = {"by": "", **facts, "recipes": numbers}
    _json(docs / "systems.json", kept)
    path = docs / "systems" / "reference.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    _json(path, kept | systems_reference.collect(root / "reference", docs / "systems"))
    path = docs / "relations.json"
    claims = json.loads(path.read_text()) if path.is_file() else []
    _json(path, relations_shown.merged(claims, relations_shown.collect(root / "relations")))
    (docs / "systems.md").write_text(systems_page.page(docs))
    print(docs / "systems.md")


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def names(task: str) -> list[str]:
    """Return the recipes of a task that are run."""
    found = [n for n in recipe.available() if n.split("/")[0] == task]
    return [n for n in found if n.split("/")[1] not in LEFT_OUT]


def collect(runs: Path, task: str) -> dict[str, dict[str, Any]]:
    """Return what was measured: recipe -> seeds, metrics over the seeds, facts of the run."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(runs.glob(f"{task}/*/seed-*/run.json")):
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


def draw(task: str, numbers: dict[str, dict[str, Any]], runs: Path, path: Path) -> Path:
    """Draw one judged pair, the one in the middle of the table, with a row for each recipe."""
    rows = manifests.read(runs / f"{task}.csv")
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    rows = rows.iloc[[len(rows) // 2]].reset_index(drop=True)
    names = sorted(numbers, key=lambda n: (order(n), np.mean(numbers[n]["metrics"]["mae"])))
    columns = 1 if task in PRIVATE else 4
    width = columns * 1.5 + 1.7
    figure = Figure(figsize=(width, len(names) * 1.5 + 0.3), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), columns, squeeze=False)
    figure.subplots_adjust(1.65 / width, 0.005, 0.995, 1 - 0.3 / figure.get_figheight(), 0.03, 0.03)
    for number, (line, name) in enumerate(zip(axes, names, strict=True)):
        seed = min(numbers[name]["seeds"])
        model = load(runs / name / f"seed-{seed}" / "run" / "model")
        source, target = pair(model, rows)
        output = translate_window(model, source)
        low, high = np.percentile(target.values[:, target.mask], [1, 99])
        scale = model.network.scale
        error = np.abs(output.values - target.values).mean(axis=0)
        own = np.percentile(source.values[:, source.mask], [1, 99])
        pictures = [
            (shown(source.values, *own), f"source, {model.network.in_channels} band(s)"),
            (shown(target.values, low, high), "target"),
            (shown(output.values, low, high), "output"),
            (error, "|error|"),
        ]
        if columns == 1:  # the error, too, would show the picture that may not be shown
            pictures = pictures[2:3]
        for axis, (values, title) in zip(line, pictures, strict=True):
            side = SIDE // scale if title.startswith("source") else SIDE
            cut = middle(values, side)
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
    palette(path)
    return path


def draw_curves(numbers: dict[str, dict[str, Any]], runs: Path, path: Path) -> None:
    """Draw the error at unseen places by samples, of the first seed: a panel for each recipe."""
    curves = {}
    for name, own in sorted(numbers.items()):
        points = curve(runs / name / f"seed-{min(own['seeds'])}")
        if len(points) > 1:
            curves[name] = points
    if not curves:
        return
    lines = -(-len(curves) // 4)
    figure = Figure(figsize=(10, 1.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    highest = max(float(points["value"].quantile(0.9)) for points in curves.values())
    for number, (name, points) in enumerate(curves.items()):
        axes = figure.add_subplot(lines, 4, number + 1)
        axes.plot(points["step"] * BATCH, points["value"], color="#1f5f8b", marker=".")
        axes.set_title(name.split("/")[1], fontsize=8)
        axes.set_ylim(0, highest)  # one scale for all, so that they can be compared
        axes.tick_params(labelsize=6)
    figure.supxlabel("samples", fontsize=8)
    figure.supylabel("error, of the range", fontsize=8)
    figure.savefig(path, dpi=DPI)
    palette(path)


def palette(path: Path) -> None:
    """Store the picture with 256 colours: a third of the bytes, and no difference to be seen."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def pair(model: Model, rows: pd.DataFrame) -> tuple[Window, Window]:
    """Return source and target of the first row."""
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


def shown(values: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """Return one band, or the first three as colours, between low and high as 0..1."""
    values = values[:3] if len(values) >= 3 else values[:1]
    shown = np.clip((values - low) / max(high - low, 1e-9), 0, 1).transpose(1, 2, 0)
    return shown[..., 0] if shown.shape[2] == 1 else shown


def middle(values: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Return the middle of a picture, at most `side` high and wide."""
    top, left = ((n - min(side, n)) // 2 for n in values.shape[:2])
    return values[top : top + side, left : left + side]
