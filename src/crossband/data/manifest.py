"""The manifest: a table of pairs, one row each, as CSV, parquet or a pack (see `data.packed.read`).

Columns (`source` and `target` are required, everything else may be missing or empty):

| column | meaning |
|---|---|
| source, target | paths; relative ones from the manifest's folder. One may be both |
| source_window, target_window | part of the file, as GDAL's srcwin: `column,row,width,height` |
| source_bands, target_bands | `red=3,green=2,blue=1`: band numbers, or names in the file |
| sensor, target_sensor | name in the sensor table; the target's is the source's where empty |
| scale, offset, nodata | physical = stored x scale + offset, over the file's and the sensor's own |
| target_scale, target_offset, target_nodata | the same for a target that differs; `TARGET_OWN` |
| split | `train`, `val` or `test`; without the column a hash of the group decides |
| split_by | origin of the split, as `split.json`: such a split may cut groups |
| group | rows that a split keeps together: scene, flight, video; the file where empty |
| lon, lat, gsd | degrees, metres; they override the georeference of the file |
| weight | relative frequency at which a row is drawn |
| degradation | makes the source from the target, where `source` is empty: see `data.degrade` |
| guide | path of a measurement of the target, coarser or of another date: see docs/guiding.md |
| guide_bands, guide_sensor | as for the source |
| guide_datetime | when the guide was taken; its metadata say it where this is empty |

A source or target may also be a product's folder, archive or item, or a folder whose files the
column of bands names (`red=B04.tif,...`); see docs/sources.md.

Other columns are kept, and may be named in `balance`. A row with an empty `source` or `target` has
no counterpart. Unpaired methods use it; paired ones refuse it, unless a degradation makes its
source from its target.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crossband.core import columns
from crossband.core.atomic import atomic_file, check_file
from crossband.core.dates import date_cell
from crossband.core.made_from import make_fingerprint
from crossband.data.manifest_cells import (
    below,
    date_of,
    file_in,
    named_path,
    number_of,
    relative_to,
    text_of,
    texts_of,
)
from crossband.data.splits import SPLITS
from crossband.data.table_file import PARQUET, TableLimits, read_table
from crossband.errors import BandError, ManifestError, OutputError, nearest
from crossband.raster.bands import parse_bands

TEXT = (
    "source_bands",
    "target_bands",
    "source_window",
    "target_window",
    "sensor",
    "target_sensor",
    "group",
    "split",
    "split_by",
    "degradation",
    "guide_bands",
    "guide_sensor",
)
#: What a manifest's own column `row` is called in its table, where `row` numbers the rows.
_OWN_ROW = "manifest_row"
#: Columns of paths.
PATHS = ("source", "target", "guide")
NUMBERS = (
    "scale",
    "offset",
    "nodata",
    "target_scale",
    "target_offset",
    "target_nodata",
    "lon",
    "lat",
    "gsd",
    "weight",
)
#: Columns of a target's own radiometry. Without a sensor of its own, it has that of the source
#: where these are empty; scale and offset belong together.
TARGET_OWN = ("target_scale", "target_offset", "target_nodata")


def read(
    path: str | Path, *, any_split: bool = False, lenient: bool = False, sources: bool = False
) -> pd.DataFrame:
    """Read a manifest.

    Args:
        path: CSV or parquet.
        any_split: do not check the column `split`, because a new split replaces it.
        lenient: accept missing files and groups that a split cuts; `data check` reports them.
        sources: a table of scenes to translate, which may have no column `target`.

    Returns:
        One row a pair: all columns of the table above (empty ones as None or NaN; `split` only
        where the file has it), absolute paths, dates as ISO 8601, `group` and `weight` filled in,
        and `row`, the number that messages use (the first row below the header is 1).

    Raises:
        ManifestError: a missing manifest, column or file; a row without any path; an invalid
            number; a split with an unknown name, or one that cuts a group without stating its
            origin.
    """
    return read_prefixed(Path(path), "", any_split=any_split, lenient=lenient, sources=sources)


def write(table: pd.DataFrame, path: str | Path, *, overwrite: bool = True) -> None:
    """Write a manifest as CSV or parquet; an error leaves no partial file.

    Paths of files below the manifest's folder are written relative to it, so that both may move
    together. Other paths are absolute. Empty columns are left out.

    Args:
        table: the rows.
        path: of the file.
        overwrite: replace an existing file. Otherwise one with the same content stays, and another
            one is an error.

    Raises:
        OutputError: the file exists with another content, or cannot be written.
    """
    path = Path(path)
    try:
        TableLimits.of_manifest().check(rows=len(table))
    except ValueError as error:
        raise OutputError(f"{path}: {error}") from error
    folder = path.parent.resolve()
    out = table.drop(columns=["row"], errors="ignore").copy()
    for column in _paths(out):
        out[column] = [None if pd.isna(v) else below(str(v), folder) for v in out[column]]
    empty = [c for c in out.columns if c not in ("source", "target") and out[c].isna().all()]
    out = out.drop(columns=empty)
    if "weight" in out.columns and (out["weight"] == 1.0).all():
        out = out.drop(columns=["weight"])
    with atomic_file(path, overwrite=overwrite) as part:
        if path.suffix.lower() in PARQUET:
            out.to_parquet(part, index=False)
        else:
            out.to_csv(part, index=False)


def check_writable(path: str | Path, overwrite: bool) -> None:
    """Raise OutputError for a name that no manifest can have, or that another file has.

    A manifest of that name may be the one that will be written: `write` compares the two.
    """
    path = Path(path)
    if path.suffix.lower() not in (*PARQUET, ".csv"):
        raise OutputError(f"{path}: a manifest ends in .csv or .parquet")
    check_file(path, overwrite or _is_manifest(path))


def _is_manifest(path: Path) -> bool:
    try:
        return {"source", "target"} <= {*map(str, load_table(path).columns)}
    except ManifestError:
        return False


def input_fingerprint(table: pd.DataFrame, options: Mapping[str, Any]) -> str:
    """Return the fingerprint of what is made of all rows and their files; see `core.made_from`."""
    table = without_empty_guides(table)
    files = paths_of(table)
    # A file of a pack counts by the pack's identity, which is a column.
    local = [name for name in dict.fromkeys(files) if "://" not in name]
    return make_fingerprint({"rows": table.to_csv(index=False), **options}, local)


def paths_of(table: pd.DataFrame) -> list[str]:
    """Return the paths and addresses of all sources, targets and guides."""
    return [str(name) for side in _paths(table) for name in table[side].dropna()]


def without_empty_guides(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the columns about guides that no row fills."""
    return table.drop(columns=[c for c in columns.GUIDE if c in table and table[c].isna().all()])


