"""Facts of all rows -> what is wrong between rows: pairs twice, places on two sides of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossband.data.check.facts import Facts
from crossband.data.check.findings import Finding, found
from crossband.data.check.likeness import COPY, alike
from crossband.data.splits import SPLITS

#: Share of the smaller footprint that two scenes must share to be of one place. Tiles of one survey
#: overlap at their margins, and the box of a rotated one reaches into its neighbour's.
SHARED = 0.1
#: Rows that a line names.
_NAMED = 6


def between(table: pd.DataFrame, facts: Sequence[Facts]) -> list[Finding]:
    """Return what is wrong between rows.

    Args:
        table: from `manifest.read`, with or without a column `split`.
        facts: of its rows, in the same order.
    """
    out = list(duplicates(table, facts))
    if "split" in table.columns and table["split"].nunique() > 1:
        out += groups_cut(table)
        known = _footprints(table, facts)
        out += places_by_footprint(table, known)
        out += places_by_look(table, facts, known)
    return out


def duplicates(table: pd.DataFrame, facts: Sequence[Facts]) -> Iterator[Finding]:
    """Rows whose source and target hold the same numbers; one of them may have several targets."""
    seen: dict[tuple[Any, ...], list[int]] = {}
    for i, one in enumerate(facts):
        digests = tuple(s.digest if s else None for s in (one.source, one.target))
        expected = tuple(table[c].notna().iloc[i] for c in ("source", "target"))
        read = all(d or not e for d, e in zip(digests, expected, strict=True))
        if read and any(digests):
            seen.setdefault((*digests, table["degradation"].iloc[i]), []).append(i)
    for same in seen.values():
        if len(same) > 1:
            rows = tuple(facts[i].row for i in same)
            yield found(
                "duplicate", rows, "pair", _file(table, same[0]), f"{_rows(rows)} are the same pair"
            )


def groups_cut(table: pd.DataFrame) -> Iterator[Finding]:
    """Groups that have rows on both sides."""
    for group, part in table.groupby("group", sort=False):
        if part["split"].nunique() > 1:
            places = [int(i) for i in np.flatnonzero(table["group"] == group)]
            yield _split(table, "group-on-two-sides", places, f"group {str(group)!r}")


def places_by_footprint(table: pd.DataFrame, links: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Scenes of different groups whose ground overlaps."""
    for places, _ in _clusters(links):
        yield _split(table, "place-on-two-sides", places, "one place by the footprints")


def _footprints(table: pd.DataFrame, facts: Sequence[Facts]) -> list[tuple[int, int]]:
    """Link rows whose footprints overlap, across sides and groups."""
    boxes = {}
    for i, one in enumerate(facts):
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


def places_by_look(
    table: pd.DataFrame, facts: Sequence[Facts], known: Sequence[tuple[int, int]] = ()
) -> Iterator[Finding]:
    """Images of different groups that show one place, or are nearly one picture.

    Places that are `known` by their footprints are not said again.
    """
    at = [i for i, one in enumerate(facts) if one.likeness is not None]
    if not at:
        return
    signatures = np.stack([facts[i].likeness for i in at])  # type: ignore[misc]
    split = table["split"].to_numpy()
    found_here: dict[tuple[int, int], tuple[float, bool]] = {}
    for n, held in enumerate(SPLITS[1:], start=1):
        # Each pair of sides once.
        first = [k for k, i in enumerate(at) if split[i] in SPLITS[:n]]
        second = [k for k, i in enumerate(at) if split[i] == held]
        for a, b, r, flipped in alike(signatures[first], signatures[second]):
            pair = at[first[a]], at[second[b]]
            if pair not in found_here or r > found_here[pair][0]:
                found_here[pair] = r, flipped
    links = _across(table, found_here)
    said = {frozenset(p) for p in known}
    copies = {p for p in links if found_here[p][0] >= COPY}
    for kind, words, chosen in (
        ("copy-on-two-sides", "nearly one picture", [p for p in links if p in copies]),
        ("place-on-two-sides", "one place by its look", links),
    ):
        for places, inside in _clusters(chosen):
            other = [p for p in inside if p not in copies and frozenset(p) not in said]
            if kind == "place-on-two-sides" and not other:
                continue
            best = max(found_here[p][0] for p in inside)
            turned = ", turned or mirrored" if any(found_here[p][1] for p in inside) else ""
            text = f"{words} (edges correlate by up to {best:.2f}{turned})"
            yield _split(table, kind, places, text, best)


def _across(table: pd.DataFrame, links: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Keep links between different splits and different groups; a cut group is found as such."""
    split, group = table["split"].to_numpy(), table["group"].to_numpy()
    return [(a, b) for a, b in links if split[a] != split[b] and group[a] != group[b]]


def _clusters(
    links: Sequence[tuple[int, int]],
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Put together what is linked directly or by others: places, and the links among them."""
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
    return found(kind, rows, "split", _file(table, places[0]), f"{what}: {words}", measure)


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"row{'s' * (len(rows) > 1)} {shown}{more}"


def _file(table: pd.DataFrame, i: int) -> str:
    source, target = table["source"].iloc[i], table["target"].iloc[i]
    return str(target if pd.isna(source) else source)
