"""Plots of the page, as SVG, drawn from numbers of profiles.json and from training logs.

Figures are drawn without pyplot. Text is stored as text, so it has the font of the page.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crossband.metrics import MODEL

_INK, _SOFT, _LINE = "#1d2433", "#5a6478", "#d9dee8"
#: Colours of the model and of its baselines, in the order of the tables.
COLOURS = ("#0b5cad", "#b3590a", "#5a6478", "#2f7d32", "#8a3ffc", "#9a1750")
_SIZE = (4.6, 3.5)

#: A figure: `uri` (data) and `alt`; the page also needs a `caption`.
FigureData = dict[str, str]


def profile_figures(profile: Mapping[str, Any], *, band: str, unit: str) -> list[FigureData]:
    """Return the figures of one band of profiles.json, with captions."""
    out: list[FigureData] = []
    if "scatter" in profile and np.any(profile["scatter"]):
        drawn = density(profile["scatter"], profile["values"], band=band, unit=unit)
        out.append({"caption": "every pixel that counts; dashed: no error", **drawn})
        drawn = error_histogram(profile["error"], profile["errors"], unit=unit)
        out.append({"caption": "how errors are spread", **drawn})
    for key, what in (("brightness", f"true {band} ({unit})"), ("ndvi", "true NDVI")):
        if key in profile and any(profile[key]["by"][MODEL]["n"]):
            drawn = error_by_class(_class_records(profile[key]), what=what, unit=unit)
            out.append({"caption": f"error by {what}", **drawn})
    if "spectrum" in profile:
        power = profile["spectrum"]
        drawn = spectrum(power["frequency"], power["power"], band=band)
        words = "power by frequency: what is missing at the right is blur"
        out.append({"caption": words, **drawn})
    return out


def _class_records(table: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return model and baselines -> records of classes, from lists of limits and numbers."""
    ends = [*table["low"][1:], None]
    labels = []
    for low, high in zip(table["low"], ends, strict=True):
        if low is None:
            labels.append(f"below {high:.3g}")
        else:
            labels.append(f"{low:.3g} and up" if high is None else f"{low:.3g}..{high:.3g}")
    return {
        name: [
            {"label": label, "n": n, "mae": mae}
            for label, n, mae in zip(labels, errors["n"], errors["mae"], strict=True)
        ]
        for name, errors in table["by"].items()
    }


def density(
    counts: Sequence[Sequence[float]], edges: Sequence[float], *, band: str, unit: str
) -> FigureData:
    """Draw the joint histogram of true and synthetic values, with the line of no error.

    Args:
        counts: [true, synthetic], number of pixels in each bin.
        edges: bin edges in the unit, the same for both axes.
        band: target band.
        unit: unit of the band.
    """
    figure, axis = _new_figure()
    table = np.asarray(counts, np.float64)
    nonzero = np.flatnonzero(table.sum(axis=0) + table.sum(axis=1))
    if nonzero.size:
        first, last = int(nonzero[0]), int(nonzero[-1]) + 1
        low, high = edges[first], edges[last]
        shares = np.log10(np.where(table > 0, table, np.nan))[first:last, first:last]
        image = axis.pcolormesh(
            edges[first : last + 1], edges[first : last + 1], shares.T, cmap="viridis",
            rasterized=True,
        )  # fmt: skip
        axis.plot([low, high], [low, high], color=_INK, linewidth=1, linestyle="--")
        bar = figure.colorbar(image, ax=axis)
        bar.set_label("pixels, power of 10", fontsize=9, color=_SOFT)
        bar.ax.tick_params(labelsize=8, colors=_SOFT)
        axis.set_aspect("equal")
    axis.set_xlabel(f"true {band} ({unit})")
    axis.set_ylabel(f"synthetic {band} ({unit})")
    return _svg(figure, f"True against synthetic {band}")


