"""Comparisons over groups: of a model with a baseline, and of models with each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from crossband.evaluation.intervals import Interval, mean_interval, ratio_interval
from crossband.metrics import MODEL

#: Metric of the ranking: an error that every pair has.
RANKING_METRIC = "mae"
#: Two models differ if the sign test's p is below this, and the interval agrees.
SIGNIFICANCE = 0.05
#: Groups that a comparison needs: with fewer, even a model that is better in each of them has a p
#: above `SIGNIFICANCE`.
NEEDED_GROUPS = 6
#: Verdicts on two models that share a rank.
EQUAL = ("tie", "undecided")

Group = TypeVar("Group", bound=Hashable)
Part = TypeVar("Part", bound=Hashable)
#: Sensor, unit and name of a group.
Key = tuple[str, str, str]


# ---- a model and a baseline ------------------------------------------------------------------


@dataclass(frozen=True)
class BaselineRatio(Generic[Group]):
    """Ratio model / baseline over groups, of an error metric.

    What is compared may be a part of a group, as a place seen by one of several sensors: then the
    ratio of a group is the geometric mean of those of its parts.

    Attributes:
        geometric_mean: geometric mean of the ratio over groups; below 1 the model is better. NaN
            if there is no group, or if the metric of some group is NaN.
        n_groups: number of groups that were compared.
        n_won: number of groups with a ratio below 1.
        n_undefined: number of compared groups in which model or baseline is NaN.
        n_empty: number of groups that were left out, because the metric covers none of their
            pixels (all are masked, or the index is undefined).
        lost: groups with a ratio of 1 or more, or of NaN, and their ratios; the worst first.
        ratios: ratios of all groups that were compared.
    """

    geometric_mean: float
    n_groups: int
    n_won: int
    n_undefined: int
    n_empty: int
    lost: dict[Group, float]
    ratios: dict[Group, float]


def compare_to_baseline(
    model: Mapping[Part, float],
    baseline: Mapping[Part, float],
    counts: Mapping[Part, int],
    group_of: Callable[[Part], Group],
) -> BaselineRatio[Group]:
    """Compare an error metric of a model and of a baseline, group by group.

    Args:
        model: part of a group -> metric of the model.
        baseline: the same parts -> metric of the baseline on the same pixels.
        counts: the same parts -> number of pixels that the metric covers.
        group_of: returns the group of a part.
    """
    if not set(model) == set(baseline) == set(counts):
        raise ValueError("model, baseline and counts must be over the same groups")
    parts: dict[Group, dict[Part, float]] = {}
    for part in model:
        if counts[part] > 0:
            parts.setdefault(group_of(part), {})[part] = divide(model[part], baseline[part])
    ratios = {group: geometric_mean(own) for group, own in parts.items()}
    lost = {g: r for g, r in ratios.items() if not r < 1.0}
    order = sorted(lost, key=lambda g: (-math.inf if math.isnan(lost[g]) else -lost[g], str(g)))
    return BaselineRatio(
        geometric_mean=geometric_mean(ratios),
        n_groups=len(ratios),
        n_won=len(ratios) - len(lost),
        n_undefined=sum(math.isnan(r) for r in ratios.values()),
        n_empty=len({group_of(part) for part in model}) - len(ratios),
        lost={g: lost[g] for g in order},
        ratios=ratios,
    )


def divide(model: float, baseline: float) -> float:
    """Return model / baseline; 1 if both are 0, infinity if only the baseline is 0.

    >>> divide(0.0, 0.0), divide(0.5, 0.0), divide(1.0, 2.0)
    (1.0, inf, 0.5)
    """
    if baseline == 0:
        return math.nan if math.isnan(model) else 1.0 if model == 0 else math.inf
    return model / baseline


def geometric_mean(ratios: Mapping[Any, float]) -> float:
    """Return the geometric mean; NaN for no ratios, or if one is NaN.

    >>> geometric_mean({"a": 0.5, "b": 2.0})
    1.0
    """
    if not ratios or any(math.isnan(r) for r in ratios.values()):
        return math.nan
    if 0.0 in ratios.values():
        return math.nan if math.inf in ratios.values() else 0.0
    return math.exp(math.fsum(math.log(r) for r in ratios.values()) / len(ratios))


# ---- two models ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedComparison:
    """A metric of two models over the same groups: mean difference, or geometric mean of ratios.

    Attributes:
        value: mean difference first - second, or geometric mean of first / second.
        interval: 95 % interval of the value; None for too few groups.
        even: value of two equal models: 0 for a difference, 1 for a ratio.
        n_groups: number of groups.
        n_better: number of groups in which the first is better.
        n_worse: number of groups in which the first is worse.
        p: p of a two-sided sign test. Groups without a difference are left out; 1 if none is left.
    """

    value: float
    interval: Interval | None
    even: float
    n_groups: int
    n_better: int
    n_worse: int
    p: float

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `tie`, or `undecided` where the groups are too few for any of these.

        It is a tie unless interval and sign test both agree.
        """
        if self.n_groups < NEEDED_GROUPS:
            return "undecided"
        if self.interval is None or self.interval[0] <= self.even <= self.interval[1]:
            return "tie"
        if self.p >= SIGNIFICANCE:
            return "tie"
        return "better" if self.n_better > self.n_worse else "worse"


