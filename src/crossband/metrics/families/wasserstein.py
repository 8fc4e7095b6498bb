"""The distance between the distributions of true and synthetic pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crossband.metrics.family import DATA, Array, Family, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN, USUAL_RANGE

#: Number of bins of the unit's usual range for a single band (0.001 of reflectance), and along each
#: direction for several bands.
BINS, PROJECTED_BINS = 1024, 256
#: Number of directions onto which several bands are projected, and the seed of these directions.
DIRECTIONS, SEED = 16, 0


@dataclass(frozen=True, eq=False)
class WassersteinSums(Sums):
    """Integrals of the 1-Wasserstein distance, along each direction.

    W1 = integral |F_p - F_t| over the axis, where F are the cumulative distributions. The axis is
    cut into bins and two open ends. The integral of F_p - F_t over each of them (of 1 - F at the
    upper end) is an exact sum over the pixels, so images add up. Where F_p and F_t cross inside a
    bin, positive and negative parts cancel: for one band, the result is the exact distance minus
    what the two differ by in these bins. For several bands it is the sliced distance (Bonneel et
    al. 2015): the mean over 16 fixed directions of unit length (NumPy's PCG64, seed 0).

    One band has 1024 bins over the usual range of its unit (0.001 of reflectance, 0.03 dB, 0.1 K).
    Several bands have 256 bins along each direction, because every group stores these arrays.

    Attributes:
        areas: [directions, bins + 2], sum over pixels, in the unit.
        n: number of pixels.
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
    """Return unit vectors [directions, bands]; for one band the vector 1."""
    if bands == 1:
        return np.ones((1, 1))
    drawn = np.random.default_rng(SEED).normal(size=(DIRECTIONS, bands))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def areas(at: Array, bins: int) -> Array:
    """Return n times the integral of the cumulative distribution F over each bin: [bins + 2].

    The first integral is over all values below the bins. The last is minus the integral of 1 - F
    over all values above the bins.

    Args:
        at: [n], finite values in units of bins, counted from the first bin's lower edge.
        bins: number of bins.
    """
    below = above = 0.0
    if at.size and (at.min() < 0 or at.max() > bins):
        clipped = np.clip(at, 0.0, bins)
        rest, at = at - clipped, clipped
        below, above = float(rest[rest < 0].sum()), float(rest[rest > 0].sum())
    step = at.astype(np.intp)
    # One more bin, for values exactly at the upper edge.
    count = np.bincount(step, minlength=bins + 1)
    inside = np.bincount(step, weights=at - step, minlength=bins + 1)
    full = np.cumsum(count) - inside
    return np.concatenate([[-below], full[:bins], [-above]])


class SlicedWasserstein(Family):
    """The sliced Wasserstein distance between pixel distributions."""

    name = "swd"
    order = 50
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

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        low, high = USUAL_RANGE[target.unit]
        vectors = directions(len(target.bands))
        # The projection of the cube of usual values covers middle +- half.
        middle = vectors.sum(axis=1) * (low + high) / 2
        half = np.abs(vectors).sum(axis=1) * (high - low) / 2
        self.bins = BINS if len(target.bands) == 1 else PROJECTED_BINS
        self.width = 2 * half / self.bins
        self.directions, self.starts = vectors / self.width[:, None], (middle - half) / self.width
        self.target_areas = self._areas(target.flat)

    def _areas(self, flat: Array) -> Array:
        """Return the areas along each direction, in the unit."""
        along = zip(self.directions, self.starts, strict=True)
        per_bin = np.stack([areas(vector @ flat - start, self.bins) for vector, start in along])
        return np.asarray(per_bin * self.width[:, None])

    def sums(self, output: Output) -> WassersteinSums:
        """Compute the areas between the two distributions."""
        return WassersteinSums(self._areas(output.flat) - self.target_areas, self.target.n)
