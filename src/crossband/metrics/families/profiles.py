"""Where errors lie: sums by true value, by size of the error, by brightness and by NDVI.

For pages: additive, of fixed bins, so that those of all images together are their sums. The ranges
are those that values of the unit usually have (`USUAL_RANGE`): reflectance and display 0..1,
decibels -25..5, kelvin 230..330; with a width L (1, 1, 30, 100):

- scatter: 100 x 100 bins over that range, true x synthetic (0.01 of reflectance, 0.3 dB, 1 K);
- signed error: 200 bins over -L/2..L/2 (0.005 of reflectance, 0.15 dB, 0.5 K);
- brightness: 10 equal classes of the true value over that range;
- NDVI, where true red and near infrared are there: below 0, 0..0.2, 0.2..0.4, 0.4..0.6, 0.6..0.8,
  0.8 and above, of the true index, on pixels where it is defined.

What lies beyond a range counts to its first or last bin. A pixel without a finite value in some
band is left out; `Score.n_nonfinite` counts it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossband.core.indices import required_bands
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.index_error import index_values
from crossband.metrics.moments import NAN, USUAL_RANGE, data_range

SCATTER, ERRORS, CLASSES = 100, 200, 10
NDVI_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8)

Counts = NDArray[np.int64]


def value_edges(unit: str, bins: int = SCATTER) -> Array:
    """Return the edges of bins of values, in the unit: [bins + 1].

    >>> value_edges("kelvin", 2).tolist()
    [230.0, 280.0, 330.0]
    """
    return np.linspace(*USUAL_RANGE[unit], bins + 1)


def error_edges(unit: str) -> Array:
    """Return the edges of the bins of the signed error, in the unit: [201]."""
    half = data_range(unit) / 2
    return np.linspace(-half, half, ERRORS + 1)


@dataclass(frozen=True)
class ByClass:
    """Errors in classes of pixels.

    Attributes:
        low, high: [k], limits of the classes; infinite where a class has no end.
        n: [k], pixels.
        mae, bias: [k], in the unit of the band; NaN where a class is empty.
    """

    low: Array
    high: Array
    n: Counts
    mae: Array
    bias: Array


@dataclass(frozen=True)
class Profile:
    """Where the errors of one band lie.

    Attributes:
        values: [101], edges of the bins of `scatter`.
        scatter: [100, 100], pixels by true (first axis) and synthetic value.
        errors: [201], edges of the bins of `error`.
        error: [200], pixels by synthetic - true.
        brightness: errors by true value.
        ndvi: errors by true NDVI; None where it is not known.
    """

    values: Array
    scatter: Counts
    errors: Array
    error: Counts
    brightness: ByClass
    ndvi: ByClass | None


@dataclass(frozen=True, eq=False)
class Profiles(Part):
    """Sums of each band; arrays add up one by one.

    Attributes:
        scatter: band -> [100 * 100].
        error: band -> [200].
        brightness: band -> [3, 10]: pixels, sums of |error| and of error.
        ndvi: the same, [3, 6]; no band where NDVI is not known.
    """

    gaps = True
    heavy = True

    scatter: dict[str, Counts] = field(default_factory=dict)
    error: dict[str, Counts] = field(default_factory=dict)
    brightness: dict[str, Array] = field(default_factory=dict)
    ndvi: dict[str, Array] = field(default_factory=dict)

    def profiles(self, unit: str) -> dict[str, Profile]:
        """Return band -> profile."""
        inner = value_edges(unit, CLASSES)[1:-1]
        return {
            band: Profile(
                value_edges(unit),
                counts.reshape(SCATTER, SCATTER),
                error_edges(unit),
                self.error[band],
                _by_class(self.brightness[band], inner),
                _by_class(self.ndvi[band], NDVI_EDGES) if band in self.ndvi else None,
            )
            for band, counts in self.scatter.items()
        }


def _by_class(sums: Array, inner: Array | tuple[float, ...]) -> ByClass:
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    n = sums[0].astype(np.int64)
    means = np.where(n > 0, sums[1:] / np.maximum(n, 1), NAN)
    return ByClass(edges[:-1], edges[1:], n, means[0], means[1])


class ProfileSums(Family):
    """Sums for pages; they add no number."""

    name = "profiles"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.low, high = USUAL_RANGE[truth.unit]
        self.width = (high - self.low) / SCATTER
        self.rows = [self._bin(t) for t in truth.flat]
        self.step = 2 * (data_range(truth.unit) / 2) / ERRORS
        self.ndvi, self.green = self._classes()

    def _bin(self, values: Array) -> NDArray[np.intp]:
        return binned(values, self.low, self.width, SCATTER)

    def _classes(self) -> tuple[Counts | None, NDArray[np.bool_] | None]:
        """NDVI class of each pixel that counts, and where NDVI is defined (None: everywhere)."""
        truth = self.truth
        bands = {b: np.asarray(v)[truth.valid] for b, v in truth.beside.items()}
        bands |= dict(zip(truth.bands, truth.flat, strict=True))
        if not set(required_bands("NDVI")) <= set(bands):
            return None, None
        values, defined = index_values("NDVI", bands, truth.unit, truth.guard)
        return np.searchsorted(NDVI_EDGES, values, side="right"), None if defined.all() else defined

    def part(self, output: Output) -> Profiles:
        """Take the sums."""
        truth = self.truth
        keep = slice(None) if output.finite else output.known[truth.valid]
        out = Profiles()
        for number, band in enumerate(truth.bands):
            row, p = self.rows[number][keep], output.flat[number][keep]
            e = p - truth.flat[number][keep]
            size = np.abs(e)
            cell = row * SCATTER + self._bin(p)
            out.scatter[band] = np.bincount(cell, minlength=SCATTER**2)
            steps = binned(e, -self.step * ERRORS / 2, self.step, ERRORS)
            out.error[band] = np.bincount(steps, minlength=ERRORS)
            out.brightness[band] = _sums(row // (SCATTER // CLASSES), size, e, CLASSES)
            if self.ndvi is not None:
                classes = self.ndvi[keep]
                if self.green is not None:
                    there = self.green[keep]
                    classes, size, e = classes[there], size[there], e[there]
                out.ndvi[band] = _sums(classes, size, e, len(NDVI_EDGES) + 1)
        return out


def binned(values: Array, low: float, width: float, bins: int) -> NDArray[np.intp]:
    """Return the bin of each value; the first and the last take what lies beyond.

    >>> binned(np.array([-5.0, 0.0, 0.1, 0.3, 9.0]), 0.0, 0.25, 4).tolist()
    [0, 0, 0, 1, 3]
    """
    at = np.clip((values - low) / width, 0, bins - 1)
    return np.asarray(at.astype(np.intp))


def _sums(classes: NDArray[np.integer], size: Array, e: Array, count: int) -> Array:
    weights = (None, size, e)
    return np.stack([np.bincount(classes, w, count).astype(float) for w in weights])
