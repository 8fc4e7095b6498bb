"""Rasters as they come: every format, layout, mask and georeference through the real translate.

The identity network gives back what it gets, so whatever the way in and out loses shows.
"""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from commands import one_line
from conftest import UTM, random_values
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

import crossband
from crossband.errors import InputError
from crossband.raster.gdal import gdal
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions

RGB = {"red": 1, "green": 2, "blue": 3}
NAMES = ("red", "green", "blue")


def numbers(bands=3, height=70, width=90, dtype="uint8", top=250):
    return np.random.default_rng(0).integers(1, top, (bands, height, width)).astype(dtype)


def holes():
    mask = np.ones((70, 90), bool)
    mask[5:30, 10:40] = mask[60, 80] = False
    return mask


def alpha(values):
    return np.concatenate([values, (holes() * np.iinfo(values.dtype).max)[None]]).astype(
        values.dtype
    )


def same(source, out, bands=3):
    """Compare pixels, masks and georeference of two files; returns the output's profile."""
    with gdal(), rasterio.open(source) as a, rasterio.open(out) as b:
        indexes = list(range(1, bands + 1))
        mask = a.dataset_mask() > 0
        np.testing.assert_array_equal(b.dataset_mask() > 0, mask)
        np.testing.assert_array_equal(a.read(indexes)[:, mask], b.read(indexes)[:, mask])
        assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
        return b.profile


def through(model, source, out, **options):
    """Translate in several tiles, and check what must be the same."""
    made = model.translate(source, out, tile=32, precision="fp32", **options)
    if made.suffix == ".tif":
        assert cog_validate(made, strict=True)[0]
    return same(source, made)


LAYOUTS = {
    "strips": {"blockysize": 7},
    "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 48},
    "zstd": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "zstd"},
    "lzw with predictor": {"compress": "lzw", "predictor": 2},
    "LERC": {"compress": "LERC_ZSTD"},
    "BigTIFF": {"BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG"},
    "COG": {"driver": "COG"},
}


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_geotiff_layouts(make_raster, identity_model, tmp_path, layout, interleave):
    source = make_raster(
        values=numbers(dtype="uint16", top=60000), scale=1e-5, **LAYOUTS[layout],
        **({} if layout == "COG" else {"interleave": interleave}),
    )  # fmt: skip
    through(identity_model(), source, tmp_path / "o.tif")


FORMATS = {
    "JPEG 2000": ("s.jp2", "JP2OpenJPEG", {"QUALITY": 100, "REVERSIBLE": "YES"}),
    "PNG": ("s.png", "PNG", {}),
    "JPEG": ("s.jpg", "JPEG", {}),
    "WebP": ("s.webp", "WEBP", {"LOSSLESS": "YES"}),
    "BMP": ("s.bmp", "BMP", {"crs": None, "transform": None}),
}


def picture(make_raster, name, values, kind, **options):
    """Write a picture, its georeference beside it where the format holds none."""
    own = {"names": (), "unit": None, "crs": "EPSG:32633", "transform": UTM}
    return make_raster(name, values, driver=kind, **own | options)


@pytest.mark.parametrize("kind", FORMATS)
def test_pictures_and_the_georeference_beside_them(make_raster, identity_model, tmp_path, kind):
    name, driver, options = FORMATS[kind]
    source = picture(make_raster, name, numbers(), driver, **options)
    made = through(identity_model(), source, tmp_path / "o.tif", sensor="display", bands=RGB)
    assert made["crs"] == (None if kind == "BMP" else CRS.from_epsg(32633))
    out = identity_model().translate(
        source, tmp_path / "o.png", sensor="display", bands=RGB, precision="fp32"
    )
    same(source, out)


@pytest.mark.parametrize(("name", "driver"), [("s.png", "PNG"), ("s.jp2", "JP2OpenJPEG")])
def test_sixteen_bits(make_raster, identity_model, tmp_path, name, driver):
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if driver != "PNG" else {}
    source = picture(make_raster, name, numbers(dtype="uint16", top=65000), driver, **options)
    for out in ("o.tif", "o.png"):
        made = through(identity_model(), source, tmp_path / out, sensor="display", bands=RGB)
        assert made["dtype"] == "uint16"


