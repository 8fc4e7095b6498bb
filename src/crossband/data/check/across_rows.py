"""Rules on several rows of a manifest: duplicate pairs, and places in two parts of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossband.data.check.edge_patterns import COPY, similar_pairs
from crossband.data.check.findings import Finding, make_finding
from crossband.data.check.row_stats import RowStats
from crossband.data.splits import SPLITS

#: Share of the smaller footprint that two scenes of one place must share. Tiles of one survey
#: overlap at their margins, and the bounding box of a rotated tile overlaps that of its neighbour.
SHARED = 0.1
#: Number of rows that a message lists.
_NAMED = 6


def check_across_rows(table: pd.DataFrame, stats: Sequence[RowStats]) -> list[Finding]:
    """Return the findings that concern several rows.

    Args:
        table: from `manifest.read`, with or without a column `split`.
        stats: of its rows, in the same order.
    """
    out = [*duplicates(table, stats), *one_group(table)]
    if "split" in table.columns and table["split"].nunique() > 1:
        out += groups_cut(table)
        known = _footprints(table, stats)
        out += places_by_footprint(table, known)
        out += places_by_edges(table, stats, known)
    return out


def duplicates(table: pd.DataFrame, stats: Sequence[RowStats]) -> Iterator[Finding]:
    """Report rows whose source and target hold the same numbers as those of another row."""
    seen: dict[tuple[Any, ...], list[int]] = {}
    for i, one in enumerate(stats):
        digests = tuple(s.digest if s else None for s in (one.source, one.target))
        expected = tuple(table[c].notna().iloc[i] for c in ("source", "target"))
        read = all(d or not e for d, e in zip(digests, expected, strict=True))
        if read and any(digests):
            seen.setdefault((*digests, table["degradation"].iloc[i]), []).append(i)
    for same in seen.values():
        if len(same) > 1:
            rows = tuple(stats[i].row for i in same)
            yield make_finding(
                "duplicate", rows, "pair", _file(table, same[0]), f"{_rows(rows)} are the same pair"
            )


def one_group(table: pd.DataFrame) -> Iterator[Finding]:
    """Report a manifest without a split that no split can divide, which training refuses."""
    given = {"split", "fold"} & set(table.columns)
    if len(table) > 1 and not given and table["group"].nunique() == 1:
        group = table["group"].iloc[0]
        text = f"group {str(group)!r} has all rows: a split cuts no group, so none is left to test"
        yield make_finding("one-group", int(table["row"].iloc[0]), "split", str(group), text)


def groups_cut(table: pd.DataFrame) -> Iterator[Finding]:
    """Report groups that have rows in several parts of the split."""
    for group, part in table.groupby("group", sort=False):
        if part["split"].nunique() > 1:
            places = [int(i) for i in np.flatnonzero(table["group"] == group)]
            yield _split(table, "group-on-two-sides", places, f"group {str(group)!r}")


def places_by_footprint(table: pd.DataFrame, links: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Report scenes of different groups whose footprints overlap."""
    for places, _ in _clusters(links):
        yield _split(table, "place-on-two-sides", places, "one place by the footprints")


def _footprints(table: pd.DataFrame, stats: Sequence[RowStats]) -> list[tuple[int, int]]:
    """Return pairs of rows whose footprints overlap, of different groups and splits."""
    boxes = {}
    for i, one in enumerate(stats):
        side = one.source or one.target
        if side is not None and side.bounds is not None:
            boxes[i] = side.bounds
    at = np.array(list(boxes))
    bounds = np.array(list(boxes.values())).reshape(-1, 4)
    split = table["split"].to_numpy()
    area = (bounds[:, 2] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 1])
    links = []
    for held in np.flatnonzero(split[at] != "train") if len(at) else []:
        ends = np.minimum(bounds[:, 2:], bounds[held, 2:])
        sizes = np.maximum(ends - np.maximum(bounds[:, :2], bounds[held, :2]), 0)
        near = sizes[:, 0] * sizes[:, 1] > SHARED * np.minimum(area, area[held])
        links += [(int(at[held]), int(at[other])) for other in np.flatnonzero(near)]
    return _across(table, links)


def places_by_edges(
    table: pd.DataFrame, stats: Sequence[RowStats], known: Sequence[tuple[int, int]] = ()
) -> Iterator[Finding]:
    """Report images of different groups that show one place, or are nearly copies.

    Args:
        table: see `check_across_rows`.
        stats: see `check_across_rows`.
        known: pairs of rows that footprints show already; they are not reported again.
    """
    at = [i for i, one in enumerate(stats) if one.edge_pattern is not None]
    if not at:
        return
    signatures = np.stack([stats[i].edge_pattern for i in at])  # type: ignore[misc]
    split = table["split"].to_numpy()
    similar: dict[tuple[int, int], tuple[float, bool]] = {}
    for n, held in enumerate(SPLITS[1:], start=1):
        # Each pair of splits once.
        first = [k for k, i in enumerate(at) if split[i] in SPLITS[:n]]
        second = [k for k, i in enumerate(at) if split[i] == held]
        for a, b, r, flipped in similar_pairs(signatures[first], signatures[second]):
            pair = at[first[a]], at[second[b]]
            if pair not in similar or r > similar[pair][0]:
                similar[pair] = r, flipped
    links = _across(table, similar)
    reported = {frozenset(p) for p in known}
    copies = {p for p in links if similar[p][0] >= COPY}
    for kind, words, chosen in (
        ("copy-on-two-sides", "nearly one picture", [p for p in links if p in copies]),
        ("place-on-two-sides", "one place by its look", links),
    ):
        for places, inside in _clusters(chosen):
            other = [p for p in inside if p not in copies and frozenset(p) not in reported]
            if kind == "place-on-two-sides" and not other:
                continue
            best = max(similar[p][0] for p in inside)
            turned = ", turned or mirrored" if any(similar[p][1] for p in inside) else ""
            text = f"{words} (edges correlate by up to {best:.2f}{turned})"
            yield _split(table, kind, places, text, best)


def _across(table: pd.DataFrame, links: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Keep links between different splits and different groups; `groups_cut` finds the others."""
    split, group = table["split"].to_numpy(), table["group"].to_numpy()
    return [(a, b) for a, b in links if split[a] != split[b] and group[a] != group[b]]


def _clusters(
    links: Sequence[tuple[int, int]],
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Yield connected components: positions of rows, and the links between them."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        parent.setdefault(i, i)
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in links:
        parent[root(b)] = root(a)
    places: dict[int, list[int]] = {}
    for i in sorted(parent):
        places.setdefault(root(i), []).append(i)
    among: dict[int, list[tuple[int, int]]] = {}
    for link in links:
        among.setdefault(root(link[0]), []).append(link)
    for first, members in places.items():
        yield members, among[first]


def _split(
    table: pd.DataFrame, kind: str, places: Sequence[int], what: str, measure: float | None = None
) -> Finding:
    by_side: Mapping[str, list[int]] = {
        s: [int(table["row"].iloc[i]) for i in places if table["split"].iloc[i] == s]
        for s in SPLITS
    }
    words = "; ".join(f"{_rows(rows)} in {s}" for s, rows in by_side.items() if rows)
    rows = tuple(r for rows in by_side.values() for r in rows)
    return make_finding(kind, rows, "split", _file(table, places[0]), f"{what}: {words}", measure)


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"row{'s' * (len(rows) > 1)} {shown}{more}"


def _file(table: pd.DataFrame, i: int) -> str:
    source, target = table["source"].iloc[i], table["target"].iloc[i]
    return str(target if pd.isna(source) else source)
