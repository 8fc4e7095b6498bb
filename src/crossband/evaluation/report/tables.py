"""Tables of an evaluation: cells with their text, sort value and mark.

`evaluation.html` renders them as HTML, and `report.text` renders the tables of scores and features
as plain text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossband.evaluation.guide_names import AGE, ENLARGED, LINE, RATIO, UNGUIDED
from crossband.metrics import METRICS, MODEL, Metric, describe

#: Number of groups in each of the tables of the best and of the worst.
MAX_GROUPS = 5
#: Numbers of a feature extractor, and their headings.
FEATURES = {
    "kid": "KID",
    "kid_std": "KID, deviation over subsets",
    "fid": "FID",
    "precision": "precision",
    "recall": "recall",
    "inception_score": "Inception Score",
    "lpips": "LPIPS",
}
#: Kind of a cell with a baseline's number that is better than the model's.
BEATS = "beats"


@dataclass(frozen=True)
class Head:
    """Heading of a column.

    Attributes:
        name: the heading.
        title: tooltip on the page.
    """

    name: str
    title: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: its text.
        value: number or text by which the page sorts; "" for an unknown value.
        small: a second line in small print, such as an interval.
        kind: CSS class; `BEATS` marks a baseline that is better than the model.
    """

    text: str
    value: Any = ""
    small: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; `own` highlights it, as that of the model."""

    cells: list[Cell]
    own: bool = False


@dataclass(frozen=True)
class Note:
    """A line above a table; `kind` is its CSS class."""

    text: str
    kind: str


@dataclass(frozen=True)
class Table:
    """A table with its title and the notes above it."""

    heads: list[Head]
    rows: list[Row]
    title: str = ""
    notes: list[Note] = field(default_factory=list)


def known(value: Any) -> bool:
    """Return whether a number is defined."""
    return value is not None and not math.isnan(value)


def format_number(value: float | None, form: str) -> str:
    """Return a number as text, or `-` if it is not defined.

    >>> format_number(0.12345, ".3f"), format_number(None, ".3f"), format_number(-1e-9, ".3f")
    ('0.123', '-', '0.000')
    """
    if value is None or math.isnan(value):
        return "-"
    text = format(value, form)
    # A number that is rounded to 0 is printed without its sign.
    return format(0.0, form) if value and not float(text.rstrip("%")) else text


def differ_in_print(first: float | None, second: float | None, form: str) -> bool:
    """Return whether two numbers differ in magnitude as they are printed.

    >>> differ_in_print(0.00001, -0.00002, "+.4f"), differ_in_print(0.1, 0.2, ".4f")
    (False, True)
    """
    texts = [format_number(v, form).lstrip("+-") for v in (first, second)]
    return texts[0] != texts[1]


def metric_of(name: str) -> Metric:
    """Return the description of a metric that is known to exist."""
    metric = describe(name)
    assert metric is not None
    return metric


def metric_columns(scores: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a table; those that every score has come first."""
    names = [m for m in scores[MODEL]["pixels"] if describe(m) is not None]
    first = [m for m in METRICS if m in names]
    return first + [m for m in names if m not in first]


