"""Sentinel-2, Landsat and files of one band each as scenes: values, places, masks, refusals."""

from __future__ import annotations

import json
import math
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from product_trees import (
    CORNER,
    LANDSAT_NAME,
    landsat,
    numbers,
    plane,
    sentinel2,
    write,
    zipped,
)
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from same_model import model

from crossband.cli.main import main
from crossband.errors import BandError, InputError, OutputError, UnitError
from crossband.raster import products
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.grid import Box
from crossband.raster.open import known_bands, open_scene
from crossband.raster.options import ReadOptions
from crossband.translate.provenance import scene_facts

RGB = ("red", "green", "blue")


def opened(path, *needed, **options):
    return open_scene(path, ReadOptions(**options), needed=needed)


def values_of(path, *needed, **options):
    with opened(path, *needed, **options) as scene:
        return scene.read()


# Sentinel-2


def test_level_2a_of_ten_metres(tmp_path):
    red = numbers("B04", 120, 120)
    red[0, :3] = 3000, 0, 65535
    safe = sentinel2(tmp_path, values={"B04": red})
    with opened(safe, *RGB) as scene:
        assert scene.unit == "reflectance"
        assert scene.dtype == "uint16"
        assert scene.block[0] == 64
        assert scene.grid.transform == Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
        assert scene.grid.crs.to_epsg() == 32601
        assert (scene.grid.height, scene.grid.width) == (120, 120)
        window = scene.read()
        stored, _ = scene.stored(Box(0, 0, 120, 120))
    assert window.values[0, 0, 0] == pytest.approx((3000 - 1000) / 10000)
    assert window.mask[0, :3].tolist() == [True, False, False]  # nodata, saturated
    assert window.mask.sum() == 120 * 120 - 2
    # Nothing is interpolated where all bands have the finest grid.
    assert np.array_equal(stored[1], numbers("B03", 120, 120))
    assert np.array_equal(stored[2], numbers("B02", 120, 120))


def test_what_a_product_names(tmp_path):
    safe = sentinel2(tmp_path, size=12)
    assert known_bands(safe) == (
        *("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078"),
        *("nir", "nir08", "nir09", "swir16", "swir22"),
    )
    by_label = {b.label: b.href for b in products.find(safe).bands}
    assert by_label["B04"].endswith("R10m/T01WCP_20230625T234621_B04_10m.jp2")
    assert by_label["B8A"].endswith("R20m/T01WCP_20230625T234621_B8A_20m.jp2")
    assert by_label["B09"].endswith("R60m/T01WCP_20230625T234621_B09_60m.jp2")


@pytest.mark.parametrize("level", ["1C", "2A"])
@pytest.mark.parametrize(("baseline", "expected"), [("02.14", 0.3), ("04.00", 0.2)])
def test_offsets_by_level_and_baseline(tmp_path, level, baseline, expected):
    values = {"B04": np.full((12, 12), 3000, np.uint16)}
    safe = sentinel2(tmp_path, level, baseline, size=12, values=values)
    assert np.allclose(values_of(safe, "red").values, expected)


def test_each_band_has_its_own_offset(tmp_path):
    full = np.full((6, 6), 3000, np.uint16)
    offsets = {n: -100 * n for n in range(13)}  # band_id 8 is B8A, and 12 is B12
    safe = sentinel2(tmp_path, size=12, values={"B8A": full, "B12": full}, offsets=offsets)
    window = values_of(safe, "nir08", "swir22")
    assert np.allclose(window.values[0], (3000 - 800) / 10000)
    assert np.allclose(window.values[1], (3000 - 1200) / 10000)


def test_geotiff_under_the_names_of_jpeg2000(tmp_path):
    safe = sentinel2(tmp_path, size=12, suffix=".tif")
    stored = numbers("B08", 12, 12)
    assert np.allclose(values_of(safe, "nir").values[0], stored * 1e-4 - 0.1, atol=1e-6)


@pytest.mark.parametrize("needed", [("red", "swir16"), ("red", "swir16", "coastal")])
def test_coarse_bands_equal_gdals_bilinear(tmp_path, needed):
    safe = sentinel2(tmp_path)
    window = values_of(safe, *needed)
    files = {b.name: b.href for b in products.find(safe).bands}
    for number, name in enumerate(needed):
        options = {"crs": "EPSG:32601", "resampling": Resampling.bilinear, "height": 120}
        options |= {"transform": window.grid.transform, "width": 120, "dtype": "float64"}
        with rasterio.open(files[name]) as file, WarpedVRT(file, **options) as warped:
            expected = warped.read(1) * 1e-4 - 0.1
        assert window.grid.transform == Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
        # Stored numbers are rounded: half of one is 5e-5.
        assert np.abs(window.values[number] - expected).max() < 5.1e-5
    assert window.mask.all()


