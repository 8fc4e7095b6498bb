"""Dates of acquisition, as files and tables state them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: Columns of a manifest that state the date; the first one overrides the second.
COLUMNS = ("datetime", "date")


@dataclass(frozen=True, order=True)
class Date:
    """The time of acquisition, or the day or month where no more is known.

    Attributes:
        time: in UTC.
        day: only the day is known; `time` is its midnight.
        month: only the month is known; `time` is in the middle of it, midnight of the 15th.
    """

    time: datetime
    day: bool = False
    month: bool = False

    @classmethod
    def of_month(cls, year: int, month: int) -> Date:
        """Return the date of what is of a month, as a composite.

        Raises:
            ValueError: there is no such month.
        """
        return cls(datetime(year, month, 15, tzinfo=UTC), month=True)

    @classmethod
    def parse(cls, text: str) -> Date:
        """Parse ISO 8601, a month as `2024-05` or `202405`, or EXIF's `2024:05:01 10:30:00`.

        >>> str(Date.parse("20240501")), str(Date.parse("2024-05-01T12:00:00+02:00"))
        ('2024-05-01', '2024-05-01T10:00:00Z')
        >>> str(Date.parse("201909"))
        '2019-09'

        Raises:
            ValueError: anything else.
        """
        month = re.fullmatch(r"(\d{4})-?(\d\d)", text.strip(), re.ASCII)
        if month is not None:
            return cls.of_month(int(month[1]), int(month[2]))
        words = re.sub(r"^(\d{4})[:/](\d\d)[:/](\d\d)", r"\1-\2-\3", text.strip())
        if not re.match(r"\d{4}-?\d\d-?\d\d", words, re.ASCII):  # as days of weeks
            raise ValueError(f"{text!r:.60} is no date as 2024-05-01")
        found = datetime.fromisoformat(words)
        day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", words) is not None
        zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        try:
            return cls(zoned.astimezone(UTC), day)
        except OverflowError as error:  # the year 0 or 10000 in UTC
            raise ValueError(f"{text!r} is no date in UTC") from error

    def __str__(self) -> str:
        if self.month:
            return self.time.strftime("%Y-%m")
        if self.day:
            return self.time.strftime("%Y-%m-%d")
        words = self.time.replace(tzinfo=None).isoformat()
        return f"{words}Z"

    @property
    def stem(self) -> str:
        """The date without punctuation, for the name of a file."""
        return re.sub(r"[:.-]", "", str(self))


def days_apart(first: Date, second: Date) -> float:
    """Return the days between two dates; NaN where one is a month that holds the other.

    >>> days_apart(Date.parse("2024-05-01"), Date.parse("2024-05-16T10:00:00Z"))
    15.0
    >>> days_apart(Date.parse("2024-05"), Date.parse("2024-05-15"))
    nan
    """
    one, other = first.time.date(), second.time.date()
    if (first.month or second.month) and one.replace(day=1) == other.replace(day=1):
        return math.nan
    return float(abs((one - other).days))


def date_cell(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the column of a manifest's row that states its date, and its text; None for none."""
    for column in COLUMNS:
        text = cell_text(row.get(column))
        if text:
            return column, text
    return None


def cell_text(value: Any) -> str:
    """Return the cell of a table that states a date as text; nothing for an empty one."""
    # Without pandas, for which translating a scene must not wait.
    if value is None or str(value) in ("nan", "NaT", "<NA>"):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        return value.date().isoformat()  # parquet stores dates as times at midnight
    # In a column with empty cells, pandas writes 20240501 as 20240501.0.
    return re.sub(r"^(\d+)\.0$", r"\1", str(value).strip())
