"""Splits into training, validation and test data, which never cut a group, and folds.

A group is a set of rows that belong together: a scene, a flight, a video, a region. A hash of
(seed, group) decides on its split. So added rows do not move other rows, and the result is the same
on every machine.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crossband.errors import ManifestError, nearest

SPLITS = ("train", "val", "test")
#: Seeds that are tried for a split that is nearer to what was asked for, and groups at most.
_SEEDS, _FEW = 500, 50


def assign(
    table: pd.DataFrame, val_fraction: float, seed: int, stratify: Sequence[str] = ()
) -> pd.Series:
    """Return `train`, `val` or `test` for each row.

    The manifest's own column `split` is used if there is one; else see `by_group`.

    Raises:
        ManifestError: no row to train on, or a single group though validation is asked for.
    """
    if "split" in table.columns:
        if stratify:
            raise ManifestError(
                "data.stratify is for a new split, and the manifest has a column 'split', which is "
                "kept: leave one of them out"
            )
        split = table["split"]
        if not (split == "train").any():
            raise ManifestError("the manifest has no row with split 'train'")
        return split
    if val_fraction > 0 and table["group"].nunique() < 2:
        raise ManifestError(
            "the manifest has a single group, which a split would cut: give rows of different "
            "places different names in the column 'group', or train without validation "
            "(--data.val_fraction 0)"
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
        stratify: columns, as terrain or sensor; each combination of their values is split
            separately. A group belongs to the combination that most of its rows have.

    Returns:
        `train`, `val` or `test` for each row. If the hash leaves val or test empty, the group with
        the nearest hash is moved there, as long as one is left to train on. Added rows can move
        only such a group.

    Raises:
        ManifestError: shares that leave nothing to train on, or a missing column.
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


def stated_place(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return longitude and latitude of a row as its columns state them; NaN where they do not."""
    return float(row["lon"]), float(row["lat"])


def new_split(
    table: pd.DataFrame,
    val: float,
    test: float,
    seed: int,
    *,
    by: str | None = None,
    region: float | None = None,
    stratify: Sequence[str] = (),
    place: Callable[..., tuple[float, float]] = stated_place,
) -> tuple[pd.DataFrame, list[str]]:
    """Replace the split of a manifest by a new one.

    Args:
        table: from `crossband.data.manifest.read`.
        val: share of the groups.
        test: share of the groups.
        seed: of the hash.
        by: column whose values are the groups; by default the column `group`.
        region: side in degrees of the cells that are the groups.
        stratify: see `by_group`.
        place: returns longitude and latitude of a row, for regions; see `rows.place_of`.

    Returns:
        The rows with `group`, `split` and `split_by`, and lines with the size of each split.

    Raises:
        ManifestError: see `by_group` and `regions`; a row without a value in `by`.
    """
    if by is not None and region is not None:
        raise ManifestError("groups are of a column or of regions, not both")
    table = table.drop(columns=["split", "split_by"], errors="ignore")
    words = [f"seed {seed}"]
    if region is not None:
        table = table.assign(group=regions(table, region, place))
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
    wanted = {"val": val, "test": test}
    again = functools.partial(by_group, table, val, test, stratify=stratify)
    return out, lines + _far_from(out, wanted, again)


def _far_from(
    table: pd.DataFrame, wanted: Mapping[str, float], again: Callable[..., pd.Series]
) -> list[str]:
    """Return in lines what is far from the shares of the groups that were asked for.

    The hash of each group decides, so that further rows move none; few groups give other shares.

    Args:
        table: with the new split.
        wanted: share of each part.
        again: splits its groups with another `seed`.
    """
    whole = table["group"].nunique()
    far = _unlike(table["group"], table["split"], wanted)
    lines = [
        f"{side} has {count} of {whole} groups, {wanted[side]:.0%} were asked for: a hash of each "
        "group decides"
        for side, count in far.items()
    ]
    if whole == 1 and any(wanted.values()):
        return [
            "all rows are one group, which a split does not cut: val and test are empty; give rows "
            "of different places different groups (--by COLUMN, --region DEGREES)"
        ]
    seeds = range(_SEEDS if far and whole <= _FEW else 0)
    better = next((s for s in seeds if not _unlike(table["group"], again(seed=s), wanted)), None)
    if far:
        other = "another --seed" if better is None else f"--seed {better}, which is as asked for"
        lines.append(f"try {other}")
    return lines


def _unlike(groups: pd.Series, split: pd.Series, wanted: Mapping[str, float]) -> dict[str, int]:
    """Return the number of groups of each part that is empty, or a group or more from its share."""
    whole = groups.nunique()
    counts = {side: int(groups[split == side].nunique()) for side in wanted}
    return {
        side: n
        for side, n in counts.items()
        if abs(n - wanted[side] * whole) >= 1 or (n == 0 and wanted[side] > 0)
    }


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

    The manifest's own column `fold` is used if there is one. Otherwise the groups of each sensor
    are sorted by a hash of (seed, group) and assigned to the folds in turn.
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


def regions(
    table: pd.DataFrame, degrees: float, place: Callable[..., tuple[float, float]] = stated_place
) -> pd.Series:
    """Return the group of each row: its cell of a grid in degrees.

    Neighbouring cells touch, so cells should be much larger than the receptive field of a model.

    Raises:
        ManifestError: a row whose place is not known.
    """
    if not degrees > 0:
        raise ManifestError(f"a region must have a side above 0 degrees, not {degrees}")
    places = [place({str(k): v for k, v in row.items()}) for row in table.to_dict("records")]
    unknown = [n for n, place in enumerate(places) if not all(map(math.isfinite, place))]
    if unknown:
        raise ManifestError(
            f"{len(unknown)} of {len(table)} rows have no lon and lat, nor a file with a "
            f"georeference, as row {int(table['row'].iloc[unknown[0]])}: they lie in no region"
        )
    cell = [
        f"region_{math.floor(_wrapped(lon) / degrees):+d}_{math.floor(lat / degrees):+d}"
        for lon, lat in places
    ]
    return pd.Series(cell, index=table.index, dtype=object)


def _wrapped(longitude: float) -> float:
    """Return a longitude between -180 and 180: 359.9 is -0.1."""
    return (longitude + 180.0) % 360.0 - 180.0 if not -180 <= longitude <= 180 else longitude


@dataclass(frozen=True)
class Leakage:
    """Leakage between splits: evaluation rows whose group is also trained on.

    Attributes:
        split: `val` or `test`.
        groups: number of groups in this split.
        cut: number of these groups that have rows in `train` as well.
        rows: number of rows in this split.
        seen: number of these rows in such groups.
    """

    split: str
    groups: int
    cut: int
    rows: int
    seen: int

    def __str__(self) -> str:
        """Return the leakage in one line."""
        return (
            f"{self.seen} of {self.rows} {self.split} rows ({self.seen / self.rows:.0%}) are of "
            f"groups that are in train too: {self.cut} of {self.groups} groups"
        )


def leakage(table: pd.DataFrame) -> list[Leakage]:
    """Return the leakage of val and of test, as far as the table has them."""
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
    # Of equally frequent values the first in the alphabet, whatever the order of the rows.
    stratum = counted.agg(lambda values: values.mode().iloc[0])
    return [list(part.index) for _, part in stratum.groupby(stratum)]


def _hash(seed: int, group: Any) -> float:
    """Return a hash in [0, 1), uniform, and the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
