"""Manifests that others made: each fault is one line, and takes neither memory nor time."""

from __future__ import annotations

import datetime
import decimal
import os
import resource
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from crossband.cli.main import main
from crossband.data import manifest, table_file
from crossband.errors import CrossbandWarning, ManifestError, OutputError

LONG = "x" * 100_000


@pytest.fixture
def refused(tmp_path):
    """Return a function that writes a manifest and returns the one line that refuses it."""

    def write(content, name="pairs.csv", **how):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            parquet.write_table(content, path, compression="zstd")
        else:
            path.write_bytes(content)
        with pytest.raises(ManifestError) as error:
            manifest.read(path, **how)
        line = str(error.value)
        assert line.startswith(f"{path}: ")
        return line.removeprefix(f"{path}: ")

    return write


CSV = {
    "empty": (b"", "not a table that can be read"),
    "NUL": (b"source,target\na\0b,c\n", "line 2 holds a NUL byte"),
    "NUL alone": (b"\0" * 100, "holds a NUL byte"),
    "Latin-1": (b"source,target\ngr\xe9en,c\n", "line 2 is not in UTF-8"),
    "Latin-1 late": (b"source,target\n" + b"a,b\n" * 400_000 + b"\xe9,c\n", "line 400002 is not"),
    "semicolons": (b"source;target\na;b\n", "its cells are separated by ';', and not by commas"),
    "a long cell": (
        b"source,target,x\na,b," + b"x" * 2**18 + b"\n",
        "line 2 has a cell of over 131,072 characters",
    ),
    "UTF-16": ("source,target\na,b\n".encode("utf-16"), "not in UTF-8; save it as CSV in UTF-8"),
    "UTF-32": ("source,target\na,b\n".encode("utf-32"), "not in UTF-8; save it as CSV in UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not in UTF-8"),
    "two of one name": (b"source,target,source\na,b,c\n", "two of its columns are called 'source'"),
    "more cells than the header": (
        b"source,target\na.tif,b.tif,c.tif\n",
        "its first row has 3 cells, and its header 2",
    ),
    "more cells later": (b"source,target\na,b\na,b,c\n", "Expected 2 fields in line 3, saw 3"),
    "an open quote": (b'source,target\n"a,b\n', "not a table that can be read"),
    "a long line": (b"source,target\n" + b"x" * (2**20 + 1), "line 2 is longer than 1 MiB"),
    "a long line with an end": (b"source,target\n" + b"x" * 2**21 + b"\na,b\n", "line 2 is longer"),
    "a line of commas": (b"source,target\n" + b"," * (3 * 2**20), "line 2 is longer than 1 MiB"),
    "columns without end": (b"c," * 400_000 + b"\n", "400,001 columns, more than 1,000"),
    "rows without end": (
        b"source,target\n" + b"\n" * 2_100_000,
        "rows, more than 2,000,000: split it, or raise",
    ),
    "cells without end": (
        ",".join(f"c{i}" for i in range(900)).encode() + b"\n,\n" * 60_000,
        "cells, more than 50,000,000",
    ),
    "a long name": (f"source,target\n{LONG},b\n".encode(), "File name too long"),
    "a long number": (f"source,target,scale\n,,{LONG}\n".encode(), "source and target are empty"),
}


@pytest.mark.parametrize(("content", "words"), CSV.values(), ids=CSV)
def test_a_csv_that_is_none(refused, content, words):
    assert words in refused(content)


def test_only_an_empty_cell_is_empty(tmp_path):
    """NA is Namibia's code: the places of one group must not end in training and test."""
    words = ["NA", "None", "null", "nan", "N/A", "NULL", ""]
    (tmp_path / "m.csv").write_text("source,group\n" + "".join(f"a.tif,{w}\n" for w in words))
    found = table_file.read_table(tmp_path / "m.csv")
    assert list(found["group"][:-1]) == words[:-1]
    assert pd.isna(found["group"].iloc[-1])


def test_a_compressed_table_is_no_csv(refused):
    """Ten kilobytes of gzip can hold ten megabytes; pandas would unpack them by the name."""
    assert "not in UTF-8" in refused(b"\x1f\x8b\x08\x00" + bytes(20), "pairs.csv.gz")


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ManifestError, match="a FIFO, and no regular file"):
        manifest.read(tmp_path / name)


