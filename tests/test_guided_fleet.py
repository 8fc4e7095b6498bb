"""Many scenes, each with its guide: named in a list, or found in a folder by place and date."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from conftest import UTM, random_values
from rasterio.warp import calculate_default_transform, reproject

import crossband
from crossband.cli.fleet import Printer
from crossband.errors import (
    CrossbandError,
    CrossbandWarning,
    InputError,
    Interrupted,
    OutputError,
    UnitError,
)
from crossband.jobs import summary
from crossband.jobs.inputs import expand_inputs
from crossband.jobs.run import translate_many
from crossband.jobs.task import FleetObserver
from crossband.raster.grid import Grid
from crossband.raster.warp import coverage

#: Scenes of 40 x 50 pixels, side by side.
SHAPE = (40, 50)
OPTIONS = {"precision": "fp32"}
pytestmark = pytest.mark.filterwarnings("ignore:.*the correlation of its structure")


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


def place(number):
    return UTM @ Affine.translation(SHAPE[1] * number, 0)


@pytest.fixture
def scenes(make_raster, tmp_path):
    """Write three scenes; return a function that writes a guide of one of them."""
    (tmp_path / "in").mkdir()
    (tmp_path / "guides").mkdir()
    for i in range(3):
        values = random_values(3, *SHAPE, seed=i)
        make_raster(f"in/{i}.tif", values, transform=place(i))

    def guide(name, of, date=None, **options):
        values = random_values(1, 10, 13, seed=len(name)) * 0.4  # 2 pixels reach the next scene
        at = {"names": ("nir",), "transform": place(of) @ Affine.scale(4)} | options
        path = make_raster(f"guides/{name}.tif", values, **at)
        if date:
            with rasterio.open(path, "r+") as file:
                file.update_tags(ACQUISITION_DATE=date)
        return path

    return guide


def dated(folder, dates):
    """Write a list of the three scenes with their dates."""
    rows = {"source": [f"in/{i}.tif" for i in range(3)], "datetime": dates}
    pd.DataFrame(rows).to_csv(folder / "scenes.csv", index=False)
    return folder / "scenes.csv"


def found(folder):
    """Return what the summary says: number of the scene -> (status, name of its guide)."""
    lines = summary.read(folder)
    return {
        n.split("_")[0]: (line.status, line.guide and line.guide.rsplit("/", 1)[-1])
        for n, line in lines.items()
    }


@pytest.mark.slow
def test_each_row_names_the_guide_of_its_scene(scenes, make_raster, model, tmp_path, capsys):
    plain = scenes("a", 0)
    stored = (random_values(2, 10, 13) * 4000 + 1000).astype(np.uint16)
    numbers = scenes("s2", 1)
    at = {"transform": place(1) @ Affine.scale(4), "names": (None, None), "unit": None}
    make_raster("guides/s2.tif", stored, **at)
    columns = {
        "source": ["in/0.tif", "in/1.tif", "in/2.tif"],
        "guide": ["guides/a.tif", "guides/s2.tif", None],
        "guide_bands": [None, "swir16=1,nir=2", None],
        "guide_sensor": [None, "sentinel-2-l2a", None],
        "guide_datetime": [None, 20240501, None],
    }
    for name in ("list.csv", "list.parquet"):
        table = pd.DataFrame(columns)
        table.to_csv(tmp_path / name, index=False) if name.endswith("csv") else table.to_parquet(
            tmp_path / name
        )
        out = tmp_path / f"out-{name}"
        status = translate_many(
            model, [tmp_path / name], out, observer=Printer(quiet=False), **OPTIONS
        )
        assert status.counts["done"] == 3
        assert found(out) == {
            "0": ("done", "a.tif"), "1": ("done", "s2.tif"), "2": ("done", None)
        }  # fmt: skip
        assert summary.read(out)["1_nir.tif"].guide_datetime == "2024-05-01"
        assert "guide s2.tif" in capsys.readouterr().out
        alone = model.translate(
            tmp_path / "in/1.tif", tmp_path / "alone.tif", guide=numbers, guide_bands={"nir": 2},
            guide_sensor="sentinel-2-l2a", overwrite=True, **OPTIONS,
        )  # fmt: skip
        assert alone.read_bytes() == (out / "1_nir.tif").read_bytes()
        alone = model.translate(
            tmp_path / "in/0.tif", tmp_path / "alone.tif", guide=plain, overwrite=True, **OPTIONS
        )
        assert alone.read_bytes() == (out / "0_nir.tif").read_bytes()
        status = translate_many(model, [tmp_path / name], out, **OPTIONS)
        assert status.counts["skipped"] == 3
        assert found(out)["1"] == ("skipped", "s2.tif")


def test_a_changed_guide_is_a_changed_input(scenes, model, tmp_path):
    scenes("a", 0)
    (tmp_path / "list.csv").write_text("source,guide\nin/0.tif,guides/a.tif\n")
    translate_many(model, [tmp_path / "list.csv"], tmp_path / "out", **OPTIONS)
    before = (tmp_path / "out" / "0_nir.tif").read_bytes()
    scenes("a", 0, dtype="float64")
    status = translate_many(model, [tmp_path / "list.csv"], tmp_path / "out", **OPTIONS)
    assert status.counts["failed"] == 1
    assert "--guide changed" in summary.read(tmp_path / "out")["0_nir.tif"].reason
    assert (tmp_path / "out" / "0_nir.tif").read_bytes() == before
    status = translate_many(
        model, [tmp_path / "list.csv"], tmp_path / "out", overwrite=True, **OPTIONS
    )
    assert status.counts["done"] == 1


class Told(FleetObserver):
    """Keeps how much of a scene is done; may stop in the middle of it."""

    def __init__(self, stop):
        self.stop, self.done = stop, []

    def on_scene_start(self, task):
        def progress(done, total):
            self.done.append(done)
            if self.stop and done > total / 2:
                raise KeyboardInterrupt

        return progress


def test_an_interrupted_scene_keeps_its_windows_for_another_guide(scenes, model, tmp_path):
    options = OPTIONS | {"tile": 16}
    (tmp_path / "list.csv").write_text("source,guide\nin/0.tif,guides/a.tif\n")
    scenes("a", 0)
    with pytest.raises(Interrupted):
        translate_many(
            model, [tmp_path / "list.csv"], tmp_path / "out", observer=Told(True), **options
        )
    other = scenes("another", 0)
    (tmp_path / "list.csv").write_text("source,guide\nin/0.tif,guides/another.tif\n")
    told = Told(False)
    status = translate_many(
        model, [tmp_path / "list.csv"], tmp_path / "out", observer=told, **options
    )
    assert status.counts["done"] == 1
    assert told.done[0] > SHAPE[0] * SHAPE[1] / 2
    alone = model.translate(tmp_path / "in/0.tif", tmp_path / "a.tif", guide=other, **options)
    assert alone.read_bytes() == (tmp_path / "out" / "0_nir.tif").read_bytes()


def test_one_wrong_guide_does_not_end_the_list(scenes, model, tmp_path):
    scenes("a", 0)
    rows = "source,guide\nin/0.tif,guides/a.tif\nin/1.tif,../none.tif\nin/2.tif,guides/a.tif\n"
    (tmp_path / "list.csv").write_text(rows)
    status = translate_many(model, [tmp_path / "list.csv"], tmp_path / "out", **OPTIONS)
    assert status.counts == {"done": 1, "skipped": 0, "failed": 2}
    reasons = [line.reason for line in summary.read(tmp_path / "out").values() if line.reason]
    assert "no such file" in reasons[0]
    assert "overlap" in reasons[1]
    assert all("\n" not in reason for reason in reasons)
    for wrong, words in (
        ({"guide_method": "linar"}, "did you mean"),
        ({"guide_sensor": "naips"}, "did you mean"),
        ({"guide": tmp_path / "none.tif"}, "none.tif: no such file"),
    ):
        with pytest.raises(CrossbandError, match=words):
            translate_many(model, [tmp_path / "list.csv"], tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()
    (tmp_path / "list.csv").write_text("source,guide\nin/0.tif,out/1_nir.tif\nin/1.tif,\n")
    with pytest.raises(OutputError, match="or its guide"):
        translate_many(model, [tmp_path / "list.csv"], tmp_path / "out", **OPTIONS)


@pytest.mark.parametrize(
    "cell",
    [
        "/",
        "..",
        "guides",
        "/dev/null",
        "x" * 5000,
        "x.tif" * 999,
        "a.tif#x",
        "in/0.tif",
        "guides/a.tif/b",
    ],
)
def test_hostile_guides_are_one_line(scenes, model, tmp_path, cell):
    scenes("a", 0)
    pd.DataFrame({"source": ["in/0.tif"], "guide": [cell]}).to_csv(tmp_path / "list.csv")
    status = translate_many(model, [tmp_path / "list.csv"], tmp_path / "out", **OPTIONS)
    assert status.counts["failed"] == 1
    (line,) = summary.read(tmp_path / "out").values()
    assert "\n" not in line.reason
    assert line.error in ("InputError", "BandError")
    assert not list((tmp_path / "out").glob("*.tif"))


def test_items_name_guides_in_their_properties(tmp_path):
    properties = {"crossband:guide": "guides/a.tif", "crossband:guide_bands": "nir=8"}
    items = [
        {"stac_version": "1.0.0", "id": "x", "properties": properties},
        {"stac_version": "1.0.0", "id": "y"},
    ]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    one, two = expand_inputs([str(path)])
    assert one.guide.guide == str(tmp_path / "guides" / "a.tif")
    assert one.guide.bands == {"nir": 8}
    assert two.guide.guide is None
    for wrong, words in ((7, "is no text"), ("a\0b", "NUL byte")):
        items[0]["properties"] = {"crossband:guide": wrong}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        with pytest.raises(InputError, match=words):
            expand_inputs([str(path)])


def test_a_folder_gives_each_scene_the_guide_of_its_place(scenes, model, tmp_path):
    near = scenes("near", 0)
    with rasterio.open(near) as file:  # the same place in another projection
        there = calculate_default_transform(file.crs, "EPSG:4326", 13, 10, *file.bounds)
        seen = np.full((1, there[2], there[1]), -1, np.float32)
        profile = {"dst_transform": there[0], "dst_crs": "EPSG:4326", "dst_nodata": -1}
        reproject(file.read(), seen, src_transform=file.transform, src_crs=file.crs, **profile)
        values = seen[0]
    near.unlink()
    at = {"names": ("nir",), "crs": "EPSG:4326", "transform": there[0], "nodata": -1}
    scenes("turned", 0)
    with rasterio.open(
        tmp_path / "guides/turned.tif", "w", driver="GTiff", count=1, dtype="float32",
        height=values.shape[0], width=values.shape[1],
        **{k: v for k, v in at.items() if k != "names"},
    ) as file:  # fmt: skip
        file.write(values, 1)
        file.set_band_description(1, "nir")
        file.units = ("reflectance",)
    scenes("one", 1)
    scenes("red", 2, names=("red",))
    scenes("nowhere", 2, crs=None, transform=Affine.identity())
    made = scenes("made", 2)
    with rasterio.open(made, "r+") as file:
        file.update_tags(CROSSBAND_SYNTHETIC="YES")
    options = OPTIONS | {"guide": tmp_path / "guides"}
    status = translate_many(model, [tmp_path / "in/*.tif"], tmp_path / "out", **options)
    assert status.counts == {"done": 2, "skipped": 0, "failed": 1}
    assert found(tmp_path / "out") == {
        "0": ("done", "turned.tif"), "1": ("done", "one.tif"), "2": ("failed", None)
    }  # fmt: skip
    reason = summary.read(tmp_path / "out")["2_nir.tif"].reason
    assert "2.tif: 1 made by a model, 1 without georeference, 1 without nir, 2 elsewhere" in reason
    alone = model.translate(
        tmp_path / "in/1.tif", tmp_path / "a.tif", guide=tmp_path / "guides/one.tif", **OPTIONS
    )
    assert alone.read_bytes() == (tmp_path / "out" / "1_nir.tif").read_bytes()
    (tmp_path / "guides/gone.tif").symlink_to(tmp_path / "nothing.tif")
    with pytest.raises(InputError, match=r"gone\.tif: No such file"):
        model.translate(tmp_path / "in/1.tif", tmp_path / "b.tif", **options)
    (tmp_path / "guides/gone.tif").unlink()
    # One scene takes a folder, too, and a guide is not replaced by what is made from it.
    with pytest.raises(OutputError, match="the output is its guide"):
        model.translate(
            tmp_path / "in/1.tif", tmp_path / "guides/one.tif", overwrite=True, **options
        )


def test_two_guides_of_one_date_are_told(scenes, model, tmp_path):
    scenes("one", 1, "2024-05-01")
    scenes("two", 1, "2024-05-01")
    options = OPTIONS | {"guide": tmp_path / "guides"}
    with rasterio.open(tmp_path / "in/1.tif", "r+") as file:
        file.update_tags(ACQUISITION_DATE="2024-05-02")
    with pytest.warns(
        CrossbandWarning, match=r"2 rasters there of 2024-05-01 .* one\.tif is taken"
    ):
        status = translate_many(model, [tmp_path / "in/1.tif"], tmp_path / "out", **options)
    assert status.counts["done"] == 1
    line = summary.read(tmp_path / "out")["1_nir.tif"]
    assert line.guide_datetime == "2024-05-01"
    # The date of a guide that is named is told, too.
    named = OPTIONS | {"guide": tmp_path / "guides/two.tif"}
    translate_many(model, [tmp_path / "in/1.tif"], tmp_path / "two", **named)
    assert summary.read(tmp_path / "two")["1_nir.tif"].guide_datetime == "2024-05-01"


def test_an_undeclared_raster_of_a_folder_names_the_options_of_guides(scenes, model, tmp_path):
    scenes("none", 1, unit=None)
    with pytest.raises(UnitError, match=r"none\.tif.*--guide-sensor") as error:
        model.translate(
            tmp_path / "in/1.tif", tmp_path / "a.tif", guide=tmp_path / "guides", **OPTIONS
        )
    assert "--scale" not in str(error.value)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ("2024-05-30", "may.tif"),
        ("2024-06-06", "may.tif"),  # as far from both: the earlier
        ("2024-06-07", "june.tif"),
        ("2023-01-01", "may.tif"),
        ("2024-06-10T12:00:00Z", "june.tif"),
        (None, None),
    ],
)
def test_the_guide_nearest_in_time(scenes, model, tmp_path, taken, expected):
    scenes("may", 0, "2024-06-01")
    scenes("june", 0, "2024-06-11")
    scenes("undated", 0)
    scenes("beside", 1, "2024-05-30")
    translate_many(
        model, [dated(tmp_path, [taken, None, None])], tmp_path / "out", guide=tmp_path / "guides",
        shard="1/3", **OPTIONS,
    )  # fmt: skip
    (line,) = summary.read(tmp_path / "out").values()
    if expected is None:
        assert "3 rasters there are of the place" in line.reason
        assert "the scene does not say when it was taken" in line.reason
    else:
        assert line.guide.endswith(expected)
        assert line.guide_datetime == {"may.tif": "2024-06-01"}.get(expected, "2024-06-11")


def test_the_share_of_a_scene_in_another_grid():
    crs = rasterio.CRS.from_epsg(32633)
    whole = Grid(40, 50, UTM, crs)
    assert coverage(whole, Grid(10, 13, UTM @ Affine.scale(4), crs)) == 1
    assert coverage(whole, Grid(40, 25, UTM, crs)) == pytest.approx(0.5, abs=0.02)
    assert coverage(whole, Grid(40, 50, place(1), crs)) == 0
    lonlat = rasterio.CRS.from_epsg(4326)
    assert coverage(whole, Grid(180, 360, Affine(1, 0, -180, 0, -1, 90), lonlat)) == 1
    assert coverage(whole, Grid(9, 9, Affine(1, 0, 100, 0, -1, -50), lonlat)) == 0
