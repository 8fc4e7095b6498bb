"""Points and polygons of a GeoJSON file, and their pixels in a scene.

The pixel of a point is the one that it falls in. The pixels of a polygon are those whose centres
lie in it; they have equal weights, whatever fraction of them the polygon covers.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError, ShapeSkipWarning
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from crossband.core.json_text import read_json
from crossband.core.messages import printable
from crossband.errors import InputError
from crossband.raster.gdal import READ_ERRORS, gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.source import LARGEST
from crossband.raster.warp import check_georeference

#: Name of the place that is the whole scene.
EVERYWHERE = "all"
#: Side in pixels of the windows of a place that are read at once.
SIDE = 1024
#: Pixels around a place that reaches beyond the scene, up to which its own are counted one by one;
#: of a larger one its area says how many they are.
COUNTED = 2**25
#: Geometries, and how many lists their positions lie in.
_DEPTHS = {"Point": 0, "Polygon": 2, "MultiPolygon": 3}


@dataclass(frozen=True)
class Place:
    """A point or a polygon; without a geometry the whole scene.

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
        """Whether it is a point."""
        return self.geometry is not None and self.geometry["type"] == "Point"


@dataclass(frozen=True)
class LocatedPlace:
    """The pixels of a place in a scene.

    Attributes:
        place: the place.
        box: bounding box of its pixels in the scene.
        outline: its geometry in columns and rows of the scene; None for a point and for the whole
            scene.
        total: number of its pixels where it reaches beyond the scene; None where it lies inside, so
            that its pixels can be counted.
    """

    place: Place
    box: Box
    outline: Mapping[str, Any] | None
    total: int | None

    def parts(self) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
        """Yield boxes of the scene, and which of their pixels [h, w] belong to the place."""
        for row in range(0, self.box.height, SIDE):
            for col in range(0, self.box.width, SIDE):
                at = Box(self.box.row + row, self.box.col + col, SIDE, SIDE).intersection(self.box)
                inside = np.ones((at.height, at.width), dtype=bool)
                if self.outline is not None:
                    with warnings.catch_warnings():
                        # A polygon without an area has no pixel.
                        warnings.simplefilter("ignore", ShapeSkipWarning)
                        inside = geometry_mask(
                            [self.outline],
                            inside.shape,
                            Affine.translation(at.col, at.row),
                            all_touched=False,
                            invert=True,
                        )
                yield at, inside


def everywhere() -> Place:
    """Return the place that is the whole scene."""
    return Place(EVERYWHERE)


def read_places(path: str | Path, name: str | None = None) -> list[Place]:
    """Read the places of a GeoJSON file.

    Args:
        path: a FeatureCollection, a Feature, or a geometry. Coordinates are longitude and latitude
            (RFC 7946), unless the member `crs` of an older file names another system.
        name: property with their names. Where None: the property `name`, else the feature's `id`,
            else the property `id`, else its number.

    Raises:
        InputError: not GeoJSON, a geometry other than points and polygons, or two of one name.
    """
    data = read_json(path, most=LARGEST)
    features = _features(data, path)
    crs = _crs(data, path)
    found: dict[str, Place] = {}
    for number, feature in enumerate(features, start=1):
        words = printable(_named(feature, number, name, path))
        if words in found:
            raise InputError(
                f"{path}: two places are called {words!r}; name another property with --place-name"
            )
        geometry = _geometry(feature.get("geometry"), f"{path}: {words}")
        if data.get("crs") is None:
            _check_on_earth(geometry, f"{path}: {words}")
        found[words] = Place(words, geometry, crs)
    return list(found.values())


def locate_place(place: Place, grid: Grid, path: str) -> LocatedPlace | None:
    """Find the pixels of a place in a scene; None where it lies outside.

    The corners of a polygon are transformed; its edges are straight in the scene's CRS. A scene in
    longitude and latitude may count longitudes from -180 or from 0.

    Args:
        place: the place.
        grid: the scene's.
        path: the scene's name in messages.

    Raises:
        InputError: the scene has no affine transform or CRS, or the place cannot be transformed.
    """
    if place.geometry is None:
        return LocatedPlace(place, grid.box, None, None)
    crs = check_georeference(grid, path)
    try:
        with gdal():
            moved = transform_geom(place.crs, crs, place.geometry)
    except (*READ_ERRORS, ValueError) as error:
        raise InputError(f"{place.name}: cannot be told in {crs}: {reason(error)}") from error
    turns = (0, 360, -360) if crs.is_geographic else (0,)
    found = (_located(place, grid, moved, Affine.translation(turn, 0)) for turn in turns)
    return next((located for located in found if located is not None), None)


