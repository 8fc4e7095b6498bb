"""A scene in the map of the page, and map tiles on the grid of its pixels.

A scene with a CRS lies in Web Mercator. One without, with ground-control points only, or near a
pole lies in a plane of its own, in which a pixel of the scene is one unit wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from crossband.errors import InputError
from crossband.raster.gdal import READ_ERRORS, gdal
from crossband.raster.grid import Box, Grid
from crossband.raster.places import places

#: Side of a map tile, half of the Web Mercator world in metres, its latitude limit.
TILE, _HALF, _NORTH = 256, 20037508.342789244, 85.0
#: A tile whose pixels are coarser than so many pixels of the result is not computed.
FINEST = 1.5
#: Points along the sides of a tile that are projected into the scene.
_POINTS = 9
_MERCATOR = CRS.from_epsg(3857)


@dataclass(frozen=True)
class Bounds:
    """A rectangle of the map: Web Mercator metres, or pixels of the plane with y upwards."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True)
class View:
    """How a grid lies in the map.

    Attributes:
        kind: `mercator` or `plane`.
        grid: of the scene.
        placed: the grid as GDAL warps it: in its own CRS, or in that of the plane.
    """

    kind: str
    grid: Grid
    placed: Grid

    @classmethod
    def of(cls, grid: Grid) -> View:
        """Place a grid in the map."""
        if _fits_mercator(grid):
            return cls("mercator", grid, grid)
        # GDAL wants a CRS on both sides; that of the plane is never looked at.
        flat = Grid(grid.height, grid.width, Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0), _MERCATOR)
        return cls("plane", grid, flat)

    def finer(self, scale: int) -> View:
        """Return the view of pixels that are `scale` times finer."""
        return View(self.kind, self.grid.zoom(scale), self.placed.zoom(scale))

    def tile(self, z: int, x: int, y: int) -> Grid:
        """Return the grid of a map tile, as Leaflet numbers them."""
        if self.kind == "plane":
            size, left, top = TILE * 2.0**-z, 0.0, 0.0
        else:
            size, left, top = 2 * _HALF / 2.0**z, -_HALF, _HALF
        step = size / TILE
        corner = Affine(step, 0.0, left + x * size, 0.0, -step, top - y * size)
        return Grid(TILE, TILE, corner, _MERCATOR)

    def window(self, bounds: Bounds, side: int) -> Grid:
        """Return a grid of at most `side` pixels along a side of a rectangle of the map."""
        width, height = bounds.right - bounds.left, bounds.top - bounds.bottom
        if not (math.isfinite(width) and math.isfinite(height)) or min(width, height) <= 0:
            raise InputError("the bounds of the view are no rectangle")
        step = max(width, height) / side
        shape = max(round(height / step), 1), max(round(width / step), 1)
        corner = Affine(step, 0.0, bounds.left, 0.0, -step, bounds.top)
        return Grid(*shape, corner, _MERCATOR)

    def part(self, tile: Grid) -> tuple[Box, float] | None:
        """Return the pixels under a tile, and how many of them are along a pixel of it.

        None where the tile lies beside the scene.
        """
        rows, columns = self._under(tile, _POINTS)
        if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
            return None
        ratio = max(np.ptp(columns) / tile.width, np.ptp(rows) / tile.height)
        top, left = math.floor(rows.min()) - 2, math.floor(columns.min()) - 2
        bottom, right = math.ceil(rows.max()) + 2, math.ceil(columns.max()) + 2
        box = Box(top, left, bottom - top, right - left).intersection(self.grid.box)
        return (box, float(ratio)) if min(box.height, box.width) > 0 else None

    def pixel(self, x: float, y: float) -> tuple[int, int] | None:
        """Return row and column at a point of the map; None beside the scene."""
        rows, columns = self._to_pixels(np.array([x]), np.array([y]))
        if not (math.isfinite(rows[0]) and math.isfinite(columns[0])):
            return None
        row, column = math.floor(rows[0]), math.floor(columns[0])
        inside = 0 <= row < self.grid.height and 0 <= column < self.grid.width
        return (row, column) if inside else None

    def warp(self, values: NDArray[np.float32], box: Box, tile: Grid) -> NDArray[np.float32]:
        """Bring values [C, h, w] of a box onto a tile, by the nearest pixel; NaN beside them."""
        source = self.placed.crop(box).resized(*values.shape[1:])
        out = np.full((len(values), tile.height, tile.width), np.nan, np.float32)
        try:
            rows, columns = places(tile, source)
        except InputError:  # a part of the tile has no place in the scene's CRS
            return out
        inside = (rows >= 0) & (rows < source.height) & (columns >= 0) & (columns < source.width)
        out[:, inside] = values[:, rows[inside].astype(int), columns[inside].astype(int)]
        return out

    def outline(self) -> Bounds:
        """Return the rectangle of the map in which the scene lies."""
        grid = self.placed
        at = np.linspace(0.0, 1.0, 21)
        columns = np.concatenate([at, at, np.zeros(21), np.ones(21)]) * grid.width
        rows = np.concatenate([np.zeros(21), np.ones(21), at, at]) * grid.height
        t = grid.transform
        x, y = t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
        if grid.crs != _MERCATOR:
            with gdal():
                xs, ys = transform(grid.crs, _MERCATOR, x.tolist(), y.tolist())
            x, y = np.array(xs), np.array(ys)
        return Bounds(float(x.min()), float(y.min()), float(x.max()), float(y.max()))

    def describe(self, finer: View) -> dict[str, Any]:
        """Return what the page needs to place the scene.

        Args:
            finer: the view of the result, whose pixels decide how near one may look.
        """
        bounds = self.outline()
        middle = Bounds(*((bounds.left + bounds.right) / 2, (bounds.bottom + bounds.top) / 2) * 2)
        native = next(
            (z for z in range(-14, 25) if finer._ratio_at(middle, z) <= FINEST),
            24 if self.kind == "mercator" else 0,
        )
        return {
            "kind": self.kind,
            "bounds": [bounds.left, bounds.bottom, bounds.right, bounds.top],
            "native_zoom": native,
            "max_zoom": native + 4,
        }

    def _ratio_at(self, at: Bounds, z: int) -> float:
        """Return how many pixels lie along a pixel of the tiles of a zoom, at a point."""
        step = 2 * _HALF / TILE / 2.0**z if self.kind == "mercator" else 2.0**-z
        x, y = (at.left + at.right) / 2, (at.bottom + at.top) / 2
        side = step * 32
        rows, columns = self._to_pixels(np.array([x, x + side, x]), np.array([y, y, y + side]))
        across = max(np.ptp(rows), np.ptp(columns)) / 32
        return float(across) if math.isfinite(across) else math.inf

    def _under(self, tile: Grid, points: int) -> tuple[NDArray[Any], NDArray[Any]]:
        at = np.linspace(0.0, 1.0, points)
        across, down = np.meshgrid(at * tile.width, at * tile.height)
        t = tile.transform
        x = t.a * across.ravel() + t.c
        y = t.e * down.ravel() + t.f
        return self._to_pixels(x, y)

    def _to_pixels(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        grid = self.placed
        if grid.crs != _MERCATOR:
            try:
                with gdal():
                    xs, ys = transform(_MERCATOR, grid.crs, x.tolist(), y.tolist())
            except READ_ERRORS:
                nowhere = np.full(x.shape, np.nan)
                return nowhere, nowhere
            x, y = np.array(xs), np.array(ys)
        inverse = ~grid.transform
        with np.errstate(invalid="ignore"):  # places outside of the CRS are infinite
            columns = inverse.a * x + inverse.b * y + inverse.c
            rows = inverse.d * x + inverse.e * y + inverse.f
        return rows, columns


def _fits_mercator(grid: Grid) -> bool:
    """Return whether a grid has a place on the Web Mercator map."""
    if grid.crs is None or grid.transform.is_identity:
        return False
    if not 0.0 < abs(grid.transform.determinant) < math.inf:
        return False
    across = np.array([0.0, 0.5, 1.0])
    columns, rows = (v.ravel() for v in np.meshgrid(across * grid.width, across * grid.height))
    t = grid.transform
    x, y = t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
    try:
        with gdal():
            lon, lat = transform(grid.crs, CRS.from_epsg(4326), x.tolist(), y.tolist())
    except READ_ERRORS:
        return False
    lon, lat = np.array(lon), np.array(lat)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return False
    # Without an extent, as of a geocentric CRS, it is no rectangle on the map.
    spans = np.ptp(lon), np.ptp(lat)
    return bool(np.abs(lat).max() < _NORTH and 0.0 < spans[0] < 180.0 and spans[1] > 0.0)
