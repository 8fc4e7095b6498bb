"""Resampling between any two grids: as GDAL does it, and the same in every window."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject
from scipy.ndimage import gaussian_filter

from crossband.errors import InputError
from crossband.raster.box_means import average
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.holes import repeat_edges
from crossband.raster.places import located, places
from crossband.raster.point_spread import read_as_seen
from crossband.raster.sampling import interpolate
from crossband.raster.warp import WindowRaster, read_averaged, read_extended, read_warped

UTM, NEXT = CRS.from_epsg(32632), CRS.from_epsg(32633)
#: 3 degrees east of the middle of its zone: north of the next zone leans by 4 degrees.
HERE = Affine(10, 0, 7.4e5, 0, -10, 5e6)


def there(pixel: float, size: int) -> Grid:
    """Return pixels of the next zone around the middle of 200 pixels HERE."""
    from rasterio.warp import transform

    (x,), (y,) = transform(UTM, NEXT, [7.4e5 + 1000], [5e6 - 1000])
    half = size * pixel / 2
    return Grid(size, size, Affine(pixel, 0, x - half, 0, -pixel, y + half), NEXT)


def image(size: int, smooth: float = 1.5) -> np.ndarray:
    values = np.random.default_rng(0).random((2, size, size))
    return gaussian_filter(values, (0, smooth, smooth)).astype(np.float32)


def by_gdal(values, of, to, how, **options):
    out = np.full((len(values), to.height, to.width), np.nan, np.float32)
    reproject(
        values, out, src_transform=of.transform, src_crs=of.crs, dst_transform=to.transform,
        dst_crs=to.crs, src_nodata=np.nan, dst_nodata=np.nan, resampling=how, tolerance=0.0,
        **options,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("pixel", [80.0, 25.0, 12.0])
def test_enlarging_equals_gdal_across_zones(pixel):
    to, of = Grid(200, 200, HERE, UTM), there(pixel, round(4000 / pixel))
    values = image(of.width)
    made, mask = interpolate(values, np.ones(values.shape[1:], bool), of, to)
    assert mask.all()
    # GDAL's kernel is computed in single precision.
    np.testing.assert_allclose(made, by_gdal(values, of, to, Resampling.cubic), atol=1e-4)


def test_pixels_are_repeated_into_holes_as_beyond_the_edge():
    values, mask = image(12)[:, :6, :8], np.zeros((6, 8), bool)
    mask[1:5, 2:6] = True
    kept = values * mask, mask.copy()
    made, valid = repeat_edges(*kept, 2)
    rows, columns = np.arange(6).clip(1, 4)[:, None], np.arange(8).clip(2, 5)
    np.testing.assert_allclose(made[:, valid], values[:, rows, columns][:, valid], atol=1e-7)
    assert valid[0, 0:8].tolist() == [True] * 8
    assert np.array_equal(kept[1], mask)
    assert not kept[0][:, ~mask].any()


@pytest.mark.parametrize("zone", [UTM, NEXT])
def test_a_hole_around_a_raster_is_like_its_edge(zone):
    """Half a pixel around a hole, even one outside of the scene, was without the guide."""
    to = Grid(200, 200, HERE, UTM)
    of = there(80.0, 20) if zone == NEXT else Grid(20, 20, HERE @ Affine.scale(8), UTM)
    values, whole = image(20), np.ones((20, 20), bool)
    alone = read_extended(WindowRaster(Window(values, whole, of, ("a", "b"), "db")), to)
    framed, mask = np.pad(values, ((0, 0), (5, 5), (5, 5))), np.pad(whole, 5)
    around = of.crop(Box(-5, -5, 30, 30))
    found = read_extended(WindowRaster(Window(framed, mask, around, ("a", "b"), "db")), to)
    assert np.array_equal(found.mask, alone.mask)
    np.testing.assert_allclose(found.values, alone.values, atol=1e-5)
    # A part of it is the same.
    part = Box(40, 60, 80, 70)
    inside = read_extended(
        WindowRaster(Window(framed, mask, around, ("a", "b"), "db")), to.crop(part)
    )
    assert np.array_equal(inside.values, found.values[:, *part.slices()])
    assert np.array_equal(inside.mask, found.mask[part.slices()])


def test_a_hole_elsewhere_changes_no_pixel_at_the_edge():
    """Centres of 10 m lie on the edges of 30 m that begin half of a pixel beside them."""
    to = Grid(304, 304, HERE, UTM)
    of = Grid(100, 100, HERE @ Affine.translation(0.5, 0.5) @ Affine.scale(3), UTM)
    values, mask = image(100), np.ones((100, 100), bool)
    whole = read_extended(WindowRaster(Window(values, mask, of, ("a", "b"), "db")), to)
    mask[2:5, 2:5] = False
    holed = WindowRaster(Window(values * mask, mask, of, ("a", "b"), "db"))
    found = read_extended(holed, to)
    assert np.array_equal(found.mask[40:], whole.mask[40:])
    assert np.array_equal(found.mask[:, 40:], whole.mask[:, 40:])
    for part in (Box(0, 0, 76, 76), Box(228, 228, 76, 76), Box(228, 0, 76, 152)):
        tile = read_extended(holed, to.crop(part))
        assert np.array_equal(tile.mask, found.mask[part.slices()])
        assert np.array_equal(tile.values, found.values[:, *part.slices()])


@pytest.mark.parametrize("ratio", [2, 4, 8, 16])
def test_a_scene_with_gaps_is_seen_where_half_of_it_is_valid(ratio):
    """A third of the columns, as of a broken scanner, or scattered pixels: nothing was left."""
    of = Grid(192, 192, HERE, UTM)
    values = gaussian_filter(np.random.default_rng(0).random((1, 192, 192)), (0, 8, 8))
    values = values.astype(np.float32)
    to = of.shrink(ratio)
    whole = read_as_seen(
        WindowRaster(Window(values, np.ones((192, 192), bool), of, ("a",), "db")), to, ratio
    )
    scattered = np.random.default_rng(1).random((192, 192)) > 0.3
    for mask in (np.broadcast_to(np.arange(192) % 3 > 0, (192, 192)), scattered):
        gaps = Window(values * mask, mask, of, ("a",), "power")
        seen = read_as_seen(WindowRaster(gaps), to, ratio)
        assert seen.mask[1:-1, 1:-1].mean() > 0.9
        assert abs(seen.values - whole.values)[:, seen.mask].max() < 0.02


def test_a_mask_is_that_of_the_four_pixels_around():
    to, of = Grid(200, 200, HERE, UTM), there(80.0, 60)
    mask = np.ones((60, 60), bool)
    mask[30:33, 28:30] = False
    values = np.where(mask, image(60), np.float32(0.0))
    made, valid = interpolate(values, mask, of, to)
    wanted = by_gdal(mask.astype(np.float32)[None], of, to, Resampling.bilinear)[0] > 0.999
    assert np.array_equal(valid, wanted)
    assert not made[:, ~valid].any()
    low, high = values[:, mask].min(), values[:, mask].max()
    near = made[:, valid]
    assert low - 0.1 < near.min() < near.max() < high + 0.1  # nothing of the zeros in the hole


@pytest.mark.parametrize("pixel", [100.0, 43.0])
def test_averaging_equals_gdal_across_zones(pixel):
    of, to = Grid(200, 200, HERE, UTM), there(pixel, round(1200 / pixel))
    values = image(200)
    made, share = average(values, np.ones((200, 200), bool), of, to)
    assert share.min() > 0.999
    # GDAL takes the rectangle between two corners of a pixel, here it is around all four.
    wanted = by_gdal(values, of, to, Resampling.average)
    assert np.abs(made - wanted).mean() < 0.15 * wanted.std()


def test_a_mean_is_that_of_the_parts_of_pixels_in_it():
    """Pixels of 2.3, a third and many pixels, some beyond the edge, some over invalid ones."""
    rng = np.random.default_rng(0)
    of = Grid(40, 50, Affine(10, 0, 0, 0, -10, 0), UTM)
    values, mask = rng.normal(250, 60, (2, 40, 50)).astype(np.float32), rng.random((40, 50)) > 0.3
    fine = np.repeat(np.repeat(np.stack([*(values * mask), mask]), 20, 1), 20, 2)
    for size, left, top in ((23.0, -10.5, 7.0), (3.5, 101.0, -55.5), (190.0, 0.0, 0.0)):
        to = Grid(9, 11, Affine(size, 0, left, 0, -size, top), UTM)
        made, share = average(values, mask, of, to)
        for row, column in np.ndindex(9, 11):
            begin = (row * size - top) * 2, (column * size + left) * 2
            rows, columns = (slice(*np.clip([b, b + 2 * size], 0, None).astype(int)) for b in begin)
            *wanted, valid = fine[:, rows, columns].sum(axis=(1, 2))
            assert share[row, column] == pytest.approx(valid / (2 * size) ** 2, abs=1e-4)
            if valid:
                assert made[:, row, column] == pytest.approx(np.array(wanted) / valid, rel=1e-4)
            else:
                assert np.isnan(made[:, row, column]).all()


def test_a_whole_mask_gives_the_bits_that_a_mask_with_a_hole_elsewhere_gives():
    of, to = Grid(200, 200, HERE, UTM), there(43.0, 30)
    mask = np.ones((200, 200), bool)
    whole = average(image(200), mask, of, to)
    mask[0, 0] = False
    holed = average(image(200), mask, of, to)
    assert np.array_equal(whole[0], holed[0], equal_nan=True)
    assert np.array_equal(whole[1], holed[1])


@pytest.mark.parametrize("value", [300.0, 3e4, 3e37, 1e-30])
def test_means_over_many_pixels_are_right(value):
    of, to = Grid(2800, 2800, HERE, UTM), there(9000.0, 3)
    values = np.full((1, 2800, 2800), value, np.float32)
    made, share = average(values, np.ones((2800, 2800), bool), of, to)
    known = share > 0.9
    assert known.any()
    np.testing.assert_allclose(made[0][known], value, rtol=1e-6)


def test_the_mean_of_a_ramp_is_its_value_in_the_middle():
    of, to = Grid(200, 200, HERE, UTM), there(73.0, 20)
    ramp = np.broadcast_to(np.arange(200, dtype=np.float32), (1, 200, 200))
    made, _ = average(ramp, np.ones((200, 200), bool), of, to)
    _, columns = places(to, of)
    np.testing.assert_allclose(made[0], columns - 0.5, atol=0.02)


@pytest.mark.parametrize("pixel", [80.0, 13.0, 7.7, 2.5])
@pytest.mark.parametrize("read", [read_warped, read_averaged])
def test_a_pixel_does_not_depend_on_its_window(pixel, read):
    to, of = Grid(200, 200, HERE, UTM), there(pixel, round(2800 / pixel))
    mask = np.random.default_rng(1).random((of.height, of.width)) > 0.02
    values = np.where(mask, image(of.width), np.float32(0.0))
    guide = WindowRaster(Window(values, mask, of, ("red", "nir"), "reflectance"))
    whole = read(guide, to)
    assert whole.mask.sum() > 0
    for box in (Box(0, 0, 64, 64), Box(37, 91, 50, 60), Box(150, 3, 50, 33), Box(100, 100, 1, 1)):
        part = read(guide, to.crop(box))
        assert np.array_equal(part.values, whole.crop(box).values)
        assert np.array_equal(part.mask, whole.crop(box).mask)


def test_larger_pixels_have_a_wider_kernel():
    of, to = Grid(200, 200, HERE, UTM), there(40.0, 30)
    noise = np.random.default_rng(0).standard_normal((1, 200, 200)).astype(np.float32)
    made, mask = interpolate(noise, np.ones((200, 200), bool), of, to)
    assert mask.all()
    assert made.std() < 0.35  # the mean of 16 pixels has a standard deviation of 0.25
    np.testing.assert_allclose(
        interpolate(np.ones_like(noise), np.ones((200, 200), bool), of, to)[0], 1.0, atol=1e-6
    )


def test_a_place_that_the_other_crs_does_not_have_is_refused_in_a_line():
    sphere = Grid(10, 10, Affine(1, 0, 0, 0, -1, 95), CRS.from_epsg(4326))
    with pytest.raises(InputError, match="cannot be told in EPSG:32632"):
        places(sphere, Grid(10, 10, HERE, UTM))


@pytest.mark.parametrize(
    ("to", "of"),
    [
        (Grid(90, 110, HERE, UTM), there(33.0, 90)),
        # Zone 1 begins at the antimeridian, where longitudes jump from 180 to -180.
        (
            Grid(60, 60, Affine(500, 0, 1.5e5, 0, -500, 5e6), CRS.from_epsg(32601)),
            Grid(180, 360, Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326)),
        ),
        # So coarse that lines between knots are no lines there.
        (
            Grid(20, 20, Affine(0.5, 0, 5, 0, -0.5, 50), CRS.from_epsg(4326)),
            Grid(900, 900, Affine(1000, 0, 2e5, 0, -1000, 5.6e6), UTM),
        ),
    ],
)
def test_places_between_knots_are_those_that_are_projected(to, of):
    rows, columns = places(to, of)
    column, row = np.meshgrid(np.arange(to.width) + 0.5, np.arange(to.height) + 0.5)
    exact = located(to, column.ravel(), row.ravel(), of)
    np.testing.assert_allclose(columns.ravel(), exact[0], atol=0.03)
    np.testing.assert_allclose(rows.ravel(), exact[1], atol=0.03)


def test_a_place_beyond_the_domain_does_not_spoil_those_within():
    """The knots beside a grid at a pole lie beyond it."""
    to = Grid(12, 12, Affine(0.1, 0, 9, 0, -0.1, 90), CRS.from_epsg(4326))
    of = Grid(400, 400, Affine(1000, 0, -2e5, 0, -1000, 2e5), CRS.from_epsg(3995))
    rows, columns = places(to, of)
    assert np.isfinite(rows).all()
    assert np.isfinite(columns).all()


def test_a_grid_that_ends_at_a_pole_is_interpolated():
    """Nothing beyond the pole is asked for."""
    to = Grid(12, 12, Affine(0.1, 0, 9, 0, -0.1, -88.8), CRS.from_epsg(4326))
    of = Grid(400, 400, Affine(1000, 0, -2e5, 0, -1000, 2e5), CRS.from_epsg(3031))
    made, mask = interpolate(np.ones((1, 400, 400), np.float32), np.ones((400, 400), bool), of, to)
    assert mask.all()
    np.testing.assert_allclose(made, 1.0, atol=1e-6)