def test_windows_of_coarse_bands_equal_the_whole(tmp_path):
    swir = numbers("B11", 60, 60)
    swir[20:22, 31] = 0
    safe = sentinel2(tmp_path, values={"B11": swir})
    rng = np.random.default_rng(0)
    with opened(safe, "red", "swir16") as scene:
        whole = scene.read()
        for _ in range(20):
            row, col = rng.integers(0, 110, 2)
            height, width = rng.integers(1, 121 - np.array([row, col]))
            part = scene.read(Box(row, col, height, width))
            there = slice(row, row + height), slice(col, col + width)
            assert np.array_equal(part.values, whole.values[:, *there])
            assert np.array_equal(part.mask, whole.mask[there])
        boxes = [Box(0, 0, 70, 90), Box(0, 50, 70, 70), Box(60, 0, 60, 90)]
        for box, part in zip(boxes, BlockReader(scene, ReadStats()).windows(boxes), strict=True):
            assert np.array_equal(part.values, whole.values[:, *box.slices()])
        scene.part(Box(7, 9, 50, 60))
        assert np.array_equal(scene.read().values, whole.values[:, 7:57, 9:69])


def test_a_masked_coarse_pixel_masks_what_it_has_a_weight_in(tmp_path):
    swir = np.full((60, 60), 5000, np.uint16)
    swir[20, 30] = 0
    swir[40, 10] = 65535
    safe = sentinel2(tmp_path, values={"B11": swir})
    with opened(safe, "red", "swir16") as scene:
        window = scene.read()
        assert not scene.has_mask  # the nodata number says it, in the result, too
        assert scene.radiometry.nodata == (0.0, 0.0)
    masked = ~window.mask
    # The centres of 10 m pixels lie a quarter of a pixel beside that of the 20 m pixel and three
    # quarters beside those of its neighbours: rows 39..42 look at row 20.
    expected = np.zeros((120, 120), bool)
    expected[39:43, 59:63] = True
    expected[79:83, 19:23] = True
    assert np.array_equal(masked, expected)
    assert np.allclose(window.values[1][~masked], 0.4, atol=1e-6)
    # A number that the caller says is none counts before the interpolation, too.
    assert not values_of(safe, "red", "swir16", nodata=5000).mask.any()


@pytest.mark.parametrize("what", ["zip", "metadata", "folder above", "manifest"])
def test_ways_to_name_a_product(tmp_path, what):
    (tmp_path / "here").mkdir()
    safe = sentinel2(tmp_path / "here", size=60)
    expected = values_of(safe, "red", "swir16")
    (safe / "manifest.safe").write_text("<manifest/>")
    path = {
        "zip": lambda: zipped(safe),
        "metadata": lambda: safe / "MTD_MSIL2A.xml",
        "folder above": lambda: safe.parent,
        "manifest": lambda: safe / "manifest.safe",
    }[what]()
    window = values_of(path, "red", "swir16")
    assert np.array_equal(window.values, expected.values)
    assert window.grid == expected.grid


@pytest.mark.parametrize("ending", [".SAFE", ".SAFE.zip"])
def test_translate_by_command(tmp_path, ending):
    safe = sentinel2(tmp_path)
    path = safe if ending == ".SAFE" else zipped(safe)
    folder = model("red", "nir", "swir16").save(tmp_path / "same")
    output = tmp_path / "out" / "same.tif"
    options = ["--model", str(folder), "-o", str(output), "--tile", "64"]
    assert main(["translate", str(path), *options]) == 0
    with rasterio.open(output) as file:
        assert file.transform == Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
        assert file.crs.to_epsg() == 32601
        assert (file.dtypes[0], file.scales[0], file.offsets[0]) == ("uint16", 1e-4, -0.1)
        assert file.nodata == 0
        result = file.read()
        assert file.tags()["CROSSBAND_SOURCE"] == path.name
        assert file.tags()["CROSSBAND_EXACT"] == "YES"
    with opened(safe, "red", "nir", "swir16") as scene:
        stored, _ = scene.stored(scene.grid.box)
    assert np.array_equal(result, stored)


