"""STAC items as scenes: both versions, which asset is taken, what is stated, near and far."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine
from product_trees import item, numbers, sentinel2, write
from ranges import RangeServer
from same_model import model

from crossband.cli.main import main
from crossband.errors import BandError, InputError, UnitError
from crossband.raster import products
from crossband.raster.open import known_bands, open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.products import stac
from crossband.translate.provenance import scene_facts

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def opened(path, *needed, **options):
    return open_scene(path, ReadOptions(**options), needed=needed)


def values_of(path, *needed, **options):
    with opened(path, *needed, **options) as scene:
        return scene.read()


def asset(href, name=None, *, version=1.0, roles=("data",), kind=TIFF, gsd=10, **raster):
    """An asset of one band, in the words of a version of STAC."""
    found = {"href": href, "type": kind, "roles": list(roles)}
    if version >= 1.1:
        band = {"name": href} | {f"raster:{k}": v for k, v in raster.items() if k != "nodata"}
        band |= {k: v for k, v in raster.items() if k == "nodata"}
        band |= {"eo:common_name": name} if name else {}
        return found | {"gsd": gsd, "bands": [band]}
    if raster or gsd:
        found["raster:bands"] = [{"spatial_resolution": gsd, **raster}]
    if name:
        found["eo:bands"] = [{"name": href, "common_name": name}]
    return found


def files(folder, **steps):
    """Write files of one band; their names are those of the bands they hold, after an `_` more."""
    for number, (name, step) in enumerate(steps.items()):
        side = 400 // step
        stored = np.random.default_rng(number).integers(1000, 9000, (side, side)).astype(np.uint16)
        write(folder / "img" / f"{name}.tif", stored, UTM @ Affine.scale(step / 10), "EPSG:32633")


def stored_in(folder, name):
    with rasterio.open(folder / "img" / f"{name}.tif") as file:
        return file.read(1)


STATED = {"scale": 1e-4, "offset": -0.1, "nodata": 0}


@pytest.mark.parametrize("version", [1.0, 1.1])
def test_bands_by_common_name(tmp_path, version):
    files(tmp_path, B04=10, B08=10, B11=20)
    path = item(
        tmp_path,
        {
            "B04": asset("./img/B04.tif", "red", version=version, **STATED),
            "B08": asset("img/B08.tif", "nir", version=version, **STATED),
            "B11": asset(
                str(tmp_path / "img/B11.tif"), "swir16", version=version, gsd=20, **STATED
            ),
            "meta": {"href": "meta.xml", "type": "application/xml", "roles": ["metadata"]},
        },
        f"{version}.0",
    )
    assert known_bands(path) == ("red", "nir", "swir16")
    with opened(path, "nir", "swir16", sensor="sentinel-2-l2a") as scene:
        window = scene.read()
        assert scene.radiometry.scale == (1e-4, 1e-4)
        assert scene.radiometry.nodata == (0.0, 0.0)
        assert scene.grid.transform == UTM
    assert window.unit == "reflectance"
    assert np.allclose(window.values[0], stored_in(tmp_path, "B08") * 1e-4 - 0.1, atol=1e-6)
    # An item does not say that its numbers are reflectance.
    with pytest.raises(UnitError, match="uint16 numbers of unknown unit"):
        opened(path, "nir")


def test_units_that_an_item_states(tmp_path):
    files(tmp_path, B4=10, ST=10)
    heat = {"scale": 0.00341802, "offset": 149.0, "unit": "kelvin", "nodata": 0}
    path = item(
        tmp_path,
        {
            "red": asset("img/B4.tif", "red", **STATED),
            "lwir11": asset("img/ST.tif", "lwir11", **heat),
        },
    )
    window = values_of(path, "lwir11")
    assert window.unit == "kelvin"
    assert np.allclose(window.values[0], stored_in(tmp_path, "ST") * 0.00341802 + 149.0)
    with pytest.raises(UnitError, match=r"do not say their unit \('', 'kelvin'\): give --sensor"):
        opened(path, "red", "lwir11")
    with pytest.raises(UnitError, match="the file says kelvin, but sensor sentinel-2-l2a"):
        opened(path, "red", "lwir11", sensor="sentinel-2-l2a")


def test_the_finest_asset_of_role_data_is_taken(tmp_path):
    files(tmp_path, fine=10, coarse=20, people=10, other=10)
    assets = {
        "coastal": asset("img/coarse.tif", "coastal", gsd=20, **STATED),
        "coastal_10m": asset("img/fine.tif", "coastal", gsd=10, **STATED),
        "visual": asset("img/people.tif", "coastal", roles=["visual"], gsd=5),
        "extra": asset("img/other.tif", "coastal", roles=[], gsd=5, **STATED),
    }
    path = item(tmp_path, assets)
    options = {"sensor": "sentinel-2-l2a"}
    for given, name in [
        ({}, "fine"),
        ({"coastal": "coastal"}, "coarse"),
        ({"coastal": "extra"}, "other"),
        ({"coastal": "visual"}, "people"),
        ({"coastal": 2}, "fine"),
    ]:
        window = values_of(path, "coastal", bands=given, **options)
        # The one for people states no scale: it has the sensor's own, which is the same.
        assert np.allclose(window.values[0], stored_in(tmp_path, name) * 1e-4 - 0.1, atol=1e-6)


def test_assets_that_cannot_be_told_apart(tmp_path):
    files(tmp_path, one=10, two=10)
    assets = {
        "a": asset("img/one.tif", "red", **STATED),
        "b": asset("img/two.tif", "red", **STATED),
    }
    path = item(tmp_path, assets)
    words = r"bands 1, 2 \(a, b\) are all named red; choose with --bands red=NAME"
    with pytest.raises(BandError, match=words):
        opened(path, "red", sensor="sentinel-2-l2a")
    window = values_of(path, "red", bands={"red": "b"}, sensor="sentinel-2-l2a")
    assert np.allclose(window.values[0], stored_in(tmp_path, "two") * 1e-4 - 0.1, atol=1e-6)
    # One that is called as the band is wins.
    path = item(tmp_path, {"red": assets["b"], "red-jp2": assets["a"]})
    window = values_of(path, "red", sensor="sentinel-2-l2a")
    assert np.allclose(window.values[0], stored_in(tmp_path, "two") * 1e-4 - 0.1, atol=1e-6)


def test_an_asset_of_several_bands(tmp_path, make_raster):
    values = np.random.default_rng(0).integers(0, 255, (4, 20, 30)).astype(np.uint8)
    make_raster("naip.tif", values, names=(None,) * 4, unit=None)
    names = [{"name": n, "common_name": n.lower()} for n in ("Red", "Green", "Blue", "NIR")]
    one = {"href": "naip.tif", "type": TIFF, "roles": ["data"], "eo:bands": names}
    path = item(tmp_path, {"image": one})
    window = values_of(path, "nir", "red", sensor="naip")
    assert np.allclose(window.values, values[[3, 0]] / 255)
    window = values_of(path, "red", bands={"red": "image#3"}, sensor="naip")
    assert np.allclose(window.values[0], values[2] / 255)


def test_a_label_that_the_sensor_knows(tmp_path):
    files(tmp_path, B04=10)
    path = item(tmp_path, {"B04": asset("img/B04.tif")})
    assert known_bands(path, "sentinel-2-l2a") == ("red",)
    window = values_of(path, "red", sensor="sentinel-2-l2a")
    assert np.allclose(window.values[0], stored_in(tmp_path, "B04") * 1e-4 - 0.1, atol=1e-6)


def test_scales_that_only_some_assets_state(tmp_path):
    files(tmp_path, a=10, b=10)
    path = item(
        tmp_path,
        {"red": asset("img/a.tif", "red", **STATED), "nir": asset("img/b.tif", "nir")},
    )
    with pytest.raises(UnitError, match="nir states no scale and other bands do"):
        opened(path, "red", "nir", sensor="sentinel-2-l2a")


@pytest.mark.parametrize("applied", [True, False, None])
def test_an_offset_that_the_provider_has_added_already(tmp_path, applied):
    safe = sentinel2(tmp_path, size=12, labels=("B04", "B08"))
    files(tmp_path, red=10)
    image = str(next(safe.glob("**/*B08_10m.jp2")))
    properties = {} if applied is None else {"earthsearch:boa_offset_applied": applied}
    path = item(
        tmp_path,
        {
            "red": asset("img/red.tif", "red", **STATED),
            "nir-jp2": asset(image, "nir", kind="image/jp2", **STATED),
        },
        properties=properties,
    )
    options = {"sensor": "sentinel-2-l2a"}
    expected = stored_in(tmp_path, "red") * 1e-4 - (0.0 if applied else 0.1)
    assert np.allclose(values_of(path, "red", **options).values[0], expected, atol=1e-6)
    # The originals in JPEG 2000 have their offset still.
    expected = numbers("B08", 12, 12) * 1e-4 - 0.1
    assert np.allclose(values_of(path, "nir", **options).values[0], expected, atol=1e-6)


def test_other_stores_are_named_as_gdal_does():
    base = "https://host/a/item.json"
    assert stac.resolve_href(base, "s3://bucket/b.tif") == "/vsis3/bucket/b.tif"
    assert stac.resolve_href(base, "gs://bucket/b.tif") == "/vsigs/bucket/b.tif"
    assert stac.resolve_href(base, "../b.tif?token=1") == "https://host/b.tif?token=1"
    assert stac.resolve_href(base, "https://other/b.tif") == "https://other/b.tif"
    assert stac.resolve_href("/data/item.json", "file:///else/b.tif") == "/else/b.tif"
    assert stac.resolve_href("/data/item.json", "/vsizip/x.zip/b.tif") == "/vsizip/x.zip/b.tif"


def test_translate_an_item_on_a_server(tmp_path, capsys):
    (tmp_path / "far").mkdir()
    files(tmp_path / "far", B04=10, B08=10)
    here = item(
        tmp_path / "far",
        {
            "B04": asset("./img/B04.tif", "red", **STATED),
            "B08": asset("./img/B08.tif", "nir", **STATED),
        },
    )
    folder = model("red", "nir").save(tmp_path / "same")
    with RangeServer(tmp_path / "far") as server:
        address = f"{server.url}/item.json"
        options = ["--model", str(folder), "--sensor", "sentinel-2-l2a", "--tile", "32"]
        output = tmp_path / "same.tif"
        assert main(["translate", address, *options, "-o", str(output)]) == 0
        with rasterio.open(output) as file:
            assert np.array_equal(file.read(1), stored_in(tmp_path / "far", "B04"))
            assert np.array_equal(file.read(2), stored_in(tmp_path / "far", "B08"))
            assert file.transform == UTM
            assert file.tags()["CROSSBAND_SOURCE"] == "item.json"
        assert "B08.tif" in {name for name, _ in server.given}
        capsys.readouterr()
        words = [*options, "-o", str(tmp_path / "none.tif")]
        server.fail(403)
        assert main(["translate", address, *words]) == 2
        assert capsys.readouterr().err == f"crossband: {address}: the server says 403 Forbidden\n"
        server.heal()
        here.write_text(here.read_text().replace("B08.tif", "none.tif"))
        assert main(["translate", address, *words]) == 2
        said = capsys.readouterr().err
        assert "img/none.tif" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "none.tif").exists()
    with pytest.raises(InputError, match=r"item.json: cannot be fetched: .*refused"):
        opened(address, "red")


def test_items_of_an_api_have_no_ending(tmp_path):
    files(tmp_path, B04=10)
    path = item(tmp_path, {"red": asset("./img/B04.tif", "red", **STATED)})
    (tmp_path / "collections" / "s2" / "items").mkdir(parents=True)
    text = path.read_text().replace("./img", "../../../img")
    (tmp_path / "collections" / "s2" / "items" / "S2A_T33").write_text(text)
    with RangeServer(tmp_path) as server:
        base = f"{server.url}/collections/s2/items"
        window = values_of(f"{base}/S2A_T33", "red", sensor="sentinel-2-l2a")
        # A raster below an item's address is none.
        for name in ("S2A_T33/B04.tif?token=1", "B04.tif?token=1", "S2A_T33/B04"):
            assert products.find(f"{base}/{name}") is None
    assert np.allclose(window.values[0], stored_in(tmp_path, "B04") * 1e-4 - 0.1, atol=1e-6)


HUGE = json.dumps(
    {"type": "Feature", "assets": {"a": {"href": "a.tif", "raster:bands": [{"scale": 10**400}]}}}
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[" * 10**5, "not JSON: its brackets are nested too deeply"),
        ('{"type": "Feature", "assets": {"a": {"href": "a\\u0000b"}}}', "not as STAC has it"),
        (HUGE, "not as STAC has it: ValueError.*is no number"),
        ('{"type": "FeatureCollection", "features": []}', "a FeatureCollection, not an item"),
        ('{"type": "Collection"}', r"a Collection, not an item; give one, as x\.json#ID"),
        ('{"type": "Feature", "assets": {}}', "the item has no asset that is an image"),
        ('{"type": "Feature", "assets": {"a": {}}}', "not as STAC has it: KeyError"),
        ('{"type": "Feature", "assets": {"a": {"href": "a.tif", "eo:bands": [0]}}}', "not as STAC"),
        ('{"type": "Feature"}', "not a raster that can be opened"),
        ("[1]", "not a raster that can be opened"),
    ],
)
def test_what_is_no_item(tmp_path, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        opened(path, "red", sensor="sentinel-2-l2a")
    assert "\n" not in str(error.value)


def test_an_item_of_a_collection(tmp_path):
    files(tmp_path, B04=10, B08=10)
    items = []
    for name in ("B04", "B08"):
        path = item(tmp_path, {"red": asset(f"./img/{name}.tif", "red", **STATED)})
        items.append({**json.loads(path.read_text()), "id": f"S2/{name}"})
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    for name in ("B04", "B08"):
        with opened(f"{path}#S2/{name}", "red", sensor="sentinel-2-l2a") as scene:
            values = scene.read().values[0]
            assert str(path) in scene.files
        assert np.allclose(values, stored_in(tmp_path, name) * 1e-4 - 0.1, atol=1e-6)
    with pytest.raises(InputError, match="no items are called 'S3'"):
        opened(f"{path}#S3", "red")
    with pytest.raises(InputError, match=r"other\.json: no such file"):
        opened(tmp_path / "other.json#S3", "red")
    with RangeServer(tmp_path) as server:
        address = f"{server.url}/items.json#S2/B08"
        window = values_of(address, "red", sensor="sentinel-2-l2a")
    assert np.allclose(window.values[0], stored_in(tmp_path, "B08") * 1e-4 - 0.1, atol=1e-6)


def test_an_asset_that_is_not_there(tmp_path):
    path = item(tmp_path, {"red": asset("./img/none.tif", "red", **STATED)})
    with pytest.raises(InputError, match=r"img/none\.tif: no such file"):
        opened(path, "red", sensor="sentinel-2-l2a")


def test_a_changed_item_is_noticed(tmp_path):
    files(tmp_path, B04=10)
    path = item(tmp_path, {"red": asset("./img/B04.tif", "red", **STATED)})
    same = model("red")

    def state():
        with opened(path, "red", sensor="sentinel-2-l2a") as scene:
            return scene_facts(same, scene, {})["the source"]

    before = state()
    os.utime(path, ns=(1, 1))
    assert state() != before


def test_no_catalogue_library_is_needed(tmp_path):
    files(tmp_path, B04=10)
    path = item(tmp_path, {"red": asset("./img/B04.tif", "red", **STATED)})
    assert products.find(path) is not None
    assert "pystac" not in sys.modules
    assert json.loads(path.read_text())["stac_version"] == "1.0.0"
