"""What a series is made of and what is written of it, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossband.core.options import option
from crossband.translate.options import Keywords


@dataclass(frozen=True)
class SeriesOptions:
    """Dates, places and files of a series."""

    place_name: str | None = option(
        None, "of --places, that names them", flag="--place-name", metavar="PROPERTY"
    )
    dates: Sequence[Any] | None = option(None, "of each input, where they are plain files")
    date_pattern: str | None = option(
        None,
        "where the date stands in names, as '%%Y%%m%%d' or 'LC08_*_*_%%Y%%m%%d_*'",
        flag="--date-pattern",
        metavar="PATTERN",
    )
    align: str | Path | None = option(
        None, "bring the stack onto the grid of this raster", flag="--align", metavar="RASTER"
    )
    stacked: bool = option(True, "write INDEX.tif, one band a date")
    compared: bool = option(False, "also INDEX_true.tif, INDEX_difference.tif", flag="--compare")
    drawn: bool = option(True, "write the picture of each index through the season")
    keep_scenes: bool = option(True, "leave the translated scenes")


class SeriesKeywords(Keywords, total=False):
    """The keyword arguments of `Model.series`; each is documented where its field stands."""

    place_name: str | None
    dates: Sequence[Any] | None
    date_pattern: str | None
    align: str | Path | None
    stacked: bool
    compared: bool
    drawn: bool
    keep_scenes: bool
