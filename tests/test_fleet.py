"""Many scenes: which they are, who does which, what is skipped, what fails, what is remembered."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from commands import PATIENCE, wait_until
from conftest import random_values
from hypothesis import given
from hypothesis import strategies as st
from tiers import slow

import crossband
from crossband.cli.fleet import Printer
from crossband.cli.main import main
from crossband.core.hidden_folder import folder_of
from crossband.errors import CrossbandError, InputError, Interrupted, ManifestError, OutputError
from crossband.jobs import fleet_executor, summary
from crossband.jobs.inputs import SceneInput, expand_inputs, stands_for_many
from crossband.jobs.names import output_paths
from crossband.jobs.run import translate_many
from crossband.jobs.shards import Shard, parse_shard
from crossband.jobs.task import FleetObserver
from crossband.raster import journal as store_module
from crossband.raster.grid import Box
from crossband.translate.engine import Engine
from crossband.translate.options import NO_INTERVALS, FieldIntervalOptions, IntervalOptions


@pytest.fixture
def scenes(make_raster, tmp_path):
    """Return a folder with five scenes: `scene-0.tif` to `scene-4.tif`."""
    (tmp_path / "in").mkdir()
    for i in range(5):
        make_raster(f"in/scene-{i}.tif", random_values(3, 60, 70, seed=i))
    return tmp_path / "in"


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


def lines(folder):
    return {n: (line.status, line.reason) for n, line in summary.read(folder).items()}


def hidden(folder):
    return list(folder.rglob(".*"))


def pixels(path):
    with rasterio.open(path) as file:
        return file.read()


# Which scenes.


def test_inputs_are_expanded_and_each_scene_is_there_once(scenes, tmp_path):
    listed = tmp_path / "lists" / "scenes.txt"
    listed.parent.mkdir()
    far = "s3://bucket/far.tif?x=1"
    listed.write_text(f"# two\n../in/scene-1.tif\n\n  {scenes / 'scene-3.tif'}  \n{far}\n")
    found = expand_inputs([str(scenes / "scene-[01]*"), str(listed), str(scenes / "scene-3.tif")])
    assert [s.stem for s in found] == ["scene-0", "scene-1", "scene-3", "far"]
    assert found[2].label == f"{listed} line 4: {scenes / 'scene-3.tif'}"
    assert found[3].path == far
    deep = expand_inputs([str(tmp_path / "**" / "scene-2.tif")])
    assert [s.path for s in deep] == [str(scenes / "scene-2.tif")]
    odd = scenes / "a[1].tif"  # a name is a name before it is a pattern
    odd.touch()
    assert [s.path for s in expand_inputs([str(odd)])] == [str(odd)]
    assert stands_for_many(str(listed))
    assert stands_for_many(str(scenes / "*.tif"))
    assert not stands_for_many(str(odd))
    assert not stands_for_many("s3://bucket/list.txt?a=*")


def test_parts_of_pictures_without_georeference_are_told_apart(model, make_raster, tmp_path):
    """Their grids are equal: nothing but the window says that another part is wanted."""
    make_raster("a.tif", random_values(3, 50, 60), crs=None, transform=None)
    options = {"precision": "fp32", "name": "{parent}.tif"}
    statuses = []
    for window in ("0,0,30,40", "30,10,30,40", "30,10,30,40"):
        (tmp_path / "a.csv").write_text(f'source,source_window\na.tif,"{window}"\n')
        status = translate_many(
            model, [tmp_path / "a.csv"], tmp_path / "out", overwrite=True, **options
        )
        statuses.append([name for name, count in status.counts.items() if count])
    assert statuses == [["done"], ["done"], ["skipped"]]
    window = Box(10, 30, 40, 30)
    straight = model.translate(
        tmp_path / "a.tif", tmp_path / "x.tif", window=window, precision="fp32"
    )
    made = next((tmp_path / "out").rglob("*.tif"))
    assert np.array_equal(pixels(made), pixels(straight))


def test_a_manifest_states_nodata_beside_alpha(model, make_raster, tmp_path):
    values = np.full((4, 50, 60), 90, np.uint8)
    values[:3, :9] = 0
    profile = {"unit": "display", "scale": 1 / 255, "photometric": "rgb", "alpha": "yes"}
    make_raster("a.tif", values, names=("red", "green", "blue", None), **profile)
    (tmp_path / "a.csv").write_text("source,nodata\na.tif,0\n")
    translate_many(model, [tmp_path / "a.csv"], tmp_path / "out", precision="fp32")
    with rasterio.open(next((tmp_path / "out").glob("*.tif"))) as file:
        assert not file.dataset_mask()[:9].any()
        assert file.dataset_mask()[9:].all()


@pytest.mark.parametrize(
    ("name", "text", "error", "words"),
    [
        ("none*.tif", None, InputError, "no file matches"),
        ("a.txt", None, InputError, "no such file"),
        ("a.txt", "# nothing\n", InputError, "names no scene"),
        ("a.csv", None, ManifestError, "no such manifest"),
        ("a.csv", "sorce\na.tif\n", ManifestError, "'source'"),
        ("a.csv", "source,target\n,a.tif\n", ManifestError, "no row has a source"),
        ("a.csv", "source,source_bands\na.tif,red\n", ManifestError, "row 1: bands"),
        ("a.csv", "source,source_window\na.tif,1-2\n", ManifestError, "row 1: source_window"),
        ("a.json", '{"type": "FeatureCollection", "features": []}', InputError, "no items"),
        (
            "a.json",
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "x"}]}',
            InputError,
            "no STAC item",
        ),
        (
            "a.geojson",
            json.dumps(
                {
                    "type": "FeatureCollection",
                    "features": [{"stac_version": "1.0.0", "id": "x"}] * 2,
                }
            ),
            InputError,
            "two items are called 'x'",
        ),
    ],
)
def test_inputs_that_cannot_be_expanded(tmp_path, name, text, error, words):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=words) as caught:
        expand_inputs([str(path)])
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_rows_of_a_manifest_say_how_their_scene_is_read(make_raster, model, tmp_path):
    """Two scenes that say nothing of themselves, and two parts of a third."""
    values = (random_values(4, 50, 60) * 1000).astype(np.uint16)
    values[:, :9] = 7
    make_raster("a.tif", values, names=(None,) * 4, unit=None)
    make_raster("b.tif", values[:3], names=("red", "green", "blue"), unit=None)
    make_raster("c.tif", random_values(3, 50, 60))
    table = pd.DataFrame(
        {
            "source": ["a.tif", "b.tif", "c.tif", "c.tif"],
            "source_bands": ["blue=1,green=2,red=3,nir=4", None, None, None],
            "sensor": ["reflectance", "reflectance", None, None],
            "scale": [1e-3, 2e-3, None, None],
            "offset": [None, 0.01, None, None],
            "nodata": [7, None, None, None],
            "source_window": [None, None, "0,0,30,50", "30,10,30,40"],
            "target": [None, "b.tif", None, None],
        }
    )
    table.to_csv(tmp_path / "scenes.csv", index=False)
    out = tmp_path / "out"
    options = {"precision": "fp32", "dtype": "float32"}
    status = translate_many(model, [tmp_path / "scenes.csv"], out, offset=0.0, **options)
    assert status.counts == {"done": 4, "skipped": 0, "failed": 0}
    bands = {"blue": 1, "green": 2, "red": 3}
    said = {
        "a": {"bands": bands, "sensor": "reflectance", "scale": 1e-3, "source_nodata": 7},
        "b": {"sensor": "reflectance", "scale": 2e-3, "offset": 0.01},
        "c_0-0-30-50": {"window": Box(0, 0, 50, 30)},
        "c_30-10-30-40": {"window": Box(10, 30, 40, 30)},
    }
    for stem, reading in said.items():
        source = tmp_path / f"{stem[0]}.tif"
        straight = model.translate(source, tmp_path / "x.tif", **reading, **options, overwrite=True)
        made = out / f"{stem}_nir.tif"
        np.testing.assert_array_equal(pixels(made), pixels(straight))
        with rasterio.open(made) as one, rasterio.open(straight) as other:
            assert one.transform == other.transform
    assert np.isnan(pixels(out / "a_nir.tif")[0, :9]).all()
    assert pixels(out / "c_30-10-30-40_nir.tif").shape == (1, 40, 30)


def test_items_of_a_stac_collection(make_raster, model, tmp_path):
    """Each item is a source of its own, opened as `items.json#ID`; one that is broken fails."""
    items = []
    for i in range(3):
        values, assets = random_values(3, 50, 60, seed=i), {}
        make_raster(f"whole-{i}.tif", values)
        for name, band in zip(("red", "green", "blue"), values, strict=True):
            make_raster(f"{name}-{i}.tif", band[None], names=(None,), unit=None)
            bands = [{"name": name, "common_name": name}]
            assets[name] = {"href": f"{name}-{i}.tif", "roles": ["data"], "eo:bands": bands}
        items.append({"type": "Feature", "stac_version": "1.0.0", "id": f"S2A/{i}"})
        items[-1] |= {"assets": assets, "properties": {}}
    (tmp_path / "green-2.tif").unlink()
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    assert stands_for_many(str(path))
    assert [s.path for s in expand_inputs([str(path)])] == [
        f"{path}#{item['id']}" for item in items
    ]
    one = tmp_path / "item.json"  # a single item is a scene as it is
    one.write_text(json.dumps(items[0]))
    assert [s.path for s in expand_inputs([str(one)])] == [str(one)]
    assert not stands_for_many(str(one))
    options = {"sensor": "reflectance", "precision": "fp32", "dtype": "float32"}
    out = tmp_path / "out"
    status = translate_many(model, [path], out, **options)
    assert status.counts == {"done": 2, "skipped": 0, "failed": 1}
    assert "green-2.tif" in lines(out)["S2A_2_nir.tif"][1]
    for i in range(2):
        whole = model.translate(tmp_path / f"whole-{i}.tif", tmp_path / f"{i}.tif", **options)
        np.testing.assert_array_equal(pixels(out / f"S2A_{i}_nir.tif"), pixels(whole))
    assert translate_many(model, [path], out, **options).counts["skipped"] == 2


# What they are called.


OUT = Path("/out")


def named(paths, pattern="{stem}_{target}", indices=(), sure=NO_INTERVALS):
    found = [SceneInput(p, p.rpartition("/")[2].partition(".")[0], p) for p in paths]
    made = output_paths(
        found,
        OUT,
        model="m",
        target=["red", "nir"],
        pattern=pattern,
        indices=indices,
        sure=sure,
    )
    return [p.relative_to(OUT).as_posix() for p in made]


def test_names():
    paths = ["x/a.tif", "y/b.png", "y/c.jpg", "z/d.SAFE"]
    assert named(paths) == ["a_red_nir.tif", "b_red_nir.png", "c_red_nir.png", "d_red_nir.tif"]
    assert named(paths, "{parent}/{number:03d}-{model}.tif") == [
        "x/001-m.tif",
        "y/002-m.tif",
        "y/003-m.tif",
        "z/004-m.tif",
    ]
    assert named(["x/a.tif", "y/a.tif"], "{parent}_{stem}") == ["x_a.tif", "y_a.tif"]


@pytest.mark.parametrize(
    ("paths", "pattern", "indices", "words"),
    [
        (["x/a.tif", "y/a.tif"], "{stem}", (), "x/a.tif and y/a.tif"),
        (["x/a.tif", "y/a_NDVI.tif"], "{stem}", ("NDVI",), "x/a.tif and y/a_NDVI.tif"),
        (["/out/a.tif", "/out/a_nir.tif"], "{stem}_nir", (), "over the input /out/a_nir.tif"),
        (["x/a.tif"], "{steam}", (), "did you mean 'stem'"),
        (["x/a.tif"], "{stem", (), "--name"),
        (["x/a.tif"], "{stem:d}", (), "--name"),
        (["x/a.tif"], "../{stem}", (), "does not lie in the output folder"),
        (["x/a.tif"], "/tmp/{stem}", (), "does not lie in the output folder"),
    ],
)
def test_names_that_clash_or_cannot_be(paths, pattern, indices, words):
    with pytest.raises(OutputError, match=words) as caught:
        named(paths, pattern, indices)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("other", "indices", "sure"),
    [
        ("a.interval", (), IntervalOptions(0.9)),
        ("a_NDVI.interval", ("NDVI",), IntervalOptions(0.9)),
        ("a.familiarity", (), IntervalOptions(familiarity=True)),
        ("a_NDVI.widths", ("NDVI",), FieldIntervalOptions(0.9)),
    ],
)
def test_files_of_intervals_and_familiarity_replace_no_input_and_no_result(other, indices, sure):
    for folder, words in (("/out", "over the input"), ("x", "two inputs would be")):
        found = [SceneInput(f"{folder}/{stem}.tif", stem, stem) for stem in ("a", other)]
        with pytest.raises(OutputError, match=words):
            output_paths(found, OUT, model="m", target=["nir"], pattern="{stem}.tif",
                         indices=indices, sure=sure)  # fmt: skip


def test_clashes_are_told_before_any_work(scenes, tiny_model, tmp_path, crossband_command):
    (tmp_path / "other").mkdir()
    shutil.copy(scenes / "scene-1.tif", tmp_path / "other")
    pattern = str(tmp_path / "**" / "*.tif")
    out = tmp_path / "out"
    done = crossband_command("translate", pattern, "-o", out, "--model", tiny_model)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{scenes / 'scene-1.tif'} and {tmp_path / 'other' / 'scene-1.tif'}" in done.stderr
    assert not out.exists()


# Who does which.


@given(st.lists(st.integers(), max_size=60), st.integers(1, 25))
def test_shards_cover_a_list_once(items, count):
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == sorted(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def array(task, first, last, step, count, **more):
    names = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    found = {f"SLURM_ARRAY_TASK_{k}": str(v) for k, v in names.items()}
    return found | {k: str(v) for k, v in more.items()}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("3/10", {}, (3, 10)),
        (" 1 / 1 ", {}, (1, 1)),
        ("slurm", array(0, 0, 9, 1, 10), (1, 10)),
        ("slurm", array(9, 0, 9, 1, 10), (10, 10)),
        ("SLURM", array(11, 5, 11, 3, 3), (3, 3)),
        ("slurm", {"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (3, 4)),
        ("slurm", array(2, 1, 3, 1, 3, SLURM_PROCID=1, SLURM_NTASKS=4), (6, 12)),
        ("slurm", array(2, 1, 3, 1, 3, SLURM_PROCID=0, SLURM_JOB_ID=7), (2, 3)),
        (
            "slurm",
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"},
            (1, 4),
        ),
    ],
)
def test_shards_are_read(text, environment, expected):
    found = parse_shard(text, environment)
    assert (found.number, found.count) == expected


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("0/10", {}, "counted from 1, here 1/10 to 10/10"),
        ("11/10", {}, "counted from 1"),
        ("1/0", {}, "counted from 1"),
        ("3", {}, "3/10"),
        ("-1/3", {}, "3/10"),
        ("slurm", {}, "SLURM_ARRAY_TASK_ID"),
        ("slurm", {"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN is not set"),
        ("slurm", array("x", 0, 9, 1, 10), "is 'x', no whole number"),
        ("slurm", array(5, 1, 9, 1, 3), "not evenly spaced"),
        ("slurm", array(1, 1, 9, 1, 3), "not evenly spaced"),
        ("slurm", array(12, 0, 9, 1, 10), "not evenly spaced"),
        ("slurm", {"SLURM_PROCID": "4", "SLURM_NTASKS": "4"}, "SLURM_PROCID is 4"),
        (
            "slurm",
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},
            "start it with srun",
        ),
    ],
)
def test_wrong_shards_are_one_line(text, environment, words):
    with pytest.raises(CrossbandError, match=words) as caught:
        parse_shard(text, environment)
    assert "\n" not in str(caught.value)


def test_parallel_jobs_share_a_list(scenes, model, tmp_path):
    """Each shard does its own, in a file of its own; the order of the inputs does not matter."""
    out = tmp_path / "out"
    inputs = [scenes / f"scene-{i}.tif" for i in (3, 1, 0, 4, 2)]
    counts = [
        translate_many(model, turned, out, shard=f"{number}/3").counts["done"]
        for number, turned in ((1, inputs), (2, inputs[::-1]), (3, inputs))
    ]
    assert counts == [2, 2, 1]
    assert sorted(p.name for p in out.glob("summary*")) == [
        f"summary-{number}-of-3.jsonl" for number in (1, 2, 3)
    ]
    assert len(summary.read(out)) == len(list(out.glob("*.tif"))) == 5
    status = translate_many(model, inputs, out)  # the whole list, later
    assert status.counts == {"done": 0, "skipped": 5, "failed": 0}
    assert {line.status for line in summary.read(out).values()} == {"skipped"}


# How it goes.


def test_a_failing_scene_is_reported_and_the_rest_go_on(
    scenes, make_raster, tiny_model, tmp_path, crossband_command
):
    make_raster("in/few.tif", random_values(2, 9, 9), names=("red", "green"))
    good = (scenes / "scene-1.tif").read_bytes()
    (scenes / "scene-1.tif").write_bytes(good[:30_000])
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    damaged = make_raster("in/middle.tif", random_values(3, 200, 200), **tiles)
    data = bytearray(damaged.read_bytes())
    data[-100_000:-60_000] = bytes(40_000)  # the first blocks can be read, a later one cannot
    damaged.write_bytes(data)
    listed = tmp_path / "scenes.txt"
    listed.write_text("in/gone.tif\n")
    out = tmp_path / "out"
    command = ["translate", str(scenes / "*.tif"), listed, "-o", out, "--model", tiny_model]
    done = crossband_command(*command, "--tile", 64)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("crossband: ")]
    assert len(said) == 5, done.stderr
    assert said[-1].startswith("crossband: 4 of 8 scenes failed")
    assert "[8/8] scene-4_nir.tif  done, 0.0042 MPix" in done.stdout
    assert "4 done, 0 skipped, 4 failed" in done.stdout
    found = lines(out)
    assert sum(status == "done" for status, _ in found.values()) == 4
    assert found["scene-2_nir.tif"] == ("done", None)
    for name, words in (
        ("few", "it has 2 bands"),
        ("gone", "no such file"),
        ("middle", "cannot be read"),
        ("scene-1", "not a raster"),
    ):
        status, reason = found[f"{name}_nir.tif"]
        assert status == "failed"
        assert words in reason
        assert f"{name}.tif" in reason
    assert not hidden(out)
    assert len(list(out.glob("*.tif"))) == 4
    # The file is mended: only what is missing is done.
    (scenes / "scene-1.tif").write_bytes(good)
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*.tif")}
    done = crossband_command(*command, "--tile", 64)
    assert done.returncode == 1
    assert "1 done, 4 skipped, 3 failed" in done.stdout
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    last = summary.read(out)["scene-1_nir.tif"]
    assert (last.status, last.pixels, last.model) == ("done", 60 * 70, "tiny")
    assert len((out / "summary.jsonl").read_text().splitlines()) == 16


def test_a_scene_whose_name_cannot_be_used_fails_alone(scenes, model, tmp_path, monkeypatch):
    """Of the names that are refused, no pixel is computed; the summary stays JSON."""
    latin = os.fsdecode(b"gr\xe9en.tif")
    for name in (latin, "esc\x1b[2J.tif"):
        (scenes / "scene-1.tif").rename(scenes / name)
        (scenes / "scene-1.tif").write_bytes((scenes / name).read_bytes())
    observer = Stopping()
    status = translate_many(model, [scenes / "*.tif"], tmp_path / "out", observer=observer)
    assert status.counts == {"done": 5, "skipped": 0, "failed": 2}
    assert set(observer.first) == {f"scene-{i}_nir.tif" for i in range(5)}
    found = lines(tmp_path / "out")
    assert "its name is not UTF-8" in found[latin.replace(".tif", "_nir.tif")][1]
    assert "control characters in a name" in found["esc\x1b[2J_nir.tif"][1]


def test_a_name_with_a_newline_says_no_line_of_its_own(scenes, tiny_model, tmp_path, capsys):
    (scenes / "scene-1.tif").rename(scenes / "x\ncrossband: done.tif")
    words = ["translate", scenes / "*.tif", "-o", tmp_path / "out", "--model", tiny_model]
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr()
    assert "x\\ncrossband: done_nir.tif" in said.err
    assert all(line.startswith("crossband: ") for line in said.err.splitlines())
    assert "crossband: done" not in said.out


def test_the_model_is_made_ready_once(scenes, model, tmp_path, monkeypatch):
    made = []

    class Counted(Engine):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr("crossband.translate.executor.Engine", Counted)
    status = translate_many(model, [scenes / "*.tif"], tmp_path / "out")
    assert status.counts["done"] == 5
    assert len(made) == 1


def test_the_result_is_that_of_each_scene_alone(scenes, model, tmp_path):
    translate_many(model, [scenes / "*.tif"], tmp_path / "out", indices=["NDVI"])
    for i in range(5):
        alone = model.translate(scenes / f"scene-{i}.tif", tmp_path / f"{i}.tif", indices=["NDVI"])
        assert (tmp_path / "out" / f"scene-{i}_nir.tif").read_bytes() == alone.read_bytes()
        assert (tmp_path / "out" / f"scene-{i}_nir_NDVI.tif").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tile": 64}, "--tile changed"),
        slow({"precision": "bf16"}, "--precision changed"),
        slow({"compress": "lzw"}, "--compress changed"),
        slow({"indices": ["NDVI"]}, "--index changed"),
        slow({"dtype": "uint16", "out_scale": 1e-4}, "--dtype"),
        ("model", "the model changed"),
        ("source", "the source changed"),
        ("foreign", "does not say what it was made from"),
    ],
)
def test_what_was_made_otherwise_is_no_reason_to_skip(scenes, model, tmp_path, change, words):
    out = tmp_path / "out"
    first = {"precision": "fp32"}
    translate_many(model, [scenes / "*.tif"], out, **first)
    made = out / "scene-2_nir.tif"
    options = first | (change if isinstance(change, dict) else {})
    if change == "model":
        next(model.network.parameters()).data[0] += 1e-3
    elif change == "source":
        os.utime(scenes / "scene-2.tif", ns=(0, 10**18))
    elif change == "foreign":
        shutil.copy(scenes / "scene-2.tif", made)
    before = made.read_bytes()
    status = translate_many(model, [scenes / "*.tif"], out, **options)
    changed = 1 if change in ("source", "foreign") else 5
    assert status.counts == {"done": 0, "skipped": 5 - changed, "failed": changed}
    status, reason = lines(out)["scene-2_nir.tif"]
    assert status == "failed"
    assert words in reason
    assert "--overwrite" in reason
    assert made.read_bytes() == before
    status = translate_many(model, [scenes / "*.tif"], out, overwrite=True, **options)
    assert status.counts == {"done": changed, "skipped": 5 - changed, "failed": 0}
    status = translate_many(model, [scenes / "*.tif"], out, overwrite=True, **options)
    assert status.counts["skipped"] == 5
    assert not hidden(out)


def test_what_is_left_to_the_machine_may_change(scenes, model, tmp_path):
    """A file that a GPU made is not made again where `auto` means a processor, unless one asks."""
    out = tmp_path / "out"
    translate_many(model, [scenes / "*0.tif"], out, precision="fp32")
    assert translate_many(model, [scenes / "*0.tif"], out).counts["skipped"] == 1
    status = translate_many(model, [scenes / "*0.tif"], out, precision="bf16")
    assert status.counts["failed"] == 1


def test_pictures_and_indices_count_too(make_raster, model, tmp_path):
    photo = make_raster("p.png", (random_values(3, 20, 20) * 255).astype(np.uint8))
    out = tmp_path / "out"
    options = {"sensor": "display", "indices": ["NDVI"]}
    assert translate_many(model, [photo], out, **options).counts["done"] == 1
    assert translate_many(model, [photo], out, **options).counts["skipped"] == 1
    (out / "p_nir_NDVI.tif").unlink()
    assert translate_many(model, [photo], out, **options).counts["done"] == 1
    assert (out / "p_nir_NDVI.tif").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "uint9"}, "--dtype"),
        ({"compress": "zip"}, "--compress"),
        ({"indices": ["NVDI"]}, "did you mean 'NDVI'"),
        ({"indices": ["NBR"]}, "swir22"),
        ({"sensor": "sentinel"}, "sensor"),
        ({"tile": 0}, "--tile"),
        ({"seed": 3}, "--seed"),
        ({"precision": "fp8"}, "precision"),
        ({"shard": "4/3"}, "--shard"),
        ({"name": "{x}"}, "--name"),
    ],
)
def test_options_that_fit_no_scene_are_told_at_once(scenes, model, tmp_path, options, words):
    with pytest.raises(CrossbandError, match=words):
        translate_many(model, [scenes / "*.tif"], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_whatever_happens_to_one_scene_the_rest_go_on(scenes, model, tmp_path, monkeypatch):
    translate = fleet_executor.translate_scene

    def strange(model, source, output, options, **how):
        if source.endswith("scene-1.tif"):
            raise RuntimeError("out of\nmemory")
        return translate(model, source, output, options, **how)

    monkeypatch.setattr(fleet_executor, "translate_scene", strange)
    status = translate_many(model, [scenes / "*.tif"], tmp_path / "out")
    assert status.counts == {"done": 4, "skipped": 0, "failed": 1}
    line = summary.read(tmp_path / "out")["scene-1_nir.tif"]
    assert line.error == "RuntimeError"
    assert line.reason == f"{scenes / 'scene-1.tif'}: out of memory"


# What is interrupted.


class Stopping(FleetObserver):
    """Presses Ctrl-C in the middle of one scene; remembers where each began."""

    def __init__(self, scene=None):
        self.scene, self.first = scene, {}

    def on_scene_start(self, task):
        def progress(done, total):
            self.first.setdefault(task.name, done)
            if task.name == self.scene and done > total // 2:
                raise KeyboardInterrupt

        return progress


@pytest.fixture
def stopped(scenes, model, tmp_path, monkeypatch):
    """Return a run that was interrupted in the middle of its third scene."""
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match=r"2 of 5 scenes are in summary\.jsonl") as caught:
        translate_many(
            model, [scenes / "*.tif"], out, tile=48, observer=Stopping("scene-2_nir.tif")
        )
    assert caught.value.exit_code == 130
    assert lines(out) == {"scene-0_nir.tif": ("done", None), "scene-1_nir.tif": ("done", None)}
    assert folder_of(out / "scene-2_nir.tif").is_dir()
    return out


def test_an_interrupted_scene_goes_on(stopped, scenes, model, tmp_path):
    observer = Stopping()
    status = translate_many(model, [scenes / "*.tif"], stopped, tile=48, observer=observer)
    assert status.counts == {"done": 3, "skipped": 2, "failed": 0}
    assert set(observer.first) == {f"scene-{i}_nir.tif" for i in (2, 3, 4)}
    assert observer.first["scene-2_nir.tif"] > 0
    assert observer.first["scene-3_nir.tif"] == 0
    assert not hidden(stopped)
    alone = model.translate(scenes / "scene-2.tif", tmp_path / "x.tif", tile=48)
    np.testing.assert_array_equal(pixels(stopped / "scene-2_nir.tif"), pixels(alone))


def test_an_interrupted_scene_that_changed(stopped, scenes, model):
    """Begun with other options: it starts anew; with `resume` it is refused."""
    options = {"tile": 56, "overwrite": True}
    status = translate_many(model, [scenes / "*2.tif"], stopped, resume=True, **options)
    assert status.counts["failed"] == 1
    assert "--tile changed" in lines(stopped)["scene-2_nir.tif"][1]
    observer = Stopping()
    translate_many(model, [scenes / "*2.tif"], stopped, observer=observer, **options)
    assert observer.first["scene-2_nir.tif"] == 0
    assert lines(stopped)["scene-2_nir.tif"] == ("done", None)


def test_killed_when_all_was_done(scenes, model, tmp_path, monkeypatch):
    """The file has its name, and the store is still there: it goes when the scene is skipped."""
    out = tmp_path / "out"
    options = {"indices": ["NDVI"]}
    with monkeypatch.context() as killed:
        killed.setattr(store_module.Store, "remove", store_module.Store.close)
        translate_many(model, [scenes / "*[12].tif"], out, **options)
    (out / ".scene-1_nir_NDVI.tif.crossband-made").mkdir()
    assert len([p for p in out.iterdir() if p.name.startswith(".")]) == 3
    facts = folder_of(out / "scene-2_nir.tif") / "run.json"
    facts.write_text(facts.read_text().replace('"the source": "', '"the source": "another'))
    status = translate_many(model, [scenes / "*[12].tif"], out, **options)
    assert status.counts["skipped"] == 2
    left = [p.name for p in out.iterdir() if p.name.startswith(".")]
    assert left == [".scene-2_nir.tif.crossband"]


def test_a_scene_that_another_process_has_is_left_to_it(scenes, model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    other = store_module.Store.open(out / "scene-2_nir.tif", {"the source": "x"})
    try:
        status = translate_many(model, [scenes / "*.tif"], out)
        assert status.counts == {"done": 4, "skipped": 0, "failed": 1}
        assert "another process" in lines(out)["scene-2_nir.tif"][1]
        assert (folder_of(out / "scene-2_nir.tif") / "run.json").exists()
    finally:
        other.remove()


def test_ctrl_c(interpreters, make_raster, tiny_model, tmp_path):
    """The real command, between and in the middle of scenes: exit code 130, nothing lost."""
    make_raster("0.tif", random_values(3, 40, 40))
    make_raster("1.tif", random_values(3, 2000, 2000))
    make_raster("2.tif", random_values(3, 40, 40))
    command = ["translate", tmp_path / "?.tif", "-o", tmp_path / "out", "--model", tiny_model]
    process = interpreters.start("-m", "crossband", *command, "--tile", "64")
    begun = tmp_path / "out" / ".1_nir.tif.crossband" / "values.raw"
    wait_until(begun.exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.count("\n") == 1, said
    assert "1 of 3 scenes are in summary.jsonl: the same command does the rest" in said
    assert set(lines(tmp_path / "out")) == {"0_nir.tif"}


def test_a_torn_summary_goes_on(scenes, model, tmp_path):
    out = tmp_path / "out"
    translate_many(model, [scenes / "*0.tif"], out)
    with open(out / "summary.jsonl", "ab") as file:
        file.write(b'{"output": "scene-1')
    translate_many(model, [scenes / "*[01].tif"], out)
    assert lines(out) == {"scene-0_nir.tif": ("skipped", None), "scene-1_nir.tif": ("done", None)}
    keys = set(json.loads((out / "summary.jsonl").read_text().splitlines()[0]))
    assert keys == {
        *("output", "input", "status", "reason", "error"),
        *("pixels", "seconds", "model", "version", "time", "guide", "guide_datetime"),
        *("unfamiliar", "unfamiliar_line"),
    }


def test_what_is_printed(scenes, model, tmp_path, capsys):
    out = tmp_path / "out"
    translate_many(model, [scenes / "*.tif"], out, observer=Printer(quiet=False))
    said = capsys.readouterr()
    first, *_, last = said.out.splitlines()
    assert first.startswith("[1/5] scene-0_nir.tif  done, 0.0042 MPix in ")
    assert first.endswith(" left")
    assert last.startswith("[5/5] ")
    assert "left" not in last
    assert said.err == ""
    translate_many(model, [scenes / "*.tif"], out, observer=Printer(quiet=False))
    assert capsys.readouterr().out.splitlines()[0] == "[1/5] scene-0_nir.tif  skipped"


def test_folders_and_files_as_outputs(scenes, tiny_model, tmp_path, crossband_command):
    (tmp_path / "file").write_text("mine")
    run = lambda *a: crossband_command("translate", *a, "--model", tiny_model)  # noqa: E731
    scene, many = scenes / "scene-0.tif", str(scenes / "*.tif")
    for arguments, words in (
        ((many, "-o", tmp_path / "file"), "need a folder"),
        ((scene, "-o", tmp_path / "x.tif", "--shard", "1/2"), "--shard is for many"),
        ((scene, "-o", tmp_path / "x.tif", "--name", "{stem}"), "--name is for many"),
        ((many, "-o", "/proc/out"), "cannot write"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "x.tif").exists()


@pytest.mark.parametrize("pattern", ["{stem!r}", "{stem:>9999999999}", "{stem:{model}}"])
def test_fields_of_a_name_have_no_widths(pattern):
    """One of ten thousand million characters ended the process for want of memory."""
    with pytest.raises(OutputError, match="a field is its name in braces"):
        output_paths(
            [SceneInput("a.tif", "a", "a")], OUT, model="m", target=["nir"], pattern=pattern
        )
