"""Rectangles of pixels, georeferenced grids, and windows: values with mask and grid."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window as RasterioWindow

_NOWHERE = Affine.identity()


@functools.cache
def _lonlat() -> CRS:
    return CRS.from_epsg(4326)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: first row and column, height and width."""

    row: int
    col: int
    height: int
    width: int

    def scaled(self, scale: int) -> Box:
        """Return the same rectangle in pixels `scale` times finer."""
        return Box(self.row * scale, self.col * scale, self.height * scale, self.width * scale)

    def slices(self) -> tuple[slice, slice]:
        """Return row and column slices."""
        return (
            slice(self.row, self.row + self.height),
            slice(self.col, self.col + self.width),
        )

    def expanded(self, edge: int, outer: Box) -> Box:
        """Return this rectangle with `edge` more pixels on each side, cut to `outer`."""
        row, col = max(self.row - edge, outer.row), max(self.col - edge, outer.col)
        bottom = min(self.row + self.height + edge, outer.row + outer.height)
        right = min(self.col + self.width + edge, outer.col + outer.width)
        return Box(row, col, bottom - row, right - col)

    def intersection(self, other: Box) -> Box:
        """Return the part that both have; a side below 1 means that they share no pixel."""
        return self.expanded(0, other)

    def relative_to(self, outer: Box) -> Box:
        """Return this rectangle counted from the origin of `outer`."""
        return replace(self, row=self.row - outer.row, col=self.col - outer.col)

    def srcwin(self) -> str:
        """Return first column, first row, width, height: the order of GDAL's `-srcwin`."""
        return f"{self.col},{self.row},{self.width},{self.height}"

    @classmethod
    def parse(cls, text: str) -> Box:
        """Parse the text of `srcwin`; ValueError for anything else.

        >>> Box.parse("256,0,256,128")
        Box(row=0, col=256, height=128, width=256)
        """
        col, row, width, height = (int(part) for part in text.split(","))
        return cls(row, col, height, width)

    def rasterio(self) -> RasterioWindow:
        """Return the rectangle as a rasterio window."""
        return RasterioWindow(self.col, self.row, self.width, self.height)


