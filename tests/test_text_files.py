"""Lists, JSON and tables that others wrote: regular files only, of a limited length and depth."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from crossband.data.degrade import scene as degrade
from crossband.data.layouts import stac
from crossband.data.layouts.base import FileSearch
from crossband.data.layouts.flir_adas_v2 import _read_map
from crossband.data.layouts.sen12 import _splits
from crossband.errors import CrossbandError
from crossband.jobs.inputs import expand_inputs
from crossband.metrics.extractors.onnx import Onnx
from crossband.series.cubes import _engine
from crossband.series.places import read_places
from crossband.series.record import RECORD, check_finished

ROOT = Path(__file__).parents[1] / "src" / "crossband"
#: Files that read texts of their own runs, after a look at what they are.
OWN = {"jobs/summary.py", "raster/journal.py", "training/loggers.py", "training/fine_tune.py"}
READERS = {
    "a.txt": lambda path: expand_inputs([str(path)]),
    "a.geojson": read_places,
    "split.json": _splits,
    "map.json": _read_map,
    "pairs.csv": degrade._rows,
    "a.nc": _engine,
    "a.onnx": Onnx,
}


@pytest.mark.parametrize("name", READERS)
def test_a_fifo_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(CrossbandError, match=f"{name}: a FIFO, and no regular file"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith("json")])
def test_brackets_without_end_are_refused(tmp_path, name):
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(CrossbandError, match=f"{name}: not JSON: .*nested too deeply"):
        READERS[name](tmp_path / name)


def test_what_cannot_be_read_among_items_is_left_out(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    search = FileSearch(tmp_path)
    assert list(stac._items(search)) == []
    (left,) = search.left_out
    assert left[1] == "not JSON: its brackets are nested too deeply"
    assert expand_inputs([str(tmp_path / "a.json")])[0].stem == "a"  # to open it says why


def test_a_record_of_a_series_that_cannot_be_read_counts_as_none(tmp_path):
    os.mkfifo(tmp_path / RECORD)
    assert check_finished(tmp_path, "a", [tmp_path / "series.csv"]) == set()
    (tmp_path / RECORD).unlink()
    (tmp_path / RECORD).write_text("[" * 100_000)
    assert check_finished(tmp_path, "a", [tmp_path / "series.csv"]) == set()


def test_names_of_scenes_hold_no_nul(tmp_path):
    (tmp_path / "a.txt").write_text("b.tif\na\0b.tif\n")
    with pytest.raises(CrossbandError, match=r"a.txt: line 2 has a NUL byte"):
        expand_inputs([str(tmp_path / "a.txt")])
    item = {"stac_version": "1.0.0", "id": "a\0b"}
    items = {"type": "FeatureCollection", "features": [item]}
    (tmp_path / "a.json").write_text(json.dumps(items))
    with pytest.raises(CrossbandError, match=r"a.json: the id of feature 1 has a NUL byte"):
        expand_inputs([str(tmp_path / "a.json")])


def test_files_of_others_are_read_by_one_module():
    """`core.regular_file` waits for no FIFO, and has a limit; `Path.read_text` has neither."""
    found = set()
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "read_text" not in text and "read_bytes" not in text and "json.load" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            method = isinstance(node, ast.Attribute) and node.attr in ("read_text", "read_bytes")
            if method or (isinstance(node, ast.Attribute) and ast.unparse(node) == "json.load"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found - OWN == {"data/layouts/_vrt.py"}  # a file that it writes itself
