"""Plain text tables of an evaluation and of the demo."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossband.metrics import MODEL

#: Column -> (heading, format, what is better).
_LESS: Callable[[float], float] = float
_MORE: Callable[[float], float] = lambda v: -v  # noqa: E731
COLUMNS: dict[str, tuple[str, str, Callable[[float], float]]] = {
    "mae": ("MAE", ".4f", _LESS),
    "rmse": ("RMSE", ".4f", _LESS),
    "bias": ("bias", "+.4f", abs),
    "r2": ("R2", ".3f", _MORE),
    "r": ("r", ".3f", _MORE),
    "psnr": ("PSNR", ".2f", _MORE),
    "ssim": ("SSIM", ".3f", _MORE),
}
#: What an extractor gives, and what it is called.
FEATURES = {
    "kid": "KID",
    "kid_std": "KID, deviation over subsets",
    "fid": "FID",
    "precision": "precision",
    "recall": "recall",
    "inception_score": "Inception Score",
    "lpips": "LPIPS",
}
BETTER = "*"
_MAX_LOST = 5


def grid(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Align columns: the first to the left, the others to the right.

    >>> grid([["", "MAE"], ["model", "0.1"]])
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


def cell(value: float | None, form: str) -> str:
    """Return a number, or `-` where it is not defined.

    >>> cell(0.12345, ".3f"), cell(None, ".3f"), cell(float("nan"), ".3f"), cell(-1e-9, ".3f")
    ('0.123', '-', '-', '0.000')
    """
    if value is None or math.isnan(value):
        return "-"
    text = format(value, form)
    # What rounds to nothing has no sign that means anything.
    return format(0.0, form) if value and not float(text.rstrip("%")) else text


def differ(one: float | None, two: float | None, form: str) -> bool:
    """Return whether two numbers differ in size as they are printed.

    >>> differ(0.00001, -0.00002, "+.4f"), differ(0.1, 0.2, ".4f")
    (False, True)
    """
    return cell(one, form).lstrip("+-") != cell(two, form).lstrip("+-")


def scores(
    numbers: Mapping[str, Mapping[str, Any]], metrics: Sequence[str], first: str = ""
) -> list[str]:
    """Return one line for each of model and baselines; `*` marks what beats the model.

    Args:
        numbers: name -> metric -> value; `model` is the model.
        metrics: columns, keys of `COLUMNS` or `<index>_mae`.
        first: heading of the first column.
    """
    columns = [COLUMNS.get(m, (f"{m.removesuffix('_mae')} MAE", ".4f", _LESS)) for m in metrics]
    rows = [[first, *(f"{heading} " for heading, _, _ in columns)]]
    for who, values in numbers.items():
        row = [who]
        for metric, (_, form, key) in zip(metrics, columns, strict=True):
            value, own = _number(values.get(metric)), _number(numbers[MODEL].get(metric))
            beats = who != MODEL and key(value) < key(own) and differ(value, own, form)
            row.append(cell(value, form) + (BETTER if beats else " "))
        rows.append(row)
    return grid(rows)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def evaluation(metrics: Mapping[str, Any]) -> str:
    """Return the tables of an evaluation, from the content of metrics.json."""
    about = metrics["manifest"]
    blocks = [
        f"{about['path']}, {_split_words(about)}: {about['n_rows']} pairs, "
        f"{about['n_groups']} groups"
    ]
    if about.get("leakage"):
        blocks.append("! " + leaking(about["leakage"]))
    for model in metrics["models"]:
        blocks.append(_model(model, metrics["indices"]))
        blocks += ["\n".join(_features(found)) for found in model.get("features", [])]
    if metrics.get("versus"):
        blocks.append("\n".join(_ranking(metrics["versus"])))
    if any(model["baselines"] for model in metrics["models"]):
        blocks.append(f"{BETTER} a baseline that is better than the model on the same pixels")
    return "\n\n".join(blocks)


def leaking(leak: Mapping[str, Any]) -> str:
    """Return a line on a given split that cuts groups."""
    return (
        f"{leak['seen']} of {leak['rows']} {leak['split']} rows ({leak['seen'] / leak['rows']:.0%})"
        f" are of groups that are in train too, so the numbers below are too good"
    )


def _split_words(about: Mapping[str, Any]) -> str:
    return "all rows" if about["split"] is None else f"split {about['split']}"


def _model(model: Mapping[str, Any], indices: Sequence[str]) -> str:
    head = f"== {model['label']} =="
    if model["weights_hash"]:
        head += f"  weights {model['weights_hash'][:12]}"
    blocks = [f"{head}  {model['precision']} on {model['device']}"]
    for record in model["sensors"]:
        numbers = {who: s["pixels"] for who, s in record["scores"].items()}
        columns = [*COLUMNS, *(f"{i}_mae" for i in indices if f"{i}_mae" in numbers[MODEL])]
        lines = [
            f"{record['sensor']} ({record['unit']}): {record['n_groups']} groups, "
            f"{record['n_images']} pairs, {record['n_valid']:,} of {record['n_pixels']:,} pixels "
            f"count; over all of them:",
            *scores(numbers, columns),
            *_sure(record["scores"], columns),
            *_mean(record["scores"], columns),
        ]
        for who, values in numbers.items():
            if values["n_nonfinite"]:
                lines.append(
                    f"! {who}: {values['n_nonfinite']:,} pixels are NaN or infinite, "
                    f"so its errors are undefined"
                )
        blocks.append("\n".join(lines))
    if model["baselines"]:
        blocks.append("\n".join(_ratio_lines(model["ratios"])))
    else:
        blocks.append("no baselines in the model folder: nothing to hold the model against")
    return "\n\n".join(blocks)


def _sure(scores: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a line with the intervals of the model's first numbers; none without groups."""
    found = scores[MODEL].get("intervals", {}).get("pixels", {})
    words = []
    for metric in ("mae", *(c for c in columns if c.endswith("_mae"))):
        if metric in found:
            low, high = found[metric]
            words.append(f"{_heading(metric).strip()} {low:.4f} to {high:.4f}")
    return [f"model, 95 % over groups: {', '.join(words)}"] if words else []


