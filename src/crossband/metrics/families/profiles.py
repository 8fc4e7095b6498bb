"""Error profiles: histograms and errors by true value, by size of the error and by NDVI.

The report page plots them. Bins are fixed, so the histograms of several images add up. They cover
the usual range of the unit (`USUAL_RANGE`): reflectance and display 0..1, decibels -25..5, kelvin
230..330. With L the width of that range (1, 1, 30, 100):

- scatter: 100 x 100 bins over that range, true x synthetic (0.01 of reflectance, 0.3 dB, 1 K);
- signed error: 200 bins over -L/2..L/2 (0.005 of reflectance, 0.15 dB, 0.5 K);
- brightness: 10 equal classes of the true value over that range;
- NDVI, if true red and near infrared are available: below 0, 0..0.2, 0.2..0.4, 0.4..0.6, 0.6..0.8,
  0.8 and above, of the true index, over pixels where it is defined.

Values outside a range are counted in its first or last bin. Pixels at which some band of the output
is not finite are left out; `Score.n_nonfinite` counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossband.core.indices import required_bands
from crossband.metrics.families.index import index_values
from crossband.metrics.family import Array, Family, Output, Sums, Target
from crossband.metrics.moments import NAN, USUAL_RANGE, data_range

SCATTER, ERRORS, CLASSES = 100, 200, 10
NDVI_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8)

Counts = NDArray[np.int64]


def value_edges(unit: str, bins: int = SCATTER) -> Array:
    """Return the bin edges of values, in the unit: [bins + 1].

    >>> value_edges("kelvin", 2).tolist()
    [230.0, 280.0, 330.0]
    """
    return np.linspace(*USUAL_RANGE[unit], bins + 1)


def error_edges(unit: str) -> Array:
    """Return the bin edges of the signed error, in the unit: [201]."""
    half = data_range(unit) / 2
    return np.linspace(-half, half, ERRORS + 1)


@dataclass(frozen=True)
class ByClass:
    """Errors by class of pixels.

    Attributes:
        low, high: [k], limits of the classes; infinite for an open class.
        n: [k], number of pixels.
        mae, bias: [k], in the unit of the band; NaN for an empty class.
    """

    low: Array
    high: Array
    n: Counts
    mae: Array
    bias: Array


@dataclass(frozen=True)
class Profile:
    """Error profile of one band.

    Attributes:
        values: [101], bin edges of `scatter`.
        scatter: [100, 100], number of pixels by true (first axis) and synthetic value.
        errors: [201], bin edges of `error`.
        error: [200], number of pixels by synthetic - true.
        brightness: errors by true value.
        ndvi: errors by true NDVI; None where it is not available.
    """

    values: Array
    scatter: Counts
    errors: Array
    error: Counts
    brightness: ByClass
    ndvi: ByClass | None


@dataclass(frozen=True, eq=False)
class ProfileSums(Sums):
    """Histograms and sums of each band.

    Attributes:
        scatter: band -> [100 * 100].
        error: band -> [200].
        brightness: band -> [3, 10]: number of pixels, sums of |error| and of error.
        ndvi: band -> [3, 6], the same; empty where NDVI is not available.
    """

    handles_nonfinite = True
    report_only = True

    scatter: dict[str, Counts] = field(default_factory=dict)
    error: dict[str, Counts] = field(default_factory=dict)
    brightness: dict[str, Array] = field(default_factory=dict)
    ndvi: dict[str, Array] = field(default_factory=dict)

    def profiles(self, unit: str) -> dict[str, Profile]:
        """Return band -> profile."""
        limits = value_edges(unit, CLASSES)[1:-1]
        return {
            band: Profile(
                value_edges(unit),
                counts.reshape(SCATTER, SCATTER),
                error_edges(unit),
                self.error[band],
                _by_class(self.brightness[band], limits),
                _by_class(self.ndvi[band], NDVI_EDGES) if band in self.ndvi else None,
            )
            for band, counts in self.scatter.items()
        }


def _by_class(sums: Array, limits: Array | tuple[float, ...]) -> ByClass:
    edges = np.concatenate([[-np.inf], limits, [np.inf]])
    n = sums[0].astype(np.int64)
    means = np.where(n > 0, sums[1:] / np.maximum(n, 1), NAN)
    return ByClass(edges[:-1], edges[1:], n, means[0], means[1])


class ErrorProfiles(Family):
    """Error profiles for the report page; this family has no metrics."""

    name = "profiles"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.low, high = USUAL_RANGE[target.unit]
        self.width = (high - self.low) / SCATTER
        self.true_bins = [self._bin(t) for t in target.flat]
        self.error_width = 2 * (data_range(target.unit) / 2) / ERRORS
        self.ndvi, self.ndvi_defined = self._ndvi_classes()

    def _bin(self, values: Array) -> NDArray[np.intp]:
        return binned(values, self.low, self.width, SCATTER)

    def _ndvi_classes(self) -> tuple[Counts | None, NDArray[np.bool_] | None]:
        """Return the NDVI class of each valid pixel, and where NDVI is defined (None: all)."""
        target = self.target
        bands = {b: np.asarray(v)[target.valid] for b, v in target.other_bands.items()}
        bands |= dict(zip(target.bands, target.flat, strict=True))
        if not set(required_bands("NDVI")) <= set(bands):
            return None, None
        values, defined = index_values("NDVI", bands, target.unit, target.guard)
        return np.searchsorted(NDVI_EDGES, values, side="right"), None if defined.all() else defined

    def sums(self, output: Output) -> ProfileSums:
        """Compute the sums."""
        target = self.target
        keep = slice(None) if output.finite else output.valid[target.valid]
        out = ProfileSums()
        for number, band in enumerate(target.bands):
            true_bin, p = self.true_bins[number][keep], output.flat[number][keep]
            e = p - target.flat[number][keep]
            size = np.abs(e)
            cell = true_bin * SCATTER + self._bin(p)
            out.scatter[band] = np.bincount(cell, minlength=SCATTER**2)
            error_bin = binned(e, -self.error_width * ERRORS / 2, self.error_width, ERRORS)
            out.error[band] = np.bincount(error_bin, minlength=ERRORS)
            out.brightness[band] = _sums(true_bin // (SCATTER // CLASSES), size, e, CLASSES)
            if self.ndvi is not None:
                classes = self.ndvi[keep]
                if self.ndvi_defined is not None:
                    defined = self.ndvi_defined[keep]
                    classes, size, e = classes[defined], size[defined], e[defined]
                out.ndvi[band] = _sums(classes, size, e, len(NDVI_EDGES) + 1)
        return out


def binned(values: Array, low: float, width: float, bins: int) -> NDArray[np.intp]:
    """Return the bin of each value; values outside the range get the first or the last bin.

    >>> binned(np.array([-5.0, 0.0, 0.1, 0.3, 9.0]), 0.0, 0.25, 4).tolist()
    [0, 0, 0, 1, 3]
    """
    at = np.clip((values - low) / width, 0, bins - 1)
    return np.asarray(at.astype(np.intp))


def _sums(classes: NDArray[np.integer], size: Array, e: Array, count: int) -> Array:
    weights = (None, size, e)
    return np.stack([np.bincount(classes, w, count).astype(float) for w in weights])
