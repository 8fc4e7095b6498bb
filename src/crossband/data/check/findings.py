"""What a check can find: the kinds, and one finding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FINDING, SUSPICION = "finding", "suspicion"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        name: as in tables and JSON.
        severity: `finding`, or `suspicion` where it only looks as if.
        spoils: a row that has it is of no use for training as it stands; `--fix` leaves it out.
        title: a few words.
        cure: what to do.
    """

    name: str
    severity: str
    spoils: bool
    title: str
    cure: str


KINDS: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind(
            "unreadable",
            FINDING,
            True,
            "file cannot be read",
            "fetch the file again, or leave the row out",
        ),
        Kind(
            "bands-unnamed",
            FINDING,
            True,
            "bands cannot be told",
            "name them in source_bands and target_bands, as in red=4,green=3,blue=2",
        ),
        Kind(
            "unit-unknown",
            FINDING,
            True,
            "unit is not declared",
            "give a column sensor, or scale and offset",
        ),
        Kind(
            "shape-mismatch",
            FINDING,
            True,
            "source and target do not fit",
            "resample one to the other's grid, or give source_window and target_window",
        ),
        Kind(
            "misregistered",
            FINDING,
            True,
            "target is shifted against the source",
            "register the pair again",
        ),
        Kind(
            "empty",
            FINDING,
            True,
            "much of the image holds nothing",
            "crop it with source_window and target_window, or declare nodata",
        ),
        Kind(
            "nodata-heavy",
            FINDING,
            False,
            "much of the image is nodata",
            "crop it; crops drawn at random would often be of nothing",
        ),
        Kind(
            "two-scalings",
            FINDING,
            True,
            "bands of one radiometry with different scalings",
            "find the original bands; no single scale makes these one unit",
        ),
        Kind(
            "out-of-range",
            FINDING,
            True,
            "values beyond the range of their unit",
            "declare the true scale and offset, or another sensor",
        ),
        Kind("duplicate", FINDING, True, "the same pair twice", "keep one of them"),
        Kind(
            "group-on-two-sides",
            FINDING,
            False,
            "a split cuts a group",
            "split again by group: crossband data split",
        ),
        Kind(
            "place-on-two-sides",
            FINDING,
            False,
            "one place on two sides of a split",
            "give the rows of one place one group, then split again",
        ),
        Kind(
            "copy-on-two-sides",
            FINDING,
            False,
            "nearly one picture on two sides of a split",
            "take it out of train, or give both rows one group and split again",
        ),
        Kind(
            "bands-swapped",
            SUSPICION,
            False,
            "looks as if bands were swapped",
            "compare source_bands and target_bands with the product's order",
        ),
        Kind(
            "offset-undeclared",
            SUSPICION,
            False,
            "looks as if an offset of +1000 was not declared",
            "Sentinel-2 from processing baseline 04.00 on: sensor sentinel-2-l2a or -l1c",
        ),
        Kind(
            "offset-twice",
            SUSPICION,
            False,
            "looks as if the declared offset was taken off before",
            "harmonised Sentinel-2: sensor sentinel-2-l2a-no-offset or -l1c-no-offset",
        ),
        Kind(
            "display-numbers",
            SUSPICION,
            False,
            "looks like a picture, declared as a measurement",
            "sensor display",
        ),
    )
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a name of `KINDS`.
        severity: `finding` or `suspicion`.
        rows: numbers of the rows that it is about.
        side: `source`, `target`, `pair` or `split`.
        file: the file that it was seen in, the first of several.
        text: one line for people.
        measure: the number that was held against the threshold, where there is one.
    """

    kind: str
    severity: str
    rows: tuple[int, ...]
    side: str
    file: str
    text: str
    measure: float | None = None

    @property
    def spoils(self) -> bool:
        """A row that has it is left out by `--fix`."""
        return KINDS[self.kind].spoils

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "rows": list(self.rows)}


def found(
    kind: str,
    rows: int | tuple[int, ...],
    side: str,
    file: str,
    text: str,
    measure: float | None = None,
) -> Finding:
    """Make a finding; the kind says how severe it is."""
    numbers = (rows,) if isinstance(rows, int) else rows
    return Finding(kind, KINDS[kind].severity, numbers, side, file, text, measure)