def _mean(scores: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a line with the model's first numbers as the mean over images."""
    found = scores[MODEL]["images"]
    words = [
        f"{_heading(metric).strip()} {found[metric]:.4f}"
        for metric in ("mae", *(c for c in columns if c.endswith("_mae")))
        if found.get(metric) is not None
    ]
    return [f"model, mean over images: {', '.join(words)}"] if words else []


def _features(found: Mapping[str, Any]) -> list[str]:
    """Return the table of what a feature extractor found, with all that its numbers hang on."""
    extractor = ", ".join(f"{k} {v}" for k, v in found["extractor"].items())
    lines = [f"{found['unit']}: {found['n']:,} images, extractor {extractor}"]
    names = [n for n in next(iter(found["scores"].values())) if n in FEATURES]
    rows = [["", *(FEATURES[n] for n in names)]]
    rows += [[who, *(cell(v.get(n), ".4f") for n in names)] for who, v in found["scores"].items()]
    if found.get("floor"):
        rows.append(["truth against truth", *(cell(found["floor"].get(n), ".4f") for n in names)])
    return [*lines, *grid(rows), *(f"! {text}" for text in found["notes"])]


def _ranking(found: Mapping[str, Any]) -> list[str]:
    """Return who is better, and by how much."""
    lines = [f"models on the {found['n_groups']:,} groups that all have (= is a tie):"]
    rows = [["", "rank ", "MAE / best"]]
    for r in found["ranking"]:
        place = "-" if r["rank"] is None else f"{r['rank']}{'=' if r['tie'] else ' '}"
        rows.append([r["label"], place, cell(r["mae_over_best"], ".3f")])
    lines += grid(rows)
    for r in found["pairs"]:
        if r["kind"] == "ratio" and r["metric"] == "mae":
            interval = r["interval"]
            sure = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
            lines.append(
                f"{r['first']} / {r['second']} MAE {cell(r['value'], '.3f')}{sure}, better in "
                f"{r['n_better']} of {r['n_groups']} groups, sign test p {r['p']:.3f}: "
                f"{r['verdict']}"
            )
    return lines


def _ratio_lines(ratios: Sequence[Mapping[str, Any]]) -> list[str]:
    metrics = list(dict.fromkeys(r["metric"] for r in ratios))
    rows = [["", *(_heading(m) for m in metrics)]]
    for baseline, sensor, unit in dict.fromkeys(
        (r["baseline"], r["sensor"], r["unit"]) for r in ratios
    ):
        own = {
            r["metric"]: r
            for r in ratios
            if (r["baseline"], r["sensor"], r["unit"]) == (baseline, sensor, unit)
        }
        name = f"{baseline}: all" if sensor is None else f"  {sensor} ({unit})"
        rows.append([name, *(_ratio(own.get(m)) for m in metrics)])
    lines = [
        "model / baseline, geometric mean over groups (below 1 the model is better), groups won:",
        *grid(rows),
    ]
    for r in ratios:
        # MAE and the first index; the rest is in metrics.json.
        if r["sensor"] is None and r["lost"] and r["metric"] in metrics[:2]:
            lines.append(_lost(r))
    return lines


def _heading(metric: str) -> str:
    return "MAE          " if metric == "mae" else f"{metric.removesuffix('_mae')} MAE          "


def _ratio(record: Mapping[str, Any] | None) -> str:
    if record is None or record["n_groups"] == 0:
        return "-            "
    value = record["geometric_mean"]
    mark = " " if value is not None and value < 1 else BETTER
    won = f"{record['n_won']}/{record['n_groups']}"
    return f"{cell(value, '.3f')}{mark} {won:>11}"


def _lost(record: Mapping[str, Any]) -> str:
    shown = [
        f"{short(lost['group'])} ({cell(lost['ratio'], '.2f')})"
        for lost in record["lost"][:_MAX_LOST]
    ]
    rest = len(record["lost"]) - len(shown)
    metric = COLUMNS.get(record["metric"], (f"{record['metric'].removesuffix('_mae')} MAE",))[0]
    return (
        f"loses to {record['baseline']} in {metric} in {len(record['lost'])} of "
        f"{record['n_groups']} groups: {'; '.join(shown)}" + (f"; {rest} more" if rest else "")
    )


def short(text: str, limit: int = 40) -> str:
    """Return the last part of a path, cut to `limit` characters.

    >>> short("/data/scenes/field.tif")
    'field.tif'
    """
    name = str(text).rstrip("/").rsplit("/", 1)[-1]
    return name if len(name) <= limit else f"{name[: limit - 3]}..."