def test_a_world_file_is_read(make_raster, identity_model, tmp_path):
    source = make_raster("s.jpg", numbers(), photometric="rgb")
    (tmp_path / "s.jgw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    out = identity_model().translate(source, tmp_path / "o.tif", sensor="display")
    with rasterio.open(out) as file:
        assert file.transform == UTM
        assert file.crs is None


def test_our_own_picture_comes_back_with_its_place(make_raster, identity_model, tmp_path):
    source = make_raster(values=numbers(), scale=1 / 255, unit="display")
    first = identity_model().translate(source, tmp_path / "a.png", precision="fp32")
    again = identity_model().translate(
        first, tmp_path / "b.tif", sensor="display", bands=RGB, precision="fp32"
    )
    same(source, again)


@pytest.mark.parametrize(
    ("name", "driver", "dtype"),
    [
        ("s.tif", "GTiff", "uint8"),
        ("s.tif", "GTiff", "uint16"),
        ("s.png", "PNG", "uint8"),
        ("s.png", "PNG", "uint16"),
        ("s.webp", "WEBP", "uint8"),
    ],
)
def test_alpha_is_the_mask(make_raster, identity_model, tmp_path, name, driver, dtype):
    values = alpha(numbers(dtype=dtype))
    options = {"photometric": "rgb", "alpha": "yes"} if driver == "GTiff" else {}
    if driver == "WEBP":
        options = {"LOSSLESS": "YES", "EXACT": "1"}
    none = {"names": (None,) * 4, "unit": None}
    source = make_raster(name, values, driver=driver, **none, **options)
    for out in ("o.tif", "o.png"):
        through(identity_model(), source, tmp_path / out, sensor="display")
        with rasterio.open(tmp_path / out) as file:
            np.testing.assert_array_equal(file.dataset_mask() > 0, holes())
            assert file.count == (4 if out == "o.png" else 3)


@pytest.mark.parametrize("internal", [True, False])
def test_masks_inside_and_beside_the_file(make_raster, identity_model, tmp_path, internal):
    values = numbers()
    values[:, 40, 50] = 0
    source = make_raster(values=values, scale=1 / 255)
    mask = holes().astype(np.uint8) * 255
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(source, "r+") as file,
    ):
        file.write_mask(mask)
    assert source.with_name("scene.tif.msk").exists() != internal
    through(identity_model(), source, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        np.testing.assert_array_equal(file.dataset_mask(), mask)
        assert (file.read()[:, 40, 50] == 0).all()


def vrt(folder, bands, source="scene.tif"):
    """Write a VRT of (data type, band of the source, nodata) with scale 1/255."""
    lines = [
        '<VRTDataset rasterXSize="90" rasterYSize="70"><SRS>EPSG:32633</SRS>',
        "<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>",
    ]
    for number, (dtype, band, nodata) in enumerate(bands, start=1):
        lines += [
            f'<VRTRasterBand dataType="{dtype}" band="{number}">',
            f"<Description>{NAMES[number - 1]}</Description><UnitType>reflectance</UnitType>",
            f"<Scale>{1 / 255!r}</Scale>",
            "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>",
            f'<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename>',
            f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>",
        ]
    path = folder / "s.vrt"
    path.write_text("".join(lines) + "</VRTDataset>")
    return path


def test_vrt_in_another_order(make_raster, identity_model, tmp_path):
    make_raster(values=numbers())
    source = vrt(tmp_path, [("Byte", b, None) for b in (3, 1, 2)])
    through(identity_model(), source, tmp_path / "o.tif")


def test_vrt_with_a_nodata_number_per_band(make_raster, identity_model, tmp_path):
    """A pixel is masked where one band is, and a valid number of another band stays what it is."""
    values = numbers(top=12)
    make_raster(values=values)
    source = vrt(tmp_path, [("Byte", 1, 5), ("Byte", 2, 6), ("Byte", 3, 7)])
    out = identity_model().translate(source, tmp_path / "o.tif", tile=32, precision="fp32")
    valid = (values[0] != 5) & (values[1] != 6) & (values[2] != 7)
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.dataset_mask() > 0, valid)
        np.testing.assert_array_equal(file.read()[:, valid], values[:, valid])
        assert file.nodata is None


