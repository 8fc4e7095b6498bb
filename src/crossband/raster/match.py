"""Spectral matching: bring the bands of one image to the values of a reference acquisition.

A mapping is fitted on pixels of like size (a fine image must be degraded to the reference's grid
first: averaging narrows what values there are) and may then be applied to the fine image, block by
block. Each band is mapped by itself, by a rising function of its own values only.
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

#: Quantiles that `histogram` maps onto each other. The outermost are not the extremes, which one
#: glint or one dead pixel sets.
QUANTILES = np.linspace(0.001, 0.999, 257)
#: Fewer common valid pixels than these say nothing about a distribution.
FEWEST = 16


@dataclass(frozen=True)
class Match:
    """A fitted mapping: through each band's knots in straight lines, beyond them by its slope.

    Attributes:
        image: per band the rising values [K] of the image, in its physical unit; at least one.
        reference: per band the values [K] of the reference that they become, not falling.
        slope: per band reference units per image unit outside the knots, at least 0.
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

    Not least squares, though both images are on one grid: what differs between two acquisitions
    (time, angle, position by a fraction of a pixel) weakens the correlation, and least squares
    multiplies the contrast by it. The result would be too flat.

    Args:
        image: [C, H, W] in physical units, on the reference's grid.
        reference: [C, H, W], the same bands.
        mask: bool [H, W], True where both are valid; NaN is left out anyway.

    Raises:
        InputError: different shapes, or fewer than 16 pixels valid in both.
    """
    knots, levels, slopes = [], [], []
    for x, y in _pairs(image, reference, mask):
        gain = _spread(y.std(), x.std())
        knots.append(np.array([x.mean()]))
        levels.append(np.array([y.mean()]))
        slopes.append(gain)
    return Match(tuple(knots), tuple(levels), tuple(slopes))


def histogram(image: Image, reference: Image, mask: Mask | None = None) -> Match:
    """Fit a rising curve per band that gives the image the reference's distribution of values.

    y = G^-1(T(x)), T and G the cumulative distributions of image and reference (Rafael C. Gonzalez
    and Richard E. Woods, Digital Image Processing, 4th edition 2018, section 3.3).

    The curve runs in straight lines through 257 quantiles, from 0.001 to 0.999; outside, it goes
    on with the ratio of the two ranges.

    Args:
        image: [C, H, W] in physical units, on the reference's grid.
        reference: [C, H, W], the same bands.
        mask: bool [H, W], True where both are valid; NaN is left out anyway.

    Raises:
        InputError: different shapes, or fewer than 16 pixels valid in both.
    """
    knots, levels, slopes = [], [], []
    for x, y in _pairs(image, reference, mask):
        at, becomes = np.quantile(x, QUANTILES), np.quantile(y, QUANTILES)
        slopes.append(_spread(becomes[-1] - becomes[0], at[-1] - at[0]))
        # Pixels of one value cannot be told apart: they get the mean of what would be theirs.
        unique, where = np.unique(at, return_inverse=True)
        knots.append(unique)
        levels.append(np.bincount(where, becomes) / np.bincount(where))
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


def _spread(reference: float, image: float) -> float:
    """Ratio of two spreads; a band that is constant (to rounding) is only moved."""
    return float(reference / image) if image > 1e-12 else 1.0


def _pairs(image: Image, reference: Image, mask: Mask | None) -> Sequence[tuple[Array, Array]]:
    """Return the valid values of each band, of image and reference."""
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
