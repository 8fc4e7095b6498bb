"""`--progress json`: what programs are told, as docs/progress.md says."""

from __future__ import annotations

import io
import json

import pytest
import rasterio

from crossband.cli import events
from crossband.cli.main import main
from crossband.core.messages import say


@pytest.fixture
def told(capsys):
    """Run a command; return its exit code and its events. It must say nothing else."""

    def run(*words):
        code = main([*map(str, words), "--progress", "json"])
        printed = capsys.readouterr()
        assert printed.err == ""
        lines = [json.loads(line) for line in printed.out.splitlines()]
        assert [lines[0]["event"], lines[-1]["event"]] == ["start", "end"]
        assert lines[0]["protocol"] == events.PROTOCOL
        assert lines[-1]["exit_code"] == code
        return code, lines[1:-1]

    return run


def of(lines, event):
    return [
        {k: v for k, v in line.items() if k != "event"} for line in lines if line["event"] == event
    ]


def test_a_scene(told, make_raster, tiny_model, tmp_path):
    words = ["translate", make_raster(), "-o", tmp_path / "nir.tif", "--index", "NDVI"]
    code, lines = told(*words, "--model", tiny_model)
    assert code == 0
    progress = of(lines, "progress")
    assert progress[-1] == {"name": "scene.tif", "done": 2000, "total": 2000, "unit": "pixels"}
    assert [f["path"] for f in of(lines, "file")] == [
        str(tmp_path / "nir.tif"),
        str(tmp_path / "nir_NDVI.tif"),
    ]
    assert "MPix/s" in of(lines, "message")[0]["text"]
    code, lines = told(*words, "--model", tiny_model)
    assert code == 2
    (error,) = of(lines, "error")
    assert error["kind"] == "OutputError"
    assert error["text"].endswith("nir.tif: exists already; give --overwrite to replace it")


def test_an_extent_of_a_scene(told, make_raster, tiny_model, tmp_path):
    scene = make_raster()
    given = ["translate", scene, "--model", tiny_model, "--dtype", "float32"]
    assert (
        told(*given, "-o", tmp_path / "part.tif", "--extent=500100,4999700,500200,4999800")[0] == 0
    )
    with rasterio.open(tmp_path / "part.tif") as part:
        assert (part.width, part.height) == (10, 10)
        assert part.bounds == (500_100, 4_999_700, 500_200, 4_999_800)


def test_many_scenes_one_of_which_fails(told, make_raster, tiny_model, tmp_path):
    scenes = [make_raster("a.tif"), make_raster("b.tif", names=("x", "y", "z"))]
    code, lines = told("translate", *scenes, "-o", tmp_path / "out", "--model", tiny_model)
    assert code == 1
    first, second = of(lines, "scene")
    assert (first["status"], first["finished"], first["total"]) == ("done", 1, 2)
    assert (second["status"], second["finished"]) == ("failed", 2)
    assert "red" in second["reason"]
    assert of(lines, "error")[0]["kind"] == "SomeFailed"


def test_rows_of_a_manifest(told, pairs, tmp_path):
    code, lines = told("data", "check", pairs(2), "--workers", 1, "--json", tmp_path / "f.json")
    assert code in (0, 1)
    assert of(lines, "progress")[-1] == {
        **{"name": "checked", "done": 2, "total": 2, "unit": "rows"},
    }
    assert of(lines, "file") == [{"path": str(tmp_path / "f.json")}]


def test_an_evaluation_counts_pairs(told, pairs, tiny_model, tmp_path):
    words = ["evaluate", "--model", tiny_model, "--manifest", pairs(2), "-o", tmp_path / "report"]
    code, lines = told(*words, "--pictures", 0)
    assert code == 0
    assert of(lines, "progress")[-1]["done"] == 2
    names = [f["path"].rpartition("/")[2] for f in of(lines, "file")]
    assert names == ["index.html", "metrics.json"]
    code, lines = told(*words, "--pictures", 0)
    assert code == 0
    assert not of(lines, "error")
    assert of(lines, "message")[0]["kind"] == "UpToDate"


@pytest.mark.parametrize(
    "words", [["translat"], ["translate"], ["translate", "x", "-o", "y", "--zz"]]
)
def test_wrong_command_lines_are_events(told, words):
    code, lines = told(*words)
    assert code == 2
    assert [line["event"] for line in lines] == ["error"]


def test_a_fault_of_ours_ends_with_an_event_too(monkeypatch, capsys):
    monkeypatch.setattr("crossband.cli.main._run", lambda argv: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["models", "--progress=json"])
    start, error, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert (start["event"], error["kind"], end) == (
        *("start", "ZeroDivisionError"),
        {"event": "end", "exit_code": 1},
    )
    say("to people again")
    assert capsys.readouterr().out == "to people again\n"


def test_progress_is_told_in_measure(monkeypatch):
    stream = io.StringIO()
    tell = events.JsonLines(stream)
    monkeypatch.setattr(events, "PROGRESS_SECONDS", 1e9)
    for done in (0, 5, 9, 10):
        tell("progress", name="a", done=done, total=10)
        tell("progress", name="b", done=done, total=10)
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(s["name"], s["done"]) for s in said] == [("a", 0), ("b", 0), ("a", 10), ("b", 10)]
