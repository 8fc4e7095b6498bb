"""Statistics of the source or the target of a row, read once, and its sampled pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from crossband.core.sensors import VALID_RANGE
from crossband.data.check.strips import strips
from crossband.raster.grid import Grid
from crossband.raster.scene import Scene

#: How far a value may lie outside the valid range of its unit, as a share of the range:
#: atmospheric correction gives such values at dark pixels and at sun glint.
BEYOND = 0.1


@dataclass(frozen=True)
class SideStats:
    """Statistics of the source or the target of a row.

    Attributes:
        path: the file.
        bands: common names.
        unit: physical unit.
        sensor: name in the sensor table, or None.
        scale: physical = stored x scale + offset, of the first band.
        offset: see scale.
        dtypes: stored data types of the bands.
        height: in pixels, of the window that the row names, or of the file.
        width: the same.
        stored: smallest and largest stored number of each band, over all valid pixels.
        valid: share of pixels that are not masked.
        single: share of the pixels that hold the most frequent value (in all bands at once).
        common: that value, as stored.
        outside: share of valid values outside the valid range of the unit.
        digest: hash of the stored numbers.
        grid: affine and CRS, where the file has them.
        bounds: west, south, east, north in degrees, or None.
        named_otherwise: in words, bands that the row gives by number and the file names as others.
    """

    path: str
    bands: tuple[str, ...]
    unit: str
    sensor: str | None
    scale: float
    offset: float
    dtypes: tuple[str, ...]
    height: int
    width: int
    stored: tuple[tuple[float, float], ...]
    valid: float
    single: float
    common: tuple[float, ...]
    outside: float
    digest: str
    grid: Grid
    bounds: tuple[float, float, float, float] | None
    named_otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """Every k-th row and column of a source or target.

    Attributes:
        stored: stored numbers [C, h, w].
        values: physical values [C, h, w].
        mask: [h, w], True where valid.
        single: [h, w], True at the most frequent value.
    """

    stored: NDArray[Any]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    single: NDArray[np.bool_]


def side_stats(scene: Scene, sensor: str | None, step: int) -> tuple[SideStats, Sample]:
    """Read a scene once; return its statistics and its sampled pixels."""
    grid, digest = scene.grid, hashlib.blake2b(digest_size=16)
    digest.update(repr((scene.dtypes, grid.height, grid.width)).encode())
    low = np.full(len(scene.bands), np.inf)
    high, valid = -low, 0
    parts = []
    for stored, window in strips(scene, step):
        digest.update(np.ascontiguousarray(stored).tobytes())
        if window.mask.any():
            inside = stored if window.mask.all() else stored[:, window.mask]
            inside = inside.reshape(len(low), -1)
            low, high = np.minimum(low, inside.min(axis=1)), np.maximum(high, inside.max(axis=1))
            valid += int(window.mask.sum())
        parts.append([a[..., ::step, ::step] for a in (stored, window.values, window.mask)])
    stored, values, mask = (np.concatenate(p, axis=-2) for p in zip(*parts, strict=True))
    single, common = _most_frequent(stored, mask)
    sample = Sample(stored, values, mask, single)
    least, most = VALID_RANGE[scene.unit]
    room = BEYOND * (most - least)
    inside = sample.values[:, sample.mask]
    beyond = (inside < least - room) | (inside > most + room)
    side = SideStats(
        path=scene.path,
        bands=scene.bands,
        unit=scene.unit,
        sensor=sensor,
        scale=scene.radiometry.scale[0],
        offset=scene.radiometry.offset[0],
        dtypes=scene.dtypes,
        height=grid.height,
        width=grid.width,
        stored=tuple((float(a), float(b)) for a, b in zip(low, high, strict=True)),
        valid=valid / (grid.height * grid.width),
        single=float(single.mean()),
        common=common,
        outside=float(beyond.mean()) if inside.size else 0.0,
        digest=digest.hexdigest(),
        grid=grid,
        bounds=_bounds(grid),
        named_otherwise=scene.named_otherwise,
    )
    return side, sample


def _most_frequent(
    stored: NDArray[Any], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[float, ...]]:
    """Return where numbers [C, h, w] hold their most frequent valid value, and that value."""
    where = np.zeros(mask.shape, bool)
    if not mask.any():
        return where, ()
    inside = stored[:, mask].astype(np.float64)
    # A hash of the bands of each pixel: an odd multiplier keeps different pixels apart.
    codes = np.zeros(inside.shape[1], np.uint64)
    for band in inside:
        codes = codes * np.uint64(0x9E3779B97F4A7C15) + band.view(np.uint64)
    found, counts = np.unique(codes, return_counts=True)
    here = codes == found[counts.argmax()]
    where[mask] = here
    return where, tuple(float(v) for v in inside[:, here.argmax()])


def _bounds(grid: Grid) -> tuple[float, float, float, float] | None:
    """Return west, south, east, north in degrees; None without georeference."""
    if grid.crs is None or grid.transform.is_identity:
        return None
    from rasterio.warp import transform_bounds

    corners = [
        grid.transform @ (x, y)
        for x, y in ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    ]
    xs, ys = zip(*corners, strict=True)
    try:
        box = transform_bounds(grid.crs, "EPSG:4326", min(xs), min(ys), max(xs), max(ys))
    except RasterioError:  # outside the domain of the projection
        return None
    finite = all(np.isfinite(box)) and box[0] < box[2] and box[1] < box[3]
    return (box[0], box[1], box[2], box[3]) if finite else None
