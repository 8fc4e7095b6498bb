"""Thresholds of scores that hold at places never seen: hierarchical conformal prediction.

Pixels of one place share much of their error, so they are not exchangeable, and places are. Each of
K places has the weight 1 / (K + 1), whatever number of pixels it has, and the new place, whose
scores nobody knows, has the rest, at infinity (Lee, Barber, Willett 2023, arXiv 2306.06342). This
equals conformal risk control with the uncovered share of a place as its loss (Angelopoulos et al.
2022, arXiv 2208.02814).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: What a threshold promises: the level on average over new places, or at that share of them.
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


def threshold(scores: Scores, level: float, promise: str = MEAN) -> float:
    """Return the smallest threshold that keeps a promise at a new place; infinite for few places.

    Args:
        scores: the scores of the pixels of each place; the larger, the worse.
        level: share of the pixels of a new place whose score is at most the threshold, on average
            over places.
        promise: `MEAN`, or `PLACES`: a share `level` of places has a share `level` of its pixels
            below the threshold.
    """
    kept = [np.asarray(place, float) for place in scores if len(place)]
    if level > highest_level(len(kept)) + _ROUNDING:
        return math.inf
    if promise == PLACES:
        kept = [np.array([_covering(np.sort(place), level)]) for place in kept]
    values = np.concatenate(kept)
    weights = np.concatenate([np.full(len(p), 1 / ((len(kept) + 1) * len(p))) for p in kept])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= level - _ROUNDING
    return float(values[order][reached.argmax()]) if reached.any() else math.inf


def subsampled_threshold(scores: Scores, level: float, rng: np.random.Generator) -> float:
    """Return the threshold of one random pixel of each place (Dunn, Wasserman, Ramdas 2018).

    It holds as `threshold` does, for the mean over places, but depends on the draw.
    """
    drawn = np.sort([float(rng.choice(place)) for place in scores if len(place)])
    rank = math.ceil((len(drawn) + 1) * level - _ROUNDING)
    return float(drawn[rank - 1]) if rank <= len(drawn) else math.inf


def coverage(scores: Scores, limit: float) -> NDArray[np.float64]:
    """Return the share of each place's scores that are at most `limit`."""
    return np.array([float(np.mean(np.asarray(place) <= limit)) for place in scores if len(place)])


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


def _covering(ordered: NDArray[np.float64], level: float) -> float:
    """Return the smallest of sorted scores that covers a share `level` of them."""
    return float(ordered[max(math.ceil(level * len(ordered) - _ROUNDING), 1) - 1])
