"""The tables of the page of an evaluation, as cells: text, what it is sorted by, and a mark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crossband.evaluation.report.text import FEATURES, cell, differ
from crossband.metrics import MODEL, described

#: Columns of the tables, as far as they are there: the first ones of the narrower tables too.
FIRST = ("mae", "rmse", "bias", "r2", "r", "psnr", "ssim")
#: Groups named in the tables of the best and the worst.
ENDS = 5


def known(value: Any) -> bool:
    """Return whether a number is defined."""
    return value is not None and not math.isnan(value)


def head(name: str, title: str = "") -> dict[str, str]:
    """Return a column's head; the title is shown when one points at it."""
    return {"name": name, "title": title}


def entry(text: str, value: Any = None, small: str = "", kind: str = "") -> dict[str, Any]:
    """Return a cell; `value` is what it is sorted by, the text where None is unknown."""
    return {"text": text, "value": "" if value is None else value, "small": small, "kind": kind}


def columns_of(scores: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a table: the usual ones first."""
    there = [m for m in scores[MODEL]["pixels"] if described(m) is not None]
    first = [m for m in FIRST if m in there]
    return first + [m for m in there if m not in first]


def metric_entry(
    metric: str, value: Any, *, beats: bool = False, interval: Any = None
) -> dict[str, Any]:
    """Return the cell of a number, with its interval below."""
    about = described(metric)
    assert about is not None
    small = ""
    if interval:
        small = " .. ".join(cell(end, about.format) for end in interval)
    kind = "beats" if beats else ""
    return entry(cell(value, about.format), value if known(value) else None, small, kind)


def beats(metric: str, value: Any, own: Any) -> bool:
    """Return whether a baseline's number is better than the model's."""
    about = described(metric)
    if about is None or not known(value) or not known(own):
        return False
    if not differ(value, own, about.format):
        return False
    if about.better == "zero":
        return bool(abs(value) < abs(own))
    return bool({"less": value < own, "more": value > own}.get(about.better, False))


def metric_heads(columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the heads of metrics, with their units where these are not the data's."""
    out = []
    for metric in columns:
        about = described(metric)
        assert about is not None
        unit = f", {about.unit}" if about.unit not in ("", "data") else ""
        out.append(head(f"{about.heading}{unit}", about.about))
    return out


def numbers(model: Mapping[str, Any], several: bool) -> list[dict[str, Any]]:
    """Return for each sensor two tables of model and baselines: over pixels, and over images."""
    out = []
    for record in model["sensors"]:
        scores = record["scores"]
        notes = [
            f"{who}: {s['pixels']['n_nonfinite']:,} pixels are NaN or infinite, so its errors are "
            f"undefined."
            for who, s in scores.items()
            if s["pixels"]["n_nonfinite"]
        ]
        words = (
            f"{record['sensor']} ({record['unit']}): {record['n_groups']:,} groups, "
            f"{record['n_images']:,} pairs, {record['n_valid']:,} of {record['n_pixels']:,} pixels"
        )
        title = f"{model['label']}: {words}" if several else words
        pixels, images = (_numbers(scores, kind) for kind in ("pixels", "images"))
        out.append({"title": title, "notes": notes, **pixels, "images": images})
    return out


def _numbers(scores: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a table of all metrics, over all pixels or as the mean over images."""
    columns, own = columns_of(scores), scores[MODEL][kind]
    rows = []
    for who, score in scores.items():
        cells = [entry(who, who)]
        for m in columns:
            value = score[kind].get(m)
            interval = score.get("intervals", {}).get(kind, {}).get(m)
            better = who != MODEL and beats(m, value, own.get(m))
            cells.append(metric_entry(m, value, beats=better, interval=interval))
        rows.append({"own": who == MODEL, "cells": cells})
    return {"heads": [head(""), *metric_heads(columns)], "rows": rows}


def ratios(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of model / baseline."""
    rows = []
    metrics = list(dict.fromkeys(r["metric"] for m in models for r in m["ratios"]))
    for model in models:
        by: dict[tuple[Any, ...], dict[str, Any]] = {}
        for r in model["ratios"]:
            by.setdefault((r["baseline"], r["sensor"], r["unit"]), {})[r["metric"]] = r
        for (baseline, sensor, unit), found in by.items():
            where = "all sensors" if sensor is None else f"{sensor} ({unit})"
            name = f"{model['label']} / {baseline}, {where}"
            cells = [entry(name, name)]
            for metric in metrics:
                r = found.get(metric)
                if r is None or not r["n_groups"]:
                    cells.append(entry("-"))
                    continue
                value = r["geometric_mean"]
                interval = r.get("interval")
                small = f"{interval[0]:.3f} .. {interval[1]:.3f}" if interval else ""
                text = f"{cell(value, '.3f')} ({r['n_won']}/{r['n_groups']})"
                beaten = not known(value) or value >= 1
                cells.append(entry(text, value, small, "beats" if beaten else ""))
            rows.append({"own": sensor is None, "cells": cells})
    heads = [head("model / baseline")]
    heads += [head(f"{m.removesuffix('_mae')} MAE" if m != "mae" else "MAE") for m in metrics]
    return {"title": "", "heads": heads, "rows": rows}


def side_by_side(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ranking, and the table of each two models."""
    ranking = [
        {
            "own": r["rank"] == 1,
            "cells": [
                entry(r["label"], r["label"]),
                entry(
                    "-" if r["rank"] is None else f"{r['rank']}{'=' if r['tie'] else ''}", r["rank"]
                ),
                entry(cell(r["mae_over_best"], ".3f"), r["mae_over_best"]),
            ],
        }
        for r in found["ranking"]
    ]
    pairs = []
    for r in found["pairs"]:
        about = described(r["metric"])
        name = about.heading if about is not None else r["metric"]
        what = "ratio" if r["kind"] == "ratio" else f"difference ({r['unit']})"
        interval = r["interval"]
        between = f"{interval[0]:.4g} .. {interval[1]:.4g}" if interval else "too few groups"
        kind = {"better": "good", "worse": "bad"}.get(r["verdict"], "")
        pairs.append(
            {
                "own": r["kind"] == "ratio",
                "cells": [
                    entry(f"{r['first']} against {r['second']}", r["first"]),
                    entry(name, name),
                    entry(what, what),
                    entry(cell(r["value"], ".4g"), r["value"], between),
                    entry(f"{r['n_better']} : {r['n_worse']}", r["n_better"]),
                    entry(f"{r['p']:.3f}", r["p"]),
                    entry(r["verdict"], r["verdict"], kind=kind),
                ],
            }
        )
    notes = [
        f"On the {found['n_groups']:,} groups that all models have. Ranked by the geometric mean "
        f"of MAE; equal ranks (=) cannot be told apart: the interval of their ratio holds 1, or a "
        f"sign test does not agree (p of 0.05 or more)."
    ]
    if not found["same_pixels"]:
        notes.append("Not the same pixels count for all: their sources are masked differently.")
    heads = ["models", "metric", "what", "value", "better : worse", "sign test p", "the first is"]
    return {
        "notes": notes,
        "ranking": {
            "heads": [head("model"), head("rank"), head("MAE / best")],
            "rows": ranking,
        },
        "pairs": {"heads": [head(h) for h in heads], "rows": pairs},
    }


def _rank(record: Mapping[str, Any]) -> str:
    """Return a place, with `=` where it is shared."""
    if record["rank"] is None:
        return "-"
    return f"{record['rank']}{'=' if record['tie'] else ''}"


def breakdowns(model: Mapping[str, Any], several: bool) -> list[dict[str, Any]]:
    """Return a table for each column that the numbers are broken down by."""
    out = []
    for breakdown in model.get("breakdowns", []):
        columns: list[str] = []
        for record in breakdown["values"]:
            columns += [c for c in columns_of(record["scores"]) if c not in columns]
        columns = [c for c in columns if c in FIRST or c.endswith("_mae")]
        heads = [head(breakdown["column"]), head("unit"), head("groups"), head("pairs")]
        heads += [*metric_heads(columns), head("MAE / best baseline")]
        rows = []
        for record in breakdown["values"]:
            own = record["scores"][MODEL]["pixels"]
            others = [
                s["pixels"]["mae"]
                for who, s in record["scores"].items()
                if who != MODEL and known(s["pixels"]["mae"])
            ]
            ratio = (
                own["mae"] / min(others) if others and known(own["mae"]) and min(others) else None
            )
            rows.append(
                {
                    "own": False,
                    "cells": [
                        entry(str(record["value"]), record["value"]),
                        entry(record["unit"], record["unit"]),
                        entry(f"{record['n_groups']:,}", record["n_groups"]),
                        entry(f"{record['n_images']:,}", record["n_images"]),
                        *(metric_entry(m, own.get(m)) for m in columns),
                        entry(
                            cell(ratio, ".3f"),
                            ratio,
                            kind="beats" if ratio is not None and ratio >= 1 else "",
                        ),
                    ],
                }
            )
        title = f"{model['label']}: {breakdown['column']}" if several else breakdown["column"]
        out.append({"title": title, "heads": heads, "rows": rows})
    return out


def groups(model: Mapping[str, Any], several: bool) -> list[dict[str, Any]]:
    """Return the tables of the worst and the best groups of each unit, by MAE."""
    out = []
    for unit in dict.fromkeys(g["unit"] for g in model["groups"]):
        there = [g for g in model["groups"] if g["unit"] == unit and g["n_valid"]]
        bad = [g for g in there if not known(g["scores"][MODEL]["pixels"]["mae"])]
        fine = sorted(
            (g for g in there if g not in bad), key=lambda g: -g["scores"][MODEL]["pixels"]["mae"]
        )
        order = bad + fine
        if len(order) > 2 * ENDS:
            order = order[:ENDS] + order[-ENDS:]
        if not order:
            continue
        columns = [c for c in columns_of(order[0]["scores"]) if c in FIRST or c.endswith("_mae")]
        rows = [
            {
                "own": False,
                "cells": [
                    entry(g["group"], g["group"]),
                    entry(g["sensor"], g["sensor"]),
                    entry(f"{g['n_valid']:,}", g["n_valid"]),
                    *(metric_entry(m, g["scores"][MODEL]["pixels"].get(m)) for m in columns),
                ],
            }
            for g in order
        ]
        words = f"worst and best groups by MAE ({unit})" if len(there) > len(rows) else (
            f"groups, worst first ({unit})"
        )  # fmt: skip
        title = f"{model['label']}: {words}" if several else words
        heads = [head("group"), head("sensor"), head("pixels"), *metric_heads(columns)]
        out.append({"title": title, "heads": heads, "rows": rows})
    return out


def features(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a table for each unit of what a feature extractor found."""
    out = []
    for found in model.get("features", []):
        floor = found.get("floor") or {}
        names = [n for n in next(iter(found["scores"].values())) if n in FEATURES]
        rows = [
            {
                "own": who == MODEL,
                "cells": [entry(who, who), *(_feature(values.get(n)) for n in names)],
            }
            for who, values in found["scores"].items()
        ]
        if floor:
            name = "truth against truth"
            cells = [entry(name, name), *(_feature(floor.get(n)) for n in names)]
            rows.append({"own": False, "cells": cells})
        about = ", ".join(f"{k} {v}" for k, v in found["extractor"].items())
        notes = [
            {"kind": "soft", "text": f"{found['n']:,} images; extractor: {about}"},
            *({"kind": "doubt", "text": text} for text in found["notes"]),
        ]
        heads = [head(""), *(head(FEATURES[n]) for n in names)]
        title = f"{model['label']} ({found['unit']})"
        out.append({"title": title, "notes": notes, "heads": heads, "rows": rows})
    return out


def _feature(value: Any) -> dict[str, Any]:
    return entry(cell(value, ".4f"), value if known(value) else None)