def difference(
    first: Sequence[float], second: Sequence[float], *, less: bool = True
) -> PairedComparison:
    """Compare a metric of two models by its difference, in its own unit.

    Args:
        first: metric of the first model, one finite number for each group.
        second: metric of the second model, for the same groups.
        less: whether smaller values are better.

    >>> difference([1.0, 2.0], [2.0, 2.0]).value
    -0.5
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    value = float(differences.mean()) if len(differences) else math.nan
    signs = _sign_test(differences, less)
    return PairedComparison(value, mean_interval(differences), 0.0, len(differences), *signs)


def ratio(first: Sequence[float], second: Sequence[float]) -> PairedComparison:
    """Compare an error metric of two models by its ratio, over groups of any units.

    Args:
        first: metric of the first model, one number above 0 for each group.
        second: metric of the second model, for the same groups.
    """
    logs = np.log(np.asarray(first, np.float64)) - np.log(np.asarray(second, np.float64))
    value = math.exp(float(logs.mean())) if len(logs) else math.nan
    signs = _sign_test(logs, less=True)
    return PairedComparison(value, ratio_interval(list(np.exp(logs))), 1.0, len(logs), *signs)


def _sign_test(differences: NDArray[np.float64], less: bool) -> tuple[int, int, float]:
    """Return the number of groups in which the first is better and worse, and p."""
    below, above = int((differences < 0).sum()), int((differences > 0).sum())
    p = float(stats.binomtest(below, below + above).pvalue) if below + above else 1.0
    return (below, above, p) if less else (above, below, p)


# ---- several models --------------------------------------------------------------------------


def compare_models(
    models: Sequence[Mapping[str, Any]], better: Mapping[str, str]
) -> dict[str, Any]:
    """Compare models over the groups that all of them have.

    Args:
        models: records of metrics.json, with `label` and `groups`.
        better: metric -> `less` or `more`; other metrics are not compared.

    Returns:
        The record `versus` of metrics.json; see docs/metrics-schema.md.
    """
    by_label = {m["label"]: _numbers_by_group(m) for m in models}
    common = [k for k in next(iter(by_label.values())) if all(k in g for g in by_label.values())]
    counts = [{int(g[k]["n_valid"]) for g in by_label.values()} for k in common]
    pairs = []
    for first, second in combinations(by_label, 2):
        pairs += _compare_two(first, second, by_label, common, better)
    known = {key[2] for key in common}
    return {
        "n_groups": len(known),
        "needed_groups": NEEDED_GROUPS,
        "n_left_out": sum(len({key[2] for key in g} - known) for g in by_label.values()),
        "same_pixels": all(len(c) == 1 for c in counts),
        "pairs": pairs,
        "ranking": _ranking(by_label, common),
    }


def _numbers_by_group(model: Mapping[str, Any]) -> dict[Key, dict[str, Any]]:
    return {
        (g["sensor"], g["unit"], g["group"]): g["scores"][MODEL]["pixels"]
        for g in model["groups"]
        if g["n_valid"] > 0
    }


def _by_place(
    groups: Mapping[Key, Mapping[str, Any]],
    keys: Sequence[Key],
    metric: str,
    *,
    geometric: bool = False,
) -> list[float]:
    """Return a metric for each place: a place that several sensors have seen counts once.

    Args:
        groups: (sensor, unit, group) -> metrics.
        keys: which of them.
        metric: its name.
        geometric: the mean over the sensors of a place is geometric, as of ratios; one that is not
            finite takes its place.
    """
    places: dict[Any, list[float]] = {}
    for key in keys:
        places.setdefault(key[2], []).append(groups[key][metric])
    if not geometric:
        return [sum(values) / len(values) for values in places.values()]
    out = []
    for values in places.values():
        odd = [v for v in values if not _finite(v)]
        out.append(odd[0] if odd else geometric_mean(dict(enumerate(values))))
    return out


def _compare_two(
    first: str,
    second: str,
    by_label: Mapping[str, Mapping[Key, Mapping[str, Any]]],
    common: Sequence[Key],
    better: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the comparisons of two models: of errors by ratio, of each metric by difference."""
    a, b = by_label[first], by_label[second]
    out = []
    for metric in dict.fromkeys(m for k in common for m in a[k] if m in better):
        both = [k for k in common if metric in a[k] and metric in b[k]]
        # A place whose part has no number is left out whole: else it would count by its others.
        unknown = {k[2] for k in both if not (_finite(a[k][metric]) and _finite(b[k][metric]))}
        defined = [k for k in both if k[2] not in unknown]
        n_undefined = len(both) - len(defined)
        compared: list[tuple[str | None, str, PairedComparison]] = []
        if metric == RANKING_METRIC or metric.endswith("_mae"):
            positive = [k for k in defined if a[k][metric] > 0 and b[k][metric] > 0]
            if positive:
                errors = (_by_place(m, positive, metric, geometric=True) for m in (a, b))
                compared.append((None, "ratio", ratio(*errors)))
        for unit in dict.fromkeys(k[1] for k in defined):
            own = [k for k in defined if k[1] == unit]
            values = (_by_place(m, own, metric) for m in (a, b))
            found = difference(*values, less=better[metric] == "less")
            compared.append((unit, "difference", found))
        out += [
            {
                "first": first,
                "second": second,
                "metric": metric,
                "unit": unit,
                "kind": kind,
                **asdict(found),
                "n_undefined": n_undefined,
                "verdict": found.verdict,
            }
            for unit, kind, found in compared
        ]
    return out


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _unranked(errors: Sequence[float]) -> str:
    """Return why a model has no rank, from its errors in the groups."""
    if not errors:
        return "no group is judged of all models"
    if all(map(_finite, errors)):
        return "its error is 0 in a group, as that of a copy of the truth is"
    return "its output is not finite everywhere"


