"""Resampling between any two grids, where a pixel does not depend on the window it is computed in.

GDAL's warper takes the width of its kernel and the errors of its coordinates from the window that
it is asked for, so that the tiles of a scene differ from the whole. Here both are functions of the
place alone. Coordinates are projected at knots on multiples of eight pixels of the CRS,
interpolated between them, and rounded.

Where the axes of the grids agree, `separable` gives the same numbers, and is faster.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform
from scipy.sparse import csr_array

from crossband.core.cubic import cubic_weights
from crossband.errors import InputError
from crossband.raster.gdal import READ_ERRORS, gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.separable import rounded

Array = NDArray[np.float64]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Pixels between two knots.
KNOT = 8
#: Where four knots and those beside them do not lie in a plane by this part of a pixel, every pixel
#: between them is projected: at the antimeridian, or in a very coarse grid.
BENT = 0.02
#: Parts of a pixel for which the weights of a kernel are kept.
_FRACTIONS = 2**14
#: Weights that are held at a time.
_HELD = 2**22
#: Places at which an image is read at a time, so that what is computed stays in the cache.
_AT_ONCE = 2**13
#: Pixels whose blocks are smaller than this, in pixels of the other grid, are smaller than one.
_SMALLER = 0.9
#: Parts of one in the fixed point numbers of sums; larger physical values than this are clipped.
_UNITS, _LARGEST = 2**32, 2.0**15
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
    for part in _parts(to):
        rows, columns = (at.ravel() for at in places(to.crop(part), of))
        inside = (rows >= 0) & (rows <= of.height) & (columns >= 0) & (columns <= of.width)
        # 0 is the first pixel's centre
        at = rows[_chosen(inside)] - 0.5, columns[_chosen(inside)] - 0.5
        result, there = np.empty((len(values), len(at[0])), np.float32), np.ones(len(at[0]), bool)
        widths = _widths(to.crop(part), of, inside)
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
    shape = to.height, to.width
    return made.reshape(-1, *shape), valid.reshape(shape)


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
        made = np.empty((len(self._padded), len(rows)), np.float32)
        width = self._padded.shape[2]
        kernel = np.ascontiguousarray(_weights_of(cubic_weights, 2).T)
        for start in range(0, len(rows), _AT_ONCE):
            few = slice(start, start + _AT_ONCE)
            first, weights = [], []
            for places in (rows[few], columns[few]):
                floor = np.floor(places)
                part = np.rint((places - floor) * _FRACTIONS).astype(np.intp)
                first.append(floor.astype(np.intp) + 1)
                weights.append([of_tap.take(part) for of_tap in kernel])
            at = first[0] * width + first[1]
            line, value = (np.empty(len(at), np.float32) for _ in range(2))
            for number, band in enumerate(self._padded):
                flat, total = band.ravel(), made[number, few]
                total[:] = 0.0
                for i, down in enumerate(weights[0]):
                    line[:] = 0.0
                    for j, across in enumerate(weights[1]):
                        # Clipping finds nothing to clip: the other modes copy.
                        flat[i * width + j :].take(at, out=value, mode="clip")
                        value *= across
                        line += value
                    line *= down
                    total += line
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
    for part in _parts(to):
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
        most = self._largest * _most(*(pieces.at[3] - pieces.at[0] for pieces in (down, across)))
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


def places(to: Grid, of: Grid, corners: bool = False) -> tuple[Array, Array]:
    """Return rows and columns, on the grid `of`, of the centres of the pixels of another grid.

    Args:
        to: the grid whose pixels are placed.
        of: the grid that rows and columns count; 0 is the outer edge of its first pixel.
        corners: give the corners of the pixels instead, [h + 1, w + 1].

    Returns:
        Rows and columns [h, w], not finite where the CRS of `of` does not have the place.

    Raises:
        InputError: the CRS of one grid cannot be transformed into that of the other.
    """
    more, start = (1, 0.0) if corners else (0, 0.5)
    column, row = (np.arange(n + more, dtype=float) + start for n in (to.width, to.height))
    t = to.transform
    if to.crs == of.crs or t.b or t.d:
        at = np.meshgrid(column, row)
        columns, rows = located(to, at[0].ravel(), at[1].ravel(), of)
        return rounded(rows).reshape(at[0].shape), rounded(columns).reshape(at[0].shape)
    x, y = column + t.c / t.a, row + t.f / t.e  # pixels from the origin of the CRS
    columns, rows, bent = _between_knots(x, y, to, of)
    if bent.any():
        down, across = np.nonzero(bent)
        columns[bent], rows[bent] = located(to, column[across], row[down], of)
    return rounded(rows), rounded(columns)


def _between_knots(x: Array, y: Array, to: Grid, of: Grid) -> tuple[Array, Array, Mask]:
    """Return columns and rows [h, w] on `of`, and where they have to be projected one by one.

    Args:
        x: columns [w] of `to`, counted from where x is 0.
        y: its rows [h], counted from where y is 0.
        to: an upright grid.
        of: the other grid.
    """
    first = [math.floor(at[0] / KNOT) - 1 for at in (x, y)]
    across, down = (
        np.arange(begin, math.floor(at[-1] / KNOT) + 3) * KNOT
        for begin, at in zip(first, (x, y), strict=True)
    )
    origin = Grid(1, 1, Affine(to.transform.a, 0, 0, 0, to.transform.e, 0), to.crs)
    where = [np.asarray(w, float) for w in np.meshgrid(across, down)]
    try:
        knots = located(origin, where[0].ravel(), where[1].ravel(), of)
    except InputError:  # some of them, which may lie beyond the pixels
        everywhere = np.ones((len(y), len(x)), bool)
        return np.zeros(everywhere.shape), np.zeros(everywhere.shape), everywhere
    i, j = (
        np.floor(at / KNOT).astype(int) - begin for at, begin in zip((x, y), first, strict=True)
    )
    right, low = x / KNOT - first[0] - i, (y / KNOT - first[1] - j)[:, None]
    found = []
    bent = np.zeros((len(down) - 3, len(across) - 3), bool)
    for knot in (k.reshape(len(down), len(across)) for k in knots):
        lines = knot[:, i] * (1 - right) + knot[:, i + 1] * right
        at = np.diff(lines, axis=0)[j]
        at *= low
        at += lines[j]
        found.append(at)
        bent |= ~(_bow(knot) <= BENT)
    all_bent = bent[j - 1][:, i - 1] if bent.any() else np.zeros_like(found[0], bool)
    return found[0], found[1], all_bent


def _bow(knots: Array) -> Array:
    """Return how far the surface through knots [h, w] may be from flat cells, [h - 3, w - 3].

    A curve is at most an eighth of its second difference away from a chord. The cells at the edge
    are left out.
    """
    with np.errstate(invalid="ignore"):
        across, down = (np.abs(np.diff(knots, 2, axis)) / 8 for axis in (1, 0))
        twist = np.abs(np.diff(np.diff(knots, axis=0), axis=1))[1:-1, 1:-1] / 4
    across, down = np.maximum(across[:, :-1], across[:, 1:]), np.maximum(down[:-1], down[1:])
    across, down = np.maximum(across[1:-2], across[2:-1]), np.maximum(down[:, 1:-2], down[:, 2:-1])
    return np.asarray(across + down + twist)


def located(grid: Grid, columns: Array, rows: Array, other: Grid) -> tuple[Array, Array]:
    """Return columns and rows on `other` of places that are given on `grid`.

    Raises:
        InputError: the CRS of one grid cannot be transformed into that of the other.
    """
    assert grid.crs is not None  # check_georeference
    assert other.crs is not None
    if grid.crs == other.crs:
        return _apply(~other.transform @ grid.transform, columns, rows)
    places = _apply(grid.transform, columns, rows)
    try:
        with gdal():
            xs, ys = transform(grid.crs, other.crs, *(p.tolist() for p in places))
    except READ_ERRORS as error:
        raise InputError(
            f"places in {grid.crs} cannot be told in {other.crs}: {reason(error)}"
        ) from error
    return _apply(~other.transform, np.array(xs), np.array(ys))


def _apply(affine: Affine, x: Array, y: Array) -> tuple[Array, Array]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


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


def _parts(grid: Grid) -> Iterator[Box]:
    """Return bands of whole rows of a grid, each with a number of pixels that fits in memory."""
    height = max(_HELD // 16 // grid.width, 1)
    for top in range(0, grid.height, height):
        yield Box(top, 0, min(height, grid.height - top), grid.width)


def _most(*sides: Array) -> float:
    """Return the largest product of two sides, which are 1 where none are given."""
    return math.prod(float(side.max(initial=1.0)) for side in sides)


def _few(count: int, taps: float) -> Iterator[slice]:
    """Return slices of places, each with a number of weights that fits in memory."""
    step = max(int(_HELD // max(taps, 1.0)), 1)
    for start in range(0, count, step):
        yield slice(start, start + step)