def is_paired(table: pd.DataFrame) -> pd.Series:
    """Return which rows have a source and a target, or a target and a degradation."""
    return table["target"].notna() & (table["source"].notna() | table["degradation"].notna())


def fingerprint(table: pd.DataFrame) -> str:
    """Return a SHA-256 of the training data: all rows, and name and size of all files.

    It does not depend on the folders of the files, nor on empty columns.
    """
    others = table.drop(columns=["row", *_paths(table)]).dropna(axis=1, how="all")
    digest = hashlib.sha256(others.to_csv(index=False).encode())
    for name in paths_of(table):
        path = Path(name)
        if name.startswith("pack://"):  # its column `pack` identifies the content
            path = Path(name.rpartition("#")[2])
        size = _size(path)
        digest.update(f"{path.name}:{size}\n".encode())
    return digest.hexdigest()


def _paths(table: pd.DataFrame) -> list[str]:
    """Return the columns of paths that a table has."""
    return [column for column in PATHS if column in table]


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a product's folder; -1 if it is missing."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.is_file() else -1


def read_prefixed(
    path: Path,
    prefix: str,
    *,
    any_split: bool = False,
    lenient: bool = False,
    sources: bool = False,
) -> pd.DataFrame:
    """Read a manifest; see `read`.

    Args:
        path: of the manifest.
        prefix: is put before the groups of rows that state none.
        any_split: see `read`.
        lenient: see `read`.
        sources: see `read`.

    Raises:
        ManifestError: see `read`.
    """
    table = load_table(path)
    if sources and "target" not in table.columns:
        table["target"] = None
    for column in ("source", "target"):
        if column not in table.columns:
            raise ManifestError(
                f"{path}: no column {column!r}: {nearest(column, [*map(str, table.columns)])}"
            )
    if table.empty:
        raise ManifestError(f"{path}: it has no rows")
    table = table.reset_index(drop=True)
    if "row" in table.columns:
        name = _OWN_ROW
        while name in table.columns:
            name = f"manifest_{name}"
        table = table.rename(columns={"row": name})
    table["row"] = range(1, len(table) + 1)
    if "guide" not in table.columns:
        table["guide"] = None
    for column in PATHS:
        files = functools.cache(functools.partial(file_in, path.parent, lenient))
        cells = ((row, text_of(value)) for row, value in _rows(table, column))
        named = [named_path(path, row, column, files, text) for row, text in cells]
        table[column] = pd.Series(named, dtype=object)
    empty = table["source"].isna() & table["target"].isna()
    if empty.any():
        raise ManifestError(f"{path}: row {_first(table, empty)}: source and target are empty")
    _fill(path, table)
    if not lenient:
        _check_bands(path, table)
    # Relative, so that a split by hash is the same on every machine.
    file = table["source"].where(table["source"].notna(), table["target"])
    relative = file.map(lambda name: prefix + relative_to(name, path.parent))
    table["group"] = table["group"].where(table["group"].notna(), relative).astype(object)
    table["weight"] = table["weight"].fillna(1.0)
    if (table["weight"] < 0).any():
        raise ManifestError(f"{path}: row {_first(table, table['weight'] < 0)}: weight below 0")
    if "split" in table.columns and not any_split:
        check_split(path, table, lenient)
    return table