def test_translate_to_an_array_and_a_file(tmp_path):
    safe = sentinel2(tmp_path)
    same = model("red", "swir16")
    array = same.translate(safe)
    assert np.allclose(array.values, values_of(safe, "red", "swir16").values, atol=1e-6)
    assert array.rio.crs.to_epsg() == 32601
    path = same.translate(safe, tmp_path / "b8a.tif", bands={"red": "B8A"}, dtype="float32")
    with rasterio.open(path) as file:
        assert file.width == 60  # both are of 20 m then
        assert np.allclose(file.read(1), numbers("B8A", 60, 60) * 1e-4 - 0.1, atol=1e-6)


def test_a_sensor_that_says_the_same_is_taken(tmp_path):
    safe = sentinel2(tmp_path, baseline="02.14", size=12)
    plain = values_of(safe, "red")
    # The product's own offset counts, which is none.
    declared = values_of(safe, "red", sensor="sentinel-2-l2a")
    assert np.array_equal(plain.values, declared.values)
    with pytest.raises(UnitError, match="the file says reflectance, but sensor display"):
        opened(safe, "red", sensor="display")
    scaled = values_of(safe, "red", scale=1e-3, offset=0.0)
    assert np.allclose(scaled.values, plain.values * 10)


@pytest.mark.parametrize("ending", [".SAFE", ".SAFE.zip"])
def test_a_changed_file_is_noticed(tmp_path, ending):
    safe = sentinel2(tmp_path, size=12)
    path = safe if ending == ".SAFE" else zipped(safe)
    same = model("red", "nir")

    def state():
        with opened(path, "red", "nir") as scene:
            return scene_facts(same, scene, {})["the source"]

    before = state()
    assert state() == before
    if ending == ".SAFE.zip":
        os.utime(path, ns=(1, 1))
        assert state() != before
        return
    for pattern in ("**/*B08_10m.jp2", "MTD_MSIL2A.xml"):
        found = next(safe.glob(pattern))
        os.utime(found, ns=(1, 1))
        after = state()
        assert after != before, pattern
        before = after
    os.utime(next(safe.glob("**/*B12_20m.jp2")), ns=(1, 1))
    assert state() == before  # it is not read


