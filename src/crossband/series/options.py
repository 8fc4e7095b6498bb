"""Options of a time series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from crossband.core.options import from_keywords, keywords, option
from crossband.errors import CrossbandError
from crossband.translate.options import TranslateKeywords, TranslateOptions

#: In the place of a guide's path: each date is guided by the nearest earlier one that was measured.
EARLIER = "earlier"


@dataclass(frozen=True)
class SeriesOptions:
    """Dates, places and files of a series."""

    place_name: str | None = option(
        None, "property of --places with their names", flag="--place-name", metavar="PROPERTY"
    )
    dates: Sequence[Any] | None = option(None, "date of each input, where all are plain files")
    date_pattern: str | None = option(
        None,
        "the date in names, as '%%Y%%m%%d' or 'LC08_*_*_%%Y%%m%%d_*'",
        flag="--date-pattern",
        metavar="PATTERN",
    )
    align: str | Path | None = option(
        None, "resample the stack to the grid of this raster", flag="--align", metavar="RASTER"
    )
    stacked: bool = option(True, "write INDEX.tif, with one band per date")
    compared: bool = option(
        False, "also write INDEX_true.tif and INDEX_difference.tif", flag="--compare"
    )
    drawn: bool = option(True, "write a plot of each index through time")
    keep_scenes: bool = option(True, "keep the translated scenes")


class SeriesKeywords(TranslateKeywords, total=False):
    """The keyword arguments of `Model.series`; each is documented at its field above."""

    place_name: str | None
    dates: Sequence[Any] | None
    date_pattern: str | None
    align: str | Path | None
    stacked: bool
    compared: bool
    drawn: bool
    keep_scenes: bool


def split_keywords(**options: Unpack[SeriesKeywords]) -> tuple[TranslateOptions, SeriesOptions]:
    """Build the options of translating and of the series from keyword arguments."""
    given: Mapping[str, Any] = options
    if "indices" in given:
        raise CrossbandError("indices: those of a series are its argument index")
    own = keywords(SeriesOptions)
    translate = TranslateOptions.of(**{k: v for k, v in given.items() if k not in own})
    return translate, from_keywords(SeriesOptions, given)
