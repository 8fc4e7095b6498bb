"""Resample scenes onto another grid, and compute where two grids overlap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from crossband.core.sensors import DECIBEL
from crossband.errors import InputError
from crossband.raster import box_means
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.holes import repeat_edges
from crossband.raster.places import located, places
from crossband.raster.sampling import interpolate
from crossband.raster.separable import average, axes_of, enlarge

Array = NDArray[np.float64]

#: Points along each side of a rectangle that is projected to another CRS.
EDGE = 21
#: Tolerance of an overlap in pixels, for rounded coordinates.
SLACK = 1e-3
#: Points along each side of a scene by which it is measured how much of it lies in another one.
_SAMPLES = 64
#: Share of a coarse pixel that must be valid for its mean to be valid. Less than 1, because a few
#: scattered masked pixels would otherwise mask most of a fine scene.
COVER = 0.9
#: Pixels that are repeated into a hole: as many as the kernel reaches on pixels 1.5 times as large.
_REPEATED = 3


class Readable(Protocol):
    """What can be resampled: a scene, or a raster that is computed from scenes by windows."""

    grid: Grid
    bands: tuple[str, ...]
    unit: str

    def read(self, box: Box) -> Window:
        """Read a window in physical units."""


class BandView:
    """Some bands of a scene, in another order.

    Args:
        scene: an open scene.
        bands: their common names.
    """

    def __init__(self, scene: Readable, bands: tuple[str, ...]) -> None:
        self.grid, self.bands, self.unit = scene.grid, bands, scene.unit
        self._scene, self._numbers = scene, [scene.bands.index(name) for name in bands]

    def read(self, box: Box) -> Window:
        """Read a window in physical units; it is masked where any band of the scene is."""
        window = self._scene.read(box)
        return Window(window.values[self._numbers], window.mask, window.grid, self.bands, self.unit)


class WindowRaster:
    """A window in memory that is read like a scene."""

    def __init__(self, window: Window) -> None:
        self.grid, self.bands, self.unit = window.grid, window.bands, window.unit
        self._window = window

    def read(self, box: Box) -> Window:
        """Return a part of it."""
        return self._window.crop(box)


def check_georeference(grid: Grid, path: str) -> CRS:
    """Return the CRS; InputError without one, or if the transform has no inverse."""
    if grid.crs is None or grid.transform.is_identity:
        words = "ground-control points only" if grid.gcps else "no georeference"
        raise InputError(f"{path}: {words}; it needs an affine transform and a CRS: gdalwarp it")
    if not 0.0 < abs(grid.transform.determinant) < math.inf:
        raise InputError(f"{path}: its affine transform has no inverse; gdal_edit -a_ullr sets one")
    return grid.crs


def overlap(scene: Grid, reference: Grid) -> Box:
    """Return the pixels of `reference` that lie within the extent of `scene`.

    Only whole pixels count. A scene that is rotated against the reference does not fill the result.

    Raises:
        InputError: not one whole pixel, or coordinates outside the domain of the other CRS.
    """
    columns, rows = _outline(scene, scene.box, reference)
    top = max(math.ceil(rows.min() - SLACK), 0)
    left = max(math.ceil(columns.min() - SLACK), 0)
    bottom = min(math.floor(rows.max() + SLACK), reference.height)
    right = min(math.floor(columns.max() + SLACK), reference.width)
    if bottom <= top or right <= left:
        raise InputError("the two scenes do not overlap by a whole pixel")
    return Box(top, left, bottom - top, right - left)


def lie_apart(one: Grid, other: Grid) -> bool:
    """Return whether two grids share no pixel; False where one of them has no georeference."""
    for grid in (one, other):
        if grid.crs is None or grid.transform.is_identity or not grid.transform.determinant:
            return False
    try:
        columns, rows = _outline(one, one.box, other)
    except InputError:  # outside the domain of the other CRS
        return True
    outside = columns.max() <= 0 or columns.min() >= other.width
    return bool(outside or rows.max() <= 0 or rows.min() >= other.height)


def same_grid(one: Grid, other: Grid) -> bool:
    """Return whether two grids have one shape and one CRS, and lie a thousandth of a pixel apart.

    Both have an affine transform.
    """
    if (one.height, one.width, one.crs) != (other.height, other.width, other.crs):
        return False
    corners = [(0, 0), (one.width, 0), (0, one.height), (one.width, one.height)]
    there = [~one.transform @ (other.transform @ corner) for corner in corners]
    return bool(np.allclose(there, corners, rtol=0, atol=1e-3))


def coverage(scene: Grid, other: Grid) -> float:
    """Return which share of a scene lies within another grid, to about a thousandth.

    Both have a CRS and an affine transform.
    """
    at = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    columns, rows = np.meshgrid(at * scene.width, at * scene.height)
    try:
        columns, rows = located(scene, columns.ravel(), rows.ravel(), other)
    except InputError:  # places that the other CRS does not have
        return 0.0
    inside = (columns >= 0) & (columns <= other.width) & (rows >= 0) & (rows <= other.height)
    return float(inside.mean())


def crosses_antimeridian(grid: Grid) -> bool:
    """Return whether a scene lies on both sides of 180 degrees of longitude.

    There other CRS wrap longitudes, so that its outline in them is torn.
    """
    world = Grid(1, 1, Affine.identity(), CRS.from_epsg(4326))
    if grid.crs is not None and grid.crs.is_geographic:
        ends = [(grid.transform @ (x, y))[0] for x in (0, grid.width) for y in (0, grid.height)]
        west, east = min(ends), max(ends)
        return east - west < 180 and any(west < turn < east for turn in (-180, 180))
    longitudes, _ = _outline(grid, grid.box, world)
    torn = np.abs(np.diff(longitudes, append=longitudes[:1])) > 180
    # An odd number is around a pole, where longitudes take all values.
    return bool(torn.any() and torn.sum() % 2 == 0)


def around(scene: Grid, reference: Grid, edge: int) -> Box:
    """Return the pixels of `reference` that a scene touches, and `edge` more on each side.

    The rectangle may lie partly outside of `reference`.

    Raises:
        InputError: coordinates outside the domain of the other CRS.
    """
    columns, rows = _outline(scene, scene.box, reference)
    if not (np.isfinite(columns).all() and np.isfinite(rows).all()):
        raise InputError("the scene has places that the CRS of the reference does not have")
    top, left = math.floor(rows.min()) - edge, math.floor(columns.min()) - edge
    bottom, right = math.ceil(rows.max()) + edge, math.ceil(columns.max()) + edge
    return Box(top, left, bottom - top, right - left)


def read_padded(scene: Readable, box: Box) -> Window:
    """Read a rectangle that may lie partly or wholly outside the scene; outside is masked."""
    inside = box.intersection(scene.grid.box)
    if inside == box:
        return scene.read(box)
    values = np.zeros((len(scene.bands), box.height, box.width), dtype=np.float32)
    mask = np.zeros((box.height, box.width), dtype=bool)
    if inside.height > 0 and inside.width > 0:
        seen, here = scene.read(inside), inside.relative_to(box).slices()
        values[:, *here], mask[here] = seen.values, seen.mask
    return Window(values, mask, scene.grid.crop(box), scene.bands, scene.unit)


def resolution_ratio(scene: Grid, reference: Grid, at: Box) -> float:
    """Return the pixel size of `reference` over that of `scene`, in the centre of `at`."""
    middle = Box(at.row + at.height // 2, at.col + at.width // 2, 1, 1)
    columns, rows = _outline(reference, middle, scene)
    # Shoelace formula: the area of the outline of the pixel.
    area = 0.5 * abs(float(columns @ np.roll(rows, -1) - rows @ np.roll(columns, -1)))
    return math.sqrt(area)


def read_warped(scene: Readable, grid: Grid) -> Window:
    """Read a scene on another grid, in physical units, by cubic convolution.

    The kernel is widened if the grid is coarser than the scene. A pixel is valid if it lies within
    the scene and all four pixels around it are valid (on a coarser grid, all pixels that it
    averages). It does not depend on the window in which it is read.

    Args:
        scene: an open scene with CRS and affine transform.
        grid: the output grid; it may lie partly or wholly outside the scene.

    Raises:
        InputError: coordinates outside the domain of the other CRS.
    """
    seen = _read_around(scene, grid)
    return _empty(scene, grid) if seen is None else _resampled(seen, grid)


def read_extended(scene: Readable, grid: Grid) -> Window:
    """Read a scene on another grid as `read_warped`, beside its holes as at its edge.

    There the last valid pixels are repeated. So a pixel is valid if the pixel of the scene on which
    its centre lies is.

    Args:
        scene: an open scene with CRS and affine transform.
        grid: the output grid, with pixels at most 1.5 times as large; it may lie partly or wholly
            outside the scene.

    Raises:
        InputError: coordinates outside the domain of the other CRS.
    """
    seen = _read_around(scene, grid, also=_REPEATED)
    if seen is None:
        return _empty(scene, grid)
    if seen.mask.all() or not seen.mask.any():
        return _resampled(seen, grid)
    values, mask = repeat_edges(seen.values, seen.mask, _REPEATED)
    made = _resampled(replace(seen, values=values, mask=mask), grid)
    there = made.mask & _on_valid(seen, grid)
    return replace(made, values=np.where(there, made.values, np.float32(0.0)), mask=there)


def _empty(scene: Readable, grid: Grid) -> Window:
    values = np.zeros((len(scene.bands), grid.height, grid.width), dtype=np.float32)
    mask = np.zeros((grid.height, grid.width), dtype=bool)
    return Window(values, mask, grid, scene.bands, scene.unit)


def _read_around(scene: Readable, grid: Grid, also: int = 0) -> Window | None:
    """Read what the pixels of a grid are interpolated from; None where there is nothing.

    Args:
        scene: an open scene.
        grid: the other grid.
        also: pixels of the scene further around.
    """
    columns, rows = _outline(grid, grid.box, scene.grid)
    if not (np.isfinite(columns).all() and np.isfinite(rows).all()):
        return None
    coarser = max(np.ptp(columns) / grid.width, np.ptp(rows) / grid.height, 1.0)
    pad = math.ceil(2 * coarser) + 2 + also  # reach of the kernel, and rounding
    top, left = max(math.floor(rows.min()) - pad, 0), max(math.floor(columns.min()) - pad, 0)
    bottom = min(math.ceil(rows.max()) + pad, scene.grid.height)
    right = min(math.ceil(columns.max()) + pad, scene.grid.width)
    if bottom <= top or right <= left:
        return None
    return scene.read(Box(top, left, bottom - top, right - left))


def _resampled(seen: Window, grid: Grid) -> Window:
    axes = axes_of(grid, seen.grid)
    if axes is not None and max(axes[0].step, axes[1].step) <= 1.0:
        made = enlarge(seen.values, seen.mask, *axes)
    else:
        made = interpolate(seen.values, seen.mask, seen.grid, grid)
    return Window(*made, grid, seen.bands, seen.unit)


def _on_valid(seen: Window, grid: Grid) -> NDArray[np.bool_]:
    """Return which pixels of a grid have their centre on a valid pixel of a window."""
    inside, at = np.ones((grid.height, grid.width), bool), []
    for place, length in zip(places(grid, seen.grid), seen.mask.shape, strict=True):
        inside &= (place >= 0) & (place <= length)  # as in resampling, the last edge included
        known = np.where(np.isfinite(place), place, 0.0).clip(0, length - 1)
        at.append(np.floor(known).astype(np.int64))
    return np.asarray(seen.mask[at[0], at[1]] & inside)


def read_averaged(scene: Readable, grid: Grid) -> Window:
    """Read the area-weighted mean of a scene over each pixel of a coarser grid, in physical units.

    Decibels are averaged as linear power. If one grid is rotated against the other, it is the mean
    over the upright rectangle around a coarse pixel.

    Args:
        scene: an open scene with CRS and affine transform.
        grid: the output grid; it may lie partly or wholly outside the scene.

    Returns:
        A window whose pixels are valid if nine tenths of their area are.
    """
    values, share = read_shares(scene, grid)
    mask = (share >= COVER) & np.isfinite(values).all(axis=0)
    values[:, ~mask] = 0.0
    return Window(values, mask, grid, scene.bands, scene.unit)


def read_shares(scene: Readable, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the means of `read_averaged`, and of how much of a pixel each is.

    Args:
        scene: an open scene with CRS and affine transform.
        grid: the output grid; it may lie partly or wholly outside the scene.

    Returns:
        Means [C, h, w], NaN where nothing is valid; and the share of the valid area [h, w].
    """
    values = np.full((len(scene.bands), grid.height, grid.width), np.nan, dtype=np.float32)
    share = np.zeros((grid.height, grid.width), dtype=np.float32)
    columns, rows = _outline(grid, grid.box, scene.grid)
    if np.isfinite(columns).all() and np.isfinite(rows).all():
        top, left = math.floor(rows.min()) - 1, math.floor(columns.min()) - 1
        size = math.ceil(rows.max()) + 1 - top, math.ceil(columns.max()) + 1 - left
        box, power = Box(top, left, *size), scene.unit == DECIBEL
        axes = axes_of(grid, scene.grid.crop(box))
        if axes is not None and min(axes[0].step, axes[1].step) < 1.0:
            axes = None
        inside = box.intersection(scene.grid.box)
        seen = None
        if min(inside.height, inside.width) > 0:
            # `separable` needs all of the pixels, beyond the edge, too.
            seen = read_padded(scene, box) if axes else scene.read(inside)
        if seen is not None and seen.mask.any():
            linear = 10.0 ** (seen.values / 10.0) if power else seen.values
            if axes is not None:
                values, share = average(linear, seen.mask, *axes)
            else:
                values, share = box_means.average(linear, seen.mask, seen.grid, grid)
            if power:
                with np.errstate(invalid="ignore", divide="ignore"):
                    values = np.float32(10.0) * np.log10(values)
    return values, share


def _outline(grid: Grid, box: Box, other: Grid) -> tuple[Array, Array]:
    """Return columns and rows, on `other`, of points along the outline of a box of `grid`."""
    step = np.linspace(0.0, 1.0, EDGE)[:-1]
    x = np.concatenate([step, np.ones(EDGE - 1), 1 - step, np.zeros(EDGE - 1)])
    y = np.roll(x, EDGE - 1)
    return located(grid, box.col + x * box.width, box.row + y * box.height, other)
