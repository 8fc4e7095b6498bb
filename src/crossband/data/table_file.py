"""Read CSV and parquet tables from others, with limits on rows, columns and bytes.

A table of a few kilobytes can unfold to gigabytes, as its columns are compressed. So what it says
of its size is checked before anything is read, and what was read is counted while it is read.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from crossband.core.limits import Limit
from crossband.core.regular_file import open_regular_file
from crossband.core.warned import warn
from crossband.errors import CrossbandError, ManifestError

PARQUET = (".parquet", ".pq")
#: Rows and MiB of a table, at most.
MAX_ROWS = Limit("CROSSBAND_MAX_ROWS", 2_000_000)
MAX_MIB = Limit("CROSSBAND_MAX_TABLE_MIB", 512)
#: Bytes of a line of CSV, and row groups of parquet, at most.
MOST_LINE, MOST_GROUPS = 2**20, 10_000
#: Bytes of CSV that are looked at at once.
_BLOCK = 2**20
#: Marks at the beginning of texts that are not UTF-8.
_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
#: What pyarrow raises for a file that is damaged or is something else, besides OSError, ValueError.
DAMAGED = (OSError, ValueError, MemoryError, pa.ArrowException)


@dataclass(frozen=True)
class TableLimits:
    """How large a table may be.

    Attributes:
        rows: its rows.
        columns: its columns.
        cells: its cells, each value of a list as one.
        bytes: those of its columns, where texts that repeat count once.
        because: what sets the limits, in words, where a user cannot raise them.
    """

    rows: int
    columns: int
    cells: int
    bytes: int
    because: str = ""

    @classmethod
    def of_manifest(cls) -> Self:
        """Return the limits of manifests, which a user may raise."""
        rows = MAX_ROWS.value
        return cls(rows, 1_000, 25 * rows, MAX_MIB.value * 2**20)

    def check(self, **sizes: int) -> None:
        """Raise ValueError for a size above its limit."""
        raised = {"rows": MAX_ROWS, "cells": MAX_ROWS, "bytes": MAX_MIB}
        for name, found in sizes.items():
            if found > (most := getattr(self, name)):
                more = f", or raise {raised[name].variable}" if name in raised else ""
                advice = self.because or f"split it{more}"
                raise ValueError(f"it has {found:,} {name}, more than {most:,}: {advice}")


def read_table(path: Path, error: type[CrossbandError] = ManifestError) -> pd.DataFrame:
    """Read a table: parquet by its name, else CSV in UTF-8.

    Args:
        path: a regular file.
        error: what is raised.

    Raises:
        CrossbandError: no such file, a damaged one, one that is too large, or a CSV whose lines do
            not fit its header; in one line that begins with the path.
    """
    with open_regular_file(path, error) as file:
        try:
            if path.suffix.lower() in PARQUET:
                return to_pandas(read_arrow(file, others=True))
            return _read_csv(file)
        except DAMAGED as problem:
            reason = str(problem) or type(problem).__name__
            raise error(f"{path}: not a table that can be read: {reason}") from problem


def read_arrow(
    file: BinaryIO,
    limits: TableLimits | None = None,
    lists: Collection[str] = (),
    *,
    others: bool = False,
) -> pa.Table:
    """Read a table of parquet; its texts stay a dictionary and the numbers of its entries.

    Args:
        file: opened.
        limits: how large it may be; by default those of manifests.
        lists: columns that may hold lists of numbers.
        others: columns of dates, times of the day and decimals become texts, and any others, as of
            structures, are left out with a warning.

    Raises:
        ValueError: it is too large, two columns have one name, or one holds no texts or numbers.
        OSError, MemoryError, pyarrow.ArrowException: it is damaged.
    """
    limits = limits or TableLimits.of_manifest()
    about = parquet.read_metadata(file)
    limits.check(rows=about.num_rows, columns=about.num_columns)
    if about.num_row_groups > MOST_GROUPS:
        raise ValueError(f"it has {about.num_row_groups:,} row groups, more than {MOST_GROUPS:,}")
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    parts = [group.column(i) for group in groups for i in range(group.num_columns)]
    limits.check(
        cells=max(sum(abs(p.num_values) for p in parts), about.num_rows * about.num_columns),
        bytes=sum(abs(group.total_byte_size) for group in groups),
    )
    schema = about.schema.to_arrow_schema()
    _check_names(schema.names)
    written, left = list[str](), list[str]()
    for field in schema:
        kind = field.type
        if field.name in lists and pa.types.is_list(kind):
            kind = kind.value_type
        if _is_plain(kind):
            continue
        if not others or field.name in ("source", "target"):
            raise ValueError(f"its column {field.name!r:.80} holds {field.type}")
        (written if _is_written(kind) else left).append(field.name)
    if left:
        warn(
            f"{getattr(file, 'name', 'the table')}: of a manifest texts, numbers and dates are "
            f"read, and its columns {', '.join(left):.200} are left out"
        )
    kept = [name for name in schema.names if name not in left]
    texts = [field.name for field in schema if _is_text(field.type)]
    opened = parquet.ParquetFile(file, metadata=about, read_dictionary=texts)
    tables = [opened.schema_arrow.empty_table().select(kept)]
    for i in range(len(groups)):
        tables.append(opened.read_row_group(i, kept, use_threads=False))
        limits.check(bytes=sum(table.nbytes for table in tables))
    found = pa.concat_tables(tables)
    for name in written:
        found = found.set_column(kept.index(name), name, found[name].cast(pa.string()))
    return found


def _is_written(kind: pa.DataType) -> bool:
    """Return whether cells of this type become texts: dates, times of the day, decimals."""
    tests = (pa.types.is_date, pa.types.is_time, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(kind) for test in (*tests, pa.types.is_large_binary))


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether a column of this type takes a few bytes a cell, in pandas, too."""
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
    return _is_text(kind) or any(test(kind) for test in (*tests, pa.types.is_timestamp))


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return a table as pandas has it; texts that repeat are one object."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name.startswith("__index_level_"):  # pandas' numbers of rows
            continue
        if pa.types.is_dictionary(column.type):
            _check_texts(name, column)
        columns[name] = column.to_pandas()
    return _with_objects(pd.DataFrame(columns))


