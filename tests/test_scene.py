"""Reading: bands and units from metadata or declared, never guessed; masks; weird rasters."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from conftest import UTM, random_values
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from crossband.errors import (
    BandError,
    CrossbandError,
    CrossbandWarning,
    InputError,
    OutputError,
    UnitError,
)
from crossband.raster.bands import parse_bands
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions, parse_extent

RGB = ("red", "green", "blue")


def test_bands_by_description_in_any_order(make_raster):
    values = random_values(4, 8, 9)
    path = make_raster(values=values, names=("blue", "green", "Red", "nir"))
    with open_scene(path, needed=RGB) as scene:
        assert scene.numbers == (3, 2, 1)
        assert np.array_equal(scene.read().values, values[[2, 1, 0]])
        assert scene.unit == "reflectance"


def test_bands_by_product_label_need_the_sensor(make_raster):
    path = make_raster(names=("B02", "B03", "B04"), unit=None)
    with pytest.raises(BandError, match="--sensor"):
        open_scene(path, needed=RGB)
    with pytest.raises(UnitError, match="--sensor"):
        open_scene(path, ReadOptions(bands={"red": 3, "green": 2, "blue": 1}), needed=RGB)
    with open_scene(
        path, ReadOptions(sensor="sentinel-2-l2a", scale=1.0, offset=0.0), needed=RGB
    ) as scene:
        assert scene.numbers == (3, 2, 1)


def test_short_labels_are_those_of_the_declared_sensor(make_raster):
    """B5 is the near infrared of Landsat, and a red edge of Sentinel-2."""
    path = make_raster(values=random_values(4, 8, 9), names=("B2", "B3", "B4", "B5"))
    landsat = ReadOptions(sensor="landsat-c2-l2", scale=1.0, offset=0.0)
    with open_scene(path, landsat, needed=[*RGB, "nir"]) as scene:
        assert scene.numbers == (3, 2, 1, 4)
    sentinel = ReadOptions(sensor="sentinel-2-l2a", scale=1.0, offset=0.0)
    with pytest.raises(BandError, match="no band is named nir"):
        open_scene(path, sentinel, needed=[*RGB, "nir"])


def test_bands_by_colour(make_raster):
    values = (random_values(3, 8, 9) * 255).astype(np.uint8)
    path = make_raster(values=values, names=(None,) * 3, unit=None, photometric="rgb")
    with open_scene(path, ReadOptions(sensor="display"), needed=RGB) as scene:
        assert np.allclose(scene.read().values, values / 255)


def test_naip_fourth_band_is_nir_and_no_alpha(make_raster):
    values = (random_values(4, 8, 9) * 255).astype(np.uint8)
    rgba = {"photometric": "rgb", "alpha": "yes"}
    values[3, 0, 0] = 0  # a dark pixel, not a transparent one
    path = make_raster(values=values, names=(None,) * 4, unit=None, **rgba)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    with open_scene(path, ReadOptions(sensor="naip"), needed=("nir",)) as scene:
        assert scene.numbers == (4,)
        assert scene.read().mask.all()
    with open_scene(path, ReadOptions(sensor="display"), needed=RGB) as scene:
        assert not scene.read().mask[0, 0]  # as RGB + alpha it is transparent


def test_alpha_and_internal_mask(make_raster):
    values = (random_values(3, 8, 9) * 255).astype(np.uint8)
    values[:, 2, 2] = 0
    mask = np.ones((8, 9), bool)
    mask[0] = False
    path = make_raster(values=values, mask=mask, photometric="rgb", nodata=0)
    with open_scene(path, ReadOptions(sensor=None), needed=RGB) as scene:
        window = scene.read()
    assert np.array_equal(window.mask, mask)  # a valid zero stays valid under a mask
    assert (window.values[:, ~mask] == 0).all()


def test_a_sensor_that_names_every_band_leaves_no_alpha(make_raster):
    values = (random_values(4, 8, 9) * 255).astype(np.uint8)
    values[3, :2] = 0  # water, which shows nothing in the near infrared
    path = make_raster(values=values, names=(None,) * 4, unit=None, photometric="rgb", alpha="yes")
    with open_scene(path, ReadOptions(sensor="naip"), needed=RGB) as scene:
        assert not scene.has_mask
        assert scene.read().mask.all()


@pytest.mark.parametrize("label", [None, "alpha", "Alpha"])
def test_an_alpha_band_may_be_called_so(make_raster, label):
    values = (random_values(4, 8, 9) * 255).astype(np.uint8)
    values[3], values[3, 0] = 255, 0
    path = make_raster(values=values, names=(*RGB, label), unit=None, alpha="yes")
    with open_scene(path, ReadOptions(sensor="display"), needed=RGB) as scene:
        assert np.array_equal(scene.read().mask, values[3] > 0)


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_a_nodata_number_that_is_given_counts_beside_a_mask(make_raster, kind):
    values = (random_values(4, 8, 9) * 200 + 20).astype(np.uint8)
    values[:3, 2, 2] = 0
    mask = np.ones((8, 9), bool)
    mask[0] = False
    values[3] = mask * 255
    of = (
        {"values": values[:3], "names": RGB, "mask": mask}
        if kind == "mask"
        else {"values": values, "names": (*RGB, None), "alpha": "yes"}
    )
    path = make_raster(unit="display", scale=1 / 255, nodata=0, photometric="rgb", **of)
    with open_scene(path, needed=RGB) as scene:
        assert np.array_equal(scene.read().mask, mask)
    mask[2, 2] = False
    with open_scene(path, ReadOptions(nodata=0), needed=RGB) as scene:
        assert np.array_equal(scene.read().mask, mask)


def test_a_virtual_raster_shows_the_mask_that_it_has(make_raster, tmp_path):
    """GDAL writes the mask of the source into a VRT; without it nobody would see it."""
    mask = np.ones((40, 50), bool)
    mask[:7] = False
    make_raster("a.tif", mask=mask)
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.vrt", driver="VRT")
    with open_scene(tmp_path / "a.vrt", needed=RGB) as scene:
        assert np.array_equal(scene.read().mask, mask)


def test_nodata_nan_and_infinity_are_masked(make_raster):
    values = random_values(3, 8, 9)
    values[0, 0, 0], values[1, 1, 1], values[2, 2, 2] = np.nan, np.inf, -9999
    path = make_raster(values=values, nodata=-9999)
    with open_scene(path, needed=RGB) as scene:
        window = scene.read()
    assert np.isfinite(window.values).all()
    assert (~window.mask).sum() == 3
    assert not window.mask[[0, 1, 2], [0, 1, 2]].any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.2),  # the file's own scale
        ({"sensor": "sentinel-2-l2a"}, 0.2),  # the file wins over the sensor
        ({"scale": 1e-3}, 2.0),  # the option wins over the file
        ({"offset": -0.1}, 0.1),
        ({"scale": 1e-3, "offset": 1.0}, 3.0),
    ],
)
def test_scale_precedence(make_raster, options, expected):
    values = np.full((3, 4, 4), 2000, np.uint16)
    path = make_raster(values=values, scale=1e-4, offset=0.0)
    with open_scene(path, ReadOptions(**options), needed=RGB) as scene:
        assert np.allclose(scene.read().values, expected, rtol=1e-6)


def test_a_scale_alone_does_not_drop_an_offset(make_raster):
    values = np.full((3, 4, 4), 2000, np.uint16)
    own = make_raster("own.tif", values, scale=1e-4, offset=-0.1)
    plain = make_raster("plain.tif", values, unit=None)
    product = {"sensor": "sentinel-2-l2a"}
    for path, who, options in ((own, "the file", {}), (plain, "sensor sentinel-2-l2a", product)):
        with pytest.raises(UnitError, match=f"{who} says -0.1: give --offset, too"):
            open_scene(path, ReadOptions(scale=1e-4, **options), needed=RGB)
        for offset in (-0.1, 0.0):
            with open_scene(
                path, ReadOptions(scale=1e-4, offset=offset, **options), needed=RGB
            ) as scene:
                assert np.allclose(scene.read().values, 0.2 + offset)
        with open_scene(path, ReadOptions(offset=0.3, **options), needed=RGB) as scene:
            assert np.allclose(scene.read().values, 0.5)  # the scale is as it was
    with open_scene(own, ReadOptions(offset=0.0), needed=RGB) as scene:
        assert np.allclose(scene.read().values, 0.2)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [1e300, -1e300, 1e-320, 5e-324, 1e38, np.inf, np.nan, 0.0])
def test_scales_that_no_unit_has(make_raster, value):
    values = np.full((3, 4, 4), 2000, np.uint16)
    with pytest.raises(
        UnitError, match=rf"scale {value:g} cannot be; give --scale".replace("+", ".")
    ):
        open_scene(make_raster(values=values, scale=value), needed=RGB)
    scene = open_scene(make_raster("good.tif", values, scale=1e-4), needed=RGB)
    with pytest.raises(OutputError, match=r"--out-scale .* cannot be"):
        Encoding.of_scene(scene, "uint8", scale=value)
    if abs(value) < 1e-30:
        return
    with pytest.raises(UnitError, match=r"offset .* cannot be; give --offset"):
        open_scene(make_raster(values=values, scale=1e-4, offset=value), needed=RGB)
    with pytest.raises(OutputError, match="--out-offset"):
        Encoding.of_scene(scene, "uint8", scale=1.0, offset=value)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_numbers_at_the_ends_of_float32_warn_of_nothing(make_raster, dtype):
    most = float(np.finfo(np.float32).max)
    values = np.array([[[most, -most, 1e-45, 0.5]]], np.float32)
    mask = np.ones((1, 4), bool)
    for scale in (1e-30, 1e12):
        encoding = Encoding(dtype, scale, 1e12)
        assert encoding.encode(values, mask).dtype == dtype
        assert encoding.beyond(values, mask) >= 0
    path = make_raster(values=values.astype(np.float64) * 10, scale=1e-4, names=("red",))
    with (
        pytest.warns(CrossbandWarning, match="far from reflectance"),
        open_scene(path, needed=("red",)) as scene,
    ):
        assert scene.read().mask.tolist() == [[False, False, True, True]]


def stating(path, text):
    """Write a nodata number into the tag of a GeoTIFF (42113, ASCII), as no library checks it."""
    content, text = bytearray(path.read_bytes()), text.encode()
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry) == (42113,):
            place = entry + 8 if len(text) < 4 else len(content)  # short texts lie in the entry
            struct.pack_into("<II", content, entry + 4, len(text) + 1, place)
            content[place : place + 4] = (text + b"\0").ljust(4, b"\0")
            path.write_bytes(content)
            return path
    raise AssertionError


@pytest.mark.parametrize(
    ("dtype", "text", "words"),
    [
        ("uint64", "18446744073709551615", "states a nodata number that cannot be read"),
        ("int64", "9223372036854775807", "states a nodata number that cannot be read"),
        ("int64", "-9223372036854775808", "-9223372036854775808 may be rounded, and int64"),
        ("uint64", "9007199254740993", "9007199254740992 may be rounded, and uint64"),
        ("uint8", "0.50000", "a nodata number of 0.5, and uint8"),
        ("int16", "-0.1000", "a nodata number of -0.1, and int16"),
    ],
)
def test_nodata_numbers_that_are_not_what_they_seem(make_raster, dtype, text, words):
    values = np.full((3, 4, 4), 7, dtype)
    path = stating(make_raster(values=values, scale=1e-4, nodata=7), text)
    with pytest.raises(InputError, match=rf"{words}.*; .* gdal_translate -a_nodata"):
        open_scene(path, needed=RGB)
    bands = {name: f"scene.tif#{n}" for n, name in enumerate(RGB, start=1)}
    with pytest.raises(InputError, match=words):
        open_scene(path.parent, ReadOptions(bands=bands), needed=RGB)
    # What the caller states counts.
    for options in (ReadOptions(nodata=7), ReadOptions(bands=bands, nodata=7)):
        where = path if options.bands is None else path.parent
        with open_scene(where, options, needed=RGB) as scene:
            assert not scene.read().mask.any()


#: GDAL reads the first characters as a number, or 0 where there are none.
IN_PART = ("\u0663", "abc", "12abc", "1,5", "0x10", "1d1", "-nan", "NAN", "   ", "infinity", "1_0",
           "5;6", "\uff15", "1e", "nan(7)")  # fmt: skip


@pytest.mark.parametrize("text", IN_PART)
def test_a_nodata_number_that_gdal_reads_in_part(make_raster, text):
    path = stating(make_raster(values=np.full((3, 4, 4), 7, np.float32), nodata=7), text)
    with pytest.raises(InputError, match=r"its nodata number is .*, and no plain number"):
        open_scene(path, needed=RGB)
    bands = {name: f"scene.tif#{n}" for n, name in enumerate(RGB, start=1)}
    with pytest.raises(InputError, match=r"its nodata number is .*, and no plain number"):
        open_scene(path.parent, ReadOptions(bands=bands), needed=RGB)
    with open_scene(path, ReadOptions(nodata=7), needed=RGB) as scene:
        assert not scene.read().mask.any()


@pytest.mark.parametrize("text", ["1,5", "\u0663", "2x", "1e"])
@pytest.mark.parametrize("tag", ["NoDataValue", "Scale", "Offset", "ScaleRatio", "NODATA"])
def test_a_number_in_xml_that_gdal_reads_in_part(make_raster, tag, text):
    path = make_raster(values=np.full((3, 4, 4), 7, np.float32))
    inside = f"<PAMDataset><PAMRasterBand band='1'><{tag}>{text}</{tag}></PAMRasterBand>"
    (path.parent / "scene.tif.aux.xml").write_text(inside + "</PAMDataset>", encoding="utf-8")
    if tag in ("Scale", "Offset"):
        with pytest.raises(InputError, match=r"tif.aux.xml: its .* is .*, and no plain number"):
            open_scene(path, needed=RGB)
    (path.parent / "scene.tif.aux.xml").unlink()
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{n}"><Description>{name}</Description>'
        f"<UnitType>reflectance</UnitType>{{0}}<ComplexSource><SourceFilename relativeToVRT='1'>"
        f"scene.tif</SourceFilename><SourceBand>{n}</SourceBand>{{1}}</ComplexSource>"
        f"</VRTRasterBand>"
        for n, name in enumerate(RGB, start=1)
    )
    of_source = tag in ("ScaleRatio", "NODATA")
    for word in ("2", text):
        stated = f"<{tag}>{word}</{tag}>"
        body = bands.format("", stated) if of_source else bands.format(stated, "")
        vrt = f'<VRTDataset rasterXSize="4" rasterYSize="4">{body}</VRTDataset>'
        (path.parent / "a.vrt").write_text(vrt, encoding="utf-8")
        if word == "2":
            open_scene(path.parent / "a.vrt", needed=RGB).close()
    with pytest.raises(InputError, match=rf"a.vrt: its {tag.lower()} is .*, and no plain number"):
        open_scene(path.parent / "a.vrt", needed=RGB)


@pytest.mark.parametrize(
    ("dtype", "text", "masked"),
    [
        ("float32", "-1.#QNAN", np.nan),
        ("float32", " +0.5e1 ", 5),
        ("float32", "-Inf", None),
        ("uint64", "9007199254740991", 2**53 - 1),
        ("int64", "-9007199254740991", 1 - 2**53),
        ("uint8", "-9999999", None),
        ("uint8", "nan", None),
        ("int16", "1e300", None),
        ("uint16", "65535", 65535),
        ("float32", "-3.40282346638528859812e+38", np.finfo(np.float32).min),
        ("float32", "0.1000", np.float32(0.1)),
        ("float32", "nan", np.nan),
        ("float32", "-1.7976931348623157e+308", None),
        ("float64", "-1.7976931348623157e+308", np.finfo(np.float64).min),
    ],
)
def test_nodata_numbers_of_all_types(make_raster, dtype, text, masked):
    values = np.full((3, 4, 4), 9, dtype)
    values[:, 0, 0] = 0
    if masked is not None:
        values[:, 1, 1] = masked
    path = stating(make_raster(values=values, scale=1e-4, nodata=7), text)
    with rasterio.open(path) as file, open_scene(path, needed=RGB) as scene:
        np.testing.assert_array_equal(scene.read().mask, file.read_masks(1) > 0)
        assert scene.read().mask.sum() == (16 if masked is None else 15)


@pytest.mark.parametrize(
    ("sensor", "dtype", "stored", "physical"),
    [
        ("sentinel-2-l2a", "uint16", 3000, 0.2),
        ("sentinel-2-l2a-no-offset", "uint16", 3000, 0.3),
        ("sentinel-2-l1c", "uint16", 3000, 0.2),
        ("landsat-c2-l2", "uint16", 20000, 0.35),
        ("naip", "uint8", 51, 0.2),
        ("spot-6", "uint16", 1200, 0.12),
        ("display", "uint16", 65535, 1.0),
        ("display", "float32", 0.5, 0.5),
        ("reflectance", "float32", 0.5, 0.5),
    ],
)
def test_sensor_radiometry(make_raster, sensor, dtype, stored, physical):
    path = make_raster(values=np.full((3, 4, 4), stored, dtype), unit=None)
    with open_scene(path, ReadOptions(sensor=sensor), needed=RGB) as scene:
        assert np.allclose(scene.read().values, physical, atol=1e-6)


def test_surface_temperature_is_kelvin(make_raster):
    path = make_raster(values=np.full((1, 4, 4), 44000, np.uint16), names=(None,), unit=None)
    with open_scene(path, ReadOptions(sensor="landsat-c2-l2-st"), needed=("thermal",)) as scene:
        assert scene.unit == "kelvin"
        assert np.allclose(scene.read().values, 44000 * 0.00341802 + 149.0)


def test_linear_power_becomes_decibels(make_raster):
    values = np.array([[[1.0, 0.1, 0.0]], [[10.0, 0.01, 1.0]]], np.float32)
    path = make_raster(values=values, names=("VV", "VH"), unit=None)
    with open_scene(
        path, ReadOptions(sensor="sentinel-1-grd-linear"), needed=("vv", "vh")
    ) as scene:
        window = scene.read()
    assert window.unit == "db"
    assert np.allclose(window.values[:, 0, :2], [[0, -10], [10, -20]], atol=1e-5)
    assert window.mask.tolist() == [[True, True, False]]  # no logarithm of zero


@pytest.mark.parametrize("names", [("VV_dB", "VH_dB"), ("Sigma0_VV_db", "Sigma0_VH_db")])
def test_names_of_radar_bands_may_state_decibels(make_raster, names):
    path = make_raster(values=np.full((2, 4, 4), -9.0, np.float32), names=names, unit=None)
    both = ("vv", "vh")
    ways = "--sensor sentinel-1-grd-db or sentinel-1-grd-linear"
    with pytest.raises(BandError, match=f"--bands vv=1,vh=2 .*declare {ways}"):
        open_scene(path, needed=both)
    with pytest.raises(UnitError, match=f"unknown unit; declare them: {ways}"):
        open_scene(path, ReadOptions(bands={"vv": 1, "vh": 2}), needed=both)
    with open_scene(path, ReadOptions(sensor="sentinel-1-grd-db"), needed=both[::-1]) as scene:
        assert scene.numbers == (2, 1)
        assert (scene.read().values == -9.0).all()
    with pytest.raises(UnitError, match=f"called {', '.join(names)}, which are decibels"):
        open_scene(path, ReadOptions(sensor="sentinel-1-grd-linear"), needed=both)


def test_integers_without_a_scale_are_refused(make_raster):
    path = make_raster(values=np.full((3, 4, 4), 9, np.uint16), unit=None)
    with pytest.raises(UnitError, match="--scale"):
        open_scene(path, ReadOptions(sensor="reflectance"), needed=RGB)


def test_unit_conflict_is_refused(make_raster):
    path = make_raster()
    with pytest.raises(UnitError, match="display"):
        open_scene(path, ReadOptions(sensor="display"), needed=RGB)


def test_explicit_bands(make_raster):
    values = random_values(4, 8, 9)
    path = make_raster(values=values, names=("a", "b", "c", None))
    with open_scene(
        path, ReadOptions(bands={"red": 4, "green": "b", "blue": "A"}), needed=RGB
    ) as scene:
        assert scene.numbers == (4, 2, 1)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ({"red": 9}, "1 to 3"),
        ({"red": "B4"}, "no single band"),
        ({"rad": 1}, "does not take"),
        ({"red": 2, "green": 2}, "twice"),
    ],
)
def test_wrong_explicit_bands(make_raster, bands, message):
    with pytest.raises(BandError, match=message):
        open_scene(make_raster(), ReadOptions(bands=bands), needed=RGB)


def test_unnamed_bands_are_not_guessed(make_raster):
    path = make_raster(values=random_values(12, 8, 9), names=(None,) * 12)
    with pytest.raises(BandError, match="cannot tell which band is red"):
        open_scene(path, ReadOptions(sensor="sentinel-2-l2a-no-offset", scale=1.0), needed=RGB)


@pytest.mark.parametrize(
    ("names", "needed", "advice"),
    [
        (("B02", "B03", "B04", "B08"), RGB, "--bands red=3,green=2,blue=1 "),
        (("B2", "B3", "B4", "B5"), ["nir"], "--bands nir=NUMBER "),  # 3 or 4 in Landsat
        ((None, None, None), RGB, "--bands red=NUMBER,green=NUMBER,blue=NUMBER "),
        ((None, None, None), ["nir"], "--bands nir=NUMBER "),
        ((None,), ["nir"], "--bands nir=1 "),
    ],
)
def test_advice_on_bands_has_numbers_only_where_they_are_certain(
    make_raster, names, needed, advice
):
    path = make_raster(values=random_values(len(names), 8, 9), names=names)
    with pytest.raises(BandError, match=advice):
        open_scene(path, ReadOptions(scale=1.0), needed=needed)


def test_a_file_whose_names_are_all_of_other_bands_says_so(make_raster):
    path = make_raster(values=random_values(3, 8, 9), names=("B11", "B12", "B05"))
    with pytest.raises(BandError, match=r"no band is named nir .* --bands nir=NUMBER$"):
        open_scene(path, ReadOptions(sensor="sentinel-2-l2a"), needed=["nir"])


def test_bands_that_the_file_names_otherwise_are_said(make_raster):
    path = make_raster(values=random_values(4, 8, 9), names=("B02", "B03", "B04", "B8A"))
    wrong = ReadOptions({"red": 1, "green": 2, "blue": "B04"}, scale=1.0, sensor="sentinel-2-l2a")
    wrong = replace(wrong, offset=0.0)
    with open_scene(path, wrong, needed=RGB) as scene, pytest.warns(CrossbandWarning) as seen:
        scene.warn_of_bands()
    assert [str(one.message) for one in seen] == [
        f"{path}: --bands red=1, and the file calls band 1 'B02' (blue)"
    ]
    near = replace(wrong, bands={"nir": 4})  # a band of the same kind is the caller's choice
    with open_scene(path, near, needed=["nir"]) as scene:
        assert scene.named_otherwise == ()


def test_two_bands_of_one_name(make_raster):
    path = make_raster(values=random_values(4, 8, 9), names=("red", "red", "green", "blue"))
    with pytest.raises(BandError, match="--bands red="):
        open_scene(path, needed=RGB)


def test_windows_and_grids(make_raster):
    values = random_values(3, 20, 30)
    path = make_raster(values=values)
    with open_scene(path, needed=RGB) as scene:
        window = scene.read(Box(5, 7, 3, 4))
        assert np.array_equal(window.values, values[:, 5:8, 7:11])
        assert window.grid.transform == UTM @ Affine.translation(7, 5)
        zoomed = scene.grid.zoom(4)
        assert zoomed.transform @ (4 * 30, 4 * 20) == UTM @ (30, 20)
        assert zoomed.pixel_size() == 2.5
        lon, lat = scene.grid.lonlat()
        assert 14 < lon < 16
        assert 44 < lat < 46


@pytest.mark.parametrize(
    ("extent", "window"),
    [
        ((500_100, 4_999_700, 500_200, 4_999_800), "10,20,10,10"),  # edges between pixels
        ((500_101, 4_999_701, 500_199, 4_999_799), "10,20,10,10"),
        ((500_095, 4_999_700, 500_200, 4_999_800.1), "9,19,11,11"),
        ((500_490, 4_990_000, 1e300, 4_999_610), "49,39,1,1"),
        ((0, 0, 1e9, 1e9), "0,0,50,40"),
    ],
)
def test_an_extent_takes_the_pixels_that_it_touches(make_raster, extent, window):
    path = make_raster()
    with open_scene(path, ReadOptions(extent=extent), needed=RGB) as scene:
        assert scene.window.srcwin() == window


def test_extents_that_are_refused(make_raster):
    def opened(path, extent):
        open_scene(path, ReadOptions(extent=parse_extent(extent)), needed=RGB)

    with pytest.raises(
        InputError, match=r"does not touch it: it has 500000,4999600,500500,5000000"
    ):
        opened(make_raster(), "0,0,1,1")
    with pytest.raises(InputError, match="in map coordinates, and it has none"):
        opened(make_raster("p.tif", transform=Affine.identity(), crs=None), "0,0,1,1")
    for text, why in (
        ("1,2,3", "not XMIN"),
        ("1,2,3,x", "not XMIN"),
        ("1,2,nan,4", "finite"),
        ("3,2,1,4", "below"),
    ):
        with pytest.raises(CrossbandError, match=why):
            parse_extent(text)


def test_rotated_affine_and_control_points(make_raster):
    rotated = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    with open_scene(make_raster(transform=rotated), needed=RGB) as scene:
        assert scene.grid.zoom(2).transform.almost_equals(rotated @ Affine.scale(0.5))
        assert abs(scene.grid.pixel_size() - 10) < 1e-9
    points = [GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 8) for c in (0, 9)]
    path = make_raster("gcp.tif", crs="EPSG:4326", transform=Affine.identity(), gcps=points)
    with open_scene(path, needed=RGB) as scene:
        assert len(scene.grid.gcps) == 4
        assert scene.grid.zoom(2).gcps[-1].row == 16


@pytest.mark.parametrize("text", ["red", "red=", "=3", "red=1,red=2", ""])
def test_malformed_band_lists(text):
    with pytest.raises(BandError):
        parse_bands(text)


def test_things_that_are_no_scene(make_raster, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_scene(tmp_path / "none.tif", needed=RGB)
    words = tmp_path / "words.tif"
    words.write_text("not an image")
    with pytest.raises(InputError, match="not a raster"):
        open_scene(words, needed=RGB)
    (tmp_path / "empty.tif").touch()
    with pytest.raises(InputError, match="empty"):
        open_scene(tmp_path / "empty.tif", needed=RGB)
    path = make_raster("c.tif", random_values(3, 4, 4).astype(np.complex64))
    with pytest.raises(InputError, match="complex"):
        open_scene(path, needed=RGB)
    path = make_raster("p.tif", np.zeros((1, 4, 4), np.uint8), names=(None,), photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(InputError, match="colour table"):
        open_scene(path, needed=RGB)


@pytest.mark.parametrize("compress", ["deflate", "none"])
def test_truncated_file(make_raster, compress):
    whole = make_raster("t.tif", random_values(3, 400, 400), tiled=True, compress=compress)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError), open_scene(whole, needed=RGB) as scene:
        scene.read()


def test_every_real_file_opens_as_its_manifest_says(real_data):
    import pandas as pd

    folder = real_data / "rgb2nir" / "satellite"
    rows = pd.read_csv(folder / "manifest.csv")
    for row in rows.itertuples():
        numbers = {b: int(getattr(row, b)) for b in ("red", "green", "blue", "nir")}
        with open_scene(
            folder / row.file,
            ReadOptions(bands=numbers, sensor="reflectance", scale=1e-4),
            needed=[*numbers],
        ) as scene:
            assert (scene.grid.height, scene.grid.width) == (row.height, row.width)
            window = scene.read(Box(0, 0, 64, 64))
            assert window.values.shape == (4, 64, 64)
            assert np.isfinite(window.values).all()


POINTS = tuple(GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 6) for c in (0, 12))
CHANGES = {
    "zoom": (lambda g: g.zoom(3), (24, 36), (18, 36)),
    "shrink": (lambda g: g.shrink(2), (4, 6), (3, 6)),
    "resized": (lambda g: g.resized(16, 6), (16, 6), (12, 6)),
    "crop": (lambda g: g.crop(Box(1, 2, 5, 4)), (5, 4), (5, 10)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_grid_without_an_affine_gets_none(name):
    change, size, last = CHANGES[name]
    made = change(Grid(8, 12, gcps=POINTS))
    assert made.transform == Affine.identity()
    assert (made.height, made.width) == size
    assert (made.gcps[-1].row, made.gcps[-1].col) == last
    # The same place, where there is an affine.
    placed = change(Grid(8, 12, UTM)).transform
    assert placed @ last[::-1] == pytest.approx(UTM @ (12, 6))
