"""Cubic convolution between any two grids, where a pixel does not depend on its window.

GDAL's warper takes the width of its kernel from the window that it is asked for, so that the tiles
of a scene differ from the whole. Here it is a function of the place alone, see `places`.

Where the axes of the grids agree, `separable` gives the same numbers, and is faster.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy.sparse import csr_array

from crossband.core.cubic import cubic_weights
from crossband.raster.grid import Box, Grid
from crossband.raster.places import KNOT, make_parts, places

Array = NDArray[np.float64]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Parts of a pixel for which the weights of a kernel are kept.
_FRACTIONS = 2**14
#: Weights that are held at a time.
_HELD = 2**22
#: Pixels whose blocks are smaller than this, in pixels of the other grid, are smaller than one.
_SMALLER = 0.9
#: A pixel is valid where this share of its weights lies on valid ones.
_WHOLE = 0.999


def interpolate(values: Values, mask: Mask, of: Grid, to: Grid) -> tuple[Values, Mask]:
    """Bring an image onto another grid by cubic convolution, linearly beside its invalid pixels.

    The kernel is widened where the pixels of `to` are larger.

    Args:
        values: [C, H, W], 0 where masked.
        mask: [H, W].
        of: the grid of the image.
        to: the grid of the result.

    Returns:
        Values [C, h, w], 0 where masked; and the mask: a pixel is valid that lies within the image,
        if the four pixels around it are valid (on larger pixels, all that they average).

    Raises:
        InputError: the CRS of one grid cannot be transformed into that of the other.
    """
    made = np.zeros((len(values), to.height * to.width), np.float32)
    valid = np.zeros(to.height * to.width, bool)
    image = _Image(values, mask)

    def make(part: Box) -> None:
        at, inside, widths = _placed(to.crop(part), of)
        result, there = np.empty((len(values), len(at[0])), np.float32), np.ones(len(at[0]), bool)
        narrow = np.ones_like(there) if widths is None else (widths == 1.0).all(axis=0)
        quick = narrow & image.is_whole(*at)
        result[:, _chosen(quick)] = image.cubic(*(a[_chosen(quick)] for a in at))
        for chosen in (np.flatnonzero(narrow & ~quick), np.flatnonzero(~narrow)):
            wide = None if widths is None or narrow[chosen].all() else widths[:, chosen]
            most = 16.0 if wide is None else 16.0 * math.prod(wide.max(axis=1))
            for few in _few(len(chosen), most):
                some = chosen[few]
                where = at[0][some], at[1][some], None if wide is None else wide[:, few]
                result[:, some], there[some] = image.beside_holes(*where)
        inside[_chosen(inside)] = there
        own = slice(part.row * to.width, (part.row + part.height) * to.width)  # whole rows
        made[:, own][:, _chosen(inside)] = result[:, _chosen(there)]
        valid[own] = inside

    make_parts(to, make)
    shape = to.height, to.width
    return made.reshape(-1, *shape), valid.reshape(shape)


def _placed(to: Grid, of: Grid) -> tuple[tuple[Array, Array], Mask, Array | None]:
    """Return where the pixels of a grid lie on another one.

    These are rows and columns of those within it, counted from its first pixel's centre, which ones
    these are, and their sizes, see `_widths`.
    """
    rows, columns = (at.ravel() for at in places(to, of))
    inside = (rows >= 0) & (rows <= of.height) & (columns >= 0) & (columns <= of.width)
    at = rows[_chosen(inside)] - 0.5, columns[_chosen(inside)] - 0.5
    return at, inside, _widths(to, of, inside)


def _chosen(mask: Mask) -> Mask | slice:
    """Return what chooses the pixels of a mask; where it is all of them, nothing is copied."""
    return slice(None) if mask.all() else mask


class _Image:
    """An image that is read between its pixels; beyond the edge, its last pixel is repeated.

    Args:
        values: [C, H, W], 0 where masked.
        mask: [H, W].
    """

    def __init__(self, values: Values, mask: Mask) -> None:
        self._shape, self._full = mask.shape, bool(mask.all())
        edge = ((0, 0), (2, 2), (2, 2))
        self._padded = np.pad(values, edge, mode="edge")
        self._bands = values.reshape(len(values), -1).T
        self._known = mask.ravel().astype(np.float32)
        around = np.pad(mask, edge[1:], mode="edge")
        down = around[:-3] & around[1:-2] & around[2:-1] & around[3:]
        self._whole = down[:, :-3] & down[:, 1:-2] & down[:, 2:-1] & down[:, 3:]

    def is_whole(self, rows: Array, columns: Array) -> Mask:
        """Return where all sixteen pixels around places are valid; 0 is the first one's centre."""
        if self._full:
            return np.ones(len(rows), bool)
        found = self._whole[np.floor(rows).astype(int) + 1, np.floor(columns).astype(int) + 1]
        return np.asarray(found)

    def cubic(self, rows: Array, columns: Array) -> Values:
        """Return values [C, n] by cubic convolution at places whose sixteen pixels are valid."""
        from crossband.raster.loops import cubic  # Numba takes a while

        made = np.empty((len(self._padded), len(rows)), np.float32)
        cubic(self._padded, rows, columns, _weights_of(cubic_weights, 2), made)
        return made

    def beside_holes(
        self, rows: Array, columns: Array, widths: Array | None
    ) -> tuple[Values, Mask]:
        """Return values [C, n], linear where invalid pixels are too near; and where they are valid.

        Args:
            rows: of the places, where 0 is the centre of the first pixel.
            columns: of the places.
            widths: how many times as wide the kernel is, [2, n] down and across; None for once.
        """
        where = rows, columns, widths, self._shape
        cubic = _kernel(cubic_weights, 2, *where)
        if self._full:
            return (cubic @ self._bands).T, np.ones(len(rows), bool)
        linear = _kernel(_linear_weights, 1, *where)
        # Negative weights need a valid pixel, too.
        size = abs(cubic)
        near = size @ self._known > _WHOLE * (size @ np.ones_like(self._known))
        made = np.where(near[:, None], cubic @ self._bands, linear @ self._bands)
        return made.T, linear @ self._known > _WHOLE