def error_histogram(
    histograms: Mapping[str, Sequence[float]], edges: Sequence[float], *, unit: str
) -> FigureData:
    """Draw the histogram of signed errors of the model and its baselines.

    Args:
        histograms: model and baselines -> number of pixels in each bin.
        edges: bin edges, in the unit.
        unit: unit of the target.
    """
    figure, axis = _new_figure()
    middle = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
    shares = {name: np.asarray(n, np.float64) / max(sum(n), 1) for name, n in histograms.items()}
    for (name, share), colour in zip(shares.items(), _colours(shares), strict=True):
        style = "-" if name == MODEL else "--"
        axis.plot(
            middle, 100 * share, color=colour, linestyle=style, label=name, drawstyle="steps-mid"
        )
    total = np.sum(list(shares.values()), axis=0)
    shown = np.flatnonzero(total > 1e-3 * max(total.max(), 1e-12))
    if shown.size:
        axis.set_xlim(edges[int(shown[0])], edges[int(shown[-1]) + 1])
    axis.axvline(0, color=_LINE, linewidth=1, zorder=0)
    axis.set_xlabel(f"synthetic - true ({unit})")
    axis.set_ylabel("% of pixels")
    axis.legend(fontsize=8, frameon=False)
    return _svg(figure, "Histogram of errors")


def error_by_class(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], *, what: str, unit: str
) -> FigureData:
    """Draw MAE by class of the true value or of the true NDVI.

    Args:
        rows: model and baselines -> a record for each class with `label`, `n`, `mae`.
        what: label of the axis.
        unit: unit of the target.
    """
    figure, axis = _new_figure()
    labels = [r["label"] for r in rows[MODEL] if r["n"]]
    for (name, records), colour in zip(rows.items(), _colours(rows), strict=True):
        values = [r["mae"] for r in records if r["label"] in labels]
        style = "o-" if name == MODEL else "s--"
        errors = [np.nan if v is None else v for v in values]
        axis.plot(range(len(labels)), errors, style, color=colour, markersize=4, label=name)
    axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axis.set_ylim(bottom=0)
    axis.set_xlabel(what)
    axis.set_ylabel(f"MAE ({unit})")
    axis.legend(fontsize=8, frameon=False)
    return _svg(figure, f"Error by {what}")


#: Powers below this share of the largest one are rounding; the axis leaves them out.
_LEAST_POWER = 1e-9


def spectrum(
    frequencies: Sequence[float], power: Mapping[str, Sequence[float]], *, band: str
) -> FigureData:
    """Draw power by frequency; blur reduces the power at the right end.

    Args:
        frequencies: cycles per pixel.
        power: `true`, `model`, baselines -> power.
        band: target band.
    """
    figure, axis = _new_figure()
    others = {k: v for k, v in power.items() if k != "true"}
    axis.plot(frequencies, power["true"], color=_INK, linewidth=2.2, label="true")
    for (name, values), colour in zip(others.items(), _colours(others), strict=True):
        axis.plot(
            frequencies,
            values,
            "-" if name == MODEL else "--",
            color=colour,
            linewidth=1.3,
            label=name,
        )
    axis.set_yscale("log")
    axis.set_ylim(*_power_range([*power.values()]))
    axis.set_xlabel("cycles per pixel")
    axis.set_ylabel(f"power of {band}")
    axis.legend(fontsize=8, frameon=False)
    return _svg(figure, "Power by frequency")


def _power_range(curves: Sequence[Sequence[float]]) -> tuple[float, float] | tuple[()]:
    """Return the range of the axis; a constant output has powers of 0 but for rounding."""
    known = [value for curve in curves for value in curve if value > 0 and math.isfinite(value)]
    if not known:
        return ()
    shown = [value for value in known if value >= max(known) * _LEAST_POWER]
    return min(shown) / 2, max(shown) * 2


