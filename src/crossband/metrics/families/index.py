"""Errors of spectral indices that are computed from synthetic bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core import indices as spectral
from crossband.core.sensors import VALID_RANGE
from crossband.metrics.family import (
    GUARD,
    NONE,
    Array,
    Family,
    Mask,
    Metric,
    Output,
    Sums,
    Target,
)
from crossband.metrics.moments import Moments, SampleStats

#: Metrics of each index; their names are `<index>_<name>`.
OF_INDEX = (
    Metric("mae", "MAE", NONE, "less", "mean absolute error of the index"),
    Metric("rmse", "RMSE", NONE, "less", "root mean squared error of the index"),
    Metric("bias", "bias", NONE, "zero", "mean of synthetic - true index"),
    Metric("r2", "R2", NONE, "more", "coefficient of determination of the index", format=".3f"),
    Metric("r", "r", NONE, "more", "Pearson's correlation of the index", format=".3f"),
)


def of_index(index: str, kind: str) -> Metric:
    """Return the description of `<index>_<kind>`.

    Raises:
        KeyError: there is no such metric.

    >>> of_index("NDVI", "mae").heading
    'NDVI MAE'
    """
    metric = {m.name: m for m in OF_INDEX}[kind]
    return replace(
        metric,
        name=f"{index}_{kind}",
        heading=f"{index} {metric.heading}",
        needs="bands of the index, one of them synthetic; reflectance unless a normalised ratio",
    )


def clamp_bands(bands: Mapping[str, ArrayLike], unit: str) -> dict[str, NDArray[np.float64]]:
    """Clamp bands, of any shape, to the range of their unit; values that are not finite are NaN."""
    low, high = VALID_RANGE[unit]
    out = {}
    for band, values in bands.items():
        v = np.asarray(values, dtype=np.float64)
        finite = np.isfinite(v)
        clamped = np.clip(v, low, high)
        # Clamping would turn an infinite output into a valid value.
        out[band] = clamped if finite.all() else np.where(finite, clamped, np.nan)
    return out


def index_values(
    name: str,
    bands: Mapping[str, ArrayLike],
    unit: str,
    guard: float = GUARD,
    *,
    clamped: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute an index for comparison and for pictures.

    Bands are clamped to the valid range of their unit first, as a result is when it is written.
    A negative reflectance is noise and would give an NDVI outside -1..1: see `written_index`.

    For the closed forms of `core.indices` the index is defined where the magnitude of the
    denominator is above `guard`. Elsewhere it is finite too, because a prediction may have such
    values there. Normalised differences are bounded: their denominator is kept at 1e-6 or above
    only to avoid division by zero, so that errors are not reduced. EVI and similar indices have a
    pole (in bright clouds): their denominator is kept at `guard` or above. Other spyndex indices
    have no known denominator and are defined where they are finite.

    Args:
        name: spyndex short name.
        bands: common name -> [H, W], physical units.
        unit: unit of the bands.
        guard: smallest magnitude of the denominator, in that unit.
        clamped: whether the bands are the result of `clamp_bands` already.

    Returns:
        The index [H, W], and where it is defined, bool [H, W].
    """
    spectral.check(name, set(bands))
    values = {b: np.asarray(v) for b, v in bands.items()} if clamped else clamp_bands(bands, unit)
    with np.errstate(divide="ignore", invalid="ignore"):
        if name not in spectral.CLOSED_FORMS:
            index = np.asarray(spectral.compute(name, values), dtype=np.float64)
            return index, np.isfinite(index)
        numerator, denominator = spectral.CLOSED_FORMS[name][0](values)
        numerator = np.asarray(numerator, dtype=np.float64)
        denominator = np.broadcast_to(np.asarray(denominator, np.float64), numerator.shape)
        defined = (np.abs(denominator) > guard) & np.isfinite(numerator)
        least = 1e-6 if name in spectral.BOUNDED else guard
        large = np.abs(denominator) > least
        if not large.all():
            denominator = np.where(large, denominator, np.copysign(least, denominator))
        return numerator / denominator, defined


def written_index(
    name: str, bands: Mapping[str, NDArray[np.float32]], unit: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Compute an index as files have it: the values that `index_values` judges and calibrates.

    A normalised difference of a negative band, which is noise over water or in shadow, would be -1
    or 1 of a clamped one, and beyond of the band itself. It is not defined.

    Args:
        name: spyndex short name.
        bands: common name -> [H, W], physical units.
        unit: unit of the bands.

    Returns:
        The index [H, W], and where it is defined, bool [H, W].
    """
    needed = spectral.required_bands(name)
    used = {band: bands[band] for band in needed}
    values, _ = index_values(name, used, unit)
    defined = np.isfinite(values)
    if name in spectral.BOUNDED:
        low, _ = VALID_RANGE[unit]
        for band in used.values():
            defined &= band >= low
        defined &= np.add(*used.values()) > 0
    return values.astype(np.float32), defined


@dataclass(frozen=True, eq=False)
class IndexSums(Sums):
    """Moments of each index over the valid pixels at which the true index is defined.

    The output does not decide which pixels these are, so a model and its baselines are compared
    over the same pixels. A band that is not synthetic is the true one in both: the NDVI of a
    synthetic NIR uses the true red.
    """

    handles_nonfinite = True

    indices: dict[str, Moments] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return `<index>_mae`, `_rmse`, `_bias`, `_r2`, `_r`, and the number of pixels `_n`."""
        out: dict[str, float] = {}
        for name, m in self.indices.items():
            out |= {f"{name}_{metric.name}": getattr(m, metric.name) for metric in OF_INDEX}
            out[f"{name}_n"] = m.n + m.n_nonfinite
        return out


class SpectralIndices(Family):
    """Errors of the requested indices. `of_index` describes their metrics."""

    name = "index"
    order = 200

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether an index was requested."""
        return bool(target.indices)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.needed = {b for name in target.indices for b in spectral.required_bands(name)}
        others = {
            b: np.asarray(v)[target.valid]
            for b, v in target.other_bands.items()
            if b in self.needed and b not in target.bands
        }
        self.other_bands = clamp_bands(others, target.unit)
        bands = self._with_others(target.flat)
        self.true: dict[str, tuple[Array, Mask | None, SampleStats]] = {}
        for name in target.indices:
            values, defined = index_values(name, bands, target.unit, target.guard, clamped=True)
            everywhere = bool(defined.all())
            values = values if everywhere else values[defined]
            self.true[name] = values, None if everywhere else defined, SampleStats.of(values)

    def _with_others(self, flat: NDArray[np.floating]) -> dict[str, Array]:
        """Return the bands that the indices need: those of an image [C, n], and the other ones."""
        bands = {b: v for b, v in zip(self.target.bands, flat, strict=True) if b in self.needed}
        return self.other_bands | clamp_bands(bands, self.target.unit)

    def sums(self, output: Output) -> IndexSums:
        """Compute the moments of each index."""
        target = self.target
        bands = self._with_others(output.flat if output.finite else output.raw[:, target.valid])
        moments = {}
        for name, (true, defined, stats) in self.true.items():
            values, _ = index_values(name, bands, target.unit, target.guard, clamped=True)
            values = values if defined is None else values[defined]
            finite = bool(np.isfinite(values).all())
            moments[name] = (
                Moments.of_finite(values, true, stats) if finite else Moments.of(values, true)
            )
        return IndexSums(moments)
