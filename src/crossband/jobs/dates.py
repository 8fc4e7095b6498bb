"""The acquisition date of a scene, from metadata or the caller; it is never guessed.

The first of these that states a date counts:

| statement | where |
|---|---|
| `dates` of `Model.series` | given in Python |
| manifest | the row's column `datetime`, else `date` |
| `--date-pattern` | in the name of the file, folder or item |
| product | S2 `PRODUCT_START_TIME`, S1 `startTime`, Landsat `DATE_ACQUIRED`, STAC `datetime` |
| file | the tags of `raster.acquired.TAGS`, in this order |

Times without a zone are taken as UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from crossband.core.dates import Date, date_cell
from crossband.errors import CrossbandError, InputError
from crossband.jobs.inputs import SceneInput
from crossband.raster.acquired import acquisition_time

#: Codes of a pattern -> number of digits.
CODES = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3, "%H": 2, "%M": 2, "%S": 2}


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
    stated = date_cell(source.row)
    if stated is not None:
        column, text = stated
        return DatedScene(source, _parsed(text, source.label, f"column {column}"), "the manifest")
    if pattern is not None:
        return DatedScene(source, in_name(source.stem, pattern, source.label), "--date-pattern")
    found = acquisition_time(source.path, source.read.bands, allow_local=allow_local)
    if found is None:
        raise InputError(
            f"{source.label}: nothing says when it was taken; give a manifest with a column "
            "'datetime' or 'date', or --date-pattern for dates in names, as %Y%m%d, or %Y%m for "
            "months"
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
        whole_month = "%j" not in words and "%d" not in words
        day = "%Y" + ("%j" if "%j" in words else "%m" if whole_month else "%m%d")
        form = day + "".join(c for c in ("%H", "%M", "%S") if c in words)
        text = "".join(words[c] for c in re.findall(r"%\w", form))
        try:
            time = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue  # digits that are not a date, as a month 13
        month = Date.of_month(time.year, time.month)
        found.add(month if whole_month else Date(time, day="%H" not in words))
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
    times = [c for c in ("%H", "%M", "%S") if c in codes]
    enough = "%Y" in codes and ("%j" in codes or "%m" in codes)
    if times and "%j" not in codes and "%d" not in codes:
        enough = False
    if not enough or len(set(codes)) < len(codes) or times != ["%H", "%M", "%S"][: len(times)]:
        raise CrossbandError(
            f"--date-pattern {pattern}: it must say the day once, as %Y%m%d or %Y%j, or the month "
            f"as %Y%m; after a day it may say %H, %H%M or %H%M%S"
        )
    words = {"*": ".*?", "?": "."}
    text = "".join(
        rf"(\d{{{CODES[p]}}})" if p in CODES else words.get(p, re.escape(p)) for p in parts
    )
    # The digits of a date must not be part of a longer number.
    first, last = parts[0].startswith("%"), parts[-1].startswith("%")
    text = (r"(?<!\d)" if first else "") + text + (r"(?!\d)" if last else "")
    return re.compile(text), codes


def _parsed(text: str, label: str, key: str) -> Date:
    try:
        return Date.parse(text)
    except ValueError:
        raise InputError(
            f"{label}: {key} says {text!r}, which is no date as 2024-05-01, 2024-05 or "
            f"2024-05-01T10:30:00Z"
        ) from None
