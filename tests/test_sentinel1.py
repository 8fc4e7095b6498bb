"""Sentinel-1 GRD: calibration and noise by hand, the border, radar geometry, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from product_trees import sentinel1, zipped
from same_model import model

from crossband.errors import BandError, InputError
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.grid import Box
from crossband.raster.open import known_bands, open_scene
from crossband.raster.options import ReadOptions
from crossband.translate.provenance import scene_facts

HEIGHT, WIDTH = 31, 41


def amplitudes():
    return np.random.default_rng(0).integers(30, 900, (HEIGHT, WIDTH)).astype(np.uint16)


def expected(stored):
    """Return decibels by the formula, for the tables that `sentinel1` writes by itself."""
    row, col = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    table = 400 + 100 * col / 40 + 100 * row / 30
    noise = (100 + 100 * col / 40 + 200 * row / 30) * (1 + row / 30)
    power = stored.astype(np.float64) ** 2 - noise
    return 10 * np.log10(np.maximum(power, 1) / table**2)


def opened(path, *needed, **options):
    return open_scene(path, ReadOptions(**options), needed=needed or ("vv",))


def test_sigma_nought_by_hand(tmp_path):
    stored = np.full((HEIGHT, WIDTH), 200, np.uint16)
    with opened(sentinel1(tmp_path, stored)) as scene:
        assert scene.unit == "db"
        assert scene.dtype == "uint16"  # what is read; the result is float32
        values = scene.read().values[0]
    # The first corner: 200^2 - 100 x 1, over 400^2.
    assert values[0, 0] == pytest.approx(10 * np.log10(39_900 / 160_000), abs=1e-4)
    # Half-way along both: a table of 500, a noise of 250 x 1.5.
    assert values[15, 20] == pytest.approx(10 * np.log10(39_625 / 250_000), abs=1e-4)
    assert values[30, 40] == pytest.approx(10 * np.log10((40_000 - 800) / 360_000), abs=1e-4)


def test_every_pixel_and_every_window(tmp_path):
    stored = amplitudes()
    with opened(sentinel1(tmp_path, stored), "vv", "vh") as scene:
        whole = scene.read()
        assert np.abs(whole.values - expected(stored)).max() < 1e-4
        assert whole.mask.all()
        rng = np.random.default_rng(1)
        for _ in range(20):
            row, col = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
            box = Box(row, col, *rng.integers(1, (HEIGHT + 1 - row, WIDTH + 1 - col)))
            assert np.allclose(
                scene.read(box).values, whole.values[:, *box.slices()], rtol=0, atol=2e-5
            )
        boxes = [Box(0, 0, 20, 41), Box(10, 0, 21, 41)]
        for box, part in zip(boxes, BlockReader(scene, ReadStats()).windows(boxes), strict=True):
            assert np.allclose(part.values, whole.values[:, *box.slices()], rtol=0, atol=2e-5)
        scene.part(Box(5, 6, 10, 12))
        assert np.allclose(scene.read().values, whole.values[:, 5:15, 6:18], rtol=0, atol=2e-5)


def test_the_border_and_what_lies_below_the_noise(tmp_path):
    stored = np.full((HEIGHT, WIDTH), 200, np.uint16)
    stored[:, :3] = 0
    stored[0, 5] = 3  # 9 - 112.5: the floor is 1
    with opened(sentinel1(tmp_path, stored)) as scene:
        window = scene.read()
    assert np.array_equal(window.mask, stored > 0)
    assert window.values[0, 0, 5] == pytest.approx(-20 * np.log10(412.5), abs=1e-4)
    assert np.isfinite(window.values).all()


def test_beyond_the_tables_their_edge_counts(tmp_path):
    stored = np.full((HEIGHT, WIDTH), 200, np.uint16)
    tables = {"table": ((10, 400.0, 400.0), (20, 500.0, 500.0)), "noise": ((0, 0.0, 0.0),)}
    with opened(sentinel1(tmp_path, stored, **tables)) as scene:
        values = scene.read().values[0]
    lines = np.interp(np.arange(HEIGHT), [10, 20], [400, 500])
    assert np.allclose(values, (20 * np.log10(200 / lines))[:, None], atol=1e-4)


def test_blocks_of_noise_lie_side_by_side(tmp_path):
    stored = np.full((HEIGHT, WIDTH), 100, np.uint16)
    flat = {"table": ((0, 100.0, 100.0),), "noise": ((0, 1000.0, 1000.0),)}
    blocks = ((0, 9, 2.0, 2.0), (10, 19, 3.0, 3.0))  # and none beyond column 19
    with opened(sentinel1(tmp_path, stored, azimuth=blocks, **flat)) as scene:
        power = 10 ** (scene.read().values[0] / 10)
        part = scene.read(Box(3, 8, 5, 14)).values[0]
    assert np.allclose(power[:, :10], 0.8, atol=1e-5)
    assert np.allclose(power[:, 10:20], 0.7, atol=1e-5)
    assert np.allclose(power[:, 20:], 0.9, atol=1e-5)
    assert np.allclose(10 ** (part / 10), power[3:8, 8:22], atol=1e-6)


def test_no_blocks_and_noise_that_is_gone_already(tmp_path):
    stored = np.full((HEIGHT, WIDTH), 100, np.uint16)
    flat = {"table": ((0, 100.0, 100.0),), "noise": ((0, 1000.0, 1000.0),), "azimuth": ()}
    with opened(sentinel1(tmp_path / "a", stored, **flat)) as scene:
        assert np.allclose(scene.read().values, 10 * np.log10(0.9), atol=1e-4)
    with opened(sentinel1(tmp_path / "b", stored, removed="true", **flat)) as scene:
        assert np.allclose(scene.read().values, 0.0, atol=1e-4)


@pytest.mark.parametrize("what", ["zip", "manifest", "folder above"])
def test_ways_to_name_it(tmp_path, what):
    stored = amplitudes()
    safe = sentinel1(tmp_path / "here", stored)
    path = {"zip": zipped(safe), "manifest": safe / "manifest.safe", "folder above": safe.parent}
    if what == "folder above":
        path["zip"].unlink()
    assert known_bands(path[what]) == ("vv", "vh")
    with opened(path[what]) as scene:
        assert np.abs(scene.read().values - expected(stored)).max() < 1e-4


@pytest.mark.parametrize("sensor", [None, "sentinel-1-grd-db", "sentinel-1-grd-linear"])
def test_a_declared_sensor_changes_nothing(tmp_path, sensor):
    stored = amplitudes()
    with opened(sentinel1(tmp_path, stored), sensor=sensor) as scene:
        assert np.abs(scene.read().values - expected(stored)).max() < 1e-4


def test_a_translated_scene_keeps_its_control_points(tmp_path):
    stored = amplitudes()
    stored[0] = 0
    safe = sentinel1(tmp_path, stored)
    same = model("vv", "vh", unit="db", low=-60, high=40)
    path = same.translate(safe, tmp_path / "same.tif", tile=16)
    with rasterio.open(path) as file:
        points, crs = file.gcps
        assert [(p.row, p.col) for p in points] == [(0, 0), (0, 41), (31, 0), (31, 41)]
        assert crs.to_epsg() == 4326
        assert file.dtypes == ("float32", "float32")
        assert file.units == ("db", "db")
        values = file.read()
    assert np.isnan(values[:, 0]).all()
    assert np.abs(values[:, 1:] - expected(stored)[1:]).max() < 1e-3


def test_a_changed_table_is_noticed(tmp_path):
    safe = sentinel1(tmp_path, amplitudes())
    same = model("vv", unit="db", low=-60, high=40)

    def state():
        with opened(safe) as scene:
            return scene_facts(same, scene, {})["the source"]

    before = state()
    path = next(safe.glob("annotation/calibration/noise-*-vv-*.xml"))
    path.write_text(path.read_text().replace("100.0", "101.0"))
    assert state() != before


def test_one_polarisation(tmp_path):
    safe = sentinel1(tmp_path, amplitudes(), polarisations=("hh",))
    assert known_bands(safe) == ("hh",)
    with pytest.raises(BandError, match="it has 1 band, the model needs 2"):
        opened(safe, "vv", "vh")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"product": "SLC"}, "product type SLC: only GRD is read"),
        ({"ipf": "002.84"}, "made by IPF 2.84, and noise and border are described from 2.90 on"),
        ({"ipf": "words"}, "does not say which version of the IPF"),
        ({"table": ()}, "calibration-s1a.*: no calibrationVector"),
        ({"noise": ()}, "noise-s1a.*: no noiseRangeVector"),
        ({"table": ((0, "words", 1.0),)}, "sigmaNought has a word that is no number"),
        ({"removed": ""}, "no thermalNoiseCorrectionPerformed"),
    ],
)
def test_products_that_are_not_read(tmp_path, options, words):
    safe = sentinel1(tmp_path, amplitudes(), **options)
    with pytest.raises(InputError, match=words) as error:
        opened(safe)
    assert "\n" not in str(error.value)


def test_products_in_pieces(tmp_path):
    safe = sentinel1(tmp_path, amplitudes())
    noise = next(safe.glob("annotation/calibration/noise-*-vv-*.xml"))
    text = noise.read_text()
    noise.write_text(text.replace('count="2">0 40</pixel>', 'count="3">0 20 40</pixel>'))
    with pytest.raises(InputError, match="noiseRangeLut has not as many numbers as pixel"):
        opened(safe)
    noise.write_text(text[:200])
    with pytest.raises(InputError, match="not XML that can be read"):
        opened(safe)
    noise.unlink()
    with pytest.raises(InputError, match=r"0 files annotation/calibration/noise-\*.xml for VV"):
        opened(safe)
    for image in safe.glob("measurement/*"):
        image.unlink()
    with pytest.raises(InputError, match="no image in its folder measurement"):
        opened(safe)
