"""How a model stands against a baseline over many groups: ratios, which have no unit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class Ratio(Generic[Group]):
    """Model / baseline over groups, of a metric where less is better.

    Attributes:
        geometric_mean: exp of the mean log ratio over groups, each group counting once; below 1
            the model is better. NaN where there is no group, or where some group's metric is NaN.
        n_groups: groups that were compared.
        n_won: groups with a ratio below 1.
        n_undefined: of the groups, those where model or baseline gave a value that is no number.
        n_empty: groups left out because no pixel of theirs counts (all masked; index undefined).
        lost: the groups with a ratio of 1 or more or undefined, worst first, and their ratios.
        ratios: of all groups that were compared.
    """

    geometric_mean: float
    n_groups: int
    n_won: int
    n_undefined: int
    n_empty: int
    lost: dict[Group, float]
    ratios: dict[Group, float]


def divide(model: float, baseline: float) -> float:
    """Return model / baseline; 1 where both are zero, infinity where only the baseline is.

    >>> divide(0.0, 0.0), divide(0.5, 0.0), divide(1.0, 2.0)
    (1.0, inf, 0.5)
    """
    if baseline == 0:
        return math.nan if math.isnan(model) else 1.0 if model == 0 else math.inf
    return model / baseline


def geometric_mean(ratios: Mapping[Group, float]) -> float:
    """Return the geometric mean; NaN for none, or where one is NaN.

    >>> geometric_mean({"a": 0.5, "b": 2.0})
    1.0
    """
    if not ratios or any(math.isnan(r) for r in ratios.values()):
        return math.nan
    if 0.0 in ratios.values():
        return math.nan if math.inf in ratios.values() else 0.0
    return math.exp(math.fsum(math.log(r) for r in ratios.values()) / len(ratios))


def compare(
    model: Mapping[Group, float], baseline: Mapping[Group, float], counts: Mapping[Group, int]
) -> Ratio[Group]:
    """Compare a model with a baseline, group by group.

    Args:
        model: group -> metric of the model (less is better).
        baseline: the same groups -> metric of the baseline on the same pixels.
        counts: the same groups -> number of pixels that the metric is over.
    """
    if not set(model) == set(baseline) == set(counts):
        raise ValueError("model, baseline and counts must be over the same groups")
    ratios = {g: divide(model[g], baseline[g]) for g in model if counts[g] > 0}
    lost = {g: r for g, r in ratios.items() if not r < 1.0}
    order = sorted(lost, key=lambda g: (-math.inf if math.isnan(lost[g]) else -lost[g], str(g)))
    return Ratio(
        geometric_mean=geometric_mean(ratios),
        n_groups=len(ratios),
        n_won=len(ratios) - len(lost),
        n_undefined=sum(math.isnan(r) for r in ratios.values()),
        n_empty=len(model) - len(ratios),
        lost={g: lost[g] for g in order},
        ratios=ratios,
    )
