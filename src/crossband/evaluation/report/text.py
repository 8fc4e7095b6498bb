"""Plain text of an evaluation, and of the scores of the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossband.evaluation.report.cells import BEATS, Row, counted, format_number, metric_of
from crossband.evaluation.report.comparison_tables import rank_text, undecided
from crossband.evaluation.report.interval_tables import guide_lines, interval_tables
from crossband.evaluation.report.tables import (
    feature_table,
    guide_tables,
    score_rows,
    sensor_title,
)
from crossband.evaluation.report.verdicts import verdicts
from crossband.metrics import METRICS, MODEL

#: Mark of a baseline that is better than the model.
BETTER = "*"
#: Number of groups in the line of groups in which a baseline is better.
MAX_LOST = 5


def align(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Align columns: the first one to the left, all others to the right.

    >>> align([["", "MAE"], ["model", "0.1"]])
    ['       MAE', 'model  0.1']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        gap.join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def score_lines(
    numbers: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], first: str = ""
) -> list[str]:
    """Return one line for each of model and baselines; `*` marks a baseline that is better.

    Args:
        numbers: name -> metric -> value; `model` is the model.
        metrics: the columns.
        first: heading of the first column.
    """
    rows = score_rows(numbers, metrics, signed=("bias",))
    heads = [first, *(f"{metric_of(m).heading} " for m in metrics)]
    return align([heads, *map(_marked, rows)])


def _marked(row: Row) -> list[str]:
    name, *cells = row.cells
    return [name.text, *(c.text + (BETTER if c.kind == BEATS else " ") for c in cells)]


def evaluation_text(metrics: Mapping[str, Any]) -> str:
    """Return the tables of an evaluation, from the content of metrics.json."""
    about = metrics["manifest"]
    split = "all rows" if about["split"] is None else f"split {about['split']}"
    counts = f"{counted(about['n_rows'], 'pair')}, {counted(about['n_groups'], 'group')}"
    blocks = [f"{about['path']}, {split}: {counts}"]
    if about.get("n_unguided"):
        blocks.append(f"left out for want of a guide: {counted(about['n_unguided'], 'pair')}")
    for model in metrics["models"]:
        blocks.append(_model_text(model, metrics["indices"]))
        blocks += ["\n".join(_feature_lines(record)) for record in model.get("features", [])]
    if metrics.get("versus"):
        blocks.append("\n".join(_comparison_lines(metrics["versus"])))
    if any(model["baselines"] for model in metrics["models"]):
        blocks.append(f"{BETTER} a baseline that is better than the model on the same pixels")
    blocks.append("\n".join(f"{'! ' * (v['kind'] == 'bad')}{v['text']}" for v in verdicts(metrics)))
    return "\n\n".join(blocks)


def _model_text(model: Mapping[str, Any], indices: Sequence[str]) -> str:
    head = f"== {model['label']}{', guided' if model.get('guided') else ''} =="
    if model["weights_hash"]:
        head += f"  weights {model['weights_hash'][:12]}"
    blocks = [f"{head}  {model['precision']} on {model['device']}"]
    for record in model["sensors"]:
        scores = record["scores"]
        numbers = {name: s["pixels"] for name, s in scores.items()}
        errors = ["mae", *(f"{i}_mae" for i in indices if f"{i}_mae" in numbers[MODEL])]
        lines = [
            f"{sensor_title(record)} count; over all of them:",
            *score_lines(numbers, [*METRICS, *errors[1:]]),
            *_interval_line(scores, errors),
            *_image_mean_line(scores, errors),
        ]
        for name, values in numbers.items():
            if values["n_nonfinite"]:
                lines.append(
                    f"! {name}: {values['n_nonfinite']:,} pixels are NaN or infinite, "
                    f"so its errors are undefined"
                )
        blocks.append("\n".join(lines))
    for table in guide_tables(model, several=False):
        cells = [
            [c.text + (BETTER if c.kind == BEATS else " ") for c in r.cells] for r in table.rows
        ]
        heads = [f"{head.name} " for head in table.heads]
        blocks.append("\n".join([f"{table.title}:", *align([heads, *cells])]))
    for table in interval_tables(model, several=False)[:1]:
        cells = [
            [f"{c.text} ({c.small})" if c.small else c.text for c in r.cells] for r in table.rows
        ]
        lines = align([[head.name for head in table.heads], *cells])
        blocks.append("\n".join([f"{table.title}:", *lines, *guide_lines(model)]))
    if model["baselines"]:
        blocks.append("\n".join(_ratio_lines(model["ratios"])))
    else:
        blocks.append(
            "no baselines in a model folder, and no rows of `train` to fit them to: nothing to "
            "hold the model against"
        )
    return "\n\n".join(blocks)


def _interval_line(scores: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Return a line with the intervals of the model's errors; empty if there are none."""
    intervals = scores[MODEL].get("intervals", {}).get("pixels", {})
    words = []
    for metric in metrics:
        if metric in intervals:
            low, high = intervals[metric]
            words.append(f"{metric_of(metric).heading} {low:.4f} to {high:.4f}")
    return [f"model, 95 % over groups: {', '.join(words)}"] if words else []


