"""Spectral matching: bring the bands of one image to the values of a reference acquisition.

A mapping is fitted on pixels of equal size: a fine image must be degraded to the reference's grid
first, because averaging narrows the distribution of values. It may then be applied to the fine
image, block by block. Each band is mapped separately, by an increasing function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.errors import InputError, RecipeError, nearest

Array = NDArray[np.float64]
Image = NDArray[np.floating]
Mask = NDArray[np.bool_]

#: Quantiles that `histogram` maps onto each other, without the extremes, which depend on single
#: pixels (glint, dead pixels).
QUANTILES = np.linspace(0.001, 0.999, 257)
#: Least number of pixels that are valid in both images.
FEWEST = 16
#: A spread below this part of the largest value is of the rounding of single precision.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Match:
    """A fitted mapping: piecewise linear between the knots of each band, linear beyond them.

    Attributes:
        image: for each band, increasing values [K] of the image in its physical unit; at least
            one.
        reference: for each band, the values [K] of the reference that they map to.
        slope: for each band, reference units per image unit outside the knots, at least 0.
    """

    image: tuple[Array, ...]
    reference: tuple[Array, ...]
    slope: tuple[float, ...]

    def apply(self, values: Image) -> NDArray[np.float32]:
        """Map values [C, H, W]; returns float32 [C, H, W], NaN where they are NaN.

        Raises:
            InputError: not as many bands as the mapping was fitted on.
        """
        if len(values) != len(self.slope):
            raise InputError(f"a match of {len(self.slope)} bands got {len(values)}")
        out = np.empty(values.shape, dtype=np.float32)
        for band, x in enumerate(values):
            knots, levels = self.image[band], self.reference[band]
            inside = np.interp(x, knots, levels)
            beyond = x - np.clip(x, knots[0], knots[-1])
            out[band] = inside + self.slope[band] * beyond
        return out


def linear(image: Image, reference: Image, mask: Mask | None = None) -> Match:
    """Fit one gain and one offset per band: equal means m, equal standard deviations s.

    y = m_reference + s_reference / s_image (x - m_image).

    Least squares is not used, though both images are on one grid: differences between two
    acquisitions (time, angle, sub-pixel shifts) reduce the correlation, and least squares
    multiplies the contrast by it. The result would have too little contrast.

    Args:
        image: [C, H, W] in physical units, on the reference's grid.
        reference: [C, H, W], the same bands.
        mask: bool [H, W], True where both are valid. NaN is always left out.

    Raises:
        InputError: different shapes, or fewer than 16 pixels valid in both.
    """
    knots, levels, slopes = [], [], []
    for x, y in _pairs(image, reference, mask):
        gain = _spread(y.std(), x.std(), np.abs(x).max())
        knots.append(np.array([x.mean()]))
        levels.append(np.array([y.mean()]))
        slopes.append(gain)
    return Match(tuple(knots), tuple(levels), tuple(slopes))


def histogram(image: Image, reference: Image, mask: Mask | None = None) -> Match:
    """Fit an increasing curve per band that gives the image the distribution of the reference.

    y = G^-1(T(x)), T and G the cumulative distributions of image and reference (Rafael C. Gonzalez
    and Richard E. Woods, Digital Image Processing, 4th edition 2018, section 3.3).

    The curve is piecewise linear through 257 quantiles, from 0.001 to 0.999. Beyond them its slope
    is the ratio of the two ranges.

    Args:
        image: [C, H, W] in physical units, on the reference's grid.
        reference: [C, H, W], the same bands.
        mask: bool [H, W], True where both are valid. NaN is always left out.

    Raises:
        InputError: different shapes, or fewer than 16 pixels valid in both.
    """
    knots, levels, slopes = [], [], []
    for x, y in _pairs(image, reference, mask):
        at, becomes = np.quantile(x, QUANTILES), np.quantile(y, QUANTILES)
        slopes.append(_spread(becomes[-1] - becomes[0], at[-1] - at[0], np.abs(x).max()))
        if at[-1] - at[0] <= _ROUNDING * np.abs(x).max():  # differences are of rounding
            at = np.full_like(at, x.mean())
        # Equal values of the image map to the mean of their quantiles of the reference.
        unique, inverse = np.unique(at, return_inverse=True)
        knots.append(unique)
        levels.append(np.bincount(inverse, becomes) / np.bincount(inverse))
    return Match(tuple(knots), tuple(levels), tuple(slopes))


METHODS: dict[str, Callable[[Image, Image, Mask | None], Match]] = {
    "histogram": histogram,
    "linear": linear,
}


def fit(method: str, image: Image, reference: Image, mask: Mask | None = None) -> Match:
    """Fit by the method's name, `histogram` or `linear`; RecipeError for another."""
    if method not in METHODS:
        raise RecipeError(f"unknown match {method!r}: {nearest(method, METHODS)}")
    return METHODS[method](image, reference, mask)


def _spread(reference: float, image: float, largest: float) -> float:
    """Return the ratio of two spreads; 1 for a constant band, which is only shifted.

    Args:
        reference: spread of the reference.
        image: of the image.
        largest: absolute value of the image.
    """
    return float(reference / image) if image > max(_ROUNDING * largest, 1e-12) else 1.0


def _pairs(image: Image, reference: Image, mask: Mask | None) -> Sequence[tuple[Array, Array]]:
    """Return, for each band, the valid values of image and reference."""
    if image.shape != reference.shape or image.ndim != 3:
        raise InputError(
            f"matching needs two images of one shape [C, H, W], not {list(image.shape)} and "
            f"{list(reference.shape)}"
        )
    valid = np.isfinite(image).all(axis=0) & np.isfinite(reference).all(axis=0)
    if mask is not None:
        valid &= mask
    if valid.sum() < FEWEST:
        raise InputError(
            f"only {int(valid.sum())} pixels are valid in the image and in its reference; "
            f"matching needs {FEWEST}"
        )
    return [
        (x[valid].astype(np.float64), y[valid].astype(np.float64))
        for x, y in zip(image, reference, strict=True)
    ]
