"""docs/systems.md: numbers and pictures of finished runs, for the page of `systems_page.py`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import relations_shown
import systems_page
import systems_reference
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
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
    finished, the numbers and pictures in docs stay. Its finished runs are kept in docs/systems
    (runs.json, rows), so that the others may be run at another time or on another machine.

    Args:
        runs: of `systems.py run`.
        docs: folder of the page.
        root: folder with the runs `reference` and `relations`.
    """
    rows = docs / "systems" / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    shown, store = json.loads((docs / "systems.json").read_text()), docs / "systems" / "runs.json"
    kept = json.loads(store.read_text()) if store.is_file() else {}
    for task in BUDGET:
        new = collect(runs, task)
        if not new:
            continue
        count = manifests.read(runs / f"{task}.csv")["split"].value_counts()
        facts = {"train": int(count["train"]), "test": int(count["test"]), "samples": BUDGET[task]}
        for name, own in new.items():
            seed = runs / name / f"seed-{min(own['seeds'])}"
            points = curve(seed)
            own["curve"] = [[int(s), float(v)] for s, v in points.itertuples(index=False)]
            row(task, seed, runs / f"{task}.csv").save(rows / f"{name.replace('/', '-')}.png")
        before = kept.pop(task, None) or shown[task]
        same = all(before.get(key) == value for key, value in facts.items())
        numbers = joined(before["recipes"] if same else {}, new)
        if missing := unfinished(task, numbers):
            kept[task] = {**facts, "recipes": numbers}
            print(f"{task}: {len(missing)} recipes are not run; the page keeps its numbers")
            continue
        pictures = [rows / f"{name.replace('/', '-')}.png" for name in numbers]
        if all(path.is_file() for path in pictures):  # not where only seeds are added
            draw(task, numbers, rows, docs / "systems" / f"{task}.png")
        draw_curves(numbers, docs / "systems" / f"{task}-curves.png")
        shown[task] = {**facts, "recipes": numbers}
        for path in pictures:
            path.unlink(missing_ok=True)
    _json(docs / "systems.json", shown)
    _json(store, kept)
    path = docs / "systems" / "reference.json"
    long = json.loads(path.read_text()) if path.is_file() else {}
    _json(path, long | systems_reference.collect(root / "reference", docs / "systems"))
    path = docs / "relations.json"
    claims = json.loads(path.read_text()) if path.is_file() else []
    _json(path, relations_shown.merged(claims, relations_shown.collect(root / "relations")))
    (docs / "systems.md").write_text(systems_page.page(docs))
    print(docs / "systems.md")