def _widths(to: Grid, of: Grid, inside: Mask) -> Array | None:
    """Return height and width of chosen pixels in pixels of `of`, 1 where it is smaller, [2, n].

    None where all are smaller.
    """
    # Means over blocks first. Coordinates that jump, jump between two corners of a block as well.
    rows, columns = (max(side // KNOT, 1) for side in (to.height, to.width))
    down, across = to.height / rows, to.width / columns  # nothing lies beyond the grid
    blocks = Grid(rows, columns, to.transform @ Affine.scale(across, down), to.crs)
    high, wide = _sizes(blocks, of)
    if (high < _SMALLER * down).all() and (wide < _SMALLER * across).all():
        return None
    found = np.stack([size.ravel()[inside] for size in _sizes(to, of)])
    found = np.where(np.isfinite(found), np.maximum(found, 1.0), 1.0)
    return found if (found > 1.0).any() else None


def _sizes(to: Grid, of: Grid) -> Array:
    """Return height and width of the pixels of `to` in pixels of `of`, [2, h, w]."""
    found = []
    for corners in places(to, of, corners=True):
        with np.errstate(invalid="ignore"):
            down, across = np.diff(corners, axis=0)[:, 1:], np.diff(corners, axis=1)[1:]
            found.append(np.hypot(down, across))
    return np.stack(found)


def _kernel(
    weights: Callable[[Array], Array],
    reach: int,
    rows: Array,
    columns: Array,
    widths: Array | None,
    shape: tuple[int, ...],
) -> csr_array:
    """Return the weights of a kernel, [places, pixels]; beyond the edge, the last one is repeated.

    Args:
        weights: by distance, 0 at `reach` and beyond.
        reach: of the kernel, in pixels.
        rows: of the places, where 0 is the centre of the first pixel.
        columns: of the places.
        widths: how many times as wide the kernel is, [2, places] down and across; None for once.
        shape: of the image.
    """
    axes = []
    for axis, (at, length) in enumerate(zip((rows, columns), shape, strict=True)):
        first = np.floor(at)
        part = np.rint((at - first) * _FRACTIONS).astype(np.int32)
        if widths is not None:
            wide = widths[axis]
            pad = math.ceil(reach * float(wide.max(initial=1.0)))
            steps = np.arange(1 - pad, pad + 1)
            share: NDArray[Any] = weights(
                np.abs(part[:, None] / _FRACTIONS - steps) / wide[:, None]
            )
            share /= share.sum(axis=1, keepdims=True)
        else:
            steps = np.arange(1 - reach, reach + 1)
            share = _weights_of(weights, reach)[part]
        taps = (first.astype(np.int32)[:, None] + steps.astype(np.int32)).clip(0, length - 1)
        axes.append((taps, share.astype(np.float32)))
    return _matrix(axes, shape)


@functools.cache
def _weights_of(weights: Callable[[Array], Array], reach: int) -> Values:
    """Return the weights of the pixels around a place, by the part of a pixel at which it lies."""
    parts = np.arange(_FRACTIONS + 1) / _FRACTIONS
    distance = np.abs(parts[:, None] - np.arange(1 - reach, reach + 1))
    return np.asarray(weights(distance), dtype=np.float32)


def _linear_weights(distance: Array) -> Array:
    return np.maximum(1.0 - distance, 0.0)


def _matrix(
    axes: Sequence[tuple[NDArray[np.int32], NDArray[Any]]], shape: tuple[int, ...]
) -> csr_array:
    """Return the products of weights down and across, [places, pixels]."""
    (down, one), (across, other) = axes
    pixels = ((down * np.int32(shape[1]))[:, :, None] + across[:, None, :]).ravel()
    starts = np.arange(len(down) + 1, dtype=np.int32) * np.int32(down.shape[1] * across.shape[1])
    data = (one[:, :, None] * other[:, None, :]).ravel()
    return csr_array((data, pixels, starts), shape=(len(down), shape[0] * shape[1]))


def _few(count: int, taps: float) -> Iterator[slice]:
    """Return slices of places, each with a number of weights that fits in memory."""
    step = max(int(_HELD // max(taps, 1.0)), 1)
    for start in range(0, count, step):
        yield slice(start, start + step)
