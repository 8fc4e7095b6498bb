"""Where the pixels of one grid lie on another, the same in whatever window they are asked for.

GDAL's warper takes the errors of its coordinates from the window that it is asked for, so that the
tiles of a scene differ from the whole. Here coordinates are projected at knots on multiples of
eight pixels of the CRS, interpolated between them, and rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform

from crossband.core.processors import processors
from crossband.errors import InputError
from crossband.raster.gdal import READ_ERRORS, gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.separable import STEPS, rounded

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Pixels between two knots.
KNOT = 8
#: Where four knots and those beside them do not lie in a plane by this part of a pixel, every pixel
#: between them is projected: at the antimeridian, or in a very coarse grid.
BENT = 0.02


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
        there = located(to, column[across], row[down], of)
        columns[bent], rows[bent] = (rounded(at) for at in there)
    return rows, columns


def _between_knots(x: Array, y: Array, to: Grid, of: Grid) -> tuple[Array, Array, Mask]:
    """Return columns and rows [h, w] on `of`, rounded, and where each has to be projected.

    Args:
        x: columns [w] of `to`, counted from where x is 0.
        y: its rows [h], counted from where y is 0.
        to: an upright grid.
        of: the other grid.
    """
    from crossband.raster.loops import between  # Numba takes a while

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
    right, low = x / KNOT - first[0] - i, y / KNOT - first[1] - j
    found = []
    bent = np.zeros((len(down) - 3, len(across) - 3), bool)
    for knot in (k.reshape(len(down), len(across)) for k in knots):
        found.append(np.empty((len(y), len(x))))
        between(knot, j, i, low, right, float(STEPS), found[-1])
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
    with np.errstate(invalid="ignore"):  # infinite where a place has no counterpart
        return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def make_parts(grid: Grid, make: Callable[[Box], None], pixels: int = 2**18) -> None:
    """Make bands of whole rows of a grid, in two threads.

    Args:
        grid: its rectangle is split.
        make: makes a part, beside which another one is made.
        pixels: of a part, about.
    """
    height = max(pixels // grid.width, 1)
    parts = [
        Box(top, 0, min(height, grid.height - top), grid.width)
        for top in range(0, grid.height, height)
    ]
    if len(parts) == 1 or processors() == 1:
        for part in parts:
            make(part)
        return
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(make, parts):
            pass