@pytest.mark.parametrize("nodata", ["-9999", "nan"])
def test_a_nodata_number_that_the_type_cannot_hold_masks_nothing(
    make_raster, identity_model, tmp_path, nodata
):
    values = numbers()
    make_raster(values=values)
    source = vrt(tmp_path, [("Byte", b, nodata) for b in (1, 2, 3)])
    out = identity_model().translate(source, tmp_path / "o.tif", precision="fp32")
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(), values)
        assert (file.dataset_mask() > 0).all()


def test_bands_of_different_types(make_raster, identity_model, tmp_path):
    values = numbers()
    make_raster(values=values)
    source = vrt(tmp_path, [("Byte", 1, None), ("UInt16", 2, None), ("Float32", 3, None)])
    out = identity_model().translate(source, tmp_path / "o.tif", tile=32, precision="fp32")
    with rasterio.open(out) as file:
        np.testing.assert_allclose(file.read(), values, rtol=1e-6)
        assert set(file.dtypes) == {"float32"}


def test_missing_tiles_of_a_sparse_file_are_nodata(make_raster, identity_model, tmp_path):
    source = tmp_path / "s.tif"
    profile = {"driver": "GTiff", "width": 300, "height": 200, "count": 3, "dtype": "uint8"}
    profile |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "SPARSE_OK": True, "nodata": 0}
    with rasterio.open(source, "w", **profile, crs="EPSG:32633", transform=UTM) as file:
        file.descriptions, file.units, file.scales = NAMES, ["reflectance"] * 3, [1 / 255] * 3
        file.write(numbers(3, 64, 64), window=Window(64, 64, 64, 64))
    through(identity_model(), source, tmp_path / "o.tif")


@pytest.mark.parametrize("nodata", [float("nan"), -3.40282346638529e38, -9999.0, 0.0])
def test_nodata_of_floating_point(make_raster, identity_model, tmp_path, nodata):
    values = random_values(3, 70, 90)
    values[:, ~holes()] = np.float32(nodata)
    source = make_raster(values=values, nodata=nodata)
    made = through(identity_model(), source, tmp_path / "o.tif")
    np.testing.assert_equal(np.float32(made["nodata"]), np.float32(nodata))


@pytest.mark.parametrize(
    ("dtype", "top", "bits"),
    [("int8", 120, None), ("int32", 10**6, None), ("uint32", 10**6, None), ("int64", 10**6, None),
     ("float64", 250, None), ("uint8", 2, 1), ("uint16", 4000, 12)],
)  # fmt: skip
def test_data_types(make_raster, identity_model, tmp_path, dtype, top, bits):
    options = {} if bits is None else {"NBITS": bits}
    values = numbers(dtype=dtype, top=top)
    # Physical values pass the network as float32: 1/256 is exact, 1/250 is not.
    source = make_raster(values=values, scale=2.0**-20 if top > 10**4 else 2.0**-12, **options)
    made = through(identity_model(), source, tmp_path / "o.tif")
    assert made["dtype"] == dtype


