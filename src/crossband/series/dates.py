"""The acquisition date of a scene, from metadata or the caller; it is never guessed.

The first of these that states a date counts:

| statement | where |
|---|---|
| `dates` of `Model.series` | given in Python |
| manifest | the row's column `datetime`, else `date` |
| `--date-pattern` | in the name of the file, folder or item |
| product | S2 `PRODUCT_START_TIME`, S1 `startTime`, Landsat `DATE_ACQUIRED`, STAC `datetime` |
| file | the tags of `TAGS`, in this order |

Times without a zone are taken as UTC. The DateTime of a TIFF comes last, as some writers set it to
the time of acquisition and others to the time of writing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from crossband.errors import CrossbandError, InputError
from crossband.jobs.inputs import SceneInput
from crossband.raster import products
from crossband.raster.open import open_raster

#: Tags of files that state the date of acquisition: domain and name, regardless of case.
TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),  # set by GDAL's drivers of products
    (None, "ACQUISITIONDATETIME"),
    (None, "ACQUISITION_DATETIME"),
    (None, "SENSING_TIME"),  # HLS
    (None, "DATE_ACQUIRED"),
    (None, "ACQUISITION_DATE"),
    (None, "DATETIME"),
    (None, "EXIF_DateTimeOriginal"),
    (None, "TIFFTAG_DATETIME"),
)
#: Columns of a manifest that state the date; the first one overrides the second.
COLUMNS = ("datetime", "date")
#: Codes of a pattern -> number of digits.
CODES = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3, "%H": 2, "%M": 2, "%S": 2}


@dataclass(frozen=True, order=True)
class Date:
    """The time of acquisition, or the day where no time is known.

    Attributes:
        time: in UTC.
        day: only the day is known; `time` is its midnight.
    """

    time: datetime
    day: bool = False

    @classmethod
    def parse(cls, text: str) -> Date:
        """Parse ISO 8601, or TIFF's and EXIF's `2024:05:01 10:30:00`.

        >>> str(Date.parse("20240501")), str(Date.parse("2024-05-01T12:00:00+02:00"))
        ('2024-05-01', '2024-05-01T10:00:00Z')

        Raises:
            ValueError: anything else.
        """
        words = re.sub(r"^(\d{4})[:/](\d\d)[:/](\d\d)", r"\1-\2-\3", text.strip())
        found = datetime.fromisoformat(words)
        day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", words) is not None
        zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return cls(zoned.astimezone(UTC), day)

    def __str__(self) -> str:
        if self.day:
            return self.time.strftime("%Y-%m-%d")
        words = self.time.replace(tzinfo=None).isoformat()
        return f"{words}Z"

    @property
    def stem(self) -> str:
        """The date without punctuation, for the name of a file."""
        return re.sub(r"[:.-]", "", str(self))


@dataclass(frozen=True)
class DatedScene:
    """A scene and its date.

    Attributes:
        source: the scene.
        date: of its acquisition.
        date_source: where the date was found, for messages.
    """

    source: SceneInput
    date: Date
    date_source: str


def date_of_scene(
    source: SceneInput, pattern: str | None = None, *, allow_local: bool = False
) -> DatedScene:
    """Find the date of a scene.

    Args:
        source: the scene; its row in a manifest counts first.
        pattern: of the date in names, see `in_name`.
        allow_local: a file on a server may refer to files of this machine.

    Raises:
        InputError: no date is stated, or the statement is not a date.
    """
    for column in COLUMNS:
        value = _cell(source.row.get(column))
        if value:
            return DatedScene(
                source, _parsed(value, source.label, f"column {column}"), "the manifest"
            )
    if pattern is not None:
        return DatedScene(source, in_name(source.stem, pattern, source.label), "--date-pattern")
    found = products.acquisition_time(source.path)
    if found is None and not _is_product(source):
        found = _tagged(source, allow_local=allow_local)
    if found is None:
        raise InputError(
            f"{source.label}: nothing says when it was taken; give a manifest with a column "
            f"'datetime' or 'date', or --date-pattern for dates in names, as %Y%m%d"
        )
    return DatedScene(source, _parsed(found[0], source.label, found[1]), found[1])


def in_name(name: str, pattern: str, label: str) -> Date:
    """Find the date in a name.

    Args:
        name: of a file or folder.
        pattern: `%Y`, `%m`, `%d`, `%j` (day of the year), `%H`, `%M`, `%S`, with `*` for any
            characters and `?` for one. It may match anywhere in the name, but not inside of a
            longer number.
        label: the scene's name in messages.

    >>> str(in_name("LC08_L2SP_008059_20191201_20200825_02_T1", "LC08_*_*_%Y%m%d_*", "scene"))
    '2019-12-01'

    Raises:
        InputError: the name has no date of this pattern, or several.
        CrossbandError: the pattern is wrong.
    """
    expression, codes = _compiled(pattern)
    found: set[Date] = set()
    for match in expression.finditer(name):
        words = dict(zip(codes, match.groups(), strict=True))
        # %j replaces month and day. A missing time means midnight.
        day = "%Y" + ("%j" if "%j" in words else "%m%d")
        form = day + "".join(c for c in ("%H", "%M", "%S") if c in words)
        text = "".join(words[c] for c in re.findall(r"%\w", form))
        try:
            time = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue  # digits that are not a date, as a month 13
        found.add(Date(time, day="%H" not in words))
    if len(found) != 1:
        many = " and ".join(map(str, sorted(found)))
        raise InputError(
            f"{label}: --date-pattern {pattern} finds {many or 'no date'} in {name!r}"
            + ("; say more of the name" if many else "")
        )
    return found.pop()


def _compiled(pattern: str) -> tuple[re.Pattern[str], list[str]]:
    """Return the regular expression of a pattern, and its codes in order."""
    parts = re.findall(r"%.|\*|\?|[^%*?]+|%", pattern)
    codes = [p for p in parts if p.startswith("%")]
    unknown = next((c for c in codes if c not in CODES), None)
    if unknown is not None:
        raise CrossbandError(
            f"--date-pattern {pattern}: {unknown} is not known, only {', '.join(CODES)}"
        )
    enough = "%Y" in codes and ("%j" in codes or {"%m", "%d"} <= set(codes))
    times = [c for c in ("%H", "%M", "%S") if c in codes]
    if not enough or len(set(codes)) < len(codes) or times != ["%H", "%M", "%S"][: len(times)]:
        raise CrossbandError(
            f"--date-pattern {pattern}: it must say the day once, as %Y%m%d or %Y%j, and may say "
            f"%H, %H%M or %H%M%S"
        )
    words = {"*": ".*?", "?": "."}
    text = "".join(
        rf"(\d{{{CODES[p]}}})" if p in CODES else words.get(p, re.escape(p)) for p in parts
    )
    # The digits of a date must not be part of a longer number.
    first, last = parts[0].startswith("%"), parts[-1].startswith("%")
    text = (r"(?<!\d)" if first else "") + text + (r"(?!\d)" if last else "")
    return re.compile(text), codes


def _is_product(source: SceneInput) -> bool:
    return products.find(source.path, source.read.bands) is not None


def _tagged(source: SceneInput, *, allow_local: bool) -> tuple[str, str] | None:
    """Return the first date in the tags of a file, and the name of its tag."""
    with open_raster(source.path, allow_local=allow_local) as dataset:
        tags = {domain: dataset.tags(ns=domain) for domain in {domain for domain, _ in TAGS}}
    for domain, name in TAGS:
        for key, value in tags[domain].items():
            if key.lower() == name.lower() and value.strip():
                # HLS states several times for a mosaic of one pass; the first one is taken.
                return value.split(";")[0].strip(), key
    return None


def _cell(value: Any) -> str:
    """Return a cell of a manifest as text."""
    if pd.isna(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # in a column with empty cells, 20240501 is read as 20240501.0
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        return value.date().isoformat()  # parquet stores dates as times at midnight
    return str(value).strip()


def _parsed(text: str, label: str, key: str) -> Date:
    try:
        return Date.parse(text)
    except ValueError:
        raise InputError(
            f"{label}: {key} says {text!r}, which is no date as 2024-05-01 or 2024-05-01T10:30:00Z"
        ) from None
