"""The kinds of findings of `crossband data check`, and one finding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FINDING, SUSPICION = "finding", "suspicion"


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        name: as in tables and JSON.
        severity: `finding` for what is certainly wrong, `suspicion` for what may be.
        drops_row: `--fix` leaves out a row that has it: training cannot use the row as it stands.
        title: what is wrong, in a few words.
        cure: what the user can do.
    """

    name: str
    severity: str
    drops_row: bool
    title: str
    cure: str


KINDS: dict[str, FindingKind] = {
    k.name: k
    for k in (
        FindingKind(
            "unreadable",
            FINDING,
            True,
            "file cannot be read",
            "fetch the file again, or leave the row out",
        ),
        FindingKind(
            "column-unknown",
            FINDING,
            False,
            "column of an unknown name",
            "rename it as docs/data.md names it; a column of another name is not read",
        ),
        FindingKind(
            "bands-unnamed",
            FINDING,
            True,
            "bands cannot be told",
            "name them in source_bands and target_bands, as in red=4,green=3,blue=2",
        ),
        FindingKind(
            "bands-named-otherwise",
            FINDING,
            False,
            "file names a band otherwise than its row",
            "compare source_bands and target_bands with the names in the file",
        ),
        FindingKind(
            "unit-unknown",
            FINDING,
            True,
            "unit is not declared",
            "give a column sensor, or scale and offset",
        ),
        FindingKind(
            "shape-mismatch",
            FINDING,
            True,
            "source and target do not fit",
            "resample one to the other's grid, or give source_window and target_window",
        ),
        FindingKind(
            "misregistered",
            FINDING,
            True,
            "target is shifted against the source",
            "register the pair again",
        ),
        FindingKind(
            "guide",
            FINDING,
            True,
            "guide cannot be used",
            "name another guide, or leave the cell empty",
        ),
        FindingKind(
            "degradation",
            FINDING,
            True,
            "degradation cannot be used",
            "write it as in SensorMTF(mtf=0.2, noise=0.001), or name a source",
        ),
        FindingKind(
            "empty",
            FINDING,
            True,
            "much of the image holds nothing",
            "crop it with source_window and target_window, or declare nodata",
        ),
        FindingKind(
            "nodata-heavy",
            FINDING,
            False,
            "much of the image is nodata",
            "crop it; crops drawn at random would often be of nothing",
        ),
        FindingKind(
            "two-scalings",
            FINDING,
            True,
            "bands of one radiometry with different scalings",
            "find the original bands; no single scale makes these one unit",
        ),
        FindingKind(
            "out-of-range",
            FINDING,
            True,
            "values beyond the range of their unit",
            "declare the true scale and offset, or another sensor",
        ),
        FindingKind("duplicate", FINDING, True, "the same pair twice", "keep one of them"),
        FindingKind(
            "group-on-two-sides",
            FINDING,
            False,
            "a split cuts a group",
            "split again by group: crossband data split",
        ),
        FindingKind(
            "place-on-two-sides",
            FINDING,
            False,
            "one place on two sides of a split",
            "give the rows of one place one group, then split again",
        ),
        FindingKind(
            "copy-on-two-sides",
            FINDING,
            False,
            "nearly one picture on two sides of a split",
            "take it out of train, or give both rows one group and split again",
        ),
        FindingKind(
            "one-group",
            FINDING,
            False,
            "all rows are one group",
            "give rows of different places different groups; 'crossband fit' takes one group with "
            "--data.val_fraction 0, without validation, and 'crossband evaluate' as it is",
        ),
        FindingKind(
            "bands-swapped",
            SUSPICION,
            False,
            "looks as if bands were swapped",
            "compare source_bands and target_bands with the product's order",
        ),
        FindingKind(
            "offset-undeclared",
            SUSPICION,
            False,
            "looks as if an offset of +1000 was not declared",
            "Sentinel-2 from processing baseline 04.00 on: sensor sentinel-2-l2a or -l1c",
        ),
        FindingKind(
            "offset-twice",
            SUSPICION,
            False,
            "looks as if the declared offset was taken off before",
            "harmonised Sentinel-2: sensor sentinel-2-l2a-no-offset or -l1c-no-offset",
        ),
        FindingKind(
            "display-numbers",
            SUSPICION,
            False,
            "looks like a picture, declared as a measurement",
            "sensor display",
        ),
        FindingKind(
            "measurement-as-display",
            SUSPICION,
            False,
            "looks like a measurement, declared as a picture",
            "give the sensor, or sensor reflectance with scale and offset",
        ),
    )
}


@dataclass(frozen=True)
class Finding:
    """One problem in a manifest or its files.

    Attributes:
        kind: a name of `KINDS`.
        severity: `finding` or `suspicion`.
        rows: numbers of the affected rows.
        side: `source`, `target`, `guide`, `pair`, `split` or `manifest`.
        file: the affected file, or the first of several.
        text: a description in one line.
        measure: the number that was compared with the threshold, if there is one.
    """

    kind: str
    severity: str
    rows: tuple[int, ...]
    side: str
    file: str
    text: str
    measure: float | None = None

    @property
    def drops_row(self) -> bool:
        """Whether `--fix` leaves out a row that has it."""
        return KINDS[self.kind].drops_row

    def record(self) -> dict[str, Any]:
        """Return the finding as plain types, for JSON."""
        return {**asdict(self), "rows": list(self.rows)}


def make_finding(
    kind: str,
    rows: int | tuple[int, ...],
    side: str,
    file: str,
    text: str,
    measure: float | None = None,
) -> Finding:
    """Make a finding of a kind, with the severity of that kind."""
    numbers = (rows,) if isinstance(rows, int) else rows
    return Finding(kind, KINDS[kind].severity, numbers, side, file, text, measure)
