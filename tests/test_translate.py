"""Writing: everything about the scene is kept, the file is a COG, says that it is synthetic, and
is there whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
import rioxarray
import spyndex
import torch
from affine import Affine
from conftest import UTM, random_values, rgb2nir_signature
from rasterio.control import GroundControlPoint
from rio_cogeo.cogeo import cog_validate

import crossband
from crossband.cli.main import main
from crossband.errors import (
    CrossbandError,
    CrossbandWarning,
    InputError,
    ModelError,
    OutputError,
    UnitError,
)
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions


def hidden(folder):
    """Return what a crash would have left behind."""
    return [p for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_identity_returns_the_stored_numbers(make_raster, identity_model, tmp_path, dtype):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (3, 61, 47)).astype(dtype)
    scale = 1 / 200 if dtype != "float32" else None
    source = make_raster(values=values / (200 if dtype == "float32" else 1), scale=scale)
    if dtype != "float32":
        source = make_raster(values=values, scale=scale, offset=0.1)
    out = identity_model().translate(source, tmp_path / "out.tif", precision="fp32", tile=32)
    with rasterio.open(source) as a, rasterio.open(out) as b:
        assert np.array_equal(a.read(), b.read())
        assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
        assert (a.dtypes, a.scales, a.offsets, a.units) == (b.dtypes, b.scales, b.offsets, b.units)
        assert b.descriptions == ("red", "green", "blue")


def test_output_is_a_cog_with_overviews_statistics_and_tags(make_raster, tiny_model, tmp_path):
    values = (random_values(3, 700, 900) * 10000).astype(np.uint16)
    source = make_raster(values=values, scale=1e-4, nodata=0)
    model = crossband.load(tiny_model)
    out = model.translate(source, tmp_path / "nir.tif")
    valid, errors, notes = cog_validate(out, strict=True)
    assert valid, (errors, notes)
    with rasterio.open(out) as file:
        assert file.overviews(1)
        assert file.block_shapes == [(512, 512)]
        assert file.compression.value == "DEFLATE"
        assert file.nodata == 0
        assert file.descriptions == ("nir",)
        assert file.scales == (1e-4,)
        tags = file.tags()
        assert tags["CROSSBAND_SYNTHETIC"] == "YES"
        assert tags["CROSSBAND_MODEL"] == "tiny"
        assert tags["CROSSBAND_WEIGHTS_SHA256"] == model.weights_hash
        assert tags["CROSSBAND_VERSION"] == crossband.__version__
        assert tags["CROSSBAND_SOURCE"] == "scene.tif"
        stored = file.read(1)
        assert float(file.tags(1)["STATISTICS_MEAN"]) == pytest.approx(stored.mean(), rel=1e-6)
    assert not hidden(tmp_path)


def test_masked_pixels_stay_masked(make_raster, tiny_model, tmp_path):
    values = (random_values(3, 70, 90) * 10000).astype(np.uint16)
    values[:, 10:30, 20:40] = 0
    source = make_raster(values=values, scale=1e-4, nodata=0)
    out = crossband.load(tiny_model).translate(source, tmp_path / "nir.tif", tile=64)
    with rasterio.open(out) as file:
        assert np.array_equal(file.read(1) == 0, (values == 0).any(0))


def test_internal_mask_is_kept(make_raster, tiny_model, tmp_path):
    mask = np.ones((40, 50), bool)
    mask[:7] = False
    values = (random_values(3, 40, 50) * 10000).astype(np.uint16)
    source = make_raster(values=values, scale=1e-4, mask=mask)
    out = crossband.load(tiny_model).translate(source, tmp_path / "nir.tif")
    with rasterio.open(out) as file:
        assert file.nodata is None
        assert np.array_equal(file.dataset_mask() > 0, mask)
    assert cog_validate(out, strict=True)[0]


def test_nan_is_masked_and_does_not_spread(make_raster, tiny_model, tmp_path):
    values = random_values(3, 60, 60)
    values[1, 30, 30] = np.nan
    values[2, 5, 6] = np.inf
    source = make_raster(values=values)
    out = crossband.load(tiny_model).translate(source, tmp_path / "nir.tif")
    with rasterio.open(out) as file:
        assert np.isnan(file.nodata)
        assert np.argwhere(np.isnan(file.read(1))).tolist() == [[5, 6], [30, 30]]


@pytest.mark.parametrize("weight", [np.nan, 3e38])
def test_a_model_that_answers_no_number_is_blamed_and_not_the_scene(
    make_raster, tiny_model, tmp_path, weight
):
    """A finite weight may overflow; then no file says so before the first window is computed."""
    source = make_raster()
    model = crossband.load(tiny_model)
    for parameter in model.network.parameters():
        parameter.fill_(weight)
    for to in ([tmp_path / "nir.tif"], []):
        with pytest.raises(ModelError, match="tiny: the model answers NaN or infinity"):
            model.translate(source, *to)
    assert [p.name for p in tmp_path.iterdir()] == [source.name]


def test_a_model_that_answers_where_all_is_masked_only(make_raster, identity_model, tmp_path):
    values = random_values(3, 60, 60)
    values[:, :, :30] = np.nan
    source = make_raster(values=values)
    model = identity_model()
    model.network.forward = lambda x: torch.where(x > 0, torch.nan, x)
    with pytest.raises(ModelError, match=r"in every valid pixel of .*scene.tif"):
        model.translate(source, tmp_path / "nir.tif")
    assert [p.name for p in tmp_path.iterdir()] == [source.name]


def test_a_file_where_all_is_valid_gets_no_mask(make_raster, tiny_model, tmp_path):
    source = make_raster(values=(random_values(3, 40, 50) * 10000).astype(np.uint16), scale=1e-4)
    out = crossband.load(tiny_model).translate(source, tmp_path / "nir.tif")
    with rasterio.open(out) as file:
        assert file.nodata is None
        assert file.mask_flag_enums == ([rasterio.enums.MaskFlags.all_valid],)


def test_float32_is_physical(make_raster, tiny_model, tmp_path):
    source = make_raster(
        values=(random_values(3, 64, 64) * 10000).astype(np.uint16), scale=1e-4, nodata=0
    )
    model = crossband.load(tiny_model)
    stored = model.translate(source, tmp_path / "a.tif", precision="fp32")
    physical = model.translate(source, tmp_path / "b.tif", precision="fp32", dtype="float32")
    with rasterio.open(stored) as a, rasterio.open(physical) as b:
        assert (b.dtypes[0], b.scales[0], b.offsets[0]) == ("float32", 1.0, 0.0)
        values = b.read(1)
        above = values > 1e-4  # a valid zero is stored as 1: zero means nodata in this file
        assert np.abs(a.read(1) * 1e-4 - values)[above].max() < 0.51e-4
        assert above.mean() > 0.9
        assert values.std() > 0.001


def test_baseline_offset_is_used_both_ways(make_raster, identity_model, tmp_path):
    values = np.full((3, 8, 8), 3000, np.uint16)
    values[:, 0, 0] = 0
    source = make_raster(values=values, unit=None)
    model = identity_model()
    array = model.translate(source, sensor="sentinel-2-l2a", precision="fp32")
    assert np.allclose(array.values[:, 1:, 1:], 0.2)
    assert np.isnan(array.values[:, 0, 0]).all()
    out = model.translate(source, tmp_path / "o.tif", sensor="sentinel-2-l2a", precision="fp32")
    with rasterio.open(out) as file:
        assert np.array_equal(file.read(), values)
        assert (file.scales[0], file.offsets[0], file.nodata) == (1e-4, -0.1, 0)


def test_rotated_affine_and_scale(make_raster, identity_model, tmp_path):
    rotated = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    source = make_raster(transform=rotated)
    out = identity_model(scale=2).translate(source, tmp_path / "o.tif", precision="fp32", tile=16)
    with rasterio.open(source) as a, rasterio.open(out) as b:
        assert b.shape == (80, 100)
        assert np.array_equal(a.read().repeat(2, 1).repeat(2, 2), b.read())
        assert (a.transform @ (50, 40)) == pytest.approx(b.transform @ (100, 80))


def test_control_points_are_kept(make_raster, identity_model, tmp_path):
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 8) for c in (0, 9)]
    source = make_raster(crs="EPSG:4326", transform=Affine.identity(), gcps=points)
    out = identity_model().translate(source, tmp_path / "o.tif", precision="fp32")
    with rasterio.open(out) as file:
        kept, crs = file.gcps
        assert [(p.row, p.col, p.x, p.y) for p in kept] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]
        assert crs.to_epsg() == 4326


@pytest.mark.parametrize("window", [None, Box(5, 10, 20, 30)])
def test_control_points_move_with_the_pixels(make_raster, identity_model, tmp_path, window):
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 35.5) for c in (0, 9)]
    source = make_raster(crs="EPSG:4326", transform=Affine.identity(), gcps=points)
    row, col = (window.row, window.col) if window else (0, 0)
    out = tmp_path / "o.tif"
    identity_model(scale=2).translate(source, out, precision="fp32", window=window)
    with rasterio.open(out) as file:
        assert file.transform.is_identity
        assert [(p.row, p.col, p.x, p.y) for p in file.gcps[0]] == [
            (2 * (p.row - row), 2 * (p.col - col), p.x, p.y) for p in points
        ]
        assert file.gcps[1].to_epsg() == 4326


@pytest.mark.parametrize("window", [None, Box(5, 10, 20, 30)])
@pytest.mark.parametrize("scale", [1, 2])
def test_no_georeference_is_accepted_and_none_invented(
    make_raster, identity_model, tmp_path, scale, window
):
    source = make_raster(crs=None, transform=Affine.identity())
    out = tmp_path / "o.tif"
    identity_model(scale=scale).translate(source, out, precision="fp32", window=window)
    with rasterio.open(out) as file:
        assert file.crs is None
        assert file.transform.is_identity


def test_control_points_of_an_array_that_is_read_from_a_file(make_raster, identity_model):
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 8) for c in (0, 9)]
    source = make_raster(crs="EPSG:4326", transform=Affine.identity(), gcps=points)
    made = identity_model(scale=2).translate(source, precision="fp32")
    assert [(p.row, p.col) for p in made.rio.get_gcps()] == [(2 * p.row, 2 * p.col) for p in points]
    assert made.rio.crs.to_epsg() == 4326


def test_naip_without_descriptions_through_the_command(make_raster, tiny_model, tmp_path):
    """As GDAL writes it: red, green, blue, and a fourth band that it calls alpha."""
    values = (random_values(4, 40, 50) * 255).astype(np.uint8)
    values[3, :20, :20] = 0
    path = make_raster(values=values, names=(None,) * 4, unit=None, photometric="rgb", alpha="yes")
    out = tmp_path / "o.tif"
    options = ["--model", str(tiny_model), "--sensor", "naip"]
    assert main(["translate", str(path), "-o", str(out), *options]) == 0
    with rasterio.open(out) as file:
        assert file.dataset_mask().all()


def test_png_in_png_out(make_raster, tiny_model, tmp_path):
    values = (random_values(3, 40, 50) * 255).astype(np.uint8)
    source = make_raster("photo.png", values)
    model = crossband.load(tiny_model)
    out = model.translate(source, tmp_path / "nir.png", sensor="display")
    with rasterio.open(out) as file:
        assert (file.driver, file.count, file.dtypes[0]) == ("PNG", 1, "uint8")
        assert file.read(1).std() > 0
        assert "CROSSBAND_SYNTHETIC=YES" in file.tags()["Description"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nir.png", "photo.png"]


def test_jpeg_in(make_raster, tiny_model, tmp_path):
    values = (random_values(3, 40, 50) * 255).astype(np.uint8)
    source = make_raster("photo.jpg", values, photometric="rgb")
    out = crossband.load(tiny_model).translate(source, tmp_path / "nir.tif", sensor="display")
    with rasterio.open(out) as file:
        assert file.units == ("display",)
        assert file.scales[0] == pytest.approx(1 / 255)


def test_indices_equal_spyndex(make_raster, tiny_model, tmp_path):
    source = make_raster()
    model = crossband.load(tiny_model)
    names = ["NDVI", "EVI", "OSAVI"]
    out = model.translate(source, tmp_path / "nir.tif", indices=names, precision="fp32")
    with rasterio.open(out) as file, rasterio.open(source) as rgb:
        n, r, b = file.read(1), rgb.read(1), rgb.read(3)
    for name in names:
        with rasterio.open(tmp_path / f"nir_{name}.tif") as file:
            params = {"N": n, "R": r, "B": b, "g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0}
            expected = spyndex.computeIndex(name, params=params)
            # Near the pole of EVI, a denominator is kept at 0.02, as where it is judged.
            regular = np.abs(n + 6 * r - 7.5 * b + 1) > 0.02 if name == "EVI" else np.isfinite(n)
            assert regular.mean() > 0.9
            assert np.allclose(file.read(1)[regular], expected[regular], atol=1e-5)
            assert file.descriptions == (name,)
            assert cog_validate(file.name, strict=True)[0]


def test_index_that_the_bands_do_not_allow(make_raster, tiny_model, tmp_path):
    model = crossband.load(tiny_model)
    for name, message in (("NBR", "swir22"), ("NVDI", "did you mean 'NDVI'")):
        with pytest.raises(CrossbandError, match=message):
            model.translate(make_raster(), tmp_path / "n.tif", indices=[name])
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_data_array(make_raster, tiny_model, tmp_path):
    values = (random_values(3, 40, 50) * 10000).astype(np.uint16)
    values[:, 3, 4] = 0
    source = make_raster(values=values, scale=1e-4, nodata=0)
    model = crossband.load(tiny_model)
    array = model.translate(source, precision="fp32")
    assert array.dims == ("band", "y", "x")
    assert array.dtype == np.float32
    assert array.rio.crs.to_epsg() == 32633
    assert array.rio.transform() == UTM
    assert np.isnan(array.rio.nodata)
    assert array.attrs["units"] == "reflectance"
    assert array.attrs["CROSSBAND_SYNTHETIC"] == "YES"
    assert np.argwhere(np.isnan(array.values[0])).tolist() == [[3, 4]]
    path = model.translate(source, tmp_path / "n.tif", precision="fp32", dtype="float32")
    again = rioxarray.open_rasterio(path)
    assert np.array_equal(array.values, again.values, equal_nan=True)
    assert np.array_equal(array.x, again.x)
    assert np.array_equal(array.y, again.y)


def test_whole_file_equals_tiles(make_raster, tiny_model, tmp_path):
    source = make_raster(values=random_values(3, 133, 171))
    model = crossband.load(tiny_model)
    a = model.translate(source, precision="fp32", tile=4096).values
    b = model.translate(source, precision="fp32", tile=48).values
    assert np.abs(a - b).max() <= 1e-5


@pytest.mark.parametrize("tile", [None, 72])
@pytest.mark.parametrize("window", [(0, 0, 20, 20), (101, 83, 57, 75), (137, 210, 103, 50)])
def test_a_part_equals_the_same_pixels_of_the_scene(make_raster, tmp_path, window, tile):
    torch.manual_seed(0)
    network = LocalPyramid(3, 1, width=6, hidden=5, levels=2)
    model = crossband.Model(network, rgb2nir_signature(), name="pyramid", task="rgb2nir")
    scene = make_raster(values=random_values(3, 240, 260), tiled=True, blockxsize=64, blockysize=64)
    row, col, height, width = window
    left, top = UTM.c + UTM.a * col, UTM.f + UTM.e * row
    extent = (left + 1, top + UTM.e * height + 1, left + UTM.a * width - 1, top - 1)
    how = {"extent": extent, "device": "cpu", "precision": "fp32", "tile": tile}
    whole = model.translate(scene, device="cpu", precision="fp32")
    same = whole.values[:, row : row + height, col : col + width]
    made = model.translate(scene, **how)
    assert (made.shape[1:], made.rio.transform()[2]) == ((height, width), left)
    np.testing.assert_allclose(made.values, same, atol=2e-6)
    model.translate(scene, tmp_path / "part.tif", dtype="float32", **how)
    with rasterio.open(tmp_path / "part.tif") as file:
        np.testing.assert_allclose(file.read(), same, atol=2e-6)


def test_a_window_of_a_picture_of_two_ends_where_the_other_begins(make_raster):
    scene = make_raster(values=random_values(3, 40, 80))
    halves = open_scene(scene, ReadOptions(window=Box(0, 40, 40, 40)), needed=("red",))
    with halves:
        assert halves.around == Box(0, 0, 40, 40)
        left, top = UTM.c + UTM.a * 60, UTM.f
        extent = (left, top + UTM.e * 10, left + UTM.a * 10, top)
    read = ReadOptions(window=Box(0, 40, 40, 40), extent=extent)
    with open_scene(scene, read, needed=("red",)) as part:
        assert part.around == Box(0, -20, 40, 40)
        assert part.grid.box == Box(0, 0, 10, 10)


def test_existing_output_and_same_file(make_raster, tiny_model, tmp_path):
    source = make_raster()
    model = crossband.load(tiny_model)
    before = source.read_bytes()
    with pytest.raises(OutputError, match="the output is the input"):
        model.translate(source, source, overwrite=True)
    link = tmp_path / "link.tif"
    link.symlink_to(source)
    with pytest.raises(OutputError, match="the output is the input"):
        model.translate(source, link, overwrite=True)
    (tmp_path / "nir.tif").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        model.translate(source, tmp_path / "nir.tif")
    assert (tmp_path / "nir.tif").read_text() == "mine"
    model.translate(source, tmp_path / "nir.tif", overwrite=True)
    assert cog_validate(tmp_path / "nir.tif")[0]
    assert source.read_bytes() == before


def test_all_nodata_writes_nothing(make_raster, tiny_model, tmp_path):
    source = make_raster(values=np.zeros((3, 40, 50), np.uint16), scale=1e-4, nodata=0)
    model = crossband.load(tiny_model)
    with pytest.raises(InputError, match="masked"):
        model.translate(source, tmp_path / "nir.tif", indices=["NDVI"])
    with pytest.raises(InputError, match="masked"):
        model.translate(source)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_failure_in_the_middle_leaves_nothing(make_raster, tiny_model, tmp_path):
    """A corrupt block: the first tiles are read and written, a later one is not."""
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    source = make_raster(values=random_values(3, 600, 600), **tiles)
    data = bytearray(source.read_bytes())
    data[2_000_000:2_100_000] = bytes(100_000)
    source.write_bytes(data)
    (tmp_path / "nir.tif").write_text("mine")
    done = []
    with pytest.raises(InputError, match="cannot be read"):
        crossband.load(tiny_model).translate(
            source,
            tmp_path / "nir.tif",
            tile=64,
            overwrite=True,
            progress=lambda *counts: done.append(counts),
        )
    assert done
    assert (tmp_path / "nir.tif").read_text() == "mine"
    assert not hidden(tmp_path)


def test_disk_full_leaves_nothing(make_raster, tiny_model, tmp_path):
    """A limit on file size stands for the full disk: writing fails in the middle."""
    source = make_raster(values=random_values(3, 1500, 1500), tiled=True)
    code = (
        "import resource, signal, sys\n"
        "from crossband.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["translate", source, "-o", tmp_path / "nir.tif", "--model", tiny_model]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_too_little_disk_is_said_before_work(make_raster, tiny_model, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match="free disk"):
        crossband.load(tiny_model).translate(make_raster(), tmp_path / "nir.tif")


def test_units_that_the_model_was_not_trained_on(make_raster, tiny_model, tmp_path):
    source = make_raster(unit="kelvin")
    with pytest.raises(UnitError, match="takes reflectance and display"):
        crossband.load(tiny_model).translate(source, tmp_path / "n.tif")


def test_encoding_keeps_valid_values_off_the_nodata_number():
    mask = np.array([[True, True, False]])
    values = np.array([[[0.0, 0.5, 0.7]]], np.float32)
    assert Encoding("uint8", 1 / 255, 0, 0).encode(values, mask).tolist() == [[[1, 128, 0]]]
    top = Encoding("uint8", 1 / 255, 0, 255)
    assert top.encode(np.ones_like(values), mask).tolist() == [[[254, 254, 255]]]


def test_model_card_is_written(tiny_model):
    data = json.loads((tiny_model / "model.json").read_text())
    assert data["network"]["class"] == "LocalUNet"
    assert "red, green, blue" in (tiny_model / "README.md").read_text()


def test_infinite_answers_are_masked_and_not_clipped(make_raster, identity_model):
    values = random_values(3, 20, 20)
    model = identity_model()
    model.network.forward = lambda x: torch.where(x > 0.5, torch.inf, x)
    array = model.translate(make_raster(values=values), precision="fp32")
    infinite = (values > 0.5).any(axis=0)
    assert 0 < infinite.sum() < infinite.size
    assert np.array_equal(np.isnan(array.values).all(axis=0), infinite)


@pytest.mark.parametrize(
    ("offset", "sensor", "said"),
    [
        (0, "display", "a measurement were declared as display"),
        (0, "sentinel-2-l2a", "offset of -0.1 had been taken off before"),
        (1000, "sentinel-2-l2a-no-offset", "offset of -0.1 were not declared"),
        (1000, "sentinel-2-l2a", None),
    ],
)
def test_a_scene_of_another_unit_is_told(
    make_raster, identity_model, tmp_path, offset, sensor, said
):
    ground = np.clip(random_values(3, 64, 64) * 0.2, 0.02, 0.5) * 1e4 + offset
    source = make_raster("a.tif", ground.astype("u2"), unit=None)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", CrossbandWarning)
        identity_model().translate(source, tmp_path / "b.tif", sensor=sensor)
    lines = [str(w.message) for w in found if issubclass(w.category, CrossbandWarning)]
    assert len(lines) == bool(said)
    assert not said or said in lines[0]


def test_tiles_that_are_mostly_margin_are_warned_of(make_raster, tmp_path):
    """They took minutes for a scene of a million pixels, without a word."""
    source = make_raster(values=0.3 * random_values(3, 120, 150))
    model = crossband.load("rgb2nir")
    with pytest.warns(CrossbandWarning, match="128: rgb2nir sees 58 pixels far"):
        model.translate(source, tmp_path / "a.tif", tile=128)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", CrossbandWarning)
        model.translate(source, tmp_path / "b.tif", tile=256)
    assert not any("pixels far" in str(one.message) for one in heard)
    with rasterio.open(tmp_path / "a.tif") as a, rasterio.open(tmp_path / "b.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())