GRIDS = {
    "south-up": ("EPSG:32633", Affine(10, 0, 5e5, 0, 10, 5e6)),
    "degrees": ("EPSG:4326", Affine(0.1, 0, 10, 0, -0.1, 40)),
    "degrees, south-up": ("EPSG:4326", Affine(0.1, 0, 10, 0, 0.1, 40)),
    "oblong pixels": ("EPSG:32633", Affine(10, 0, 5e5, 0, -3, 5e6)),
    "rotated": ("EPSG:32633", UTM @ Affine.rotation(30)),
    "sheared, mirrored": ("EPSG:32633", Affine(-10, 3, 5e5, 1, -10, 5e6)),
    "feet": ("EPSG:2229", Affine(30, 0, 6.4e6, 0, -30, 1.8e6)),
    "no EPSG code": (
        "+proj=laea +lat_0=12.5 +lon_0=-33 +x_0=10 +datum=WGS84 +units=m",
        Affine(10, 0, 0, 0, -10, 0.5),
    ),
    "with heights": ("EPSG:32633+5773", UTM),
    "local": ('LOCAL_CS["site grid",UNIT["metre",1]]', UTM),
    "no CRS": (None, UTM),
    "CRS alone": ("EPSG:32633", None),
    "neither": (None, None),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_georeference(make_raster, identity_model, tmp_path, kind):
    crs, transform = GRIDS[kind]
    source = make_raster(
        values=numbers(), scale=1 / 255, crs=crs and CRS.from_user_input(crs), transform=transform
    )
    through(identity_model(), source, tmp_path / "o.tif")
    array = identity_model().translate(source, precision="fp32")
    with rasterio.open(source) as file:
        assert array.rio.crs == file.crs
        if kind in ("south-up", "degrees", "oblong pixels"):
            assert array.rio.transform() == file.transform
            x, y = file.xy(69, 89)
            assert (array.x[-1], array.y[-1]) == pytest.approx((x, y))


def test_pixels_that_are_points(make_raster, identity_model, tmp_path):
    source = make_raster(values=numbers(), scale=1 / 255)
    with rasterio.open(source, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    through(identity_model(), source, tmp_path / "o.tif")


def test_control_points_of_a_larger_scene(make_raster, identity_model, tmp_path):
    points = [
        GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100, 120.5, f"p{r}-{c}")
        for r in (0, 35.5, 70)
        for c in (0, 90)
    ]
    source = make_raster(
        values=numbers(), scale=1 / 255, crs="EPSG:4326", transform=None, gcps=points
    )
    through(identity_model(), source, tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        kept, crs = file.gcps
    assert crs == CRS.from_epsg(4326)
    place = lambda p: (p.row, p.col, p.x, p.y, p.z)  # noqa: E731
    assert list(map(place, kept)) == list(map(place, points))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (70, 1), (2, 3), (9, 200)])
def test_small_and_narrow_scenes(make_raster, identity_model, tiny_model, tmp_path, height, width):
    """A scene that is smaller than the network's margin, down to one pixel."""
    source = make_raster(values=numbers(3, height, width), scale=1 / 255)
    through(identity_model(), source, tmp_path / "a.tif")
    model = crossband.load(tiny_model)
    assert model.network.margin >= 9
    whole = model.translate(source, precision="fp32").values
    out = model.translate(source, tmp_path / "b.tif", tile=24, precision="fp32", dtype="float32")
    with rasterio.open(out) as file:
        np.testing.assert_allclose(file.read(), whole, atol=1e-5)


@pytest.mark.parametrize("name", ["ä ö.tif", "100%20 'x' & <y>.tif", "a;b#c?d.tif"])
def test_names_of_files(make_raster, identity_model, tmp_path, name):
    source = make_raster(name, numbers(), scale=1 / 255)
    made = through(identity_model(), source, tmp_path / "out" / f"nir {name}")
    assert made["driver"] == "GTiff"
    with rasterio.open(tmp_path / "out" / f"nir {name}") as file:
        assert file.tags()["CROSSBAND_SOURCE"] == name


