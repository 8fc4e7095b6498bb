"""The distance between the distributions of true and synthetic pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crossband.metrics.catalogue import DATA, Metric
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.moments import NAN, USUAL_RANGE

#: Steps of the usual range of the unit: of a band alone (0.001 of reflectance), and along each of
#: the directions of several.
BINS, COARSE = 1024, 256
#: Directions onto which two bands and more are projected, and the seed they are drawn with.
DIRECTIONS, SEED = 16, 0


@dataclass(frozen=True, eq=False)
class Distributions(Part):
    """What the 1-Wasserstein distance needs, along each direction.

    W1 = integral |F_p - F_t| over the axis, F being the cumulative distributions. The axis is cut
    into bins and two open ends, and of each the integral of F_p - F_t (1 - F at the upper end) is
    summed exactly, from every value, so that images add up. What is lost is only where F_p and
    F_t cross inside a bin: for one band the result is the exact distance, or less by what the two
    differ in the bins they cross in. For more bands it is the sliced distance (Bonneel et al.
    2015), the mean over 16 directions of unit length drawn once for all (NumPy's PCG64, seed 0).

    Bins are 1024 equal parts of the usual range of the unit for one band (0.001 of reflectance,
    0.03 dB, 0.1 K), 256 along each direction for more: groups are many, and each keeps them.

    Attributes:
        areas: [directions, bins + 2], sum over pixels, in the unit.
        n: pixels.
    """

    areas: Array
    n: int

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the distance, in the unit."""
        if not self.n:
            return {"swd": NAN}
        return {"swd": float(np.abs(self.areas).sum(axis=1).mean() / self.n)}


@lru_cache(maxsize=8)
def directions(bands: int) -> Array:
    """Return unit vectors [directions, bands]; for one band the axis itself."""
    if bands == 1:
        return np.ones((1, 1))
    drawn = np.random.default_rng(SEED).normal(size=(DIRECTIONS, bands))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def areas(at: Array, bins: int) -> Array:
    """Return n x the integral of the cumulative distribution over each bin, in bins: [bins + 2].

    Args:
        at: [n], finite, in bins from where they begin. The first of the results is the integral
            over what lies below them, the last is minus that of 1 - F over what lies above.
        bins: their number.
    """
    below = above = 0.0
    if at.size and (at.min() < 0 or at.max() > bins):
        held = np.clip(at, 0.0, bins)
        rest, at = at - held, held
        below, above = float(rest[rest < 0].sum()), float(rest[rest > 0].sum())
    step = at.astype(np.intp)
    # One bin more, for what lies exactly at the end.
    count = np.bincount(step, minlength=bins + 1)
    inside = np.bincount(step, weights=at - step, minlength=bins + 1)
    full = np.cumsum(count) - inside
    return np.concatenate([[-below], full[:bins], [-above]])


class SlicedWasserstein(Family):
    """The sliced Wasserstein distance between pixel distributions."""

    name = "swd"
    place = 50
    metrics = (
        Metric(
            "swd",
            "SWD",
            DATA,
            "less",
            "1-Wasserstein distance between the distributions of true and synthetic pixels, "
            "sliced where there are several bands",
            source="Bonneel, Rabin, Peyre and Pfister 2015",
        ),
    )

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        low, high = USUAL_RANGE[truth.unit]
        turn = directions(len(truth.bands))
        # A direction maps the cube of usual values to middle +- half.
        middle = turn.sum(axis=1) * (low + high) / 2
        half = np.abs(turn).sum(axis=1) * (high - low) / 2
        self.bins = BINS if len(truth.bands) == 1 else COARSE
        self.width = 2 * half / self.bins
        self.turn, self.begin = turn / self.width[:, None], (middle - half) / self.width
        self.own = self._areas(truth.flat)

    def _areas(self, flat: Array) -> Array:
        """Areas along each direction, in the unit."""
        along = zip(self.turn, self.begin, strict=True)
        found = np.stack([areas(turn @ flat - begin, self.bins) for turn, begin in along])
        return np.asarray(found * self.width[:, None])

    def part(self, output: Output) -> Distributions:
        """Take the areas between the two distributions."""
        return Distributions(self._areas(output.flat) - self.own, self.truth.n)
