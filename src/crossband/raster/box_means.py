"""Means of an image over the larger pixels of any other grid, by an integral image.

They are the same to the last bit in whatever window they are computed. Where the axes of the grids
agree, `separable` gives the same numbers, and is faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.errors import InputError
from crossband.raster.grid import Grid
from crossband.raster.places import places, row_parts

Array = NDArray[np.float64]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Parts of one in the fixed point numbers of sums; larger physical values than this are clipped.
_UNITS, _LARGEST = 2**32, 2.0**15
#: Rectangles that are summed at a time, so that what is computed stays in the cache.
_AT_ONCE = 2**13


def average(values: Values, mask: Mask, of: Grid, to: Grid) -> tuple[Values, Values]:
    """Return the mean of the valid pixels of an image over the pixels of a coarser grid.

    If one grid is rotated against the other, it is the mean over the upright rectangle around a
    coarse pixel.

    Args:
        values: [C, H, W].
        mask: [H, W].
        of: the grid of the image.
        to: the grid of the result.

    Returns:
        Means [C, h, w], NaN where nothing is valid; and the share of the valid area [h, w].

    Raises:
        InputError: the CRS of one grid cannot be transformed into that of the other; or the values
            are too large to be averaged over so many pixels.
    """
    made = np.full((len(values), to.height, to.width), np.nan, np.float32)
    share = np.zeros((to.height, to.width), np.float32)
    image = _Sums(np.where(mask, values, np.float32(0.0)))
    known = None if mask.all() else _Sums(mask[None].astype(np.float32))
    sides = np.array(mask.shape, dtype=float)[:, None, None]
    for part in row_parts(to):
        corners = np.stack(places(to.crop(part), of, corners=True))  # rows, columns
        four = [corners[:, i : i + part.height, j : j + part.width] for i in (0, 1) for j in (0, 1)]
        low, high = np.minimum.reduce(four), np.maximum.reduce(four)
        met = ((low < sides) & (high > 0) & np.isfinite(high - low)).all(axis=0)
        low, high = low[:, met], high[:, met]
        result = np.full((len(values), low.shape[1]), np.nan)
        there = np.zeros(low.shape[1])
        for start in range(0, len(there), _AT_ONCE):
            few = slice(start, start + _AT_ONCE)
            # Nothing is known beyond the edge.
            down, across = (
                _Pieces.of(begin.clip(0, length), end.clip(0, length))
                for begin, end, length in zip(low[:, few], high[:, few], mask.shape, strict=True)
            )
            area = _area(down, across, mask.shape) if known is None else known.over(down, across)[0]
            with np.errstate(divide="ignore", invalid="ignore"):
                result[:, few] = image.over(down, across) / area
            there[few] = area / np.maximum(np.prod(high[:, few] - low[:, few], axis=0), 1e-9)
        at = part.slices()
        made[:, *at][:, met] = result
        share[at][met] = there
    return made, share


@dataclass(frozen=True)
class _Pieces:
    """Intervals of an axis, each as a part of its first pixel, whole pixels, and one of its last.

    Attributes:
        at: the first pixel and the one after it, the last pixel and the one after it, [4, n].
        weights: of the three pieces, [3, n]. Where first and last pixel are one, there is a whole
            one too many, and the whole pixels between them are -1.
    """

    at: NDArray[np.intp]
    weights: Array

    @classmethod
    def of(cls, begin: Array, end: Array) -> _Pieces:
        """Return the pieces of intervals that lie within the axis."""
        first, last = np.floor(begin).astype(np.intp), np.floor(end).astype(np.intp)
        weights = np.stack([first + 1 - begin, np.ones_like(begin), end - last])
        return cls(np.stack([first, first + 1, last, last + 1]), weights)


class _Sums:
    """Sums over upright rectangles by an integral image (Crow 1984), the same in every window.

    Pixels are integers of fixed point. So sums over whole pixels are exact, whatever else lies in
    the window. The sum of a whole window may be too large for an integer and wrap around; the
    difference of two such sums is right again.

    Args:
        values: [C, H, W].
    """

    def __init__(self, values: Values) -> None:
        count, height, width = values.shape
        # Sums of all pixels above and to the left. The last row and column are there twice, for the
        # last pixel of an interval that ends at the edge.
        self._integral = np.zeros((count, height + 2, width + 2), np.int64)
        inner = self._integral[:, 1:-1, 1:-1]
        values = np.clip(values, -_LARGEST, _LARGEST)
        np.rint(values * np.float64(_UNITS), out=inner, casting="unsafe")
        for axis in (1, 2):
            np.cumsum(inner, axis=axis, out=inner)
        self._integral[:, -1] = self._integral[:, -2]
        self._integral[:, :, -1] = self._integral[:, :, -2]
        self._largest = float(np.abs(values).max(initial=0.0))

    def over(self, down: _Pieces, across: _Pieces) -> Array:
        """Return the sums over rectangles, [C, n].

        Raises:
            InputError: they may be larger than the integers.
        """
        high, wide = (int((p.at[3] - p.at[0]).max(initial=0)) for p in (down, across))
        most = self._largest * high * wide
        if most * _UNITS >= 2.0**63:
            raise InputError(
                f"values up to {self._largest:.4g} cannot be averaged over pixels that are so many "
                f"times larger: is a scale missing?"
            )
        width = self._integral.shape[2]
        made = np.zeros((len(self._integral), down.at.shape[1]))
        for band, total in zip(self._integral, made, strict=True):
            flat = band.ravel()
            lines = [[flat.take(row * width + column) for row in down.at] for column in across.at]
            pieces = np.diff(np.diff(lines, axis=0), axis=1)
            _weigh(pieces, down, across, total)
        made /= _UNITS
        return made


def _area(down: _Pieces, across: _Pieces, shape: tuple[int, ...]) -> Array:
    """Return the areas of rectangles, [n], to the last bit as `_Sums` of ones gives them."""
    rows, columns = (
        np.diff(np.minimum(pieces.at, length), axis=0)
        for pieces, length in zip((down, across), shape, strict=True)
    )
    total = np.zeros(rows.shape[1])
    _weigh(columns[:, None] * rows, down, across, total)
    return total


def _weigh(pieces: NDArray[np.int64], down: _Pieces, across: _Pieces, total: Array) -> None:
    """Add the weighed pieces of rectangles, [3 across, 3 down, n], to `total` [n]."""
    for wide, column in zip(across.weights, pieces, strict=True):
        for high, piece in zip(down.weights, column, strict=True):
            total += wide * high * piece
