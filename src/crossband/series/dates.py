"""When a scene was taken: what is told, by whom, and nothing that is guessed.

The strongest word counts:

| word | where |
|---|---|
| `dates` of `Model.series` | given in Python |
| manifest | the row's column `datetime`, else `date` |
| `--date-pattern` | in the name of the file, folder or item |
| product | S2 `PRODUCT_START_TIME`, S1 `startTime`, Landsat `DATE_ACQUIRED`, STAC `datetime` |
| file | the tags of `TAGS`, in this order |

Times without a zone are taken as UTC. A TIFF's own DateTime is when the file was made, which many
writers set to the time of acquisition and others to the time of writing: it comes last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from crossband.errors import CrossbandError, InputError
from crossband.jobs.sources import Source
from crossband.raster import products
from crossband.raster.open import open_raster

#: Tags of files that say when the picture was taken: domain and name, in any case of letters.
TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),  # GDAL's own word, as its readers of products set it
    (None, "ACQUISITIONDATETIME"),
    (None, "ACQUISITION_DATETIME"),
    (None, "SENSING_TIME"),  # HLS
    (None, "DATE_ACQUIRED"),
    (None, "ACQUISITION_DATE"),
    (None, "DATETIME"),
    (None, "EXIF_DateTimeOriginal"),
    (None, "TIFFTAG_DATETIME"),
)
#: The manifest's columns, the stronger one first.
COLUMNS = ("datetime", "date")
#: What a pattern may hold, and the digits that it stands for.
CODES = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3, "%H": 2, "%M": 2, "%S": 2}


@dataclass(frozen=True, order=True)
class Date:
    """When a scene was taken.

    Attributes:
        time: in UTC.
        day: only the day is known; `time` is its beginning.
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
        """The date as a part of a file's name."""
        return re.sub(r"[:.-]", "", str(self))


@dataclass(frozen=True)
class Dated:
    """A scene and when it was taken.

    Attributes:
        source: the scene.
        date: when.
        said_by: what says so, for people.
    """

    source: Source
    date: Date
    said_by: str


def told(source: Source, pattern: str | None = None) -> Dated:
    """Return a scene with its date.

    Args:
        source: the scene; its row in a manifest counts first.
        pattern: where the date stands in names, see `in_name`.

    Raises:
        InputError: nothing says a date, or what says it is none.
    """
    for column in COLUMNS:
        value = _cell(source.row.get(column))
        if value:
            return Dated(source, _parsed(value, source.said, f"column {column}"), "the manifest")
    if pattern is not None:
        return Dated(source, in_name(source.stem, pattern, source.said), "--date-pattern")
    found = products.acquisition_time(source.path)
    if found is None and not _is_product(source):
        found = _tagged(source)
    if found is None:
        raise InputError(
            f"{source.said}: nothing says when it was taken; give a manifest with a column "
            f"'datetime' or 'date', or --date-pattern for dates in names, as %Y%m%d"
        )
    return Dated(source, _parsed(found[0], source.said, found[1]), found[1])


def in_name(name: str, pattern: str, said: str) -> Date:
    """Return the date in a name.

    Args:
        name: of a file or folder.
        pattern: `%Y`, `%m`, `%d`, `%j` (day of the year), `%H`, `%M`, `%S`, with `*` for any
            letters and `?` for one; it may stand anywhere in the name, but not inside of a longer
            number.
        said: what the scene is called in messages.

    >>> str(in_name("LC08_L2SP_008059_20191201_20200825_02_T1", "LC08_*_*_%Y%m%d_*", "scene"))
    '2019-12-01'

    Raises:
        InputError: no date there, or several.
        CrossbandError: a pattern that is none.
    """
    expression, codes = _compiled(pattern)
    found: set[Date] = set()
    for match in expression.finditer(name):
        words = dict(zip(codes, match.groups(), strict=True))
        # %j stands for month and day; what is not said begins with the day.
        day = "%Y" + ("%j" if "%j" in words else "%m%d")
        form = day + "".join(c for c in ("%H", "%M", "%S") if c in words)
        text = "".join(words[c] for c in re.findall(r"%\w", form))
        try:
            time = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue  # digits that are no date: the month 13
        found.add(Date(time, day="%H" not in words))
    if len(found) != 1:
        many = " and ".join(map(str, sorted(found)))
        raise InputError(
            f"{said}: --date-pattern {pattern} finds {many or 'no date'} in {name!r}"
            + ("; say more of the name" if many else "")
        )
    return found.pop()


def _compiled(pattern: str) -> tuple[re.Pattern[str], list[str]]:
    """Return the expression of a pattern, and its codes in order."""
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
    # A date is not the middle of a longer number.
    first, last = parts[0].startswith("%"), parts[-1].startswith("%")
    text = (r"(?<!\d)" if first else "") + text + (r"(?!\d)" if last else "")
    return re.compile(text), codes


def _is_product(source: Source) -> bool:
    return products.find(source.path, source.read.bands) is not None


def _tagged(source: Source) -> tuple[str, str] | None:
    """Return what the tags of a file say, and the tag that says it."""
    with open_raster(source.path) as dataset:
        tags = {domain: dataset.tags(ns=domain) for domain in {domain for domain, _ in TAGS}}
    for domain, name in TAGS:
        for key, value in tags[domain].items():
            if key.lower() == name.lower() and value.strip():
                # Of a mosaic HLS states several; the first is as good as the others of one pass.
                return value.split(";")[0].strip(), key
    return None


def _cell(value: Any) -> str:
    """Return the text of a manifest's cell; empty where it is empty."""
    if pd.isna(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 20240501 beside an empty cell is read as 20240501.0
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        return value.date().isoformat()  # parquet has a column of dates as times at midnight
    return str(value).strip()


def _parsed(text: str, said: str, key: str) -> Date:
    try:
        return Date.parse(text)
    except ValueError:
        raise InputError(
            f"{said}: {key} says {text!r}, which is no date as 2024-05-01 or 2024-05-01T10:30:00Z"
        ) from None
