"""The error of a model and of its baselines at places, and the ratio of the two with intervals.

A place is one unit of every mean, whichever number of pixels or files it has. An interval is a
bootstrap over regions (places within 50 km of each other), because places of one region are alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

#: Metrics whose ratios are told, with their names, and the column of the pixels that count.
METRICS = {"mae": "MAE", "NDVI_mae": "NDVI MAE"}
COUNTS = {"mae": "n_valid", "NDVI_mae": "NDVI_n", "bias": "n_valid"}
#: What is told of structure where it was measured, with its name in a table.
STRUCTURE = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "edge_f1": "edge F1",
    "improvement": "improvement",
    "omission": "omission",
    "hallucination": "hallucination",
}
COUNTS |= dict.fromkeys(STRUCTURE, "n_valid")
PLACE = ["family", "region", "group", "unit"]
#: Between the way in which a source was made and the sensors, in the name of a family.
MADE = ": "
DRAWS = 4000
#: Fewer regions than this have no interval.
FEWEST = 3


@dataclass(frozen=True)
class Ratio:
    """The geometric mean over places of model error / baseline error.

    Attributes:
        places: family of sensors, "all", or a way in which sources were made.
        count: number of places.
        baseline: name.
        metric: a key of `METRICS`.
        value: below 1 the model is better.
        low: of the 95 % interval; NaN where there are too few regions.
        high: of the interval.
        won: number of places at which the model is better.
    """

    places: str
    count: int
    baseline: str
    metric: str
    value: float
    low: float
    high: float
    won: int


def read_places(tables: Iterable[Path]) -> pd.DataFrame:
    """Return the errors at each place, from files `per_image.csv`: a row for each place and `by`.

    Raises:
        SystemExit: there is no file.
    """
    frames = [pd.read_csv(path) for path in tables]
    if not frames:
        raise SystemExit("nothing was judged yet")
    images = pd.concat(frames, ignore_index=True)
    columns = [c for c in COUNTS if c in images]
    rows = []
    for key, part in images.groupby([*PLACE, "by"]):
        row: dict[str, Any] = dict(zip([*PLACE, "by"], cast(tuple[str, ...], key), strict=True))
        for name in columns:
            known = part[(part[COUNTS[name]] > 0) & part[name].notna()]
            weights = known[COUNTS[name]]
            row[name] = float(np.average(known[name], weights=weights)) if len(known) else math.nan
        if part["n_valid"].sum() > 0:
            rows.append(row)
    return pd.DataFrame(rows)


def ratios(table: pd.DataFrame) -> list[Ratio]:
    """Return the ratios to each baseline: over all places, then over each family's.

    Where sources were made in several ways (`bicubic: HLS`), each way has a row in place of all.
    """
    metrics = [m for m in METRICS if m in table]
    wide = table.pivot(index=PLACE, columns="by", values=metrics)
    families = wide.index.get_level_values("family")
    ways = families.str.partition(MADE).get_level_values(0)
    several = sorted(set(ways)) if families.str.contains(MADE).all() else []
    parts = {way: wide[ways == way] for way in several} or {"all": wide}
    parts |= {name: wide[families == name] for name in sorted(set(families))}
    out = []
    for name, part in parts.items():
        for baseline in baselines(table):
            for metric in metrics:
                ratio = part[metric]["model"] / part[metric][baseline]
                logs = pd.Series(np.log(ratio)).replace([np.inf, -np.inf], np.nan).dropna()
                if len(logs):
                    out.append(_ratio(name, baseline, metric, logs))
    return out


def overall(found: Sequence[Ratio]) -> list[Ratio]:
    """Return the ratios over all places, for each way in which sources were made."""
    ways = {r.places.partition(MADE)[0] for r in found if MADE in r.places} or {"all"}
    return [r for r in found if r.places in ways]


def baselines(table: pd.DataFrame) -> list[str]:
    """Return the names of the baselines, the hardest to beat first."""
    error = table.groupby("by")["mae"].mean().drop("model").sort_values()
    return [str(name) for name in error.index]


def _ratio(name: str, baseline: str, metric: str, logs: pd.Series) -> Ratio:
    regions = logs.groupby(level="region").agg(["sum", "size"])
    low = high = math.nan
    if len(regions) >= FEWEST:
        drawn = np.random.default_rng(0).integers(len(regions), size=(DRAWS, len(regions)))
        sums, sizes = (regions[c].to_numpy()[drawn].sum(axis=1) for c in ("sum", "size"))
        low, high = np.exp(np.percentile(sums / sizes, [2.5, 97.5]))
    value, won = math.exp(logs.mean()), int((logs < 0).sum())
    return Ratio(name, len(logs), baseline, metric, value, float(low), float(high), won)


def ratio_table(found: dict[str, list[Ratio]]) -> str:
    """Return ratios as Markdown, those of several looks (inner folds, vault) side by side."""
    every = [ratio for ratios_ in found.values() for ratio in ratios_]
    metrics = [m for m in METRICS if any(r.metric == m for r in every)]
    rows = list(dict.fromkeys((r.places, r.baseline) for r in every))
    order = {name: n for n, name in enumerate(dict.fromkeys(r.places for r in every))}
    head = ["places", "baseline"]
    for look in found:
        of = f"{look}: " if len(found) > 1 else ""
        head += [f"{of}n", *(f"{of}{METRICS[m]}" for m in metrics)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for places, baseline in sorted(rows, key=lambda row: order[row[0]]):
        cells = [places, baseline]
        for ratios_ in found.values():
            own = {r.metric: r for r in ratios_ if (r.places, r.baseline) == (places, baseline)}
            cells.append(str(own["mae"].count) if "mae" in own else "-")
            cells += [_cell(own.get(metric)) for metric in metrics]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    between = "" if math.isnan(ratio.low) else f" ({ratio.low:.2f} to {ratio.high:.2f})"
    return f"{ratio.value:.2f}{between}, {ratio.won}"


def error_table(table: pd.DataFrame) -> str:
    """Return the mean errors over places as Markdown, for each family and unit."""
    who = ["model", *baselines(table)]
    metrics = [m for m in METRICS if m in table]
    head = ["sensors, unit", "places", *(f"{METRICS[m]} {w}" for m in metrics for w in who)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, part in table.groupby(["family", "unit"]):
        family, unit = cast(tuple[str, str], key)
        means = part.groupby("by")[metrics].mean()
        cells = [f"{float(means[m][w]):.4f}" for m in metrics for w in who]
        count = part[["region", "group"]].drop_duplicates().shape[0]
        lines.append(f"| {family}, {unit} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def structure_table(table: pd.DataFrame) -> str:
    """Return means over places of `STRUCTURE` as Markdown, for each way of making the source."""
    known = {k: v for k, v in STRUCTURE.items() if k in table}
    ways = table["family"].str.partition(MADE)[0]
    several = table["family"].str.contains(MADE).all()
    lines = ["| places | by | " + " | ".join(known.values()) + " |"]
    lines.append("|" + "---|" * (len(known) + 2))
    for way, part in table.groupby(ways if several else pd.Series("all", index=table.index)):
        means = part.replace(np.inf, np.nan).groupby("by")[list(known)].mean()
        for by in ("model", *baselines(table)):
            cells = [f"{means[m][by]:.2f}" if m == "psnr" else f"{means[m][by]:.3f}" for m in known]
            lines.append(f"| {way} | {by} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def losses(table: pd.DataFrame, found: Sequence[Ratio], worst: int = 5) -> str:
    """Return sentences that say where the model loses: families, and the worst places."""
    lost = [
        f"{r.places} to {r.baseline} in {METRICS[r.metric]} ({r.value:.2f})"
        for r in found
        if r.value >= 1
    ]
    said = f"It loses: {'; '.join(lost)}." if lost else "No family of sensors loses to a baseline."
    hardest = baselines(table)[0]
    wide = table.pivot(index=PLACE, columns="by", values="mae")
    ratio = (wide["model"] / wide[hardest]).sort_values(ascending=False).head(worst)
    places = zip(ratio.index.get_level_values("group"), ratio, strict=True)
    names = [f"{place} ({value:.2f})" for place, value in places]
    return f"{said} Places with the worst ratio to `{hardest}`: {', '.join(names)}."


def constant_share(table: pd.DataFrame) -> float:
    """Return the median over places of |mean error| / mean absolute error of the model."""
    own = table[table["by"] == "model"]
    return float((own["bias"].abs() / own["mae"]).median())
