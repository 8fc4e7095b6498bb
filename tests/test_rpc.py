"""Rational polynomial coefficients: kept, and moved with the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

from crossband.raster.grid import Box, Grid

ONE = [1.0] + [0.0] * 19


def coefficients():
    """Return coefficients by which longitude follows the sample, and latitude the line."""
    return RPC(
        height_off=100.0,
        height_scale=500.0,
        lat_off=45.0,
        lat_scale=0.01,
        line_den_coeff=ONE,
        line_num_coeff=[0.0, 0.0, -1.0] + [0.0] * 17,
        line_off=19.5,
        line_scale=20.0,
        long_off=15.0,
        long_scale=0.01,
        samp_den_coeff=ONE,
        samp_num_coeff=[0.0, 1.0] + [0.0] * 18,
        samp_off=24.5,
        samp_scale=25.0,
    )


def places(rpcs, rows, cols):
    return np.array(RPCTransformer(rpcs).xy(rows, cols, zs=[100.0] * len(rows), offset="ul"))


@pytest.mark.parametrize("change", ["zoom", "shrink", "crop", "resized"])
def test_corners_of_pixels_stay_where_they_are(change):
    grid = Grid(40, 50, rpcs=coefficients())
    rows, cols = [8.0, 24.0], [10.0, 30.0]
    moved, at = {
        "zoom": (grid.zoom(3), lambda v, _: v * 3),
        "shrink": (grid.shrink(2), lambda v, _: v / 2),
        "crop": (grid.crop(Box(4, 6, 20, 30)), lambda v, axis: v - (4, 6)[axis]),
        "resized": (grid.resized(20, 100), lambda v, axis: v * (0.5, 2.0)[axis]),
    }[change]
    there = [at(v, 0) for v in rows], [at(v, 1) for v in cols]
    np.testing.assert_allclose(
        places(moved.rpcs, *there), places(grid.rpcs, rows, cols), rtol=0, atol=1e-7
    )
    assert grid.rpcs == coefficients()


@pytest.mark.parametrize("scale", [1, 2])
def test_a_result_has_those_of_its_source(scale, make_raster, identity_model, tmp_path):
    path = make_raster(crs=None, transform=None)
    with rasterio.open(path, "r+") as file:
        file.rpcs = coefficients()
    identity_model(scale=scale).translate(path, tmp_path / "out.tif", sensor="reflectance")
    with rasterio.open(tmp_path / "out.tif") as made:
        assert made.crs is None
        found = places(made.rpcs, [8.0 * scale], [10.0 * scale])
    np.testing.assert_allclose(found, places(coefficients(), [8.0], [10.0]), rtol=0, atol=1e-7)
