"""Thresholds of scores that hold at new places: hierarchical conformal prediction.

Pixels of one place share much of their error, so they are not exchangeable, and places are. Each of
K places has the weight 1 / (K + 1), whatever number of pixels it has, and the new place, whose
scores nobody knows, has the rest, at infinity (Lee, Barber, Willett 2023, arXiv 2306.06342). This
equals conformal risk control with the uncovered share of a place as its loss (Angelopoulos et al.
2022, arXiv 2208.02814).

A mean leaves open that a few places are hardly covered at all. So a second risk is controlled with
it: that a place is covered poorly, which is missing more than twice what the level allows. Both
risks only fall with a larger threshold, so the larger of their two thresholds controls both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: What a threshold promises: the level on average over new places, and at most as many of them
#: covered poorly as the level lets be missed; or the level at that share of new places.
MEAN, PLACES = "mean", "places"
PROMISES = (MEAN, PLACES)
#: Rounding errors of a sum of weights.
_ROUNDING = 1e-9

Scores = Sequence[NDArray[np.floating]]


def highest_level(places: int) -> float:
    """Return the highest level with a finite threshold: K / (K + 1).

    >>> highest_level(9)
    0.9
    """
    return places / (places + 1)


def poor_below(level: float) -> float:
    """Return the covered share below which a place is covered poorly; 0 where no place can be.

    >>> round(poor_below(0.9), 9)
    0.8
    """
    return max(2 * level - 1, 0.0)


def threshold(scores: Scores, level: float, promise: str = MEAN) -> float:
    """Return the smallest threshold that keeps a promise at a new place; infinite for few places.

    Args:
        scores: the scores of the pixels of each place; the larger, the worse.
        level: share of the pixels of a new place whose score is at most the threshold.
        promise: `MEAN`: that share on average over places, and at most a share 1 - `level` of
            places has less than `poor_below` of its pixels below the threshold. `PLACES`: a share
            `level` of places has a share `level` of its pixels below it.
    """
    return thresholds(scores, [level], promise)[0]


def thresholds(scores: Scores, levels: Sequence[float], promise: str = MEAN) -> list[float]:
    """Return `threshold` at several levels; the scores are sorted once."""
    ordered = [np.sort(np.asarray(place, float)) for place in scores if len(place)]
    if promise == PLACES:
        return [_place_threshold(ordered, level, level) for level in levels]
    means, poor = _mean_thresholds(ordered, levels), [poor_below(level) for level in levels]
    return [
        max(mean, _place_threshold(ordered, level, least)) if least else mean
        for mean, level, least in zip(means, levels, poor, strict=True)
    ]


def mean_threshold(scores: Scores, level: float) -> float:
    """Return the smallest threshold that covers a share `level` on average over new places."""
    return _mean_thresholds([np.asarray(place, float) for place in scores if len(place)], [level])[
        0
    ]


def _mean_thresholds(kept: Scores, levels: Sequence[float]) -> list[float]:
    values = np.concatenate([*kept, [math.inf]])
    weights = [np.full(len(place), 1 / ((len(kept) + 1) * len(place))) for place in kept]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(np.concatenate([*weights, [1.0]])[order])
    at = np.searchsorted(reached, np.array(levels) - _ROUNDING)
    return [float(values[order[n]]) for n in at]


def _place_threshold(ordered: Scores, level: float, covered: float) -> float:
    return mean_threshold([np.array([_covering(place, covered)]) for place in ordered], level)


def coverage(scores: Scores, limit: float) -> NDArray[np.float64]:
    """Return the share of each place's scores that are at most `limit`."""
    return np.array([float(np.mean(np.asarray(place) <= limit)) for place in scores if len(place)])


def worst(scores: Scores) -> NDArray[np.float64]:
    """Return the scores of a place at the worst of several circumstances, of which one will hold.

    The share of them below a threshold is the smallest of the shares of the given samples, at every
    threshold; for samples of different sizes it is rounded down.

    >>> worst([np.array([1.0, 4.0]), np.array([3.0, 2.0])])
    array([2., 4.])
    """
    kept = [np.sort(np.asarray(sample, float)) for sample in scores if len(sample)]
    count = max(len(sample) for sample in kept)
    shares = [n / count for n in range(1, count + 1)]
    covering = [[_covering(sample, share) for share in shares] for sample in kept]
    return np.asarray(np.max(covering, axis=0), float)


def interval_score(
    low: NDArray[np.floating], high: NDArray[np.floating], truth: NDArray[np.floating], level: float
) -> NDArray[np.float64]:
    """Return the interval score of each pixel: the width, and a fine for what lies outside.

    The fine is 2 / (1 - level) times the distance (Winkler 1972; Gneiting, Raftery 2007, eq. 43).

    >>> interval_score(np.array([0.0]), np.array([1.0]), np.array([1.5]), 0.9)
    array([11.])
    """
    beyond = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return np.asarray(high - low + 2 / (1 - level) * beyond, float)


def _covering(ordered: NDArray[np.floating], level: float) -> float:
    """Return the smallest of sorted scores that covers a share `level` of them."""
    return float(ordered[max(math.ceil(level * len(ordered) - _ROUNDING), 1) - 1])