def _located(
    place: Place, grid: Grid, moved: Mapping[str, Any], turn: Affine
) -> LocatedPlace | None:
    """Find the pixels of a place; its geometry is in the scene's CRS before it is turned."""
    affine = ~grid.transform @ turn
    outline = {**moved, "coordinates": _in_pixels(moved["coordinates"], affine)}
    corners = np.array(list(_corners(outline["coordinates"])), np.float64)
    if not np.isfinite(corners).all():
        return None  # too far away for the scene's projection
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    if place.is_point:
        row, col = math.floor(top), math.floor(left)
        inside = 0 <= row < grid.height and 0 <= col < grid.width
        return LocatedPlace(place, Box(row, col, 1, 1), None, None) if inside else None
    first = max(math.floor(top), 0), max(math.floor(left), 0)
    last = min(math.ceil(bottom), grid.height), min(math.ceil(right), grid.width)
    box = Box(*first, last[0] - first[0], last[1] - first[1])
    if box.height < 1 or box.width < 1:
        return None
    within = min(top, left) >= 0 and bottom <= grid.height and right <= grid.width
    if within:
        return LocatedPlace(place, box, outline, None)
    start = math.floor(top), math.floor(left)
    whole = Box(*start, math.ceil(bottom) - start[0], math.ceil(right) - start[1])
    if whole.height * whole.width > COUNTED:
        return LocatedPlace(place, box, outline, round(_area(outline)))
    # Parts that overlap count once, as in the scene.
    counted = LocatedPlace(place, whole, outline, None).parts()
    return LocatedPlace(place, box, outline, sum(int(inside.sum()) for _, inside in counted))


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
    """Return the CRS in the member `crs` of an older file, else that of RFC 7946."""
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
    if not isinstance(properties, dict):
        raise InputError(f"{path}: place {number}: its properties are not as GeoJSON has them")
    if name is not None:
        if properties.get(name) in (None, ""):
            known = ", ".join(map(str, properties)) or "none"
            raise InputError(f"{path}: place {number} has no property {name!r}, only: {known}")
        stated: tuple[Any, ...] = (properties[name],)
    else:
        stated = properties.get("name"), feature.get("id"), properties.get("id")
    found = next((words for words in stated if words not in (None, "")), number)
    if not isinstance(found, str | int | float):
        raise InputError(f"{path}: place {number}: its name must be a text or a number")
    return str(found)


def _geometry(geometry: Any, label: str) -> Mapping[str, Any]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(kind, str) or kind not in _DEPTHS:
        raise InputError(f"{label}: a {kind or 'place without geometry'}; give points or polygons")
    try:
        return {"type": kind, "coordinates": _flat(geometry.get("coordinates"), _DEPTHS[kind])}
    except (ValueError, OverflowError) as error:
        raise InputError(f"{label}: its coordinates are not as GeoJSON has them") from error


def _check_on_earth(geometry: Mapping[str, Any], label: str) -> None:
    """Raise InputError for positions that are no longitude and latitude."""
    for x, y in _corners(geometry["coordinates"]):
        if abs(x) > 360 or abs(y) > 90:
            raise InputError(
                f"{label}: {x:g}, {y:g} are no longitude and latitude; a file of another CRS names "
                "it in its member crs"
            )


def _corners(coordinates: Any) -> Iterator[tuple[float, float]]:
    """Yield all positions of a geometry."""
    if isinstance(coordinates[0], int | float):
        yield float(coordinates[0]), float(coordinates[1])
        return
    for part in coordinates:
        yield from _corners(part)


def _flat(coordinates: Any, depth: int) -> list[Any]:
    """Return coordinates without heights, on which the transformation must not depend.

    Args:
        coordinates: as a file has them.
        depth: of the lists in which positions lie.

    Raises:
        ValueError: lists of another depth, empty ones, a ring of fewer than three positions, or a
            position that is none.
        OverflowError: a number beyond all floats.
    """
    if not isinstance(coordinates, list) or not coordinates:
        raise ValueError("no list")
    if depth:
        parts = [_flat(part, depth - 1) for part in coordinates]
        if depth == 1 and len(set(map(tuple, parts))) < 3:
            raise ValueError("no ring")
        return parts
    numbers = [float(c) for c in coordinates[:2] if type(c) in (int, float)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        raise ValueError("no position")
    return numbers


def _in_pixels(coordinates: Any, affine: Affine) -> Any:
    """Convert positions to columns and rows."""
    if isinstance(coordinates[0], int | float):
        return list(affine @ (coordinates[0], coordinates[1]))
    return [_in_pixels(part, affine) for part in coordinates]


def _area(outline: Mapping[str, Any]) -> float:
    """Return the area of polygons in pixels: outer rings minus holes."""
    coordinates = outline["coordinates"]
    polygons = [coordinates] if outline["type"] == "Polygon" else coordinates
    return float(sum(_ring(p[0]) - sum(map(_ring, p[1:])) for p in polygons))


def _ring(ring: Sequence[Sequence[float]]) -> float:
    """Return the area of a ring, by the shoelace formula."""
    x, y = np.array(ring, np.float64).T
    x, y = x - x[0], y - y[0]  # keeps the products small, and so their digits
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
