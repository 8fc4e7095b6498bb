"""The manifest: a table of pairs, one row each, as CSV or parquet.

Columns (`source` and `target` are required, everything else may be missing or empty):

| column | meaning |
|---|---|
| source, target | paths; relative ones from the manifest's folder. One file may be both |
| source_bands, target_bands | `red=3,green=2,blue=1`: band numbers, or names in the file |
| sensor, target_sensor | name in the sensor table; the target's is the source's where empty |
| scale, offset, nodata | physical = stored x scale + offset, over the file's and the sensor's own |
| target_scale, target_offset, target_nodata | the same for the target; see `TARGET_OWN` |
| split | `train`, `val` or `test`; without the column a hash of the group decides |
| group | what a split never cuts: scene, flight, video; the source's file where empty |
| lon, lat, gsd | degrees, metres; over what the file's georeference says |
| weight | how often a row is drawn, relative to the others |

Any other column is kept, and may be named in `balance`.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from crossband.errors import ManifestError, nearest

TEXT = ("source_bands", "target_bands", "sensor", "target_sensor", "group", "split")
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
#: A target in the source's own file, or without a sensor of its own, shares the source's
#: radiometry; one with its own sensor has its own columns.
TARGET_OWN = ("target_scale", "target_offset", "target_nodata")
SPLITS = ("train", "val", "test")


def read(path: str | Path) -> pd.DataFrame:
    """Read a manifest.

    Returns:
        One row a pair: all columns of the table above (empty ones as None or NaN; `split` only
        where the file has it), absolute paths, `group` and `weight` filled in, and `row`, the
        number that messages use (the first row below the header is 1).

    Raises:
        ManifestError: missing file or column, an empty path, a file that is not there, a number
            that is none, a split with an unknown name or one that cuts a group.
    """
    path = Path(path)
    table = _load(path)
    for column in ("source", "target"):
        if column not in table.columns:
            raise ManifestError(
                f"{path}: no column {column!r}: {nearest(column, [*map(str, table.columns)])}"
            )
    if table.empty:
        raise ManifestError(f"{path}: it has no rows")
    table = table.reset_index(drop=True)
    table["row"] = range(1, len(table) + 1)
    for column in ("source", "target"):
        table[column] = [_file(path, row, column, v) for row, v in _rows(table, column)]
    for column in TEXT:
        if column in table.columns:
            table[column] = table[column].astype(object).map(_text)
        elif column != "split":
            table[column] = pd.Series([None] * len(table), dtype=object)
    for column in NUMBERS:
        if column in table.columns:
            table[column] = [_number(path, row, column, v) for row, v in _rows(table, column)]
        else:
            table[column] = float("nan")
    # Relative, so that a split by hash is the same on every machine.
    relative = table["source"].map(lambda source: _relative(source, path.parent))
    table["group"] = table["group"].where(table["group"].notna(), relative)
    table["weight"] = table["weight"].fillna(1.0)
    if (table["weight"] < 0).any():
        raise ManifestError(f"{path}: row {_first(table, table['weight'] < 0)}: weight below 0")
    if "split" in table.columns:
        _check_split(path, table)
    return table


def assign(table: pd.DataFrame, val_fraction: float, seed: int) -> pd.Series:
    """Return `train`, `val` or `test` for each row.

    The manifest's own `split` wins. Without one, a group is in `val` where a hash of (seed, group)
    lies below `val_fraction`, so that adding rows moves no other. Where that leaves one side
    empty, the group nearest to it changes over.

    Raises:
        ManifestError: nothing to train on, or nothing to validate on though it is asked for.
    """
    if "split" in table.columns:
        split = table["split"]
        if not (split == "train").any():
            raise ManifestError("the manifest has no row with split 'train'")
        return split
    if val_fraction <= 0:
        return pd.Series("train", index=table.index, dtype=object)
    place = {g: _hash(seed, g) for g in table["group"].unique()}
    if len(place) < 2:
        raise ManifestError(
            "the manifest has a single group, which a split would cut: add a column 'group', or "
            "train without validation (val_fraction 0)"
        )
    order = sorted(place, key=lambda g: place[g])
    val = [g for g in order if place[g] < val_fraction] or order[:1]
    val = val if len(val) < len(order) else order[:-1]
    return table["group"].isin(val).map({True: "val", False: "train"})


def deal(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Return the fold of each row, 0 to folds - 1, for cross-validation.

    The manifest's own column `fold` wins. Without one, the groups of each sensor are put in the
    order of a hash of (seed, group) and dealt out one after another.
    """
    if "fold" in table.columns:
        return pd.to_numeric(table["fold"]).astype(int)
    fold: dict[Any, int] = {}
    sensors = table["sensor"].fillna("").astype(str)
    for sensor in sorted(sensors.unique()):
        groups = set(table.loc[sensors == sensor, "group"]) - set(fold)
        for group in sorted(groups, key=lambda g: _hash(seed, g)):
            fold[group] = len(fold) % folds
    return table["group"].map(fold)


def fingerprint(table: pd.DataFrame) -> str:
    """Return a SHA-256 of what a model was trained on: every row, every file's name and size.

    Where the files lie does not matter.
    """
    columns = table.drop(columns=["row", "source", "target"])
    digest = hashlib.sha256(columns.to_csv(index=False).encode())
    for name in [*table["source"], *table["target"]]:
        path = Path(name)
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{path.name}:{size}\n".encode())
    return digest.hexdigest()


def _load(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path)
    except (OSError, ValueError, ImportError) as error:  # pandas' parser errors are ValueErrors
        raise ManifestError(f"{path}: not a table that can be read: {error}") from error


def _rows(table: pd.DataFrame, column: str) -> Iterator[tuple[int, Any]]:
    return zip(table["row"], table[column], strict=True)


def _first(table: pd.DataFrame, where: pd.Series) -> int:
    return int(table.loc[where, "row"].iloc[0])


def _file(manifest: Path, row: int, column: str, value: Any) -> str:
    text = _text(value)
    if text is None:
        raise ManifestError(f"{manifest}: row {row}: {column} is empty")
    if "://" in text or text.startswith("/vsi"):
        return text
    path = manifest.parent / text  # an absolute path stays as it is
    if not path.is_file():
        raise ManifestError(f"{manifest}: row {row}: {column} {path}: no such file")
    return str(path.resolve())


def _relative(source: str, folder: Path) -> str:
    if not Path(source).is_absolute() or source.startswith("/vsi"):
        return source
    try:
        return Path(os.path.relpath(source, folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return source


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a group 7 beside an empty cell is read as 7.0
    return str(value).strip() or None


def _number(manifest: Path, row: int, column: str, value: Any) -> float:
    text = _text(value)
    if text is None:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise ManifestError(f"{manifest}: row {row}: {column} {text!r} is not a number") from None


def _check_split(path: Path, table: pd.DataFrame) -> None:
    for row, split in _rows(table, "split"):
        if split not in SPLITS:
            raise ManifestError(
                f"{path}: row {row}: split is {split!r}, but must be train, val or test"
            )
    splits = table.groupby("group", sort=False)["split"].unique()
    for group, found in splits.items():
        if len(found) > 1:
            raise ManifestError(
                f"{path}: group {group!r} is in {' and '.join(sorted(found))}: a split must not "
                f"cut a group"
            )


def _hash(seed: int, group: Any) -> float:
    """Uniform in [0, 1), a pure function of its arguments on every machine."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