def curves(columns: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> FigureData:
    """Draw the values that a run logged: one curve for each key, by step.

    Args:
        columns: key -> steps and values.
    """
    count = len(columns)
    figure = Figure(figsize=(_SIZE[0] * 2, 1.9 * -(-count // 2)))
    FigureCanvasSVG(figure)
    for place, (key, (steps, values)) in enumerate(columns.items(), start=1):
        axis = figure.add_subplot(-(-count // 2), 2, place)
        _style(axis)
        axis.plot(steps, values, color=COLOURS[0], linewidth=1.1)
        axis.set_title(key, fontsize=9, color=_INK, loc="left")
    figure.tight_layout()
    return _svg(figure, "Training curves")


def index_over_time(
    dates: Sequence[Any],
    lines: Mapping[str, Sequence[float]],
    *,
    index: str,
    place: str,
) -> FigureData:
    """Draw an index of a group over its dates: true, synthetic, and their difference.

    Args:
        dates: dates of the scenes, in order.
        lines: `true` and `synthetic` -> mean index over the valid pixels.
        index: name of the index.
        place: the group, as the title.
    """
    figure = Figure(figsize=(_SIZE[0] * 1.5, _SIZE[1]))
    FigureCanvasSVG(figure)
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for axis in (top, low):
        _style(axis)
    top.plot(dates, lines["true"], "o-", color=_INK, markersize=4, label=f"true {index}")
    top.plot(dates, lines["synthetic"], "s--", color=COLOURS[0], markersize=4, label="synthetic")
    top.set_title(place, fontsize=9, color=_INK, loc="left")
    top.legend(fontsize=8, frameon=False)
    difference = np.asarray(lines["synthetic"]) - np.asarray(lines["true"])
    low.axhline(0, color=_LINE, linewidth=1)
    low.plot(dates, difference, "o-", color=COLOURS[1], markersize=3)
    low.set_ylabel("difference", fontsize=8)
    figure.autofmt_xdate(rotation=30)
    figure.tight_layout()
    return _svg(figure, f"{index} of {place}")


def coverage_by_level(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> FigureData:
    """Draw the observed share of covered pixels over the nominal level, with the band of chance.

    Args:
        records: name -> `level`, `observed`, `chance` and `places` of each level. The band of
            chance and the range of places are those of the first.
    """
    figure, axis = _new_figure()
    first = next(iter(records.values()))
    levels = [r["level"] for r in first]
    ranges = [("places", _LINE, "80 % of places"), ("chance", "#9db8d9", "chance, if it holds")]
    for key, colour, words in ranges:
        low, high = np.array([r[key] for r in first], float).T  # of one place, chance is null
        axis.fill_between(levels, low, high, color=colour, label=words, linewidth=0)
    axis.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--")
    for (name, own), colour in zip(records.items(), _colours(records), strict=True):
        observed = [r["observed"] for r in own]
        axis.plot([r["level"] for r in own], observed, "o-", color=colour, markersize=3, label=name)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel("nominal level")
    axis.set_ylabel("covered, mean over places")
    axis.legend(fontsize=8, frameon=False)
    return _svg(figure, "Nominal against observed coverage")


def error_by_familiarity(record: Mapping[str, Any]) -> FigureData:
    """Draw the error by class of dissimilarity, beside the share that the interval covers.

    Args:
        record: `quantity` and `error_unit`; `ends`, `mae`, `coverage`, `n_places` of each class.
    """
    unit = record["error_unit"]
    figure, axis = _new_figure()
    ends = record["ends"]
    labels = [f"below {ends[0]:g}", *(f"{a:g}..{b:g}" for a, b in pairwise(ends))]
    labels.append(f"{ends[-1]:g} and up")
    shown = [n for n, count in enumerate(record["n_places"]) if count]
    places = range(len(shown))
    errors = axis.plot(
        places, [record["mae"][n] for n in shown], "o-", color=COLOURS[0], markersize=4, label="MAE"
    )
    names = [f"{labels[n]}\n({record['n_places'][n]})" for n in shown]
    axis.set_xticks(places, names, rotation=40, ha="right")
    axis.axvline(
        sum(n <= ends.index(1.0) for n in shown) - 0.5, color=_SOFT, linewidth=1, linestyle=":"
    )
    axis.set_ylim(bottom=0)
    axis.set_xlabel("dissimilarity / limit (number of places)")
    axis.set_ylabel(f"MAE{'' if unit == '1' else f' ({unit})'}, mean over places")
    other = axis.twinx()
    _style(other)
    covered = [record["coverage"][n] for n in shown]
    lines = other.plot(places, covered, "s--", color=COLOURS[1], markersize=4, label="covered")
    other.set_ylim(0, 1)
    other.legend(handles=[*errors, *lines], fontsize=8, frameon=False)
    return _svg(figure, f"Error of {record['quantity']} by familiarity")


def _new_figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE, layout="tight")
    FigureCanvasSVG(figure)
    axis = figure.add_subplot()
    _style(axis)
    return figure, axis


def _style(axis: Any) -> None:
    axis.tick_params(labelsize=8, colors=_SOFT)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(_LINE)
    axis.xaxis.label.set_size(9)
    axis.yaxis.label.set_size(9)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _colours(names: Any) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(names))]


def _svg(figure: Figure, title: str) -> FigureData:
    """Return the figure as SVG data; as an image, its ids do not clash with those of others."""
    memory = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(memory, format="svg", metadata=metadata, transparent=True, dpi=200)
    text = base64.b64encode(memory.getvalue()).decode()
    return {"uri": f"data:image/svg+xml;base64,{text}", "alt": title}