def joined(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of recipes, with those of seeds that were run before and are not there."""
    found = dict(before)
    for name, own in new.items():
        old = before.get(name, {"seeds": [], "seconds": [], "metrics": {}})
        others = [n for n, seed in enumerate(old["seeds"]) if seed not in own["seeds"]]
        found[name] = own | {
            "seeds": own["seeds"] + [old["seeds"][n] for n in others],
            "seconds": own["seconds"] + [old["seconds"][n] for n in others],
            "metrics": {
                metric: values + [old["metrics"].get(metric, [])[n] for n in others]
                for metric, values in own["metrics"].items()
            },
        }
    return found


def unfinished(task: str, numbers: Collection[str]) -> list[str]:
    """Return the recipes of a task that have no numbers; those with a long run need none."""
    found = [n for n in recipe.available() if n.split("/")[0] == task]
    found = [n for n in found if n.split("/")[1] not in LEFT_OUT]
    return [n for n in found if n not in numbers and not recipe.load(n).get("reference")]


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


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


def row(task: str, run: Path, manifest: Path) -> Image.Image:
    """Return the panels of one judged pair, the one in the middle of the table, side by side.

    Args:
        task: where images may not be handed on, the output is the only panel.
        run: with a fitted model.
        manifest: the pairs of the task.
    """
    pairs = manifests.read(manifest)
    pairs = pairs[pairs["split"] == "test"].reset_index(drop=True)
    model = load(run / "run" / "model")
    source, target = pair(model, pairs.iloc[[len(pairs) // 2]].reset_index(drop=True))
    output = translate_window(model, source)
    low, high = np.percentile(target.values[:, target.mask], [1, 99])
    own = np.percentile(source.values[:, source.mask], [1, 99])
    error = np.abs(output.values - target.values).mean(axis=0)
    fine = np.ones((model.network.scale, model.network.scale, 1))
    panels = [
        np.kron(_three(middle(shown(source.values, *own), SIDE // model.network.scale)), fine),
        _three(middle(shown(target.values, low, high), SIDE)),
        _three(middle(shown(output.values, low, high), SIDE)),
        matplotlib.colormaps["magma"](middle(error / ((high - low) / 2), SIDE))[..., :3],
    ]
    if task in PRIVATE:  # the error, too, would show the picture that may not be shown
        panels = panels[2:3]
    height = max(len(panel) for panel in panels)
    gap = np.ones((height, 4, 3))
    parts = []
    for panel in panels:
        parts += [np.pad(panel, [(0, height - len(panel)), (0, 0), (0, 0)]), gap]
    pixels = np.concatenate(parts[:-1], axis=1)
    return Image.fromarray((255 * pixels).round().astype(np.uint8)).quantize(256)


def _three(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return one band or colours as colours, [h, w, 3]."""
    values = values if values.ndim == 3 else values[..., None]
    return np.broadcast_to(values, (*values.shape[:2], 3))


def draw(task: str, numbers: dict[str, dict[str, Any]], rows: Path, path: Path) -> Path:
    """Draw the rows of all recipes of a task, baselines first."""
    names = sorted(numbers, key=lambda n: (order(n), np.mean(numbers[n]["metrics"]["mae"])))
    titles = ["output"] if task in PRIVATE else ["source", "target", "output", "|error|"]
    width = len(titles) * 1.5 + 1.7
    figure = Figure(figsize=(width, len(names) * 1.5 + 0.3), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(1.65 / width, 0.005, 0.995, 1 - 0.3 / figure.get_figheight(), 0, 0.03)
    for number, (axis, name) in enumerate(zip(axes, names, strict=True)):
        with Image.open(rows / f"{name.replace('/', '-')}.png") as picture:
            axis.imshow(np.asarray(picture.convert("RGB")), interpolation="nearest")
            across = picture.width / len(titles)
        axis.set_xticks([(n + 0.5) * across for n in range(len(titles))] if number == 0 else [])
        if number == 0:
            axis.set_xticklabels(titles, fontsize=9)
            axis.xaxis.tick_top()
            axis.tick_params(length=0)
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(name.split("/")[1], rotation=0, ha="right", va="center", fontsize=8)
    figure.savefig(path)
    palette(path)
    return path


def draw_curves(numbers: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the error at unseen places by samples, of the first seed: a panel for each recipe."""
    curves = {
        name: np.array(own["curve"])
        for name, own in sorted(numbers.items())
        if len(own.get("curve", [])) > 1
    }
    if not curves:
        return
    lines = -(-len(curves) // 4)
    figure = Figure(figsize=(10, 1.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    # What a network says before it has learned anything may be far off.
    highest = 1.6 * max(float(np.median(points[:, 1])) for points in curves.values())
    for number, (name, points) in enumerate(curves.items()):
        axes = figure.add_subplot(lines, 4, number + 1)
        axes.plot(points[:, 0] * BATCH, points[:, 1], color="#1f5f8b", marker=".")
        axes.set_title(name.split("/")[1], fontsize=8)
        axes.set_ylim(0, highest)
        axes.tick_params(labelsize=6)
    figure.supxlabel("samples", fontsize=8)
    figure.supylabel("error, of the range", fontsize=8)
    figure.savefig(path, dpi=DPI)
    palette(path)


def palette(path: Path) -> None:
    """Store the picture with 256 colours: a third of the bytes, and no difference to be seen."""
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
