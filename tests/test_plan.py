"""The tile plan covers every pixel once, on the stride, and the identity comes back pixel-exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossband import load
from crossband.networks.generators.identity import Identity
from crossband.raster.grid import Box, Grid, Window
from crossband.translate.options import TileOptions
from crossband.translate.tiles import core_size, halo, plan_tiles
from crossband.translate.tiling import default_tile
from crossband.translate.window import translate_window


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(1, 100),
    margin=st.integers(0, 20),
    stride=st.sampled_from([1, 2, 4, 8]),
)
def test_cores_cover_each_pixel_once(height, width, tile, margin, stride):
    seen = np.zeros((height, width), int)
    for t in plan_tiles(height, width, tile, margin, stride):
        seen[t.core.slices()] += 1
        assert t.source.row % stride == t.source.col % stride == 0
        for low, high, core_low, core_high, end in (
            (
                t.source.row,
                t.source.row + t.source.height,
                t.core.row,
                t.core.row + t.core.height,
                height,
            ),
            (
                t.source.col,
                t.source.col + t.source.width,
                t.core.col,
                t.core.col + t.core.width,
                width,
            ),
        ):
            assert low == max(core_low - halo(margin, stride), 0)
            assert high == min(core_high + halo(margin, stride), end)
    assert (seen == 1).all()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (53, 1), (7, 5), (32, 32), (33, 65)])
@pytest.mark.parametrize("tile", [1, 16, 33, 64, 1024])
def test_identity_is_exact(identity_model, shape, tile, scale):
    rng = np.random.default_rng(1)
    values = rng.random((3, *shape), np.float32)
    mask = rng.random(shape) > 0.1
    mask[0, 0] = True
    values[:, ~mask] = 0
    window = Window(values, mask, Grid(*shape), ("red", "green", "blue"), "reflectance")
    out = translate_window(
        identity_model(scale=scale), window, TileOptions(tile=tile, precision="fp32")
    )
    assert np.array_equal(out.values, values.repeat(scale, 1).repeat(scale, 2))
    assert np.array_equal(out.mask, mask.repeat(scale, 0).repeat(scale, 1))


def seeing(margin, stride=1, scale=1):
    network = Identity(1, scale)
    network.margin, network.stride = margin, stride
    return network


@pytest.mark.parametrize("margin", [0, 3, 29, 35, 63, 67])
@pytest.mark.parametrize("stride", [1, 4])
def test_default_tile_costs_at_most_15_percent(margin, stride):
    """In the middle of a scene, where it costs most; edges have no halo beyond them."""
    tile = default_tile(seeing(margin, stride))
    core = core_size(tile, margin, stride)
    assert (core + 2 * halo(margin, stride)) ** 2 / core**2 <= 1.15
    assert tile < 2048


def test_default_tile_of_the_bundled_models_and_of_far_sight():
    tiles = plan_tiles(20_000, 20_000, default_tile(load("rgb2nir").network), 35, 4)
    assert sum(t.source.height * t.source.width for t in tiles) <= 1.15 * 20_000**2
    enlarging = load("super-resolution-x4").network
    assert default_tile(enlarging) * 4 <= 2048
    # One that sees very far, or nothing at an end, has a window that memory allows.
    for margin, scale, tile in ((766, 1, 2048), (None, 1, 896), (91, 1, 2048), (36, 2, 1024)):
        assert default_tile(seeing(margin, scale=scale)) == tile


def test_box_inside_and_scaled():
    assert Box(8, 12, 4, 5).relative_to(Box(4, 4, 20, 20)) == Box(4, 8, 4, 5)
    assert Box(1, 2, 3, 4).scaled(2) == Box(2, 4, 6, 8)
