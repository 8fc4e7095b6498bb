"""Scenes at 180 degrees of longitude, with guides of another CRS."""

from __future__ import annotations

import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from crossband.errors import InputError
from crossband.raster.compare import Overlap
from crossband.raster.grid import Grid
from crossband.raster.warp import crosses_antimeridian

GEOGRAPHIC, UTM = CRS.from_epsg(4326), CRS.from_epsg(32660)


def utm(longitude: float, size: int = 64) -> Grid:
    """Return a grid of pixels of 20 m whose corner lies at a longitude."""
    x, y = transform(GEOGRAPHIC, UTM, [longitude], [-17.0])
    return Grid(size, size, Affine(20, 0, x[0], 0, -20, y[0]), UTM)


def degrees(west: float, pixel: float, width: int, height: int, north: float = -16.9) -> Grid:
    """Return a grid in degrees."""
    return Grid(height, width, Affine(pixel, 0, west, 0, -pixel, north), GEOGRAPHIC)


@pytest.mark.parametrize(
    ("grid", "wanted"),
    [
        (utm(179.99), True),  # a scene of 0.012 degrees
        (utm(179.9), False),
        (degrees(179.9968, 1e-4, 64, 64), True),
        (degrees(-180.001, 1e-4, 64, 64), True),
        (degrees(179.9, 1e-3, 64, 64), False),
        (degrees(-180.05, 0.1, 3600, 1800, 90.0), False),  # the whole world
        (degrees(0, 0.5, 720, 360, 90.0), False),  # from 0 to 360
        (Grid(90, 90, Affine(1e5, 0, -45e5, 0, -1e5, 45e5), CRS.from_epsg(3413)), False),  # a pole
    ],
)
def test_what_crosses(grid: Grid, wanted: bool) -> None:
    assert crosses_antimeridian(grid) == wanted


@pytest.mark.parametrize(
    ("scene", "guide"),
    [
        (utm(179.99), degrees(179.98, 1e-3, 40, 40)),
        (degrees(179.9968, 1e-4, 64, 64), utm(179.98, 100)),
    ],
)
def test_a_guide_of_another_crs_is_refused_there(scene: Grid, guide: Grid) -> None:
    with pytest.raises(InputError, match="crosses the antimeridian") as caught:
        Overlap.of(scene, guide)
    assert "\n" not in str(caught.value)
    assert Overlap.of(scene, scene).ratio == pytest.approx(1.0)
