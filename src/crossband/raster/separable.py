"""Resampling between grids whose axes agree: each axis is one product with a sparse matrix.

Most guides lie so: their pixels are those of the scene, larger and moved, in one CRS. GDAL's warper
gives the same numbers for any two grids, but takes ten times as long.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from crossband.core.cubic import cubic_weights
from crossband.raster.grid import Grid

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
#: Places are rounded to this part of a pixel, so that they do not depend on the window in which a
#: pixel is computed: the coordinates of two windows differ in their last bits.
STEPS = 2**16
#: Two axes agree if a pixel is tilted by less than this part of one over the whole window.
_TILT = 1e-6


@dataclass(frozen=True)
class Axis:
    """Where the pixels of one axis lie on the same axis of another grid.

    Attributes:
        step: size of a pixel, in pixels of the other grid; above 0.
        start: where the first one begins.
        count: pixels.
        length: pixels of the other grid.
    """

    step: float
    start: float
    count: int
    length: int

    @functools.cached_property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the pixels, where 0 is the centre of the other grid's first pixel."""
        return rounded(self.start + (np.arange(self.count) + 0.5) * self.step) - 0.5

    def cubic(self) -> csr_array:
        """Return the weights of cubic convolution (Keys 1981, a = -0.5), [count, length]."""
        first = np.floor(self.centres).astype(int) - 1
        at = first[:, None] + np.arange(4)
        return self._matrix(at, cubic_weights(np.abs(self.centres[:, None] - at)))

    def linear(self) -> csr_array:
        """Return the weights of linear interpolation, [count, length]."""
        first = np.floor(self.centres).astype(int)
        at = first[:, None] + np.arange(2)
        return self._matrix(at, 1.0 - np.abs(self.centres[:, None] - at))

    def means(self) -> csr_array:
        """Return the share of each of the other grid's pixels in a pixel, [count, length]."""
        edges = rounded(self.start + np.arange(self.count + 1) * self.step)
        at = np.floor(edges[:-1]).astype(int)[:, None] + np.arange(math.ceil(self.step) + 1)
        low, high = np.maximum(at, edges[:-1, None]), np.minimum(at + 1, edges[1:, None])
        return self._matrix(at, np.maximum(high - low, 0.0) / (edges[1:] - edges[:-1])[:, None])

    @property
    def inside(self) -> Mask:
        """Whether the centre of each pixel lies within the other grid."""
        return (self.centres >= -0.5) & (self.centres <= self.length - 0.5)

    def _matrix(self, at: NDArray[np.int_], weights: NDArray[np.float64]) -> csr_array:
        """Return a matrix of the weights; beyond the edge, the last pixel is repeated."""
        rows = np.repeat(np.arange(self.count), at.shape[1])
        columns = at.clip(0, self.length - 1).ravel()
        data = weights.astype(np.float32).ravel()
        return csr_array((data, (rows, columns)), shape=(self.count, self.length))


def axes_of(grid: Grid, other: Grid) -> tuple[Axis, Axis] | None:
    """Return where rows and columns of a grid lie on another; None if their axes differ."""
    if grid.crs != other.crs or not other.transform.determinant:
        return None
    t = ~other.transform @ grid.transform
    if max(abs(t.b) * grid.height, abs(t.d) * grid.width) > _TILT or min(t.a, t.e) <= 0:
        return None
    rows, columns = (
        Axis(step, start, count, length)
        for step, start, count, length in (
            (t.e, t.f, grid.height, other.height),
            (t.a, t.c, grid.width, other.width),
        )
    )
    return rows, columns


def enlarge(values: Array, mask: Mask, rows: Axis, columns: Axis) -> tuple[Array, Mask]:
    """Enlarge an image by cubic convolution, linearly beside its invalid pixels.

    Args:
        values: [C, H, W], 0 where masked.
        mask: [H, W].
        rows: where the rows of the result lie.
        columns: where its columns lie.

    Returns:
        Values [C, h, w], 0 where masked; and the mask: a pixel is valid that lies within the image,
        if the four pixels around it are valid.
    """
    inside = rows.inside[:, None] & columns.inside
    made = _fine(values, rows.cubic(), columns.cubic())
    if not mask.all():
        valid = mask.astype(np.float32)[None]
        two = rows.linear(), columns.linear()
        inside &= _fine(valid, *two)[0] > 0.999
        sixteen = _fine(valid, *(abs(matrix) for matrix in (rows.cubic(), columns.cubic())))
        most = _fine(np.ones_like(valid), *(abs(m) for m in (rows.cubic(), columns.cubic())))
        made = np.where(sixteen > 0.999 * most, made, _fine(values, *two))
    made[:, ~inside] = 0.0
    return made, inside


def average(values: Array, mask: Mask, rows: Axis, columns: Axis) -> tuple[Array, Array]:
    """Return the mean of the valid pixels of an image over larger pixels that lie within it.

    Args:
        values: [C, H, W].
        mask: [H, W].
        rows: where the rows of the result lie.
        columns: where its columns lie.

    Returns:
        Means [C, h, w], NaN where nothing is valid; and the share of the valid area [h, w].
    """
    down, across = rows.means(), columns.means()
    if mask.all():
        made = _coarse(values, down, across)
        return made, np.ones(made.shape[1:], np.float32)
    share = _coarse(mask.astype(np.float32)[None], down, across)[0]
    sums = _coarse(np.where(mask, values, np.float32(0.0)), down, across)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(share > 0, sums / share, np.float32(np.nan)), share


def _fine(values: Array, rows: csr_array, columns: csr_array) -> Array:
    """Multiply both axes of [C, H, W] by matrices with more rows than columns."""
    return np.stack([rows @ np.ascontiguousarray((columns @ band.T).T) for band in values])


def _coarse(values: Array, rows: csr_array, columns: csr_array) -> Array:
    """Multiply both axes of [C, H, W] by matrices with fewer rows than columns."""
    return np.stack([(columns @ np.ascontiguousarray((rows @ band).T)).T for band in values])


def rounded(places: NDArray[Any]) -> NDArray[np.float64]:
    """Return places in pixels, rounded so that they do not depend on the window of a pixel."""
    steps: NDArray[np.float64] = np.multiply(places, STEPS, dtype=np.float64)
    np.rint(steps, out=steps)
    steps /= STEPS
    return steps
