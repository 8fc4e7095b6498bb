"""No result is written over a file that it is made from, whatever its name."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from tiers import slow

from crossband.cli.main import main
from crossband.errors import OutputError
from crossband.raster.output_paths import check_not_read


def refused(words, capsys, said):
    """Run a command that must fail in one line."""
    assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("crossband: ")
    assert said in line


def test_a_result_that_is_read_is_found_under_other_names(tmp_path):
    (tmp_path / "in.tif").write_bytes(b"")
    (tmp_path / "link.tif").symlink_to(tmp_path / "in.tif")
    check_not_read([tmp_path / "out.tif"], [tmp_path / "in.tif", "https://a.test/out.tif"])
    for output in ("in.tif", "link.tif", "x/../in.tif"):
        with pytest.raises(OutputError, match="read by this command"):
            check_not_read([tmp_path / output], [tmp_path / "in.tif"])


@pytest.mark.parametrize("option", ["-o", "--json", "--fix"])
@pytest.mark.parametrize("victim", ["scene.tif", "pairs.csv"])
def test_a_check_keeps_manifest_and_files(option, victim, make_raster, tmp_path, capsys):
    make_raster(names=("red", "green", "blue", "nir"))
    table = pd.DataFrame({"source": ["scene.tif"], "target": ["scene.tif"]})
    table.to_csv(tmp_path / "pairs.csv", index=False)
    before = {name: (tmp_path / name).read_bytes() for name in ("scene.tif", "pairs.csv")}
    words = ["data", "check", tmp_path / "pairs.csv", option, tmp_path / victim, "--overwrite"]
    if (option, victim) == ("--fix", "pairs.csv"):  # a manifest may be replaced by its own rows
        main([str(word) for word in words])
        assert (tmp_path / victim).read_text().startswith("source,target")
        return
    refused(words, capsys, f"{victim}: it is read by this command")
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_a_check_writes_two_files(make_raster, tmp_path, capsys):
    make_raster(names=("red", "green", "blue", "nir"))
    table = pd.DataFrame({"source": ["scene.tif"], "target": ["scene.tif"]})
    table.to_csv(tmp_path / "pairs.csv", index=False)
    words = ["data", "check", tmp_path / "pairs.csv", "-o", tmp_path / "r.html"]
    refused([*words, "--json", tmp_path / "r.html"], capsys, "must be different files")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("name", ["model.json", "item.json"])
def test_an_item_is_not_written_into_the_model(name, tiny_model, tmp_path, capsys):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    data = json.loads((model / "model.json").read_text())
    data["about"]["licence"] = "MIT"
    (model / "model.json").write_text(json.dumps(data))
    before = (model / "model.json").read_bytes()
    words = ["export", model, "--to", "stac", "-o", model / name, "--overwrite"]
    refused(words, capsys, "lies in the model's own folder")
    assert (model / "model.json").read_bytes() == before


@slow
@pytest.mark.parametrize("victim", ["scene", "align", "places"])
def test_a_series_keeps_what_it_reads(victim, make_raster, tmp_path, tiny_model, capsys):
    scene = make_raster("NDVI.tif" if victim == "scene" else "scene.tif")
    words = ["series", scene, "-o", tmp_path, "--model", tiny_model, "--overwrite"]
    words += ["--sensor", "reflectance"]
    read = scene
    dates = pd.DataFrame({"source": [scene.name], "date": ["2024-01-01"]})
    dates.to_csv(tmp_path / "dates.csv", index=False)
    words[1] = tmp_path / "dates.csv"
    if victim == "align":
        read = make_raster("NDVI.tif")
        words += ["--align", read]
    elif victim == "places":
        read = tmp_path / "series.json"
        read.write_text('{"type": "Point", "coordinates": [15, 45]}')
        words += ["--places", read]
    before = read.read_bytes()
    refused(words, capsys, f"{read.name}: it is read by this command")
    assert read.read_bytes() == before
