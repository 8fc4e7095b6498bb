"""How wrong a spectral index is when it is computed from a synthetic band."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core import indices
from crossband.core.sensors import VALID_RANGE
from crossband.metrics.moments import Moments

#: An index counts only where the magnitude of its true denominator (N + R for NDVI) is above this,
#: in the bands' unit. Below it, over deep shadow and clear water, a sensor's own noise of 0.005
#: moves NDVI by more than 0.25, and the error says nothing about the network.
GUARD = 0.02


def clamped(bands: Mapping[str, ArrayLike], unit: str) -> dict[str, NDArray[np.float64]]:
    """Return bands in the valid range of their unit; NaN where they are not finite."""
    low, high = VALID_RANGE[unit]
    out = {}
    for band, given in bands.items():
        v = np.asarray(given, dtype=np.float64)
        finite = np.isfinite(v)
        held = np.clip(v, low, high)
        # An infinite output is no value: clamping must not turn it into a good one.
        out[band] = held if finite.all() else np.where(finite, held, np.nan)
    return out


def index_values(
    name: str,
    bands: Mapping[str, ArrayLike],
    unit: str,
    guard: float = GUARD,
    *,
    ready: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute an index the way it is judged and drawn.

    Bands are clamped into the valid range of their unit first, as they are when a file is written:
    a negative reflectance is noise, and would give NDVI beyond -1..1. For the closed forms of
    `core.indices` the value is defined where the denominator is above `guard` in magnitude,
    and is finite elsewhere too, because a prediction may lie there: normalised differences are
    bounded and hold the denominator at 1e-6 only against division by zero, so that no error is
    softened; EVI and its like have a pole (in bright clouds) and hold it at `guard`. Other spyndex
    names have no stated denominator and are defined where they are finite.

    Args:
        name: spyndex short name.
        bands: common name -> [H, W], physical units.
        unit: their unit.
        guard: least magnitude of the denominator, in that unit.
        ready: whether the bands went through `clamped` already.

    Returns:
        The index [H, W] and where it is defined, bool [H, W].
    """
    indices.check(name, set(bands))
    held = {b: np.asarray(v) for b, v in bands.items()} if ready else clamped(bands, unit)
    with np.errstate(divide="ignore", invalid="ignore"):
        if name not in indices.CLOSED_FORMS:
            values = np.asarray(indices.compute(name, held), dtype=np.float64)
            return values, np.isfinite(values)
        numerator, denominator = indices.CLOSED_FORMS[name][0](held)
        numerator = np.asarray(numerator, dtype=np.float64)
        denominator = np.broadcast_to(np.asarray(denominator, np.float64), numerator.shape)
        defined = (np.abs(denominator) > guard) & np.isfinite(numerator)
        least = 1e-6 if name in indices.BOUNDED else guard
        far = np.abs(denominator) > least
        if not far.all():
            denominator = np.where(far, denominator, np.copysign(least, denominator))
        return numerator / denominator, defined


def index_moments(
    name: str,
    predicted: Mapping[str, ArrayLike],
    true: Mapping[str, ArrayLike],
    unit: str,
    mask: ArrayLike | None = None,
    *,
    guard: float = GUARD,
) -> Moments:
    """Return the moments of the index of the prediction against the index of the truth.

    Only pixels count where the index of the truth is defined (see `index_values`); which pixels
    these are does not depend on the prediction, so all models and baselines are held against the
    same ones.

    Args:
        name: spyndex short name.
        predicted: common name -> [H, W] in physical units; synthetic bands, and true ones for the
            rest (NDVI of a synthetic NIR takes the true red).
        true: common name -> [H, W], the same bands, all of them true.
        unit: their unit.
        mask: bool [H, W], True where a pixel counts.
        guard: see `GUARD`.
    """
    truth, defined = index_values(name, true, unit, guard)
    if mask is not None:
        defined = defined & np.asarray(mask, dtype=bool)
    return Moments.of(index_values(name, predicted, unit, guard)[0], truth, defined)


def index_mae(
    name: str,
    predicted: Mapping[str, ArrayLike],
    true: Mapping[str, ArrayLike],
    unit: str,
    mask: ArrayLike | None = None,
    *,
    guard: float = GUARD,
) -> float:
    """Return the mean absolute error of an index, dimensionless; see `index_moments`.

    >>> red, nir = [[0.25, 0.001]], [[0.75, 0.001]]
    >>> wrong = [[0.25, 0.9]]
    >>> index_mae("NDVI", {"red": red, "nir": wrong}, {"red": red, "nir": nir}, "reflectance")
    0.5
    """
    return index_moments(name, predicted, true, unit, mask, guard=guard).mae
