"""Numbers and pictures of finished reference runs, for docs/systems.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from reference import names
from reference_shown import claims, curve, length, read_pairs, slope
from systems_page import METRICS

from crossband import load
from crossband.data import manifest as manifests
from crossband.translate.window import translate_window

#: Places that are drawn: judged by every recipe of the task, whichever pairs it may use.
PLACES = {
    "rgb2nir": ("s2_l2a_ben_S2A_MSIL2A_20170617T113321_4_55", "s2_l2a_satclip_526850"),
    "sar2optical": (
        "bigearthnet_geo_S2A_MSIL2A_20170613T101031_87_48",
        "bigearthnet_geo_S2A_MSIL2A_20170617T113321_36_85",
    ),
    "rgb2thermal": ("part 4", "part 13"),
    "super-resolution": ("s2_l2a_ca_cody_20240608", "s2_l2a_barkbeetle_243584"),
}
#: Tasks whose images may not be handed on: of these only what a model made is drawn.
PRIVATE = {"rgb2thermal"}
#: Pixels of a picture's side.
SIDE = 128


def collect(runs: Path, pictures: Path) -> dict[str, Any]:
    """Return what finished runs show, and draw the picture of each."""
    found = {}
    for name in names():
        folder = runs / name
        if not (folder / "shown.json").is_file():
            continue
        images = pd.read_csv(folder / "report" / "per_image.csv")
        kept = [metric for metric in METRICS if metric in images]
        means = images.groupby("by", sort=False)[kept].mean()
        rate = slope(curve(folder))
        picture = draw(name, folder, pictures / f"{name.replace('/', '-')}.png")
        found[name] = {
            "samples": length(name, folder),
            "metrics": {
                str(by): {str(k): float(v) for k, v in row.items() if np.isfinite(v)}
                for by, row in means.iterrows()
            },
            "claims": [{"text": c.text, "holds": c.holds} for c in claims(name, folder)],
            "slope": float(rate) if np.isfinite(rate) else None,
            "picture": picture.name,
        }
    return found


def draw(name: str, folder: Path, path: Path) -> Path:
    """Draw the curve of a run, and its output at the places of its task."""
    from systems_doc import middle, palette, shown

    task = name.split("/", maxsplit=1)[0]
    model = load(folder / "run" / "model")
    rows = manifests.read(folder / "pairs.csv")
    rows = rows[(rows["split"] == "test") & ~rows.duplicated("group")]
    chosen = rows[rows["group"].isin(PLACES[task])]
    rows = (chosen if len(chosen) else rows.iloc[:2]).reset_index(drop=True)
    read = read_pairs(model, rows)
    columns = 1 if task in PRIVATE else 3
    figure = Figure(figsize=(3.4 + 1.7 * columns, 1.7 * len(read)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(read), columns + 1, width_ratios=[1.9] + [1.0] * columns)
    axes = figure.add_subplot(grid[:, 0])
    points = curve(folder)
    axes.plot(points["step"], points["value"], color="#1f5f8b", marker=".")
    axes.set_xlabel("steps", fontsize=8)
    axes.set_ylabel("error at unseen places, of the range", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    for line, (source, target, mask) in enumerate(read):
        output = translate_window(model, source).values
        low, high = np.percentile(target[:, mask], [1, 99])
        own = np.percentile(source.values[:, source.mask], [1, 99])
        panels = [
            ("source", shown(source.values, *own), SIDE // model.network.scale),
            ("target", shown(target, low, high), SIDE),
            ("output", shown(output, low, high), SIDE),
        ]
        for column, (title, values, side) in enumerate(panels[-columns:]):
            axes = figure.add_subplot(grid[line, column + 1])
            axes.imshow(middle(values, side), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if line == 0:
                axes.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    palette(path)
    return path
