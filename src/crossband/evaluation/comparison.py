"""Several models side by side: who is better, by how much, and when it is a tie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from crossband.evaluation.intervals import Paired, difference, ratio
from crossband.metrics import MODEL

#: What the ranking goes by: an error that every pair has.
RANKED = "mae"

#: A group: sensor, unit, group.
Key = tuple[str, str, str]


def versus(models: Sequence[Mapping[str, Any]], better: Mapping[str, str]) -> dict[str, Any]:
    """Compare models on the groups that all of them have.

    Args:
        models: records of metrics.json, with `label` and `groups`.
        better: metric -> `less` or `more`; those of no direction are left out.

    Returns:
        `groups` that were compared, `same_pixels` (whether the same number of pixels counts for
        all), `pairs` (each two models in each metric: ratio over all groups for errors, difference
        for each unit) and `ranking`.
    """
    by_label = {m["label"]: _groups(m) for m in models}
    common = [k for k in next(iter(by_label.values())) if all(k in g for g in by_label.values())]
    counts = [{int(g[k]["n_valid"]) for g in by_label.values()} for k in common]
    pairs = []
    for one, two in combinations(by_label, 2):
        pairs += _pairs(one, two, by_label[one], by_label[two], common, better)
    return {
        "n_groups": len(common),
        "n_left_out": sum(len(g) for g in by_label.values()) - len(common) * len(by_label),
        "same_pixels": all(len(c) == 1 for c in counts),
        "pairs": pairs,
        "ranking": _ranking(by_label, common),
    }


def _groups(model: Mapping[str, Any]) -> dict[Key, dict[str, Any]]:
    return {
        (g["sensor"], g["unit"], g["group"]): g["scores"][MODEL]["pixels"]
        for g in model["groups"]
        if g["n_valid"] > 0
    }


def _pairs(
    one: str,
    two: str,
    a: Mapping[Key, Mapping[str, Any]],
    b: Mapping[Key, Mapping[str, Any]],
    common: Sequence[Key],
    better: Mapping[str, str],
) -> list[dict[str, Any]]:
    out = []
    for metric in dict.fromkeys(m for k in common for m in a[k] if m in better):
        there = [k for k in common if _finite(a[k].get(metric)) and _finite(b[k].get(metric))]
        left_out = sum(metric in a[k] and metric in b[k] for k in common) - len(there)
        if metric == RANKED or metric.endswith("_mae"):
            above = [k for k in there if a[k][metric] > 0 and b[k][metric] > 0]
            if above:
                found = ratio([a[k][metric] for k in above], [b[k][metric] for k in above])
                out.append(_record(one, two, metric, None, "ratio", found, left_out))
        for unit in dict.fromkeys(k[1] for k in there):
            own = [k for k in there if k[1] == unit]
            found = difference(
                [a[k][metric] for k in own],
                [b[k][metric] for k in own],
                less=better[metric] == "less",
            )
            out.append(_record(one, two, metric, unit, "difference", found, left_out))
    return out


def _record(
    one: str, two: str, metric: str, unit: str | None, kind: str, found: Paired, left_out: int
) -> dict[str, Any]:
    about = {"first": one, "second": two, "metric": metric, "unit": unit, "kind": kind}
    return {**about, **asdict(found), "n_undefined": left_out, "verdict": found.verdict}


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _ranking(
    by_label: Mapping[str, Mapping[Key, Mapping[str, Any]]], common: Sequence[Key]
) -> list[dict[str, Any]]:
    """Order models by MAE over those of the best; equal ranks where nobody can tell them apart.

    A model shares the rank of the best one of its rank where `ratio` calls the two a tie. One whose
    output is not finite somewhere has no place.
    """
    errors = {label: [groups[k][RANKED] for k in common] for label, groups in by_label.items()}
    ranked = {k: v for k, v in errors.items() if v and all(_finite(e) and e > 0 for e in v)}
    mean = {k: sum(map(math.log, v)) / len(v) for k, v in ranked.items()}
    order = sorted(ranked, key=lambda label: mean[label])
    out: list[dict[str, Any]] = []
    for place, label in enumerate(order, start=1):
        behind = math.exp(mean[label] - mean[order[0]])
        leader = next((r["label"] for r in out if r["rank"] == out[-1]["rank"]), None)
        tie = leader is not None and ratio(ranked[label], ranked[leader]).verdict == "tie"
        rank = out[-1]["rank"] if tie else place
        out.append({"rank": rank, "label": label, "mae_over_best": behind})
    out += [{"rank": None, "label": k, "mae_over_best": None} for k in errors if k not in ranked]
    for record in out:
        own = record["rank"]
        record["tie"] = own is not None and sum(r["rank"] == own for r in out) > 1
    return out