def _image_mean_line(scores: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Return a line with the model's errors as the mean over images; empty if there are none."""
    means = scores[MODEL]["images"]
    words = [
        f"{metric_of(metric).heading} {means[metric]:.4f}"
        for metric in metrics
        if means.get(metric) is not None
    ]
    return [f"model, mean over images: {', '.join(words)}"] if words else []


def _feature_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the table of a feature extractor, with the extractor and its notes."""
    extractor = ", ".join(f"{k} {v}" for k, v in record["extractor"].items())
    table = feature_table(record)
    rows = [[h.name for h in table.heads], *([c.text for c in row.cells] for row in table.rows)]
    return [
        f"{record['unit']}: {record['n']:,} images, extractor {extractor}",
        *align(rows),
        *(f"! {text}" for text in record["notes"]),
    ]


def _comparison_lines(versus: Mapping[str, Any]) -> list[str]:
    """Return the ranking of the models, and a line for each two models."""
    about = undecided(versus) or "= is a tie"
    lines = [f"models on the {versus['n_groups']:,} groups that all have ({about}):"]
    rows = [["", "rank ", "MAE / best"]]
    for r in versus["ranking"]:
        padding = "" if rank_text(r, versus).endswith(("=", "-")) else " "
        rows.append(
            [r["label"], rank_text(r, versus) + padding, format_number(r["mae_over_best"], ".3f")]
        )
    lines += align(rows)
    for r in versus["pairs"]:
        if r["kind"] == "ratio" and r["metric"] == "mae":
            interval = r["interval"]
            between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            lines.append(
                f"{r['first']} / {r['second']} MAE {format_number(r['value'], '.3f')}{between}, "
                f"better in {r['n_better']} of {r['n_groups']} groups, sign test p {r['p']:.3f}: "
                f"{r['verdict']}"
            )
    return lines


def _ratio_lines(ratios: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of model / baseline, and the groups in which baselines are better."""
    metrics = list(dict.fromkeys(r["metric"] for r in ratios))
    by: dict[tuple[Any, ...], dict[str, Any]] = {}
    for r in ratios:
        by.setdefault((r["baseline"], r["sensor"], r["unit"]), {})[r["metric"]] = r
    rows = [["", *(f"{metric_of(m).heading}{' ' * 10}" for m in metrics)]]
    for (baseline, sensor, unit), of_metric in by.items():
        name = f"{baseline}: all" if sensor is None else f"  {sensor} ({unit})"
        rows.append([name, *(_ratio_text(of_metric.get(m)) for m in metrics)])
    lines = [
        "model / baseline, geometric mean over groups (below 1 the model is better), groups won:",
        *align(rows),
    ]
    for r in ratios:
        # Only MAE and the first index; metrics.json has the groups of all metrics.
        if r["sensor"] is None and r["lost"] and r["metric"] in metrics[:2]:
            lines.append(_lost_line(r))
    return lines


def _ratio_text(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None or ratio["n_groups"] == 0:
        return "-            "
    value = ratio["geometric_mean"]
    mark = " " if value is not None and value < 1 else BETTER
    won = f"{ratio['n_won']}/{ratio['n_groups']}"
    return f"{format_number(value, '.3f')}{mark} {won:>11}"


def _lost_line(ratio: Mapping[str, Any]) -> str:
    shown = [
        f"{short_name(lost['group'])} ({format_number(lost['ratio'], '.2f')})"
        for lost in ratio["lost"][:MAX_LOST]
    ]
    rest = len(ratio["lost"]) - len(shown)
    return (
        f"loses to {ratio['baseline']} in {metric_of(ratio['metric']).heading} in "
        f"{len(ratio['lost'])} of {ratio['n_groups']} groups: {'; '.join(shown)}"
        + (f"; {rest} more" if rest else "")
    )


def short_name(text: str, limit: int = 40) -> str:
    """Return the last part of a path, cut to `limit` characters.

    >>> short_name("/data/scenes/field.tif")
    'field.tif'
    """
    name = str(text).rstrip("/").rsplit("/", 1)[-1]
    return name if len(name) <= limit else f"{name[: limit - 3]}..."
