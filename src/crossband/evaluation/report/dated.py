"""An index over the dates of a place: true, synthetic, their difference. As NIR-GAN shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from crossband.evaluation.evaluation import Trial
from crossband.evaluation.report import plots
from crossband.evaluation.report.page import Block

#: Columns of a manifest that hold the date of a scene, the first that is there.
COLUMNS = ("datetime", "date", "acquired")
#: Places that are drawn: those with the most dates. A season needs this many dates.
PLACES, LEAST = 6, 3


def seasons(trial: Trial, records: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return a figure for each of the places with most dates; none without a column of dates."""
    column = next((c for c in COLUMNS if c in trial.table.columns), None)
    if column is None:
        return []
    dates = pd.to_datetime(trial.table[column], errors="coerce", utc=True, format="ISO8601")
    places: dict[tuple[str, str], list[tuple[Any, float, float]]] = {}
    for record in records:
        date = dates.iloc[record["position"]]
        index = next((i for i in trial.indices if f"{i}_true" in record), None)
        if index is None or pd.isna(date):
            continue
        true, made = record[f"{index}_true"], record[f"{index}_synthetic"]
        if math.isfinite(true) and math.isfinite(made):
            group = str(trial.rows[record["position"]]["group"])
            places.setdefault((index, group), []).append((date, true, made))
    order = sorted(places, key=lambda k: (-len(places[k]), k))
    figures = []
    for key in [k for k in order if len({d for d, _, _ in places[k]}) >= LEAST][:PLACES]:
        points = sorted(places[key])
        lines = {"true": [p[1] for p in points], "synthetic": [p[2] for p in points]}
        drawn = plots.seasons([p[0] for p in points], lines, index=key[0], place=key[1])
        figures.append({"caption": f"mean of the pixels that count, {len(points)} scenes", **drawn})
    if not figures:
        return []
    return [Block(f"{trial.entrant.label}: through the season", figures)]
