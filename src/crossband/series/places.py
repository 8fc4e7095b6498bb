"""Points and polygons of a GeoJSON file, and where they lie in a scene.

A point stands for the pixel that it falls in. A polygon stands for the pixels whose centres lie in
it, each with the weight of one, whatever share of them it covers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from crossband.errors import InputError
from crossband.raster.gdal import gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.warp import check_georeference

#: What the whole scene is called where no places are given.
EVERYWHERE = "all"
#: Side of what is read of a place at once, in pixels.
SIDE = 1024


@dataclass(frozen=True)
class Place:
    """A point or a polygon; everything where it has no geometry.

    Attributes:
        name: unique among the places of a file.
        geometry: GeoJSON's Point, Polygon or MultiPolygon.
        crs: of its coordinates.
    """

    name: str
    geometry: Mapping[str, Any] | None = None
    crs: CRS | None = None

    @property
    def is_point(self) -> bool:
        """It is one pixel."""
        return self.geometry is not None and self.geometry["type"] == "Point"


@dataclass(frozen=True)
class Found:
    """Where a place lies in a scene.

    Attributes:
        place: it.
        box: pixels of the scene that hold all of it that lies in the scene.
        outline: its geometry in columns and rows of the scene; None for a point and everything.
        total: how many pixels it has, those outside of the scene included, which are reckoned from
            its area; None where it lies within, and they are counted.
    """

    place: Place
    box: Box
    outline: Mapping[str, Any] | None
    total: int | None

    def parts(self) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
        """Yield rectangles of the scene, and which of their pixels [h, w] belong to the place."""
        for row in range(0, self.box.height, SIDE):
            for col in range(0, self.box.width, SIDE):
                at = Box(self.box.row + row, self.box.col + col, SIDE, SIDE).intersection(self.box)
                inside = np.ones((at.height, at.width), dtype=bool)
                if self.outline is not None:
                    inside = geometry_mask(
                        [self.outline],
                        inside.shape,
                        Affine.translation(at.col, at.row),
                        all_touched=False,
                        invert=True,
                    )
                yield at, inside


def everywhere() -> Place:
    """Return the place that every pixel of a scene belongs to."""
    return Place(EVERYWHERE)


def read(path: str | Path, name: str | None = None) -> list[Place]:
    """Return the places of a GeoJSON file.

    Args:
        path: a FeatureCollection, a Feature, or a geometry. Coordinates are longitude and latitude
            (RFC 7946), unless an older file names another system in its member `crs`.
        name: property that names them; the property `name`, else the feature's `id`, else the
            property `id`, else its number where None.

    Raises:
        InputError: not GeoJSON, a geometry that is no point and no polygon, or two of one name.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    features = _features(data, path)
    crs = _crs(data, path)
    found: dict[str, Place] = {}
    for number, feature in enumerate(features, start=1):
        words = _named(feature, number, name, path)
        if words in found:
            raise InputError(
                f"{path}: two places are called {words!r}; name another property with --place-name"
            )
        found[words] = Place(words, _geometry(feature.get("geometry"), f"{path}: {words}"), crs)
    return list(found.values())


def locate(place: Place, grid: Grid, path: str) -> Found | None:
    """Find a place in a scene; None where it lies outside of it.

    Corners of polygons are transformed, and the lines between them are straight in the scene's CRS.

    Args:
        place: it.
        grid: the scene's.
        path: what the scene is called in messages.

    Raises:
        InputError: the scene has no affine transform or CRS, or its CRS cannot hold the place.
    """
    if place.geometry is None:
        return Found(place, grid.box, None, None)
    crs = check_georeference(grid, path)
    try:
        with gdal():
            moved = transform_geom(place.crs, crs, place.geometry)
    except (RasterioError, ValueError) as error:
        raise InputError(f"{place.name}: cannot be told in {crs}: {reason(error)}") from error
    outline = {**moved, "coordinates": _in_pixels(moved["coordinates"], ~grid.transform)}
    corners = np.array(list(_corners(outline["coordinates"])), np.float64)
    if not np.isfinite(corners).all():
        return None  # on the other side of the Earth
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    if place.is_point:
        row, col = math.floor(top), math.floor(left)
        inside = 0 <= row < grid.height and 0 <= col < grid.width
        return Found(place, Box(row, col, 1, 1), None, None) if inside else None
    first = max(math.floor(top), 0), max(math.floor(left), 0)
    last = min(math.ceil(bottom), grid.height), min(math.ceil(right), grid.width)
    box = Box(*first, last[0] - first[0], last[1] - first[1])
    if box.height < 1 or box.width < 1:
        return None
    within = min(top, left) >= 0 and bottom <= grid.height and right <= grid.width
    total = None if within else round(_area(outline))
    return Found(place, box, outline, total)