def test_a_file_of_holes_is_not_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(ManifestError, match="holds a NUL byte"):
        manifest.read(path)


def test_marks_of_utf8_line_ends_and_empty_columns_are_fine(tmp_path):
    (tmp_path / "a.tif").touch()
    path = tmp_path / "pairs.csv"
    for text in (
        "\ufeffsource,target\na.tif,a.tif\n",
        "source,target\r\na.tif,a.tif\r\n",
        "source,target\ra.tif,a.tif\r",
        "source,target,,\na.tif,a.tif,,\n",
        '"source","target"\n\n"a.tif","a.tif"',
    ):
        path.write_bytes(text.encode())
        assert manifest.read(path)["source"].tolist() == [str(tmp_path / "a.tif")]


def repeated(rows, text="a.tif", columns=2):
    """Return a table of parquet with one text in all cells, as its file is of a few kilobytes."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])
    return pa.table(dict.fromkeys(["source", "target", *map(str, range(columns - 2))], column))


def test_a_parquet_of_millions_of_rows_is_not_unfolded(refused, tmp_path):
    content = repeated(2_100_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "2,100,000 rows, more than 2,000,000: split it" in refused(content, "pairs.pq")
    path = tmp_path / "cells.pq"
    parquet.write_table(repeated(700, columns=300), path)
    with path.open("rb") as file, pytest.raises(ValueError, match="it has 210,000 cells"):
        table_file.read_arrow(file, table_file.TableLimits(2000, 2000, 200_000, 2**29))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes


def test_texts_that_repeat_are_kept_once(tmp_path):
    (tmp_path / "a.tif").touch()
    path = tmp_path / "pairs.parquet"
    parquet.write_table(repeated(1000), path)
    table = table_file.read_table(path)
    assert table["source"].tolist() == ["a.tif"] * 1000
    assert len(set(map(id, table["source"]))) == 1
    read = manifest.read(path)
    assert len(set(map(id, read["source"]))) == 1


PARQUET = {
    "empty": (b"", "not a table that can be read"),
    "no parquet": (b"PAR1" + bytes(100) + b"PAR1", "not a table that can be read"),
    "a footer beyond the file": (
        b"PAR1" + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "not a table that can be read",
    ),
    "lists": (pa.table({"source": [["a"]], "target": ["b"]}), "its column 'source' holds list"),
    "records": (pa.table({"source": [{"a": 1}]}), "its column 'source' holds struct"),
    "times": (pa.table({"source": pa.array([1], pa.time64("us"))}), "'source' holds time64"),
    "NUL": (pa.table({"source": ["a\0b"], "target": ["b"]}), "holds a NUL byte"),
    "NUL in bands": (
        pa.table({"source": ["a"], "target": ["b"], "source_bands": ["red=\0.tif"]}),
        "a cell of its column 'source_bands' holds a NUL byte",
    ),
    "two of one name": (
        pa.Table.from_arrays([pa.array(["a"])] * 2, ["source", "source"]),
        "two of its columns are called 'source'",
    ),
    "columns without end": (
        pa.table({f"c{i}": [1] for i in range(1001)}),
        "1,001 columns, more than 1,000",
    ),
    "a long name": (pa.table({"source": [LONG], "target": ["b"]}), "File name too long"),
}


@pytest.mark.parametrize(("content", "words"), PARQUET.values(), ids=PARQUET)
def test_a_parquet_that_is_none(refused, content, words):
    assert words in refused(content, "pairs.parquet")


def test_ordinary_columns_of_parquet_are_kept_or_left_out(tmp_path):
    columns = {
        "source": ["a.tif"],
        "target": ["b.tif"],
        "day": [datetime.date(2024, 5, 1)],
        "price": [decimal.Decimal("1.50")],
        "bbox": [{"west": 1.0}],
        "tags": [["x", "y"]],
    }
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pa.table(columns), path)
    with pytest.warns(CrossbandWarning, match="its columns bbox, tags are left out"):
        table = manifest.read(path, lenient=True)
    assert (table["day"].item(), table["price"].item()) == ("2024-05-01", "1.50")
    assert not {"bbox", "tags"} & set(table)


def test_a_column_called_row_is_kept(tmp_path):
    pd.DataFrame({"source": ["a.tif"] * 2, "target": ["b.tif"] * 2, "row": ["A0", "A1"]}).to_csv(
        tmp_path / "pairs.csv", index=False
    )
    table = manifest.read(tmp_path / "pairs.csv", lenient=True)
    twice = table.assign(row=["x", "y"])
    twice.to_csv(tmp_path / "twice.csv", index=False)
    again = manifest.read(tmp_path / "twice.csv", lenient=True)
    assert again["manifest_manifest_row"].tolist() == ["x", "y"]
    assert again["manifest_row"].tolist() == ["A0", "A1"]
    assert table["row"].tolist() == [1, 2]
    assert table["manifest_row"].tolist() == ["A0", "A1"]
    manifest.write(table, tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["manifest_row"].tolist() == ["A0", "A1"]


@pytest.mark.parametrize("name", ["pairs.geojson", "pairs.json"])
def test_a_geojson_is_no_manifest(tmp_path, name):
    (tmp_path / name).write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(ManifestError, match="a manifest is CSV, parquet or a pack"):
        manifest.read(tmp_path / name)


def test_what_pandas_wrote_comes_back(tmp_path):
    table = pd.DataFrame(
        {
            "text": ["a", None, "ä"],
            "number": [1.5, None, 3.0],
            "count": [1, 2, 3],
            "yes": [True, False, True],
            "day": pd.to_datetime(["2024-05-01", None, "2024-05-03"]),
            "kind": pd.Categorical(["b", "b", "c"]),
        },
        index=[5, 7, 9],
    )
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    found = table_file.read_table(path)
    for name in table:
        assert found[name].isna().tolist() == table[name].isna().tolist()
        assert found[name].dropna().tolist() == table[name].dropna().tolist()
    table.to_csv(tmp_path / "table.csv", index=False)
    again = table_file.read_table(tmp_path / "table.csv")
    texts = pd.read_csv(tmp_path / "table.csv", dtype=str)
    pd.testing.assert_frame_equal(again, texts, check_dtype=False)


def test_a_cell_of_csv_stays_as_it_is_written(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("group,code,yes,n\n007,1e3,True,NA\n,0x10,,7\n")
    found = table_file.read_table(path)
    assert found["group"].dropna().tolist() == ["007"]
    assert found["code"].tolist() == ["1e3", "0x10"]
    assert found["yes"].dropna().tolist() == ["True"]
    assert found["n"].tolist() == ["NA", "7"]


def test_damaged_bytes_are_one_line(tmp_path):
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"source": ["a.tif"] * 50, "target": ["b.tif"] * 50}).to_parquet(path)
    whole, rng, lines = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(100):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:  # any other exception fails the test
            table_file.read_table(path)
        except ManifestError as error:
            lines.append(str(error))
    assert lines
    assert "\n" not in "".join(lines)


def test_no_manifest_is_written_that_could_not_be_read(tmp_path, monkeypatch):
    table = pd.DataFrame({"source": ["a"] * 3, "target": ["b"] * 3})
    monkeypatch.setenv("CROSSBAND_MAX_ROWS", "2")
    with pytest.raises(OutputError, match="more than 2: split it, or raise CROSSBAND_MAX_ROWS"):
        manifest.write(table, tmp_path / "pairs.csv")


def test_a_check_reports_names_that_are_too_long_on_its_page(tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    path.write_text(f"source,target\n{'x' * 300}.tif,{'y/' * 3000}b.tif\n")
    page = tmp_path / "page.html"
    assert main(["data", "check", str(path), "-o", str(page)]) == 1
    assert page.is_file()
    assert capsys.readouterr().err == "checked 1 of 1 rows\n"


def test_a_link_to_itself_is_a_finding(tmp_path):
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    path = tmp_path / "pairs.csv"
    path.write_text("source,target\nloop.tif,loop.tif\n")
    assert manifest.read(path, lenient=True)["source"].tolist() == [str(tmp_path / "loop.tif")]
    with pytest.raises(ManifestError, match=r"row 1: source .*loop.tif: Too many levels"):
        manifest.read(path)