def main_columns(scores: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a narrow table: those that every score has, and MAE of indices."""
    return [m for m in metric_columns(scores) if m in METRICS or m.endswith("_mae")]


def beats(metric: str, value: Any, own: Any) -> bool:
    """Return whether a baseline's number is better than the model's, as they are printed."""
    about = describe(metric)
    if about is None or not known(value) or not known(own):
        return False
    if not differ_in_print(value, own, about.format):
        return False
    if about.better == "zero":
        return bool(abs(value) < abs(own))
    return bool({"less": value < own, "more": value > own}.get(about.better, False))


def _text_cell(text: Any) -> Cell:
    return Cell(str(text), text)


def _number_cell(value: Any, form: str, small: str = "", kind: str = "") -> Cell:
    return Cell(format_number(value, form), value if known(value) else "", small, kind)


def _metric_cells(metrics: Sequence[str], numbers: Mapping[str, Any]) -> list[Cell]:
    return [_number_cell(numbers.get(m), metric_of(m).format) for m in metrics]


def _metric_heads(metrics: Sequence[str]) -> list[Head]:
    """Return the headings of metrics, with their unit if it is not that of the data."""
    out = []
    for about in map(metric_of, metrics):
        unit = f", {about.unit}" if about.unit not in ("", "data") else ""
        out.append(Head(f"{about.heading}{unit}", about.about))
    return out


def _labelled(model: Mapping[str, Any], title: str, several: bool) -> str:
    """Return a title, with the label of the model if there are several."""
    return f"{model['label']}: {title}" if several else title


def score_rows(
    numbers: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[str],
    *,
    intervals: Mapping[str, Mapping[str, Any]] | None = None,
    signed: Sequence[str] = (),
) -> list[Row]:
    """Return one row for each of model and baselines; better baselines are marked.

    Args:
        numbers: name -> metric -> value; `model` is the model.
        metrics: the columns.
        intervals: name -> metric -> interval, in small print.
        signed: metrics that are printed with a sign.
    """
    rows = []
    for name, values in numbers.items():
        cells = [_text_cell(name)]
        for metric in metrics:
            form = ("+" if metric in signed else "") + metric_of(metric).format
            value, own = values.get(metric), numbers[MODEL].get(metric)
            interval = (intervals or {}).get(name, {}).get(metric) or ()
            small = " .. ".join(format_number(end, form) for end in interval)
            kind = BEATS if name != MODEL and beats(metric, value, own) else ""
            cells.append(_number_cell(value, form, small, kind))
        rows.append(Row(cells, own=name == MODEL))
    return rows


def sensor_tables(model: Mapping[str, Any], several: bool) -> list[tuple[Table, Table]]:
    """Return for each sensor the tables over pixels and over images."""
    out = []
    for record in model["sensors"]:
        scores = record["scores"]
        metrics = metric_columns(scores)
        heads = [Head(""), *_metric_heads(metrics)]
        over_pixels, over_images = (
            score_rows(
                {name: s[kind] for name, s in scores.items()},
                metrics,
                intervals={
                    name: s.get("intervals", {}).get(kind, {}) for name, s in scores.items()
                },
            )
            for kind in ("pixels", "images")
        )
        notes = [
            Note(
                f"{name}: {s['pixels']['n_nonfinite']:,} pixels are NaN or infinite, so its errors "
                f"are undefined.",
                "bad",
            )
            for name, s in scores.items()
            if s["pixels"]["n_nonfinite"]
        ]
        title = (
            f"{record['sensor']} ({record['unit']}): {record['n_groups']:,} groups, "
            f"{record['n_images']:,} pairs, {record['n_valid']:,} of {record['n_pixels']:,} pixels"
        )
        pixels = Table(heads, over_pixels, _labelled(model, title, several), notes)
        out.append((pixels, Table(heads, over_images)))
    return out


def ratio_table(models: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of the ratios model / baseline."""
    metrics = list(dict.fromkeys(r["metric"] for m in models for r in m["ratios"]))
    rows = []
    for model in models:
        by: dict[tuple[Any, ...], dict[str, Any]] = {}
        for r in model["ratios"]:
            by.setdefault((r["baseline"], r["sensor"], r["unit"]), {})[r["metric"]] = r
        for (baseline, sensor, unit), ratios in by.items():
            where = "all sensors" if sensor is None else f"{sensor} ({unit})"
            cells = [_text_cell(f"{model['label']} / {baseline}, {where}")]
            cells += [_ratio_cell(ratios.get(metric)) for metric in metrics]
            rows.append(Row(cells, own=sensor is None))
    return Table([Head("model / baseline"), *(Head(metric_of(m).heading) for m in metrics)], rows)


def _ratio_cell(ratio: Mapping[str, Any] | None) -> Cell:
    if ratio is None or not ratio["n_groups"]:
        return Cell("-")
    value, interval = ratio["geometric_mean"], ratio.get("interval")
    text = f"{format_number(value, '.3f')} ({ratio['n_won']}/{ratio['n_groups']})"
    small = f"{interval[0]:.3f} .. {interval[1]:.3f}" if interval else ""
    kind = BEATS if not known(value) or value >= 1 else ""
    return Cell(text, "" if value is None else value, small, kind)


def undecided(versus: Mapping[str, Any]) -> str:
    """Return why models cannot be told apart whatever their errors; empty where they could be."""
    count, needed = versus["n_groups"], versus["needed_groups"]
    if count >= needed:
        return ""
    return f"undecided: {count} group{'s' * (count != 1)}, a comparison needs {needed}"


def rank_text(record: Mapping[str, Any], versus: Mapping[str, Any]) -> str:
    """Return the rank of a model, with `=` if it is shared; `-` if there is none."""
    if undecided(versus):
        return "-"
    return "-" if record["rank"] is None else f"{record['rank']}{'=' if record['tie'] else ''}"


def comparison_tables(versus: Mapping[str, Any]) -> tuple[Table, Table]:
    """Return the ranking of the models, with notes, and the table of each two models."""
    notes = [
        f"On the {versus['n_groups']:,} groups that all models have. Ranked by the geometric mean "
        f"of MAE; equal ranks (=) cannot be told apart: the interval of their ratio holds 1, or a "
        f"sign test does not agree (p of 0.05 or more)."
    ]
    if undecided(versus):
        notes = [f"On the {versus['n_groups']:,} groups that all models have: {undecided(versus)}."]
    if not versus["same_pixels"]:
        notes.append("Not the same pixels count for all: their sources are masked differently.")
    ranking = [
        Row(
            [
                _text_cell(r["label"]),
                Cell(rank_text(r, versus), "" if r["rank"] is None else r["rank"]),
                _number_cell(r["mae_over_best"], ".3f"),
            ],
            own=r["rank"] == 1 and not undecided(versus),
        )
        for r in versus["ranking"]
    ]
    heads = ["models", "metric", "what", "value", "better : worse", "sign test p", "the first is"]
    return (
        Table(
            [Head("model"), Head("rank"), Head("MAE / best")],
            ranking,
            notes=[Note(text, "") for text in notes],
        ),
        Table([Head(h) for h in heads], [_pair_row(r) for r in versus["pairs"]]),
    )


def _pair_row(r: Mapping[str, Any]) -> Row:
    """Return the row of a comparison of two models."""
    about, interval = describe(r["metric"]), r["interval"]
    small = f"{interval[0]:.4g} .. {interval[1]:.4g}" if interval else "too few groups"
    kind = {"better": "good", "worse": "bad"}.get(r["verdict"], "")
    return Row(
        [
            Cell(f"{r['first']} against {r['second']}", r["first"]),
            _text_cell(about.heading if about is not None else r["metric"]),
            _text_cell("ratio" if r["kind"] == "ratio" else f"difference ({r['unit']})"),
            _number_cell(r["value"], ".4g", small),
            Cell(f"{r['n_better']} : {r['n_worse']}", r["n_better"]),
            _number_cell(r["p"], ".3f"),
            Cell(r["verdict"], r["verdict"], kind=kind),
        ],
        own=r["kind"] == "ratio",
    )


def breakdown_tables(model: Mapping[str, Any], several: bool) -> list[Table]:
    """Return a table for each column that the scores are broken down by."""
    out = []
    for breakdown in model.get("breakdowns", []):
        if breakdown["column"] in (AGE, RATIO):  # see `guide_tables`
            continue
        records = breakdown["values"]
        metrics = list(dict.fromkeys(m for r in records for m in main_columns(r["scores"])))
        heads = [Head(breakdown["column"]), Head("unit"), Head("groups"), Head("pairs")]
        heads += [*_metric_heads(metrics), Head("MAE / best baseline")]
        rows = []
        for record in records:
            ratio = _ratio_to_best(record["scores"])
            kind = BEATS if ratio is not None and ratio >= 1 else ""
            cells = [
                _text_cell(record["value"]),
                _text_cell(record["unit"]),
                Cell(f"{record['n_groups']:,}", record["n_groups"]),
                Cell(f"{record['n_images']:,}", record["n_images"]),
                *_metric_cells(metrics, record["scores"][MODEL]["pixels"]),
                _number_cell(ratio, ".3f", kind=kind),
            ]
            rows.append(Row(cells))
        out.append(Table(heads, rows, _labelled(model, breakdown["column"], several)))
    return out


def guide_tables(model: Mapping[str, Any], several: bool) -> list[Table]:
    """Return a table by the age of the guides, and one by the size of their pixels."""
    out = []
    for breakdown in model.get("breakdowns", []):
        if breakdown["column"] not in (AGE, RATIO):
            continue
        records = breakdown["values"]
        metrics = list(
            dict.fromkeys(
                m for r in records for m in main_columns(r["scores"]) if m.endswith("mae")
            )
        )
        rows = []
        for record in records:
            scores = record["scores"]
            ways = [name for name in (MODEL, UNGUIDED, ENLARGED, LINE) if name in scores]
            first = [
                _text_cell(record["value"]),
                _text_cell(record["unit"]),
                Cell(f"{record['n_groups']:,}", record["n_groups"]),
                Cell(f"{record['n_images']:,}", record["n_images"]),
            ]
            numbers = score_rows(
                {name: scores[name]["pixels"] for name in ways},
                metrics,
                intervals={
                    name: scores[name].get("intervals", {}).get("pixels", {}) for name in ways
                },
            )
            rows += [Row([*first, *row.cells], own=row.own) for row in numbers]
        heads = [Head(name) for name in (breakdown["column"], "unit", "groups", "pairs", "")]
        heads += _metric_heads(metrics)
        out.append(Table(heads, rows, _labelled(model, f"by {breakdown['column']}", several)))
    return out


def _ratio_to_best(scores: Mapping[str, Any]) -> float | None:
    """Return the MAE of the model over that of the best baseline; None if it is not defined."""
    own = scores[MODEL]["pixels"]["mae"]
    others = [s["pixels"]["mae"] for name, s in scores.items() if name != MODEL]
    best = min(filter(known, others), default=None)
    return own / best if best and known(own) else None


def group_tables(model: Mapping[str, Any], several: bool) -> list[Table]:
    """Return for each unit the table of the worst and the best groups, by MAE."""
    out = []
    for unit in dict.fromkeys(g["unit"] for g in model["groups"]):
        groups = [g for g in model["groups"] if g["unit"] == unit and g["n_valid"]]
        groups.sort(key=lambda g: -_or_infinity(g["scores"][MODEL]["pixels"]["mae"]))
        if not groups:
            continue
        title = f"groups, worst first ({unit})"
        if len(groups) > 2 * MAX_GROUPS:
            title = f"worst and best groups by MAE ({unit})"
            groups = groups[:MAX_GROUPS] + groups[-MAX_GROUPS:]
        metrics = main_columns(groups[0]["scores"])
        rows = [
            Row(
                [
                    _text_cell(g["group"]),
                    _text_cell(g["sensor"]),
                    Cell(f"{g['n_valid']:,}", g["n_valid"]),
                    *_metric_cells(metrics, g["scores"][MODEL]["pixels"]),
                ]
            )
            for g in groups
        ]
        heads = [Head("group"), Head("sensor"), Head("pixels"), *_metric_heads(metrics)]
        out.append(Table(heads, rows, _labelled(model, title, several)))
    return out


def _or_infinity(value: Any) -> float:
    return float(value) if known(value) else math.inf


def feature_table(record: Mapping[str, Any]) -> Table:
    """Return the table of a feature extractor, without title and notes."""
    names = [n for n in next(iter(record["scores"].values())) if n in FEATURES]

    def row(name: str, numbers: Mapping[str, Any]) -> Row:
        cells = [_number_cell(numbers.get(n), ".4f") for n in names]
        return Row([_text_cell(name), *cells], own=name == MODEL)

    rows = [row(name, numbers) for name, numbers in record["scores"].items()]
    if record.get("floor"):
        rows.append(row("truth against truth", record["floor"]))
    return Table([Head(""), *(Head(FEATURES[n]) for n in names)], rows)


def feature_tables(model: Mapping[str, Any]) -> list[Table]:
    """Return for each unit the table of the feature extractor."""
    out = []
    for record in model.get("features", []):
        table = feature_table(record)
        about = ", ".join(f"{k} {v}" for k, v in record["extractor"].items())
        notes = [Note(f"{record['n']:,} images; extractor: {about}", "soft")]
        notes += [Note(text, "doubt") for text in record["notes"]]
        out.append(Table(table.heads, table.rows, f"{model['label']} ({record['unit']})", notes))
    return out
