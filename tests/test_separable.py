"""Grids whose axes agree are resampled axis by axis, to the numbers of the general way."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from crossband.raster import warp
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.separable import Axis, axes_of
from crossband.raster.warp import WindowRaster, read_averaged, read_warped

UTM = CRS.from_epsg(32632)


def grid(size: int, pixel: float, x: float = 0.0, y: float = 0.0) -> Grid:
    return Grid(size, size, Affine(pixel, 0, 5e5 + x, 0, -pixel, 5e6 - y), UTM)


def raster(of: Grid, hole: Box | None = None) -> WindowRaster:
    values = np.random.default_rng(0).random((2, of.height, of.width), np.float32)
    mask = np.ones((of.height, of.width), bool)
    if hole is not None:
        mask[hole.slices()] = False
        values[:, ~mask] = 0.0
    return WindowRaster(Window(values, mask, of, ("red", "nir"), "reflectance"))


@pytest.fixture
def in_general(monkeypatch):
    def read(how, *arguments, **keywords):
        with monkeypatch.context() as patch:
            patch.setattr(warp, "axes_of", lambda *_: None)
            return how(*arguments, **keywords)

    return read


@pytest.mark.parametrize(("pixel", "x"), [(8.0, 0.0), (7.3, 2.1), (1.0, 0.4)])
def test_enlarging_equals_the_general_way(in_general, pixel, x):
    scene, fine = raster(grid(40, pixel)), grid(30, 1.0, x + 4 * pixel, 4 * pixel)
    made, wanted = (
        read_warped(scene, fine),
        in_general(read_warped, scene, fine),
    )
    assert made.mask.all()
    assert wanted.mask.all()
    np.testing.assert_allclose(made.values, wanted.values, atol=1e-4)


@pytest.mark.parametrize(("pixel", "x"), [(8.0, 0.0), (7.3, 2.1)])
def test_averaging_equals_the_general_way_beside_holes_and_edges(in_general, pixel, x):
    scene, coarse = raster(grid(200, 1.0), Box(20, 30, 30, 11)), grid(30, pixel, x - 10, -10)
    made, wanted = read_averaged(scene, coarse), in_general(read_averaged, scene, coarse)
    assert np.array_equal(made.mask, wanted.mask)
    assert 0 < made.mask.sum() < made.mask.size
    np.testing.assert_allclose(made.values, wanted.values, atol=2e-6)


def test_masks_of_what_is_enlarged_equal_those_of_the_general_way(in_general):
    scene, fine = raster(grid(20, 8.0), Box(5, 7, 3, 2)), grid(200, 1.0, -20, -20)
    made, wanted = (
        read_warped(scene, fine),
        in_general(read_warped, scene, fine),
    )
    assert np.array_equal(made.mask, wanted.mask)
    assert not made.values[:, ~made.mask].any()
    # Beside a hole nothing is mixed with the zeros in it.
    beside = made.values[:, made.mask]
    whole = raster(grid(20, 8.0)).read(Box(0, 0, 20, 20)).values
    assert beside.min() >= whole.min() - 0.3
    assert np.abs(beside - wanted.values[:, made.mask]).mean() < 0.02


def test_a_pixel_does_not_depend_on_its_window():
    scene, fine = raster(grid(40, 7.3)), grid(200, 1.0, 11.3, 9.1)
    whole = read_warped(scene, fine)
    for box in (Box(0, 0, 64, 64), Box(37, 91, 50, 60), Box(150, 3, 50, 33)):
        part = read_warped(scene, fine.crop(box))
        assert np.array_equal(part.values, whole.crop(box).values)


def test_only_grids_whose_axes_agree():
    one = grid(10, 1.0)
    rows, columns = axes_of(one, grid(10, 4.0)) or pytest.fail("they agree")
    assert rows == columns == Axis(0.25, 0.0, 10, 10)
    rotated = Grid(10, 10, one.transform @ Affine.rotation(1.0), UTM)
    other_crs = Grid(10, 10, one.transform, CRS.from_epsg(32633))
    flipped = Grid(10, 10, Affine(1, 0, 5e5, 0, 1, 5e6), UTM)
    for other in (rotated, other_crs, flipped):
        assert axes_of(one, other) is None
