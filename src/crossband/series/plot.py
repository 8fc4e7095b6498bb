"""Plot an index through time, true and synthetic, with one panel per place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crossband.evaluation.report.pictures import save_figure

#: Panels at most; the table has all places.
MOST = 12
#: Points are hollow where a smaller share of the place is valid.
HALF = 0.5
_INK, _SYNTHETIC, _GAP = "#1f2430", "#1b7f4d", "#b6322c"
_WIDTH = 12.0
_SPREAD, _PARTLY, _MASKED = "± 1 standard deviation", "less than half valid", "masked"
_BOUNDS = "interval of the mean"
_LEGEND = ("synthetic", "true", _PARTLY, _SPREAD, _BOUNDS, _MASKED)


def plot_series(path: str | Path, table: pd.DataFrame, index: str, *, title: str) -> Path:
    """Plot one index through time.

    A date on which no pixel of a place is valid is a gap in the line, with a short red mark below.
    A point is hollow where less than half of the place is valid. The band around the synthetic line
    is one standard deviation of the place's pixels.

    Args:
        path: a `.png`; written under another name and renamed.
        table: rows of this index, see `series.measure.COLUMNS`; the first `MOST` places are drawn.
        index: name of the index.
        title: one line.
    """
    names = list(dict.fromkeys(table["place"]))
    drawn = names[:MOST]
    columns = 1 if len(drawn) <= 1 else 2 if len(drawn) <= 6 else 3
    rows = max(math.ceil(len(drawn) / columns), 1)
    height = (4.2 if rows == 1 else 2.6 * rows) + 1.0
    figure = Figure(figsize=(_WIDTH, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    if len(names) > len(drawn):
        title += f" (the first {len(drawn)} of {len(names)} places)"
    figure.suptitle(title, fontsize=14, color=_INK, fontweight="bold")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, name in zip(axes, drawn, strict=False):
        _draw(axis, table[table["place"] == name])
        axis.set_title(name, fontsize=11, color=_INK)
    for axis in axes[len(drawn) :]:
        axis.set_visible(False)
    for number, axis in enumerate(axes[: len(drawn)]):
        if number % columns == 0:
            axis.set_ylabel(index, fontsize=10)
        if number + columns >= len(drawn):  # the lowest of its column
            axis.tick_params(labelbottom=True)
    known: dict[str, Any] = {}
    for axis in axes[: len(drawn)]:
        handles, words = axis.get_legend_handles_labels()
        known |= dict(zip(words, handles, strict=True))
    if known:
        shown = [words for words in _LEGEND if words in known]
        figure.legend(
            [known[words] for words in shown],
            shown,
            loc="outside lower center",
            ncols=len(shown),
            frameon=False,
        )
    return save_figure(figure, Path(path))


def _draw(axis: Any, rows: pd.DataFrame) -> None:
    when = pd.to_datetime(rows["date"], utc=True, format="ISO8601").dt.tz_localize(None).to_numpy()
    made, true = rows["synthetic"].to_numpy(float), rows["true"].to_numpy(float)
    spread, share = rows["synthetic_std"].to_numpy(float), rows["share"].to_numpy(float)
    if (rows["pixels"] > 1).any():
        axis.fill_between(
            when,
            made - spread,
            made + spread,
            color=_SYNTHETIC,
            alpha=0.15,
            linewidth=0,
            label=_SPREAD,
        )
    if "lower" in rows and rows["lower"].notna().any():
        ends = rows["lower"].to_numpy(float), rows["upper"].to_numpy(float)
        axis.vlines(when, *ends, color=_SYNTHETIC, linewidth=1.0, label=_BOUNDS)
    if np.isfinite(true).any():
        axis.plot(when, true, color=_INK, linewidth=1.4, linestyle="--")
        _points(axis, when, true, share, _INK, "s", "true")
    axis.plot(when, made, color=_SYNTHETIC, linewidth=1.6)
    _points(axis, when, made, share, _SYNTHETIC, "o", "synthetic")
    gaps = when[~np.isfinite(made)]
    if gaps.size:
        axis.plot(
            gaps,
            np.full(gaps.size, 0.03),
            "|",
            color=_GAP,
            markersize=9,
            markeredgewidth=1.6,
            transform=axis.get_xaxis_transform(),
            label=_MASKED,
        )
    locator: Any = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axis.tick_params(labelsize=9)
    axis.grid(color="#d9dce1", linewidth=0.6)
    axis.set_axisbelow(True)
    error = rows["difference"].to_numpy(float)
    if np.isfinite(error).any():
        words = f"mean |difference| {np.nanmean(np.abs(error)):.3f}, bias {np.nanmean(error):+.3f}"
        axis.text(
            0.99, 0.96, words, fontsize=9, color=_INK,
            transform=axis.transAxes, ha="right", va="top",
        )  # fmt: skip


def _points(
    axis: Any, when: Any, values: Any, share: Any, colour: str, marker: str, label: str
) -> None:
    """Draw points, hollow where less than half of the place is valid."""
    whole = share >= HALF
    style = {"marker": marker, "linestyle": "none", "markersize": 5, "markeredgecolor": colour}
    axis.plot(when[whole], values[whole], markerfacecolor=colour, label=label, **style)
    if (~whole & np.isfinite(values)).any():
        axis.plot(when[~whole], values[~whole], markerfacecolor="white", label=_PARTLY, **style)