def _features(data: Any, path: str | Path) -> list[dict[str, Any]]:
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "FeatureCollection":
        features = data.get("features")
    elif kind == "Feature":
        features = [data]
    else:
        features = [{"geometry": data}] if kind else None
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise InputError(f"{path}: not GeoJSON: no FeatureCollection, Feature or geometry")
    if not features:
        raise InputError(f"{path}: it holds no place")
    return features


def _crs(data: Mapping[str, Any], path: str | Path) -> CRS:
    """Return the system that an older file names, or that of RFC 7946."""
    stated = data.get("crs")
    if stated is None:
        return CRS.from_epsg(4326)
    try:
        with gdal():
            return CRS.from_user_input(stated["properties"]["name"])
    except (RasterioError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its crs cannot be read: {json.dumps(stated)[:80]}") from error


def _named(feature: Mapping[str, Any], number: int, name: str | None, path: str | Path) -> str:
    properties = feature.get("properties") or {}
    if name is not None:
        if properties.get(name) in (None, ""):
            known = ", ".join(map(str, properties)) or "none"
            raise InputError(f"{path}: place {number} has no property {name!r}, only: {known}")
        return str(properties[name])
    stated = properties.get("name"), feature.get("id"), properties.get("id")
    return next((str(words) for words in stated if words not in (None, "")), str(number))


def _geometry(geometry: Any, said: str) -> Mapping[str, Any]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Point", "Polygon", "MultiPolygon"):
        raise InputError(f"{said}: a {kind or 'place without geometry'}; give points or polygons")
    try:
        corners = np.array(list(_corners(geometry["coordinates"])), np.float64)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{said}: its coordinates are not as GeoJSON has them") from error
    if corners.ndim != 2 or not np.isfinite(corners).all():
        raise InputError(f"{said}: its coordinates are not as GeoJSON has them")
    # What GDAL makes of a height is of no use here.
    return {"type": kind, "coordinates": _flat(geometry["coordinates"])}


def _corners(coordinates: Any) -> Iterator[tuple[float, float]]:
    """Yield all positions of a geometry."""
    if isinstance(coordinates[0], int | float):
        yield float(coordinates[0]), float(coordinates[1])
        return
    if not isinstance(coordinates, list):  # a word would be parted into letters for ever
        raise TypeError
    for part in coordinates:
        yield from _corners(part)


def _flat(coordinates: Any) -> Any:
    if isinstance(coordinates[0], int | float):
        return [float(c) for c in coordinates[:2]]
    return [_flat(part) for part in coordinates]


def _in_pixels(coordinates: Any, affine: Affine) -> Any:
    """Return positions as column and row."""
    if isinstance(coordinates[0], int | float):
        return list(affine @ (coordinates[0], coordinates[1]))
    return [_in_pixels(part, affine) for part in coordinates]


def _area(outline: Mapping[str, Any]) -> float:
    """Return the pixels that polygons cover: their outer rings less their holes."""
    coordinates = outline["coordinates"]
    polygons = [coordinates] if outline["type"] == "Polygon" else coordinates
    return float(sum(_ring(p[0]) - sum(map(_ring, p[1:])) for p in polygons))


def _ring(ring: Sequence[Sequence[float]]) -> float:
    """Return the area of a ring, by the shoelace formula."""
    x, y = np.array(ring, np.float64).T
    x, y = x - x[0], y - y[0]  # far from the origin the products would lose digits
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