def _with_objects(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with each text as one object: of pandas' types of texts some copy them."""
    kinds = (pd.CategoricalDtype, pd.StringDtype)
    texts = [name for name, dtype in table.dtypes.items() if isinstance(dtype, kinds)]
    return table.astype(dict.fromkeys(texts, object))


def _check_texts(name: str, column: pa.ChunkedArray) -> None:
    for chunk in column.chunks:
        texts = chunk.dictionary.to_pylist()
        if any("\0" in text for text in texts if isinstance(text, str)):
            raise ValueError(f"a cell of its column {name!r:.80} holds a NUL byte")


def _read_csv(file: BinaryIO) -> pd.DataFrame:
    limits = TableLimits.of_manifest()
    names, first, lines = _look_through(file, limits)
    limits.check(rows=lines, columns=len(names), cells=lines * len(names))
    _check_names(names)
    if len(first) > len(names):  # pandas would take the first cells for names of rows
        raise ValueError(f"its first row has {len(first)} cells, and its header {len(names)}")
    file.seek(0)
    # Cells stay as they are written, as 007. Only an empty one is empty: NA is Namibia's code, and
    # "None" may be a name.
    texts: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]}
    return _with_objects(pd.read_csv(file, encoding="utf-8-sig", compression=None, **texts))


def _look_through(file: BinaryIO, limits: TableLimits) -> tuple[list[str], list[str], int]:
    """Return the cells of the header and of the first row, and the number of lines.

    Raises:
        ValueError: other bytes than text in UTF-8, NUL, too many bytes, or a line that is too long.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    beginning, lines, line, total = "", 0, 0, 0
    while block := file.read(_BLOCK):
        if total == 0 and block.startswith(_OTHER_MARKS):
            raise ValueError("it is not in UTF-8; save it as CSV in UTF-8")
        total += len(block)
        limits.check(bytes=total)
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            before = _line_ends(error.object[: error.start])
            raise ValueError(f"line {lines + before + 1} is not in UTF-8") from None
        if (at := block.find(b"\0")) >= 0:
            raise ValueError(f"line {lines + _line_ends(block[:at]) + 1} holds a NUL byte")
        if len(beginning) < 2 * MOST_LINE:
            beginning += text
        last = max(block.rfind(b"\n"), block.rfind(b"\r"))
        ends = [at for at in (block.find(b"\n"), block.find(b"\r")) if at >= 0]
        line += min(ends, default=len(block))  # of the line that an earlier block began
        if line > MOST_LINE:
            raise ValueError(f"line {lines + 1} is longer than {MOST_LINE / 2**20:g} MiB")
        line = line if last < 0 else len(block) - last
        lines += _line_ends(block)
    rows = csv.reader(io.StringIO(beginning, newline=""))
    found: list[list[str]] = []
    try:
        for row in rows:
            if row:
                found.append(row)
            if len(found) == 2:
                break
    except csv.Error:
        most = csv.field_size_limit()
        raise ValueError(f"line {rows.line_num} has a cell of over {most:,} characters") from None
    header, first = [*found, [], []][:2]
    other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise ValueError(f"its cells are separated by {other!r}, and not by commas")
    return header, first, lines + 1


def _line_ends(block: bytes) -> int:
    return max(block.count(b"\n"), block.count(b"\r"))


def _check_names(names: Sequence[Any]) -> None:
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two of its columns are called {twice!r:.80}")