def _ranking(
    by_label: Mapping[str, Mapping[Key, Mapping[str, Any]]], common: Sequence[Key]
) -> list[dict[str, Any]]:
    """Rank models by the geometric mean of their MAE, relative to the best model.

    A model shares a rank if `ratio` does not tell it from the best model of that rank. A model
    whose output is not finite somewhere has no rank, and none whose error is 0 in a group has: no
    ratio is defined. `why` says so.
    """
    errors = {
        label: _by_place(groups, common, RANKING_METRIC, geometric=True)
        for label, groups in by_label.items()
    }
    ranked = {k: v for k, v in errors.items() if v and all(_finite(e) and e > 0 for e in v)}
    mean_log = {k: sum(map(math.log, v)) / len(v) for k, v in ranked.items()}
    order = sorted(ranked, key=lambda label: mean_log[label])
    out: list[dict[str, Any]] = []
    for place, label in enumerate(order, start=1):
        over_best = math.exp(mean_log[label] - mean_log[order[0]])
        leader = next((r["label"] for r in out if r["rank"] == out[-1]["rank"]), None)
        tie = leader is not None and ratio(ranked[label], ranked[leader]).verdict in EQUAL
        rank = out[-1]["rank"] if tie else place
        out.append({"rank": rank, "label": label, "mae_over_best": over_best})
    for label, own in errors.items():
        if label in ranked:
            continue
        out.append({"rank": None, "label": label, "mae_over_best": None, "why": _unranked(own)})
    for record in out:
        rank = record["rank"]
        record["tie"] = rank is not None and sum(r["rank"] == rank for r in out) > 1
    return out