def bad(case, make_raster, tmp_path):
    """Return a path that cannot be translated, and options that are right for it."""
    path = tmp_path / "s.tif"
    if case == "palette":
        values = np.zeros((1, 20, 20), np.uint8)
        path = make_raster("s.tif", values, names=(None,), unit=None, photometric="palette")
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {0: (1, 2, 3, 255)})
    elif case == "palette png":
        path = make_raster("s.png", np.zeros((1, 20, 20), np.uint8))
        with rasterio.open(path, "w", driver="PNG", width=9, height=9, count=1, dtype="uint8") as f:
            f.write_colormap(1, {0: (1, 2, 3, 255)})
            f.write(np.zeros((1, 9, 9), np.uint8))
    elif case == "folder":
        path.mkdir()
        (path / "a.txt").touch()
    elif case == "text":
        path.write_text("this is no image")
    elif case == "empty":
        path.touch()
    elif case == "header only":
        path.write_bytes(make_raster("s.tif").read_bytes()[:60])
    elif case.startswith("cut"):
        name = case.split()[1]
        kind = {"jp2": "JP2OpenJPEG", "webp": "WEBP", "png": "PNG", "jpg": "JPEG"}
        driver = {"driver": kind[name]} if name in kind else {"tiled": True, "compress": "zstd"}
        path = make_raster(f"s.{name}", numbers(3, 300, 300), names=(), unit=None, **driver)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif case == "vrt of nothing":
        path = vrt(tmp_path, [("Byte", b, None) for b in (1, 2, 3)], "gone.tif")
    elif case == "gray":
        path = make_raster("s.tif", numbers(1), names=(None,), unit=None)
    return path


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("palette", "colour table"),
        ("palette png", "colour table"),
        ("folder", ""),
        ("text", "not a raster"),
        ("empty", "the file is empty"),
        ("header only", "not a raster"),
        ("cut tif", ""),
        ("cut jp2", "cannot be read"),
        ("cut webp", "cannot be read"),
        ("cut png", "cannot be read"),
        ("cut jpg", "cannot be read"),
        ("vrt of nothing", "gone.tif"),
        ("gray", "it has 1 band, the model needs 3"),
    ],
)
def test_what_is_no_scene_is_one_line(make_raster, tiny_model, tmp_path, capfd, case, words):
    from crossband.cli.main import main

    path = bad(case, make_raster, tmp_path)
    before = sorted(tmp_path.iterdir())
    options = ["--sensor", "display", "--bands", "red=1,green=2,blue=3"]
    if case in ("vrt of nothing", "gray"):
        options = [] if case != "gray" else ["--sensor", "display"]
    arguments = ["translate", path, "-o", tmp_path / "o.tif", "--model", tiny_model, *options]
    code = main([*map(str, arguments)])
    said = capfd.readouterr().err
    assert code == 2
    assert said.startswith(f"crossband: {path}: ")
    assert said.count("\n") == 1
    assert words in said
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("damage", ["cut", "a byte", "no end"])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_damaged_png_is_never_read_as_a_whole_one(make_raster, tmp_path, damage, bands):
    """GDAL returns what was in memory where a whole picture is asked for."""
    path = make_raster("s.png", numbers(bands, 200, 200))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "a byte":
        data[len(data) // 2] ^= 1
    else:
        del data[-12:]
    needed = NAMES[:bands]
    options = {"bands": dict(zip(needed, (1, 2, 3), strict=False)), "sensor": "display"}
    open_scene(path, ReadOptions(**options), needed=needed).close()
    path.write_bytes(data)
    with pytest.raises(InputError, match="cut off or damaged"):
        open_scene(path, ReadOptions(**options), needed=needed)
    inside = tmp_path / "s.zip"
    with zipfile.ZipFile(inside, "w") as archive:
        archive.write(path, "s.png")
    if damage == "cut":
        with (
            pytest.raises(InputError, match="cannot be read"),
            open_scene(f"/vsizip/{inside}/s.png", ReadOptions(**options), needed=needed) as scene,
        ):
            scene.read()


def test_the_command_on_a_weird_file(crossband_command, make_raster, tiny_model, tmp_path):
    """One of them in a process of its own, where libraries print to the terminal."""
    path = bad("cut jpg", make_raster, tmp_path)
    done = crossband_command(
        "translate", path, "-o", tmp_path / "o.tif", "--model", tiny_model, "--sensor", "display"
    )
    one_line(done, "cannot be read")


def test_real_files(real_data, identity_model, tmp_path):
    """Satellite scenes and photographs, bands and units declared, give the same numbers back."""
    folder = real_data / "rgb2nir"
    bands = {"red": 3, "green": 2, "blue": 1}
    files = {
        folder / "satellite" / "geoeye1_pansharp-sample.tif": {"sensor": "display"},
        folder / "satellite" / "hls_sr_waterchip_000.tif": {"sensor": "reflectance", "scale": 1e-4},
        folder / "ground_epfl" / "rgb" / "country_0000.jpg": {"sensor": "display"},
        next((real_data / "super-resolution" / "Set5").rglob("*.png")): {"sensor": "display"},
    }
    for number, (path, options) in enumerate(files.items()):
        with rasterio.open(path) as file:
            chosen = bands if file.descriptions[0] == "blue" else RGB
            order = [chosen[name] for name in NAMES]
            stored = file.read(order)
            place = file.crs, file.transform
            assert file.colorinterp[0] != ColorInterp.palette
        out = identity_model().translate(
            path, tmp_path / f"{number}.tif", bands=chosen, tile=200, precision="fp32", **options
        )
        with rasterio.open(out) as file:
            valid = file.dataset_mask() > 0
            assert valid.mean() > 0.9
            most = 2 / file.scales[0]  # of a reflectance
            np.testing.assert_allclose(
                file.read()[:, valid], np.minimum(stored, most)[:, valid], atol=0.5
            )
            assert (file.crs, file.transform) == place
