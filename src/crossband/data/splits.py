"""Splits: what a model is trained on, chosen by it, and judged on. A split never cuts a group.

A group is what belongs together: a scene, a flight, a video, a region. Which side a group is on is
a hash of (seed, group): rows that are added move no other, and every machine finds the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crossband.errors import ManifestError, nearest

SPLITS = ("train", "val", "test")


def assign(
    table: pd.DataFrame, val_fraction: float, seed: int, stratify: Sequence[str] = ()
) -> pd.Series:
    """Return `train`, `val` or `test` for each row.

    The manifest's own `split` wins; without one see `by_group`.

    Raises:
        ManifestError: nothing to train on, or nothing to validate on though it is asked for.
    """
    if "split" in table.columns:
        split = table["split"]
        if not (split == "train").any():
            raise ManifestError("the manifest has no row with split 'train'")
        return split
    if val_fraction > 0 and table["group"].nunique() < 2:
        raise ManifestError(
            "the manifest has a single group, which a split would cut: add a column 'group', or "
            "train without validation (val_fraction 0)"
        )
    return by_group(table, val_fraction, 0.0, seed, stratify)


def by_group(
    table: pd.DataFrame, val: float, test: float, seed: int, stratify: Sequence[str] = ()
) -> pd.Series:
    """Split the groups of a manifest: about `val` and `test` of them, the rest to train on.

    Args:
        table: rows with a column `group`.
        val: share of the groups, 0 for none.
        test: the same.
        seed: of the hash.
        stratify: columns, as terrain or sensor; every combination of their values is split by
            itself. A group counts where most of its rows are.

    Returns:
        `train`, `val` or `test` for each row. A side that the hash leaves empty takes the nearest
        group, as long as there is one left to train on; that group is all that rows that are added
        can move.

    Raises:
        ManifestError: shares that leave nothing to train on, a column that is not there.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ManifestError(f"val {val} and test {test} must not be negative, nor 1 together")
    side: dict[Any, str] = {}
    for groups in _strata(table, stratify):
        place = {g: _hash(seed, g) for g in groups}
        order = sorted(groups, key=lambda g: place[g])
        held = [
            max(sum(place[g] < val for g in order), val > 0),
            max(sum(val <= place[g] < val + test for g in order), test > 0),
        ]
        while sum(held) >= len(order):
            held[held[1] >= held[0]] -= 1
        ends = held[0], sum(held)
        for n, group in enumerate(order):
            side[group] = "val" if n < ends[0] else "test" if n < ends[1] else "train"
    return table["group"].map(side)


def new_split(
    table: pd.DataFrame,
    val: float,
    test: float,
    seed: int,
    *,
    by: str | None = None,
    region: float | None = None,
    stratify: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Give a manifest a split of its own, instead of any that it has.

    Args:
        table: from `crossband.data.manifest.read`.
        val: share of the groups.
        test: share of the groups.
        seed: of the hash.
        by: column whose values are the groups; the column `group` where None.
        region: side in degrees of the cells that are the groups.
        stratify: see `by_group`.

    Returns:
        The rows with `group`, `split` and `split_by`, and lines that say how many are where.

    Raises:
        ManifestError: see `by_group` and `regions`; a row without a value in `by`.
    """
    if by is not None and region is not None:
        raise ManifestError("groups are of a column or of regions, not both")
    table = table.drop(columns=["split", "split_by"], errors="ignore")
    words = [f"seed {seed}"]
    if region is not None:
        table = table.assign(group=regions(table, region))
        words.append(f"regions of {region:g} degrees")
    if by is not None:
        table = table.assign(group=_values(table, by))
        words.append(f"groups by {by}")
    if stratify:
        words.append(f"stratified by {', '.join(stratify)}")
    split = by_group(table, val, test, seed, stratify)
    out = table.assign(split=split, split_by=", ".join(words))
    lines = []
    for side in SPLITS:
        part = out[split == side]
        lines.append(f"{side:5}  {len(part):,} rows of {part['group'].nunique():,} groups")
    return out, lines


def _values(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table.columns:
        known = [*map(str, table.columns)]
        raise ManifestError(f"the manifest has no column {column!r}: {nearest(column, known)}")
    empty = table[column].isna()
    if empty.any():
        raise ManifestError(f"row {int(table.loc[empty, 'row'].iloc[0])}: {column} is empty")
    return table[column].astype(str).astype(object)


def assign_folds(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
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


def regions(table: pd.DataFrame, degrees: float) -> pd.Series:
    """Return the cell of a grid of degrees that each row lies in, to be its group.

    Neighbouring cells still touch: choose cells that are large against what a model can see.

    Raises:
        ManifestError: a row without lon and lat.
    """
    if not degrees > 0:
        raise ManifestError(f"a region must have a side above 0 degrees, not {degrees}")
    unknown = table["lon"].isna() | table["lat"].isna()
    if unknown.any():
        raise ManifestError(
            f"{int(unknown.sum())} of {len(table)} rows have no lon and lat, as row "
            f"{int(table.loc[unknown, 'row'].iloc[0])}: they lie in no region"
        )
    cell = [
        f"region_{math.floor(lon / degrees):+d}_{math.floor(lat / degrees):+d}"
        for lon, lat in zip(table["lon"], table["lat"], strict=True)
    ]
    return pd.Series(cell, index=table.index, dtype=object)


@dataclass(frozen=True)
class Leakage:
    """How much of what a model is judged on it may have seen.

    Attributes:
        split: `val` or `test`.
        groups: groups of this split.
        cut: how many of them have rows in `train` as well.
        rows: rows of this split.
        seen: how many of them are of such a group.
    """

    split: str
    groups: int
    cut: int
    rows: int
    seen: int

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.seen} of {self.rows} {self.split} rows ({self.seen / self.rows:.0%}) are of "
            f"groups that are in train too: {self.cut} of {self.groups} groups"
        )


def leakage(table: pd.DataFrame) -> list[Leakage]:
    """Measure what a split cuts: one entry for each of val and test that the table has."""
    train = set(table.loc[table["split"] == "train", "group"])
    out = []
    for split in SPLITS[1:]:
        part = table[table["split"] == split]
        if part.empty:
            continue
        cut = set(part["group"]) & train
        seen = int(part["group"].isin(cut).sum())
        out.append(Leakage(split, int(part["group"].nunique()), len(cut), len(part), seen))
    return out


def _strata(table: pd.DataFrame, columns: Sequence[str]) -> list[list[Any]]:
    """Return the groups, stratum by stratum."""
    for column in columns:
        if column not in table.columns:
            known = [*map(str, table.columns)]
            raise ManifestError(
                f"stratify: the manifest has no column {column!r}: {nearest(column, known)}"
            )
    if not columns:
        return [list(table["group"].unique())]
    keys = table[list(columns)].astype(object).where(table[list(columns)].notna(), "")
    counted = keys.astype(str).agg("\t".join, axis=1).groupby(table["group"], sort=False)
    # Of values that are equally frequent the first in the alphabet: rows' order does not matter.
    stratum = counted.agg(lambda values: values.mode().iloc[0])
    return [list(part.index) for _, part in stratum.groupby(stratum)]


def _hash(seed: int, group: Any) -> float:
    """Uniform in [0, 1), a pure function of its arguments on every machine."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