def spoilt(safe, what):
    metadata = safe / "MTD_MSIL2A.xml"
    text = metadata.read_text()
    if what == "no image":
        next(safe.glob("**/*B04_10m.jp2")).unlink()
    elif what == "half an image":
        image = next(safe.glob("**/*B04_10m.jp2"))
        image.write_bytes(image.read_bytes()[:200])
    elif what == "no XML":
        metadata.write_text(text[: len(text) // 2])
    elif what == "another encoding":
        body = text[text.index("?>") + 2 :] if text.startswith("<?") else text
        metadata.write_text('<?xml version="1.0" encoding="nope"?>' + body)
    elif what == "an image outside":
        metadata.write_text(text.replace("IMAGE_FILE>", "IMAGE_FILE>../"))
    elif what == "two tiles":
        metadata.write_text(text.replace("</Granule>", '</Granule><Granule a="b"/>'))
    elif what == "no offsets":
        start, end = "<BOA_ADD_OFFSET_VALUES_LIST>", "</BOA_ADD_OFFSET_VALUES_LIST>"
        metadata.write_text(text.replace(text[text.index(start) : text.index(end) + len(end)], ""))
    elif what == "one offset":
        metadata.write_text(text.replace('<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET>', ""))
    elif what == "no quantification":
        metadata.write_text(text.replace("BOA_QUANTIFICATION_VALUE", "BOA"))
    elif what == "no bands":
        metadata.write_text(text.replace("IMAGE_FILE>", "IMAGE>"))
    elif what == "two products":
        shutil.copytree(safe, safe.with_name("S2B" + safe.name[3:]))
    elif what == "another CRS":
        image = next(safe.glob("**/*B04_10m.jp2"))
        write(image, numbers("B04", 12, 12), Affine(10, 0, *CORNER, -10, 0), "EPSG:32602")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no image", "B04_10m.jp2: no such file"),
        ("half an image", "not a raster that can be opened"),
        ("no XML", "MTD_MSIL2A.xml: not XML that can be read"),
        ("another encoding", "MTD_MSIL2A.xml: not XML that can be read: unknown encoding: nope"),
        ("an image outside", "MTD_MSIL2A.xml: it names '../GRANULE"),
        ("two tiles", "it lists 2 granules, and one tile is read"),
        ("no offsets", "processing baseline 05.09, but no BOA_ADD_OFFSET"),
        ("one offset", "BOA_ADD_OFFSET is there for 12 of 13 bands"),
        ("no quantification", "no QUANTIFICATION_VALUE"),
        ("no bands", "it lists no images of bands"),
        ("two products", "it holds 2 products"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(tmp_path, capsys, what, words):
    (tmp_path / "here").mkdir()
    safe = sentinel2(tmp_path / "here", size=12)
    spoilt(safe, what)
    source = safe.parent if what == "two products" else safe
    folder = model("red", "nir").save(tmp_path / "same")
    output = tmp_path / "out" / "same.tif"
    assert main(["translate", str(source), "--model", str(folder), "-o", str(output)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not output.exists()
    assert [p.name for p in output.parent.glob("*")] == []


def test_bands_that_a_level_has_not(tmp_path):
    safe = sentinel2(tmp_path, size=12)
    with pytest.raises(BandError, match=r"cannot tell which band is cirrus \(the file says 1=B01"):
        opened(safe, "cirrus")
    with pytest.raises(BandError, match="no single band is named 'B8': did you mean"):
        opened(safe, "red", bands={"red": "B8"})
    assert values_of(sentinel2(tmp_path, "1C", size=12), "cirrus").mask.all()


def test_archives_that_are_none(tmp_path):
    (tmp_path / "x.SAFE.zip").write_bytes(b"PK, but no more")
    with pytest.raises(InputError, match="not an archive that can be read"):
        opened(tmp_path / "x.SAFE.zip", "red")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as file:
        file.writestr("words.txt", "words")
    with pytest.raises(InputError, match="not a raster that can be opened"):
        opened(tmp_path / "y.zip", "red")
    safe = sentinel2(tmp_path, size=12)
    next(safe.glob("**/*B04_10m.jp2")).unlink()
    with pytest.raises(InputError, match=r"B04_10m\.jp2"):
        opened(zipped(safe), "red")


def test_folders_that_are_no_product(tmp_path):
    with pytest.raises(InputError, match=r"of folders these are read: .*MTL.*Sentinel-2 \.SAFE"):
        opened(tmp_path, "red")


# Landsat


@pytest.mark.parametrize("kind", ["txt", "json", "xml"])
def test_surface_reflectance_and_temperature(tmp_path, kind):
    values = {"4": np.full((40, 40), 20000, np.uint16), "ST_B10": np.full((40, 40), 44000, "u2")}
    values["4"][0, 0] = 0
    folder = landsat(tmp_path, kind=kind, values=values)
    assert known_bands(folder) == (
        *("coastal", "blue", "green", "red", "nir", "swir16", "swir22", "thermal"),
    )
    for path in (folder, folder / f"{LANDSAT_NAME}_MTL.{kind}"):
        window = values_of(path, "red", "nir")
        assert window.unit == "reflectance"
        assert window.values[0, 1, 1] == pytest.approx(20000 * 2.75e-5 - 0.2)
        assert not window.mask[0, 0]
        assert window.mask.sum() == 1599
        heat = values_of(path, "thermal")
        assert heat.unit == "kelvin"
        assert heat.values[0, 3, 3] == pytest.approx(44000 * 0.00341802 + 149.0)
    with pytest.raises(UnitError, match="different units"):
        opened(folder, "red", "thermal")


def test_top_of_atmosphere_divides_by_the_suns_height(tmp_path):
    folder = landsat(tmp_path, "L1TP", values={"5": np.full((40, 40), 15000, np.uint16)})
    window = values_of(folder, "nir")
    expected = (15000 * 2e-5 - 0.1) / math.sin(math.radians(30))
    assert np.allclose(window.values, expected)
    assert "thermal" not in known_bands(folder)  # level 1 has radiance


def test_pan_has_a_grid_of_its_own(tmp_path):
    folder = landsat(tmp_path, "L1TP", pan=True)
    with opened(folder, "red", "pan") as scene:
        assert scene.grid.transform == Affine(15, 0, 300_007.5, 0, -15, 199_992.5)
        window = scene.read()
    # A plane is its own interpolation; both bands show the same one. Stored numbers are rounded,
    # twice where they are interpolated.
    exact = plane(window.grid.transform, 79, 79)
    found = (window.values * math.sin(math.radians(30)) + 0.1) / 2e-5
    assert np.abs(found[1] - exact).max() < 0.6
    assert np.abs(found[0] - exact).max() < 1.1
    assert window.mask.all()


@pytest.mark.parametrize("sensor", ["TM", "ETM"])
def test_older_sensors_count_otherwise(tmp_path, sensor):
    folder = landsat(tmp_path, sensor=sensor, values={"3": np.full((40, 40), 20000, np.uint16)})
    assert known_bands(folder) == ("blue", "green", "red", "nir", "swir16", "swir22", "thermal")
    assert np.allclose(values_of(folder, "red").values, 0.35)


def test_the_tar_of_a_landsat_scene(tmp_path):
    folder = landsat(tmp_path)
    with tarfile.open(tmp_path / "scene.tar", "w") as out:
        for path in sorted(folder.iterdir()):
            out.add(path, path.name)
    with opened(tmp_path / "scene.tar", *RGB) as scene:
        assert scene.files == (str(tmp_path / "scene.tar"),)
        assert np.array_equal(scene.read().values, values_of(folder, *RGB).values)


def test_a_translated_landsat_scene(tmp_path, tiny_model):
    folder = landsat(tmp_path)
    output = tmp_path / "nir.tif"
    assert main(["translate", str(folder), "--model", str(tiny_model), "-o", str(output)]) == 0
    with rasterio.open(output) as file:
        assert (file.scales[0], file.offsets[0], file.nodata) == (2.75e-5, -0.2, 0)
        assert file.transform == Affine(30, 0, 300_000, 0, -30, 200_000)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("COLLECTION_NUMBER = 02", "COLLECTION_NUMBER = 01", "not of Collection 2"),
        ('SENSOR_ID = "OLI_TIRS"', 'SENSOR_ID = "MSS"', "the bands of MSS are not known"),
        ("REFLECTANCE_MULT_BAND_4 = 2.75e-05", "X = 1", "no REFLECTANCE_MULT_BAND_4"),
        ("2.75e-05", "words", "REFLECTANCE_MULT_BAND_1 is 'words', and no number"),
        ("GROUP = PRODUCT_CONTENTS", "GROUP = PRODUCT_METADATA", "no group PRODUCT_CONTENTS"),
        (LANDSAT_NAME, f"../{LANDSAT_NAME}", "it names '../.*, which is outside of "),
    ],
)
def test_landsat_metadata_that_is_not_read(tmp_path, old, new, words):
    folder = landsat(tmp_path)
    path = folder / f"{LANDSAT_NAME}_MTL.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=words) as error:
        opened(folder, "red")
    assert "\n" not in str(error.value)


def test_landsat_at_night_and_in_pieces(tmp_path):
    folder = landsat(tmp_path, "L1TP", kind="json")
    path = next(folder.glob("*_MTL.json"))
    text = path.read_text()
    path.write_text(text.replace('"30.0"', '"-3.0"'))
    with pytest.raises(InputError, match="below the horizon"):
        opened(folder, "red")
    path.write_text(text[:50])
    with pytest.raises(InputError, match="not an MTL file"):
        opened(folder, "red")
    path.write_text(json.dumps([1]))
    with pytest.raises(InputError, match="not an MTL file"):
        opened(folder, "red")


# Files of one band each


UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def bands_in(folder, **files):
    """Write files: name -> (values, metres of a pixel)."""
    for name, (stored, step) in files.items():
        transform = Affine(step, 0, 500_000, 0, -step, 5_000_000)
        write(folder / f"{name}.tif", stored, transform, "EPSG:32633")
    return folder


def test_files_of_one_band_each(tmp_path, crossband_command):
    rng = np.random.default_rng(0)
    red, green = rng.integers(1, 9000, (2, 40, 60)).astype(np.uint16)
    blue = np.full((20, 30), 4000, np.uint16)
    bands_in(tmp_path / "day 1", red_B04=(red, 10), B03=(green, 10), B02=(blue, 20))
    given = "red=*_B04.tif,green=B03.tif,blue=B02.tif"
    folder = model(*RGB).save(tmp_path / "same")
    output = tmp_path / "same.tif"
    options = ("--sensor", "sentinel-2-l2a-no-offset", "--model", folder, "-o", output)
    done = crossband_command("translate", tmp_path / "day 1", "--bands", given, *options)
    assert done.returncode == 0, done.stderr
    with rasterio.open(output) as file:
        assert np.array_equal(file.read(), [red, green, np.full_like(red, 4000)])
        assert file.transform == UTM


def test_bands_of_files_of_several(tmp_path, make_raster):
    values = np.random.default_rng(0).uniform(0.1, 0.5, (3, 20, 30)).astype(np.float32)
    make_raster("rgb.tif", values)
    make_raster("alone.tif", values[:1] / 2, names=(None,))
    given = {"red": "rgb.tif#1", "green": "rgb.tif#3", "blue": str(tmp_path / "alone.tif")}
    window = values_of(tmp_path, *RGB, bands=given)
    assert np.array_equal(window.values, [values[0], values[2], values[0] / 2])
    for wrong, words in [
        ("rgb.tif", r"it has 3 bands; say which with --bands red=rgb.tif#NUMBER"),
        ("rgb.tif#4", "its bands are 1 to 3"),
        ("rgb.tif#x", "no band number is behind the #"),
        ("*.tif", "2 files fit, not one: alone.tif, rgb.tif"),
        ("no*.tif", "no files fit, not one"),
        (3, "--bands red=3: a file, as the other bands are"),
        ("alone.tif", "alone.tif is given for two bands"),
    ]:
        given = {"red": wrong, "green": "alone.tif", "blue": "rgb.tif#2"}
        with pytest.raises(BandError, match=words):
            opened(tmp_path, *RGB, bands=given)
    given = {"red": "none.tif", "green": "alone.tif", "blue": "rgb.tif#2"}
    with pytest.raises(InputError, match=r"none\.tif: no such file"):
        opened(tmp_path, *RGB, bands=given)
    with pytest.raises(BandError, match="does not take a band 'nir'"):
        opened(tmp_path, "red", bands={"red": "rgb.tif#1", "nir": "rgb.tif#2"})
    with pytest.raises(BandError, match="it has 1 band, the model needs 2: red, green"):
        opened(tmp_path, "red", "green", bands={"red": "rgb.tif#1"})


def test_files_that_do_not_fit_together(tmp_path):
    ones = np.full((12, 12), 5, np.uint16)
    bands_in(tmp_path, a=(ones, 10))
    given = {"red": "a.tif", "green": "b.tif"}
    options = {"sensor": "sentinel-2-l2a", "bands": given}
    write(tmp_path / "b.tif", ones, UTM, "EPSG:32634")
    with pytest.raises(InputError, match=r"b.tif: its CRS \(EPSG:32634\) is not that of .*a.tif"):
        opened(tmp_path, "red", "green", **options)
    turned = UTM @ Affine.rotation(5)
    write(tmp_path / "b.tif", ones, turned, "EPSG:32633")
    with pytest.raises(InputError, match=r"b.tif: turned against"):
        opened(tmp_path, "red", "green", **options)
    write(tmp_path / "a.tif", ones, Affine.identity(), None)
    write(tmp_path / "b.tif", ones[:6], Affine.identity(), None)
    with pytest.raises(InputError, match="no georeference that would say how they fit"):
        opened(tmp_path, "red", "green", **options)
    write(tmp_path / "b.tif", ones + 1, Affine.identity(), None)
    assert values_of(tmp_path, "red", "green", **options).mask.all()


def test_a_band_that_covers_a_part_only(tmp_path):
    fine = np.full((40, 40), 7, np.uint16)
    bands_in(tmp_path, a=(fine, 10))
    coarse = Affine(20, 0, 500_100, 0, -20, 4_999_900)
    for nodata in (None, 0):
        write(
            tmp_path / "b.tif", np.full((5, 6), 9, np.uint16), coarse, "EPSG:32633", nodata=nodata
        )
        options = {"sensor": "reflectance", "scale": 1.0}
        given = {"red": "a.tif", "green": "b.tif"}
        with opened(tmp_path, "red", "green", bands=given, **options) as scene:
            window = scene.read()
            assert scene.has_mask == (nodata is None)
        expected = np.zeros((40, 40), bool)
        expected[10:20, 10:22] = True
        assert np.array_equal(window.mask, expected)
        assert np.all(window.values[1][expected] == 9)


def test_an_interpolated_number_is_never_taken_for_nodata(tmp_path):
    bands_in(tmp_path, a=(np.full((8, 8), 50, np.int16), 10))
    steps = np.tile(np.array([-40, 40], np.int16), (4, 2))
    write(tmp_path / "b.tif", steps, UTM @ Affine.scale(2), "EPSG:32633", nodata=-20)
    options = {"sensor": "reflectance", "scale": 1.0, "bands": {"red": "a.tif", "green": "b.tif"}}
    window = values_of(tmp_path, "red", "green", **options)
    # A quarter of the way from -40 to 40 lies -20, the nodata number, which stays a value.
    assert window.mask.all()
    assert window.values[1, 0].tolist() == [-40, -19, 20, 20, -19, -19, 20, 40]


def test_masks_and_nodata_of_single_files(tmp_path, make_raster):
    values = np.full((1, 8, 8), 0.25, np.float32)
    mask = np.ones((8, 8), bool)
    mask[2, 3] = False
    make_raster("masked.tif", values, names=(None,), mask=mask)
    values[0, 5, 5] = np.nan
    values[0, 6, 6] = -9
    make_raster("nodata.tif", values, names=(None,), nodata=-9)
    given = {"red": "masked.tif", "green": "nodata.tif"}
    with opened(tmp_path, "red", "green", bands=given) as scene:
        window = scene.read()
        assert scene.has_mask
    mask[5, 5] = mask[6, 6] = False
    assert np.array_equal(window.mask, mask)
    # A number that is given counts beside the mask.
    assert not values_of(tmp_path, "red", "green", bands=given, nodata=0.25).mask.any()


def test_scales_that_only_some_files_state(tmp_path, make_raster):
    stored = np.full((1, 8, 8), 5000, np.uint16)
    make_raster("a.tif", stored, names=(None,), scale=1e-4)
    make_raster("b.tif", stored, names=(None,))
    given = {"red": "a.tif", "green": "b.tif"}
    with pytest.raises(UnitError, match=r"b\.tif states no scale and other bands do"):
        opened(tmp_path, "red", "green", bands=given)
    window = values_of(tmp_path, "red", "green", bands=given, scale=1e-4, offset=0.0)
    assert np.allclose(window.values, 0.5)


def test_the_result_never_replaces_a_source_file(tmp_path):
    bands_in(tmp_path, a=(np.full((8, 8), 5, np.uint16), 10))
    same = model("red")
    options = {"sensor": "sentinel-2-l2a", "bands": {"red": "a.tif"}, "overwrite": True}
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(OutputError, match="the source is read from this file"):
        same.translate(tmp_path, tmp_path / "a.tif", **options)
    assert (tmp_path / "a.tif").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


# Single files that need no product


def test_single_jpeg2000_and_vrt(tmp_path):
    stored = numbers("B04", 60, 70)
    path = write(tmp_path / "T01_B04.jp2", stored, UTM, "EPSG:32633")
    window = values_of(path, "red", bands={"red": 1}, sensor="sentinel-2-l2a")
    assert np.allclose(window.values[0], stored * 1e-4 - 0.1, atol=1e-6)
    virtual = tmp_path / "two.vrt"
    virtual.write_text(
        '<VRTDataset rasterXSize="70" rasterYSize="60"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>"
        + "".join(
            f'<VRTRasterBand dataType="UInt16" band="{n}"><Description>{name}</Description>'
            '<SimpleSource><SourceFilename relativeToVRT="1">T01_B04.jp2</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
            for n, name in ((1, "red"), (2, "green"))
        )
        + "</VRTDataset>"
    )
    window = values_of(virtual, "red", "green", sensor="sentinel-2-l2a")
    assert np.allclose(window.values, stored * 1e-4 - 0.1, atol=1e-6)


def test_linear_backscatter_that_the_file_declares(make_raster):
    power = np.array([[[1.0, 0.1, 0.0]]], np.float32)
    path = make_raster(values=power, names=("VV",), unit="power")
    for sensor in (None, "sentinel-1-grd-linear", "sentinel-1-grd-db"):
        window = values_of(path, "vv", sensor=sensor, bands={"vv": 1})
        assert window.unit == "db"
        assert np.allclose(window.values[0, 0, :2], [0, -10])
        assert window.mask.tolist() == [[True, True, False]]