def _fill(path: Path, table: pd.DataFrame) -> None:
    """Convert the columns of the table above to their types, and add missing ones, empty."""
    for column in TEXT:
        if column in table.columns:
            table[column] = texts_of(table[column])
        elif column != "split":
            table[column] = pd.Series([None] * len(table), dtype=object)
    for column in NUMBERS:
        if column in table.columns:
            table[column] = [number_of(path, row, column, v) for row, v in _rows(table, column)]
        else:
            table[column] = float("nan")
    if "guide_datetime" not in table.columns:
        table["guide_datetime"] = None
    dates = [date_of(path, row, "guide_datetime", v) for row, v in _rows(table, "guide_datetime")]
    table["guide_datetime"] = pd.Series(dates, dtype=object)
    for _, own in table[table["guide"].notna()].iterrows():  # whose age is asked for
        if (stated := date_cell({str(column): value for column, value in own.items()})) is not None:
            date_of(path, int(own["row"]), *stated)


def _check_bands(path: Path, table: pd.DataFrame) -> None:
    """Raise ManifestError for a cell of bands that cannot be read."""
    for column in ("source_bands", "target_bands", "guide_bands"):
        for text, row in table.groupby(column, sort=False)["row"].min().items():
            try:
                parse_bands(str(text))
            except BandError as error:
                raise ManifestError(f"{path}: row {row}: {column}: {error}") from error


def load_table(path: Path) -> pd.DataFrame:
    """Return the table of a manifest or a pack as the file has it; ManifestError if missing."""
    if not os.path.exists(path) or path.is_dir():
        from crossband.data.packed import read as packs

        if packs.is_pack(path):
            return packs.read_pairs(path)
        what = "a folder that is no pack" if path.is_dir() else "no such manifest"
        raise ManifestError(f"{path}: {what}")
    if path.suffix.lower() in (".json", ".geojson"):
        raise ManifestError(f"{path}: a manifest is CSV, parquet or a pack")
    return read_table(path)


def _rows(table: pd.DataFrame, column: str) -> Iterator[tuple[int, Any]]:
    return zip(table["row"], table[column], strict=True)


def _first(table: pd.DataFrame, rows: pd.Series) -> int:
    return int(table.loc[rows, "row"].iloc[0])


def check_split(path: Path | str, table: pd.DataFrame, lenient: bool = False) -> None:
    """Raise ManifestError for names of splits that are none, and for groups that a split cuts."""
    for row, split in _rows(table, "split"):
        if split not in SPLITS:
            raise ManifestError(
                f"{path}: row {row}: split is {split!r}, but must be train, val or test"
            )
    if lenient:
        return
    splits = table.groupby("group", sort=False)["split"].unique()
    for group, found in splits.items():
        if len(found) < 2:
            continue
        if table.loc[table["group"] == group, "split_by"].isna().any():
            raise ManifestError(
                f"{path}: group {group!r} is in {' and '.join(sorted(found))}: a split must not "
                f"cut a group (a split that is given says so in the column split_by)"
            )
