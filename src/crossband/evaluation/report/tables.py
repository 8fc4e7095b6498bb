"""Tables of an evaluation: scores, ratios, breakdowns, guides, groups and features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossband.evaluation.guide_names import AGE, ENLARGED, LINE, RATIO, UNGUIDED
from crossband.evaluation.report.cells import (
    BEATS,
    Cell,
    Head,
    Note,
    Row,
    Table,
    counted,
    differ_in_print,
    format_number,
    known,
    labelled,
    metric_cell,
    metric_cells,
    metric_heads,
    metric_of,
    metric_text,
    number_cell,
    text_cell,
    transposed,
)
from crossband.metrics import METRICS, MODEL, describe

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
        cells = [text_cell(name)]
        for metric in metrics:
            about, sign = metric_of(metric), metric in signed
            value, own = values.get(metric), numbers[MODEL].get(metric)
            interval = (intervals or {}).get(name, {}).get(metric) or ()
            small = " .. ".join(metric_text(about, end, sign=sign) for end in interval)
            kind = BEATS if name != MODEL and beats(metric, value, own) else ""
            cells.append(metric_cell(metric, value, small, kind, sign=sign))
        rows.append(Row(cells, own=name == MODEL))
    return rows


@dataclass(frozen=True)
class SensorTables:
    """The tables of a sensor.

    Attributes:
        main: the metrics that every score has, and MAE of indices, over pixels.
        pixels: all metrics, one a row, over pixels.
        images: the same as means over images.
    """

    main: Table
    pixels: Table
    images: Table


def sensor_title(record: Mapping[str, Any]) -> str:
    """Return sensor and unit of a record, and how much was judged."""
    return (
        f"{record['sensor']} ({record['unit']}): {counted(record['n_groups'], 'group')}, "
        f"{counted(record['n_images'], 'pair')}, {record['n_valid']:,} of "
        f"{record['n_pixels']:,} pixels"
    )


def sensor_tables(model: Mapping[str, Any], several: bool) -> list[SensorTables]:
    """Return the tables of each sensor."""
    out = []
    for record in model["sensors"]:
        scores = record["scores"]
        notes = [
            Note(
                f"{name}: {s['pixels']['n_nonfinite']:,} pixels are NaN or infinite, so its errors "
                f"are undefined.",
                "bad",
            )
            for name, s in scores.items()
            if s["pixels"]["n_nonfinite"]
        ]
        title = sensor_title(record)
        main = _scores_table(scores, main_columns(scores), "pixels")
        pixels, images = (
            transposed(_scores_table(scores, metric_columns(scores), kind))
            for kind in ("pixels", "images")
        )
        main = replace(main, title=labelled(model, title, several), notes=notes)
        out.append(SensorTables(main, pixels, images))
    return out


def _scores_table(scores: Mapping[str, Any], metrics: Sequence[str], kind: str) -> Table:
    """Return the table of metrics of model and baselines, over `pixels` or `images`."""
    intervals = {name: s.get("intervals", {}).get(kind, {}) for name, s in scores.items()}
    rows = score_rows({name: s[kind] for name, s in scores.items()}, metrics, intervals=intervals)
    return Table([Head(""), *metric_heads(metrics)], rows)


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
            cells = [text_cell(f"{model['label']} / {baseline}, {where}")]
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


def breakdown_tables(model: Mapping[str, Any], several: bool) -> list[Table]:
    """Return a table for each column that the scores are broken down by."""
    out = []
    for breakdown in model.get("breakdowns", []):
        if breakdown["column"] in (AGE, RATIO):  # see `guide_tables`
            continue
        records = breakdown["values"]
        metrics = list(dict.fromkeys(m for r in records for m in main_columns(r["scores"])))
        heads = [Head(breakdown["column"]), Head("unit"), Head("groups"), Head("pairs")]
        heads += [*metric_heads(metrics), Head("MAE / best baseline")]
        rows = []
        for record in records:
            ratio = _ratio_to_best(record["scores"])
            kind = BEATS if ratio is not None and ratio >= 1 else ""
            cells = [
                text_cell(record["value"]),
                text_cell(record["unit"]),
                Cell(f"{record['n_groups']:,}", record["n_groups"]),
                Cell(f"{record['n_images']:,}", record["n_images"]),
                *metric_cells(metrics, record["scores"][MODEL]["pixels"]),
                number_cell(ratio, ".3f", kind=kind),
            ]
            rows.append(Row(cells))
        out.append(Table(heads, rows, labelled(model, breakdown["column"], several)))
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
                text_cell(record["value"]),
                text_cell(record["unit"]),
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
        heads += metric_heads(metrics)
        out.append(Table(heads, rows, labelled(model, f"by {breakdown['column']}", several)))
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
                    text_cell(g["group"]),
                    text_cell(g["sensor"]),
                    Cell(f"{g['n_valid']:,}", g["n_valid"]),
                    *metric_cells(metrics, g["scores"][MODEL]["pixels"]),
                ]
            )
            for g in groups
        ]
        heads = [Head("group"), Head("sensor"), Head("pixels"), *metric_heads(metrics)]
        out.append(Table(heads, rows, labelled(model, title, several)))
    return out


def _or_infinity(value: Any) -> float:
    return float(value) if known(value) else math.inf


def feature_table(record: Mapping[str, Any]) -> Table:
    """Return the table of a feature extractor, without title and notes."""
    names = [n for n in next(iter(record["scores"].values())) if n in FEATURES]

    def row(name: str, numbers: Mapping[str, Any]) -> Row:
        cells = [number_cell(numbers.get(n), ".4f") for n in names]
        return Row([text_cell(name), *cells], own=name == MODEL)

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
