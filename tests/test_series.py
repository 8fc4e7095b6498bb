"""Dated scenes through time: dates, places, stacks, tables, pictures, and the command."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from affine import Affine
from conftest import UTM, random_values
from keywords import series
from product_trees import landsat, sentinel1, sentinel2
from rasterio.warp import transform
from rio_cogeo.cogeo import cog_validate
from tiers import slow

import crossband
from crossband.cli import main as cli
from crossband.core.dates import Date
from crossband.core.indices import compute
from crossband.errors import CrossbandError, InputError, ManifestError, OutputError, UpToDate
from crossband.jobs.dates import date_of_scene, in_name
from crossband.jobs.inputs import SceneInput
from crossband.raster import journal
from crossband.raster.grid import Box, Grid
from crossband.raster.products import acquisition_time
from crossband.series import cubes, places
from crossband.series import run as run_module

NAMES = ("blue", "green", "red", "nir")
SIZE = 48
WHOLE = SIZE * SIZE
GRID = Grid(SIZE, SIZE, UTM, rasterio.CRS.from_epsg(32633))


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


@pytest.fixture
def scenes(make_raster, tmp_path):
    """Write four dated scenes with measured nir: clear, clouds to the left, all cloud, clear."""
    (tmp_path / "in").mkdir()
    for number, day in enumerate(("20240501", "20240511", "20240521", "20240610")):
        values = (random_values(4, SIZE, SIZE, seed=number) * 10000).astype(np.uint16)
        values[:, :, : (0, 20, SIZE, 0)[number]] = 0
        make_raster(f"in/s2_{day}.tif", values, names=NAMES, scale=1e-4, nodata=0)
    return tmp_path / "in"


@pytest.fixture
def fields(tmp_path):
    """Write a rectangle of pixels, one that is half outside, a point, and a point far away."""

    def lonlat(col, row):
        x, y = UTM @ (col, row)
        lon, lat = transform("EPSG:32633", "EPSG:4326", [x], [y])
        return [lon[0], lat[0]]

    def box(left, top, right, bottom):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        return {"type": "Polygon", "coordinates": [[lonlat(*c) for c in corners]]}

    geometries = {
        "field": box(10, 5, 30, 15),
        "edge": box(40, 40, 56, 46),
        "tower": {"type": "Point", "coordinates": lonlat(12.7, 3.2)},
        "elsewhere": {"type": "Point", "coordinates": [-60.0, -20.0]},
    }
    features = [
        {"type": "Feature", "properties": {"name": name, "crop": f"c{n}"}, "geometry": geometry}
        for n, (name, geometry) in enumerate(geometries.items())
    ]
    path = tmp_path / "fields.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def pixels(path):
    with rasterio.open(path) as file:
        return file.read()


def ndvi(red, nir):
    with np.errstate(invalid="ignore"):  # clouds are 0
        return compute("NDVI", {"red": red, "nir": nir})


def row(table, place, date):
    (found,) = table[(table["place"] == place) & (table["date"] == date)].to_dict("records")
    return found


# Dates.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2024-05-01", "2024-05-01"),
        ("20240501", "2024-05-01"),
        ("2024:05:01 10:30:05", "2024-05-01T10:30:05Z"),
        ("2024-05-01T01:00:00+02:00", "2024-04-30T23:00:00Z"),
        ("2023-06-25T23:46:21.024Z", "2023-06-25T23:46:21.024000Z"),
    ],
)
def test_dates_are_parsed_and_said_in_utc(text, said):
    assert str(Date.parse(text)) == said
    assert Date.parse(said) == Date.parse(text)


@pytest.mark.parametrize("text", ["", "01.05.2024", "2024", "2024-13-01", "May 2024"])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        Date.parse(text)


@pytest.mark.parametrize(
    ("name", "pattern", "said"),
    [
        ("s2_20240501", "%Y%m%d", "2024-05-01"),
        ("ndvi_201909_v2", "_%Y%m_", "2019-09"),
        ("a_2024-05-01_b", "%Y-%m-%d", "2024-05-01"),
        ("HLS.S30.T17SKU.2024122T161530.v2", "%Y%jT%H%M%S", "2024-05-01T16:15:30Z"),
        ("LC08_008059_20191201_20200825", "_%Y%m%d_", "2019-12-01"),
        ("x20241301_20240501", "%Y%m%d", "2024-05-01"),  # there is no month 13
    ],
)
def test_dates_in_names(name, pattern, said):
    assert str(in_name(name, pattern, "scene")) == said


@pytest.mark.parametrize(
    ("name", "pattern", "words"),
    [
        ("LC08_20191201_20200825", "%Y%m%d", "2019-12-01 and 2020-08-25.*say more"),
        ("tile_202405013", "%Y%m%d", "no date"),  # inside of a longer number
        ("s2_20240501", "%Y-%m-%d", "no date"),
        ("s2_20240501", "%y%m%d", "%y is not known"),
        ("s2_20240501", "%Y%m%H", "must say the day"),
        ("s2_20240501", "%Y%m%d%M", "must say the day"),
    ],
)
def test_dates_in_names_are_not_guessed(name, pattern, words):
    with pytest.raises(CrossbandError, match=words):
        in_name(name, pattern, "scene")


def test_products_say_when_they_were_taken(tmp_path):
    s2 = sentinel2(tmp_path, size=12)
    metadata = s2 / "MTD_MSIL2A.xml"
    assert acquisition_time(s2) is None  # the small tree has no time
    text = metadata.read_text()
    start = "<PRODUCT_START_TIME>2023-06-25T23:46:21.024Z</PRODUCT_START_TIME>"
    metadata.write_text(text.replace("<Product_Info>", f"<Product_Info>{start}"))
    for path in (s2, metadata):
        assert acquisition_time(path) == ("2023-06-25T23:46:21.024Z", "PRODUCT_START_TIME")
    old = landsat(tmp_path)
    (mtl,) = old.glob("*_MTL.txt")
    stated = 'DATE_ACQUIRED = 2019-12-01\n    SCENE_CENTER_TIME = "21:13:49.1234567Z"'
    mtl.write_text(
        mtl.read_text().replace(
            "GROUP = IMAGE_ATTRIBUTES\n", f"GROUP = IMAGE_ATTRIBUTES\n    {stated}\n", 1
        )
    )
    dated = date_of_scene(SceneInput(str(old), "x", "x"))
    assert (str(dated.date), dated.date_source) == ("2019-12-01T21:13:49.123456Z", "DATE_ACQUIRED")
    item = tmp_path / "item.json"
    properties = {"datetime": None, "start_datetime": "2024-05-01T10:00:00Z"}
    item.write_text(
        json.dumps({"type": "Feature", "id": "a", "assets": {}, "properties": properties})
    )
    assert acquisition_time(item) == ("2024-05-01T10:00:00Z", "start_datetime")


def test_a_radar_product_says_when(tmp_path):
    folder = sentinel1(tmp_path, np.full((20, 20), 100, np.uint16))
    manifest = folder / "manifest.safe"
    text = manifest.read_text()
    if "startTime" not in text:
        end = re.search(r"</(\w+:)?familyName>", text)[0]
        period = "<safe:startTime>2021-08-09T17:39:53.1</safe:startTime>"
        manifest.write_text(text.replace(end, f"{end}{period}", 1))
    assert acquisition_time(folder) == ("2021-08-09T17:39:53.1", "startTime")


def test_the_strongest_word_about_a_date_counts(make_raster):
    path = make_raster("s2_20240501.tif")
    plain = SceneInput(str(path), path.stem, path.name)
    with pytest.raises(InputError, match=r"^s2_20240501.tif: nothing says when"):
        date_of_scene(plain)
    tags = {
        "TIFFTAG_DATETIME": "2020:01:01 00:00:00",
        "ACQUISITION_DATE": "2021-01-01",
        "SENSING_TIME": "2022-01-01T10:00:00.5Z; 2022-01-01T10:00:20Z",
    }
    for name, value in tags.items():
        with rasterio.open(path, "r+") as file:
            file.update_tags(**{name: value})
        assert date_of_scene(plain).date_source == name
    assert str(date_of_scene(plain).date) == "2022-01-01T10:00:00.500000Z"
    assert str(date_of_scene(plain, "%Y%m%d").date) == "2024-05-01"
    rows = {"date": 20230601.0, "datetime": float("nan")}
    assert (
        str(date_of_scene(SceneInput(str(path), "x", "x", row=rows), "%Y%m%d").date) == "2023-06-01"
    )
    rows["datetime"] = pd.Timestamp("2023-06-02T10:00")
    assert (
        str(date_of_scene(SceneInput(str(path), "x", "x", row=rows)).date) == "2023-06-02T10:00:00Z"
    )
    with pytest.raises(InputError, match=r"scene: column date says '1.6.2023'"):
        date_of_scene(SceneInput(str(path), "x", "scene", row={"date": "1.6.2023"}))


# Places.


def test_places_are_pixels_by_their_centres(fields):
    field, edge, tower, elsewhere = places.read_places(fields)
    found = places.locate_place(field, GRID, "scene")
    mask = np.zeros((SIZE, SIZE), bool)
    for box, inside in found.parts():
        mask[box.slices()] |= inside
    expected = np.zeros_like(mask)
    expected[5:15, 10:30] = True
    np.testing.assert_array_equal(mask, expected)
    assert found.total is None
    beyond = places.locate_place(edge, GRID, "scene")
    assert sum(int(inside.sum()) for _, inside in beyond.parts()) == 8 * 6
    assert beyond.total == 16 * 6
    point = places.locate_place(tower, GRID, "scene")
    assert point.box == Box(3, 12, 1, 1)
    assert places.locate_place(elsewhere, GRID, "scene") is None
    assert [p.name for p in places.read_places(fields, "crop")] == ["c0", "c1", "c2", "c3"]


@pytest.mark.parametrize("left", [258.0, -102.0, 618.0])
def test_longitudes_may_count_from_0_or_from_minus_180(left, tmp_path):
    lonlat = rasterio.CRS.from_epsg(4326)
    grid = Grid(20, 30, Affine(0.1, 0, left, 0, -0.1, 41.0), lonlat)
    ring = [[-101.5, 40.5], [-100.5, 40.5], [-100.5, 39.8], [-101.5, 39.8], [-101.5, 40.5]]
    field = places.Place("field", {"type": "Polygon", "coordinates": [ring]}, lonlat)
    found = places.locate_place(field, grid, "scene")
    if left == 618.0:  # more than a turn away from all longitudes
        assert found is None
        return
    assert found.box == Box(5, 5, 7, 10)


@pytest.mark.parametrize("parts", [[(-10, 5, 10, 15), (-10, 5, 10, 15)], [(-10, 0, 6, 8)]])
def test_parts_that_overlap_count_once_beyond_the_scene(parts):
    rings = [[(a, b), (c, b), (c, d), (a, d), (a, b)] for a, b, c, d in parts]
    rings = [[list(UTM @ corner) for corner in ring] for ring in rings]
    shape = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
    found = places.locate_place(places.Place("field", shape, GRID.crs), GRID, "scene")
    left, top, right, bottom = parts[0]
    assert found.total == (right - left) * (bottom - top)
    assert sum(int(inside.sum()) for _, inside in found.parts()) == right * (bottom - top)


def test_positions_that_are_not_on_earth_are_named_with_their_file(tmp_path):
    path = tmp_path / "places.geojson"
    path.write_text('{"type": "Point", "coordinates": [999, 99]}')
    with pytest.raises(InputError, match=r"places.geojson: 1: 999, 99 are no longitude"):
        places.read_places(path)


def test_a_polygon_without_an_area_has_no_pixel(tmp_path, recwarn):
    ring = [list(UTM @ corner) for corner in ((1, 1), (5, 5), (1, 1), (1, 1))]
    place = places.Place("line", {"type": "Polygon", "coordinates": [ring]}, GRID.crs)
    found = places.locate_place(place, GRID, "scene")
    assert sum(int(inside.sum()) for _, inside in found.parts()) == 0
    assert not recwarn


def test_a_hole_an_old_crs_and_a_turned_grid(tmp_path):
    """A square of 10 x 10 pixels with a hole of 4 x 4, in the system of a turned grid."""
    turned = UTM @ Affine.rotation(30)
    grid = Grid(SIZE, SIZE, turned, GRID.crs)

    def ring(low, high):
        corners = [(low, low), (high, low), (high, high), (low, high), (low, low)]
        return [list(turned @ c) for c in corners]

    geometry = {"type": "Polygon", "coordinates": [ring(5, 15), ring(8, 12)]}
    feature = {"type": "Feature", "id": 7, "geometry": geometry, "properties": None}
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature], "crs": named}))
    (place,) = places.read_places(path)
    assert place.name == "7"
    found = places.locate_place(place, grid, "scene")
    assert sum(int(inside.sum()) for _, inside in found.parts()) == 100 - 16
    half = places.locate_place(place, grid.crop(Box(0, 10, SIZE, SIZE - 10)), "scene")
    assert half.total == 100 - 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "holds no place"),
        ('{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}', "a LineString; give points"),
        ('{"type": "Point", "coordinates": ["a", 1]}', "not as GeoJSON has them"),
        ('{"type": "Point", "coordinates": []}', "not as GeoJSON has them"),
        ('{"type": "Feature", "properties": {}, "geometry": null}', "place without geometry"),
    ],
)
def test_places_that_cannot_be_read(tmp_path, text, words):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        places.read_places(path)
    assert "a.geojson" in str(caught.value)


def test_places_need_names_of_their_own_and_scenes_a_place(fields, scenes, make_raster, model):
    data = json.loads(fields.read_text())
    data["features"][1]["properties"]["name"] = "field"
    fields.write_text(json.dumps(data))
    with pytest.raises(InputError, match="two places are called 'field'"):
        places.read_places(fields)
    with pytest.raises(InputError, match="no property 'kind', only: name, crop"):
        places.read_places(fields, "kind")
    nowhere = make_raster("nowhere.tif", crs=None, transform=None)
    with pytest.raises(InputError, match=r"nowhere.tif: no georeference"):
        series(model, [nowhere], fields.parent / "o", places=places.read_places(fields, "crop"),
               dates=["2024-05-01"])  # fmt: skip


# Scenes.


def test_a_series_of_scenes(scenes, fields, model, tmp_path):
    """The numbers of the table, the bands of the stacks, gaps, and places outside."""
    out = tmp_path / "out"
    done = series(
        model, [f"{scenes}/*.tif"], out, places=fields, date_pattern="%Y%m%d", compared=True
    )
    labels = ["2024-05-01", "2024-05-11", "2024-05-21", "2024-06-10"]
    assert done.labels == labels
    assert (done.failed, done.masked, done.without_truth) == ({}, ["s2_20240521"], [])
    assert (done.nowhere, done.partly) == (["elsewhere"], ["edge"])
    table = pd.read_csv(out / "series.csv")
    assert list(dict.fromkeys(table["place"])) == ["field", "edge", "tower"]
    assert len(table) == 3 * 4
    made = pixels(out / "scenes" / "20240511_s2_20240511_nir_NDVI.tif")[0]
    _, _, red, nir = pixels(scenes / "s2_20240511.tif") * 1e-4
    known = row(table, "field", "2024-05-11")
    part = np.s_[5:15, 20:30]  # the rest of it is cloud
    assert (known["valid"], known["pixels"], known["share"]) == (100, 200, 0.5)
    true = ndvi(red[part], nir[part])
    for column, value in {
        "synthetic": made[part].mean(),
        "synthetic_std": made[part].std(),
        "true": true.mean(),
        "true_std": true.std(),
        "difference": (made[part] - true).mean(),
        "compared": 100,
    }.items():
        assert known[column] == pytest.approx(value, abs=2e-6), column
    clear = row(table, "tower", "2024-05-01")
    first = pixels(out / "scenes" / "20240501_s2_20240501_nir_NDVI.tif")[0]
    assert clear["synthetic"] == pytest.approx(first[3, 12], abs=1e-6)
    assert (clear["synthetic_std"], clear["pixels"]) == (0, 1)
    assert row(table, "edge", "2024-06-10")["share"] == pytest.approx(0.5)
    gap = row(table, "field", "2024-05-21")
    assert (gap["valid"], gap["share"]) == (0, 0)
    assert np.isnan([gap["synthetic"], gap["true"], gap["difference"]]).all()

    assert cog_validate(out / "NDVI.tif", quiet=True)[0]
    with rasterio.open(out / "NDVI.tif") as file:
        assert file.descriptions == tuple(labels)
        assert np.isnan(file.nodata)
        assert (file.transform, file.crs) == (GRID.transform, GRID.crs)
        assert file.tags()["CROSSBAND_SYNTHETIC"] == "YES"
        assert file.tags(2)["scene"] == "s2_20240511"
        bands = file.read()
    np.testing.assert_array_equal(bands[1], made)
    assert np.isnan(bands[1][:, :20]).all()
    assert np.isnan(bands[2]).all()
    with rasterio.open(out / "NDVI_true.tif") as file:
        assert "CROSSBAND_SYNTHETIC" not in file.tags()
        measured = file.read(2)
    np.testing.assert_allclose(measured[:, 20:], ndvi(red, nir)[:, 20:], atol=1e-6)
    np.testing.assert_allclose(pixels(out / "NDVI_difference.tif")[1], made - measured, atol=1e-6)
    assert (out / "series.png").stat().st_size > 10_000
    assert not list(out.rglob(".*"))


def test_what_is_made_is_not_made_again(scenes, model, tmp_path, monkeypatch):
    """An interrupted series goes on; a finished one is replaced only when that is wanted."""
    out = tmp_path / "out"
    inputs = [f"{scenes}/*.tif"]
    how = {"date_pattern": "%Y%m%d"}

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_module.index_stack, "write_index_stack", stop)
        with pytest.raises(KeyboardInterrupt):
            series(model, inputs, out, **how)
    made = {p: p.stat().st_mtime_ns for p in (out / "scenes").glob("*.tif")}
    assert len(made) == 6
    assert not (out / "series.csv").exists()
    first = series(model, inputs, out, **how)
    assert {p: p.stat().st_mtime_ns for p in made} == made
    with pytest.raises(UpToDate, match="out: exists already, made from the same in the same way"):
        series(model, inputs, out, **how)
    with pytest.raises(OutputError, match=r"series.csv: exists already; give --overwrite"):
        series(model, inputs, out, **how, align=scenes / "s2_20240501.tif")
    again = series(model, inputs, out, **how, overwrite=True, keep_scenes=False)
    pd.testing.assert_frame_equal(again.table, first.table)
    assert not (out / "scenes").exists()


def test_a_killed_series_goes_on_where_files_are_in_place(scenes, model, tmp_path, monkeypatch):
    """Those that the interrupted one has written are its own; of other commands they are not."""
    out = tmp_path / "out"
    inputs, how = [f"{scenes}/*.tif"], {"date_pattern": "%Y%m%d", "drawn": False}
    whole = series(model, inputs, tmp_path / "whole", **how)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_module.index_stack, "write_table", stop)
        with pytest.raises(KeyboardInterrupt):
            series(model, inputs, out, **how)
    assert (out / "NDVI.tif").exists()
    with pytest.raises(OutputError, match=r"NDVI\.tif: exists already; give --overwrite"):
        series(model, inputs, out, **how, indices=["NDVI", "SAVI"])
    with pytest.raises(OutputError, match=r"NDVI\.tif: exists already; give --overwrite"):
        series(model, inputs[:1] * 2, out, **how)
    done = series(model, inputs, out, **how)
    pd.testing.assert_frame_equal(done.table, whole.table)
    assert not list(out.rglob(".*"))
    with pytest.raises(UpToDate):
        series(model, inputs, out, **how)


def test_a_scene_that_fails_is_not_in_the_series(scenes, model, tmp_path):
    (scenes / "s2_20240601.tif").write_bytes(b"II*\0 not a picture")
    done = series(model, [f"{scenes}/*.tif"], tmp_path / "o", date_pattern="%Y%m%d", drawn=False,
                  indices=["NDVI", "SAVI"])  # fmt: skip
    assert list(map(str, done.failed)) == [str(scenes / "s2_20240601.tif")]
    assert len(done.labels) == 4
    assert [f.name for f in done.files] == ["NDVI.tif", "SAVI.tif", "series.csv"]
    assert list(dict.fromkeys(done.table["index"])) == ["NDVI", "SAVI"]
    broken = [scenes / "s2_20240601.tif"]
    with pytest.raises(InputError, match=r"no scene could be translated; the first: .*20240601"):
        series(model, broken, tmp_path / "p", date_pattern="%Y%m%d")


def test_the_truth_of_a_manifest_is_its_target(make_raster, model, tmp_path):
    """A source of three bands with a target beside it, one without, and one that does not fit."""
    values = (random_values(4, SIZE, SIZE) * 10000).astype(np.uint16)
    for day in (1, 2):
        make_raster(f"rgb{day}.tif", values[:3], names=(None,) * 3, unit=None)
    make_raster("nir.tif", values[3:], names=(None,), unit=None)
    table = pd.DataFrame(
        {
            "source": ["rgb2.tif", "rgb1.tif"],
            "target": [None, "nir.tif"],
            "source_bands": ["red=3,green=2,blue=1"] * 2,
            "target_bands": [None, "nir=1"],
            "sensor": ["reflectance"] * 2,
            "date": ["2024-05-02", "2024-05-01"],
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    done = series(model, [tmp_path / "t.csv"], tmp_path / "o", scale=1e-4, drawn=False)
    assert done.labels == ["2024-05-01", "2024-05-02"]
    assert done.without_truth == ["rgb2"]
    scaled = values * 1e-4
    true = ndvi(scaled[2], scaled[3]).mean()
    first, second = done.table.to_dict("records")
    assert first["true"] == pytest.approx(true, abs=1e-6)
    assert np.isnan(second["true"])
    text = (tmp_path / "o" / "series.csv").read_text().splitlines()[2]
    assert text.split(",")[8:12] == ["", "", "", ""]
    make_raster("nir.tif", values[3:, :-1], names=(None,), unit=None)
    with pytest.raises(InputError, match=r"row 2: rgb1.tif: its target is not on the grid"):
        series(model, [tmp_path / "t.csv"], tmp_path / "p", scale=1e-4)
    (tmp_path / "nir.tif").unlink()
    with pytest.raises(ManifestError, match=r"row 2: rgb1.tif: target: .*nir.tif: no such file"):
        series(model, [tmp_path / "t.csv"], tmp_path / "p", scale=1e-4)


def test_bands_that_are_named_may_be_measured_ones(make_raster, model, tmp_path):
    path = make_raster("a.tif", random_values(4, 20, 20), names=(None,) * 4)
    done = series(model, [path], tmp_path / "o", dates=[datetime(2024, 5, 1, tzinfo=UTC)],
                  bands={"blue": 1, "green": 2, "red": 3, "nir": 4}, drawn=False)  # fmt: skip
    assert done.labels == ["2024-05-01T00:00:00Z"]
    assert done.table["compared"].tolist() == [400]


def test_different_grids_are_refused_or_aligned(make_raster, fields, model, tmp_path):
    """A scene one pixel to the right: its stack is moved back, its table is its own."""
    values = random_values(4, SIZE, SIZE)
    one = make_raster("a.tif", values, names=NAMES)
    moved = UTM @ Affine.translation(1, 0)
    other = make_raster("b.tif", values[:, :, 1:], names=NAMES, transform=moved)
    inputs, dates = [one, other], ["2024-05-01", "2024-05-02"]
    with pytest.raises(InputError, match=r"a.tif and .*b.tif lie on different grids .*--align"):
        series(model, inputs, tmp_path / "o", dates=dates)
    done = series(model, inputs, tmp_path / "o", dates=dates, align=one, drawn=False)
    first, second = pixels(done.stacks["NDVI"])
    own = pixels(tmp_path / "o" / "scenes" / "20240502_b_nir_NDVI.tif")[0]
    assert np.isnan(second[:, 0]).all()
    np.testing.assert_allclose(second[2:-2, 3:-2], own[2:-2, 2:-2], atol=1e-5)
    far = make_raster("far.tif", values, names=NAMES, transform=UTM @ Affine.translation(900, 0))
    with pytest.raises(InputError, match=r"--align: .*far.tif: the two scenes do not overlap"):
        series(model, [one, far], tmp_path / "p", dates=dates, align=one)
    apart = series(model, inputs, tmp_path / "q", dates=dates, stacked=False, places=fields)
    assert apart.stacks == {}
    table = apart.table[apart.table["place"] == "field"]
    assert table["pixels"].tolist() == [200, 200]
    assert first.shape == (SIZE, SIZE)


def test_two_scenes_of_one_day(make_raster, model, tmp_path):
    """With a time of day both are in the stack; without one they are refused."""
    inputs = [make_raster(f"{n}.tif", random_values(4, 20, 20, n), names=NAMES) for n in "12"
              for n in [int(n)]]  # fmt: skip
    with pytest.raises(InputError, match=r"1.tif and .*2.tif are both of 2024-05-01; a stack"):
        series(model, inputs, tmp_path / "o", dates=["2024-05-01"] * 2)
    times = ["2024-05-01T10:05", "2024-05-01T10:00"]
    done = series(model, inputs, tmp_path / "o", dates=times, drawn=False)
    assert done.labels == ["2024-05-01T10:00:00Z", "2024-05-01T10:05:00Z"]
    assert done.table["scene"].tolist() == ["2", "1"]
    both = series(model, inputs, tmp_path / "p", dates=["2024-05-01"] * 2, stacked=False)
    assert both.table["date"].tolist() == ["2024-05-01"] * 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"indices": []}, "needs an index"),
        ({"indices": ["NDVI", "NDVI"]}, "NDVI is given twice"),
        ({"indices": ["NVDI"]}, "did you mean 'NDVI'"),
        ({"indices": ["NBR"]}, "there is no"),
        ({"indices": ["GLI"]}, "none of them is made by tiny"),
        ({"place_name": "id"}, "--place-name is a property of --places"),
        ({"align": "a.tif", "stacked": False}, "--align is for the stack"),
        ({"dates": ["2024-05-01"]}, "dates: one for each scene, of 1 files there are 1"),
    ],
)
def test_options_that_cannot_be(scenes, model, tmp_path, options, words):
    with pytest.raises(CrossbandError, match=words):
        series(model, [f"{scenes}/*.tif"], tmp_path / "o", date_pattern="%Y%m%d", **options) if (
            "dates" not in options
        ) else series(model, [f"{scenes}/*.tif"], tmp_path / "o", **options)
    assert not (tmp_path / "o" / "series.csv").exists()


def test_a_model_of_finer_pixels_is_refused(scenes, identity_model, tmp_path):
    with pytest.raises(CrossbandError, match="2 times finer"):
        series(identity_model(scale=2), [f"{scenes}/*.tif"], tmp_path / "o")


# Stacks and arrays.


@pytest.fixture
def cube():
    """Return three dates of four bands in reflectance, a cloud on the second."""
    values = np.stack([random_values(4, SIZE, SIZE, seed=n) for n in range(3)])
    values[1, :, :, :20] = np.nan
    x = UTM.c + (np.arange(SIZE) + 0.5) * UTM.a
    y = UTM.f + (np.arange(SIZE) + 0.5) * UTM.e
    array = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(["2024-05-01", "2024-05-11", "2024-05-21"]),
            "band": list(NAMES),
            "y": y,
            "x": x,
        },
        name="s2",
        attrs={"units": "reflectance"},
    )
    return array.rio.write_crs("EPSG:32633")


def test_an_array_gives_what_its_scenes_give(cube, model, fields, make_raster, tmp_path):
    """In memory and in chunks; in any order of dates and dimensions."""
    inputs = []
    for number in range(3):
        values = cube.values[number]
        inputs.append(make_raster(f"{number}.tif", values, names=NAMES, nodata=float("nan")))
    dates = [str(t)[:10] for t in cube["time"].values]
    how = {"dates": dates, "precision": "fp32"}
    files = model.series(inputs, **how)
    assert list(files) == ["NDVI", "NDVI_true", "NDVI_difference"]
    found = model.series(cube.isel(time=[2, 0, 1]).transpose("y", "x", "band", "time"),
                         precision="fp32")  # fmt: skip
    chunked = model.series(cube.chunk(y=20, x=30), precision="fp32")
    assert chunked["NDVI"].chunks is not None
    for name in files:
        assert found[name].dims == ("time", "y", "x")
        assert found[name]["time"].equals(cube["time"])
        assert found[name].rio.crs == cube.rio.crs
        for one in (found, chunked):
            np.testing.assert_allclose(one[name].values, files[name].values, atol=2e-5)
    assert np.isnan(found["NDVI"].values[1, :, :20]).all()
    assert found["NDVI"].attrs["CROSSBAND_SYNTHETIC"] == "YES"
    assert "CROSSBAND_SYNTHETIC" not in found["NDVI_true"].attrs
    table = model.series(cube, places=fields, precision="fp32")
    other = model.series(inputs, places=fields, **how)
    assert table["place"].tolist() == other["place"].tolist()
    numbers = ["synthetic", "valid", "share", "true", "difference", "compared"]
    np.testing.assert_allclose(
        table[numbers].to_numpy(float), other[numbers].to_numpy(float), atol=2e-5
    )
    rgb = model.series(cube.isel(band=slice(0, 3)))
    assert list(rgb) == ["NDVI"]


@pytest.mark.parametrize("form", ["one variable", slow("a variable each band")])
def test_a_stack_on_disk(cube, model, tmp_path, form):
    """NetCDF-3 by scipy: the bands, the measured one, the CRS, the dates; it is done once."""
    path = tmp_path / "cube.nc"
    data = cube.to_dataset(name="s2")
    if form == "a variable each band":
        data = cube.to_dataset("band")
        for name in NAMES:
            data[name].attrs = {"units": "reflectance"}
    data.to_netcdf(path, engine="scipy")
    out = tmp_path / "out"
    done = series(model, [path], out, precision="fp32", drawn=False, compared=True)
    assert done.labels == ["2024-05-01", "2024-05-11", "2024-05-21"]
    expected = model.series(cube, precision="fp32")
    for name, made in done.stacks.items():
        np.testing.assert_allclose(pixels(made), expected[name].values, atol=2e-5)
    with rasterio.open(done.stacks["NDVI"]) as file:
        assert (file.crs, file.transform) == (GRID.crs, GRID.transform)
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(".")) == []
    assert (out / "scenes" / "20240501_cube_nir.tif").exists()
    times = {p: p.stat().st_mtime_ns for p in (out / "scenes").glob("*.tif")}
    series(model, [path], out, precision="fp32", drawn=False, overwrite=True)
    assert times == {p: p.stat().st_mtime_ns for p in times}


def test_stacks_that_cannot_be_read(cube, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        cubes.open_cube(tmp_path / "none.nc")
    path = tmp_path / "a.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setattr(cubes.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="reading NetCDF-4 needs the package h5netcdf: pip"):
        cubes.open_cube(path)
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match="reading Zarr needs the package zarr: pip"):
        cubes.open_cube(tmp_path / "a.zarr")
    path.write_bytes(b"CDF\x01nothing")
    with pytest.raises(InputError, match="not a stack that xarray can open"):
        cubes.open_cube(path)
    xr.Dataset({"a": ("time", np.zeros(3))}).to_netcdf(path, engine="scipy")
    with pytest.raises(InputError, match=r"no bands in it: .*it has a \(time\)"):
        cubes.open_cube(path)
    with pytest.raises(InputError, match=r"none of its dimensions .* has dates"):
        cubes.time_dimension(cube.drop_vars("time"))
    with pytest.raises(InputError, match="a date is there twice along time"):
        cubes.time_dimension(cube.isel(time=[0, 0]))


def test_windows_keep_memory(scenes, model, tmp_path, monkeypatch):
    """A stack is written by windows, one date at a time, and is the same in any size of them."""
    seen = []
    written = journal.RawFile.write_band

    def spy(self, band, box, plane):
        seen.append((band, box.height * box.width))
        written(self, band, box, plane)

    monkeypatch.setattr(journal.RawFile, "write_band", spy)
    one = series(model, [f"{scenes}/*.tif"], tmp_path / "o", date_pattern="%Y%m%d", drawn=False)
    assert seen == [(n, WHOLE) for n in range(4)]
    monkeypatch.setattr(run_module.index_stack, "SIDE", 20)
    monkeypatch.setattr(places, "SIDE", 20)
    two = series(model, [f"{scenes}/*.tif"], tmp_path / "p", date_pattern="%Y%m%d", drawn=False)
    assert max(size for _, size in seen[4:]) == 400
    np.testing.assert_array_equal(pixels(one.stacks["NDVI"]), pixels(two.stacks["NDVI"]))
    pd.testing.assert_frame_equal(one.table, two.table)


# The command.


def test_the_command(scenes, fields, tiny_model, tmp_path, crossband_command):
    out = tmp_path / "out"
    words = ("series", f"{scenes}/*.tif", "-o", out, "--model", tiny_model, "--places", fields)
    none = crossband_command(*words)
    assert none.returncode == 2
    assert re.fullmatch(r"crossband: .*s2_20240501.tif: nothing says when .*\n", none.stderr)
    done = crossband_command(*words, "--date-pattern", "%Y%m%d")
    assert done.returncode == 0
    assert re.fullmatch(r"crossband: without a guide, changes between .*\n", done.stderr)
    printed = done.stdout.splitlines()
    assert "4 dates, 2024-05-01 to 2024-06-10 (4 from --date-pattern)" in printed
    assert "masked as a whole, and gaps: s2_20240521" in printed
    assert "no pixel of any scene lies in: elsewhere" in printed
    assert "partly outside of a scene: edge" in printed
    assert any(line.startswith("field  NDVI  3 of 4 dates, synthetic ") for line in printed)
    assert sorted(p.name for p in out.iterdir()) == [
        "NDVI.tif", "scenes", "series.csv", "series.json", "series.png",
    ]  # fmt: skip


def test_failures_have_exit_code_1(scenes, tiny_model, tmp_path, capsys):
    (scenes / "s2_20240601.tif").write_bytes(b"II*\0 not a picture")
    words = ["series", f"{scenes}/*.tif", "-o", str(tmp_path / "o"), "--model", str(tiny_model)]
    assert cli.main([*words, "--date-pattern", "%Y%m%d", "--no-stack", "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == (
        "crossband: 1 scenes failed and are not in the series; the others are written"
    )
    assert cli.main([*words, "--compare", "--no-stack"]) == 2
    assert (tmp_path / "o" / "series.png").exists()


# The picture.


@pytest.mark.parametrize("count", [1, slow(2), slow(13)])
def test_pictures_of_any_number_of_places(tmp_path, count):
    from crossband.series.plot import plot_series

    rows = [
        {"place": f"p{n}", "date": day, "synthetic": value, "true": value, "synthetic_std": 0.1,
         "share": share, "pixels": 9, "difference": 0.0}
        for n in range(count)
        for day, value, share in (("2024-05-01", 0.4, 1), ("2024-05-02T10:00:00Z", float("nan"), 0),
                                  ("2024-05-03", 0.6, 0.2))
    ]  # fmt: skip
    path = plot_series(tmp_path / "a.png", pd.DataFrame(rows), "NDVI", title="NDVI")
    with rasterio.open(path) as file:
        assert file.width == 1200
        assert file.height == pytest.approx(100 * (1.0 + {1: 4.2, 2: 4.2, 13: 10.4}[count]))


def test_a_real_place_through_the_season(real_data, tmp_path):
    """Five frames of an EarthNet cube, 5 days apart by their numbers; only their order is known."""
    files = sorted((real_data / "rgb2nir" / "satellite").glob("s2_earthnet_29SND_1081_1721_*.tif"))
    if len(files) < 5:
        pytest.skip("the cube 29SND_1081_1721 is not there")
    numbers = [int(p.stem[-2:]) + 10 * (p.stem[-3] == "t") for p in files]
    days = [pd.Timestamp("2018-01-01") + pd.Timedelta(days=5 * n) for n in numbers]
    model = crossband.load("rgb2nir")
    done = series(model, files, tmp_path / "o", dates=days, sensor="sentinel-2-l2a-no-offset")
    assert done.table["compared"].tolist() == [128 * 128] * 5
    assert done.table["true"].between(0.45, 0.65).all()
    assert (done.table["difference"].abs() < 0.1).all()
    assert np.corrcoef(done.table["true"], done.table["synthetic"])[0, 1] > 0.9


def test_items_of_a_collection(scenes, model, tmp_path):
    """STAC items say when they were taken; assets are told by name, the measured one too."""
    items = []
    for number, path in enumerate(sorted(scenes.glob("*.tif"))[:2]):
        bands = [{"name": name, "eo:common_name": name, "unit": "reflectance"} for name in NAMES]
        asset = {"href": str(path), "type": "image/tiff", "bands": bands, "raster:scale": 1e-4}
        properties = {"datetime": f"2024-05-0{2 - number}T10:00:00Z"}
        items.append(
            {"type": "Feature", "stac_version": "1.1.0", "id": f"item-{number}",
             "properties": properties, "assets": {"data": asset | {"nodata": 0}}}
        )  # fmt: skip
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    done = series(model, [path], tmp_path / "o", drawn=False)
    assert done.labels == ["2024-05-01T10:00:00Z", "2024-05-02T10:00:00Z"]
    assert done.dates_from == {"datetime": 2}
    assert done.table["scene"].tolist() == ["item-1", "item-0"]
    assert done.table["compared"].tolist() == [SIZE * (SIZE - 20), WHOLE]


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": [[15, 45], [15.1, 45], [15.1, 45.1], [15, 45]]},
        {"type": "Polygon", "coordinates": [15, 45]},
        {"type": "Polygon", "coordinates": [[[15, 45], [15.1, 45]]]},
        {"type": "Polygon", "coordinates": [[[15, 45], [15.1, 45], [15, 45]]]},
        {"type": "MultiPolygon", "coordinates": [[[15, 45], [15.1, 45], [15.1, 45.1], [15, 45]]]},
        {"type": "Polygon", "coordinates": [[[[15, 45], [15.1, 45], [15.1, 45.1], [15, 45]]]]},
        {"type": "Point", "coordinates": [[15, 45]]},
        {"type": "Point", "coordinates": [10**400, 0]},
        {"type": "Point", "coordinates": [True, 0]},
        {"type": "Point", "coordinates": "ab"},
        {"type": "Polygon"},
        {"type": ["Polygon"], "coordinates": []},
    ],
)
def test_coordinates_of_another_depth_are_refused_before_any_work(geometry, tmp_path):
    path = tmp_path / "fields.geojson"
    path.write_text(json.dumps(geometry))
    with pytest.raises(InputError, match=r"coordinates are not as|give points or polygons"):
        places.read_places(path)


@pytest.mark.parametrize("property_name", [None, "name"])
def test_a_name_that_is_no_text(property_name, tmp_path):
    path = tmp_path / "fields.geojson"
    point = {"type": "Point", "coordinates": [1, 2]}
    feature = {"type": "Feature", "properties": {"name": {"a": 1}}, "geometry": point}
    path.write_text(json.dumps(feature))
    with pytest.raises(InputError, match="its name must be a text or a number"):
        places.read_places(path, property_name)


@pytest.mark.parametrize("properties", ["abc", [1]])
def test_properties_that_are_no_object(properties, tmp_path):
    path = tmp_path / "fields.geojson"
    point = {"type": "Point", "coordinates": [1, 2]}
    path.write_text(json.dumps({"type": "Feature", "properties": properties, "geometry": point}))
    with pytest.raises(InputError, match="properties are not as GeoJSON"):
        places.read_places(path)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:00:00-12:00",
        "\u0662\u0660\u0662\u0664-\u0660\u0665",
    ],
)
def test_a_date_that_utc_does_not_have(text):
    with pytest.raises(ValueError, match=r"."):
        Date.parse(text)