@dataclass(frozen=True)
class Grid:
    """Shape, affine transform and CRS of a raster, or its ground-control points.

    Attributes:
        height: rows.
        width: columns.
        transform: from (column, row) to map coordinates; it may be rotated. The identity means that
            there is no transform, as in GDAL.
        crs: None for a picture without georeference.
        gcps: rasterio's GroundControlPoint objects.
        gcps_crs: CRS of the ground-control points.
        rpcs: rasterio's RPC object. Grids that differ in it alone are equal.
    """

    height: int
    width: int
    transform: Affine = _NOWHERE
    crs: CRS | None = None
    gcps: tuple[Any, ...] = ()
    gcps_crs: CRS | None = None
    rpcs: Any = field(default=None, compare=False)

    @property
    def box(self) -> Box:
        """The whole grid as a rectangle of pixels."""
        return Box(0, 0, self.height, self.width)

    def zoom(self, scale: int) -> Grid:
        """Return the grid with pixels `scale` times finer."""
        size = self.height * scale, self.width * scale
        return self._changed(
            *size, Affine.scale(1 / scale), lambda p: (p.row * scale, p.col * scale)
        )

    def shrink(self, scale: int) -> Grid:
        """Return the grid with pixels `scale` times coarser, complete ones only."""
        size = self.height // scale, self.width // scale
        return self._changed(*size, Affine.scale(scale), lambda p: (p.row / scale, p.col / scale))

    def resized(self, height: int, width: int) -> Grid:
        """Return the grid of the same extent with another number of pixels."""
        down, across = self.height / height, self.width / width
        return self._changed(
            height, width, Affine.scale(across, down), lambda p: (p.row / down, p.col / across)
        )

    def crop(self, box: Box) -> Grid:
        """Return the grid of a rectangle of pixels."""
        to = Affine.translation(box.col, box.row)
        return self._changed(
            box.height, box.width, to, lambda p: (p.row - box.row, p.col - box.col)
        )

    def touched(self, extent: tuple[float, float, float, float]) -> Box:
        """Return the smallest rectangle with all pixels that an extent touches.

        A side below 1 means that it touches none.

        Args:
            extent: least x and y, greatest x and y, in map coordinates.
        """
        left, bottom, right, top = extent
        corners = [~self.transform @ (x, y) for x in (left, right) for y in (bottom, top)]
        # An edge between two pixels, up to rounding, touches only those on its inner side.
        (col, row), (to_col, to_row) = (
            np.rint(np.where(np.abs(side - np.rint(side)) < 1e-6, side, beyond(side)))
            for side, beyond in (
                (np.min(corners, axis=0), np.floor),
                (np.max(corners, axis=0), np.ceil),
            )
        )
        box = Box(int(row), int(col), int(to_row - row), int(to_col - col))
        return box.intersection(self.box)

    def _changed(
        self, height: int, width: int, to: Affine, move: Callable[[Any], tuple[float, float]]
    ) -> Grid:
        """Return the grid with other pixels, ground-control points included.

        Args:
            height: new number of rows.
            width: new number of columns.
            to: from (column, row) of the new pixels to that of the old ones. A grid without an
                affine transform stays without one.
            move: returns row and column of a ground-control point in the new pixels.
        """
        points = tuple(type(p)(*move(p), p.x, p.y, p.z, p.id) for p in self.gcps)
        affine = self.transform if self.transform.is_identity else self.transform @ to
        rpcs = None if self.rpcs is None else _moved(self.rpcs, to)
        return replace(self, height=height, width=width, transform=affine, gcps=points, rpcs=rpcs)

    def pixel_size(self) -> float:
        """Return the side of a pixel in metres; NaN if the CRS is unknown.

        For geographic coordinates it is the north-south side, with 111,320 m per degree.
        """
        if self.crs is None or self.transform.is_identity:
            return float("nan")
        side = float(np.hypot(self.transform.b, self.transform.e))
        if self.crs.is_geographic:
            return side * 111_320.0
        return side * float(self.crs.linear_units_factor[1])

    def lonlat(self) -> tuple[float, float]:
        """Return longitude and latitude of the centre in degrees; NaN if unknown."""
        if self.crs is None or self.transform.is_identity:
            return float("nan"), float("nan")
        from rasterio.warp import transform

        x, y = self.transform @ (self.width / 2, self.height / 2)
        lon, lat = transform(self.crs, _lonlat(), [x], [y])
        return float(lon[0]), float(lat[0])


def _moved(rpcs: Any, to: Affine) -> Any:
    """Return rational polynomial coefficients for other pixels.

    Their lines and samples are counted from the centre of the first pixel.

    Args:
        rpcs: rasterio's RPC object.
        to: from (column, row) of the new pixels to that of the old ones, without a rotation.
    """
    moved = copy.copy(rpcs)
    for axis, step, shift in (("line", to.e, to.f), ("samp", to.a, to.c)):
        offset, scale = float(getattr(rpcs, f"{axis}_off")), float(getattr(rpcs, f"{axis}_scale"))
        setattr(moved, f"{axis}_off", (offset + 0.5 - shift) / step - 0.5)
        setattr(moved, f"{axis}_scale", scale / step)
    return moved


@dataclass(frozen=True)
class Window:
    """Pixels of a scene in physical units.

    Attributes:
        values: float32 [C, H, W]; masked pixels hold a finite fill value, never NaN.
        mask: bool [H, W], True where every band is valid.
        grid: grid of the pixels.
        bands: common names of the channels.
        unit: physical unit of the values.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    grid: Grid
    bands: tuple[str, ...]
    unit: str

    def crop(self, box: Box) -> Window:
        """Return a rectangle of the window, without copying the pixels."""
        rows, cols = box.slices()
        return Window(
            self.values[:, rows, cols],
            self.mask[rows, cols],
            self.grid.crop(box),
            self.bands,
            self.unit,
        )
