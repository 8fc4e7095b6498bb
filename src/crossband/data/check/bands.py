"""Which bands of the source and of the target of a row are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crossband.data.rows import packed_file, row_options
from crossband.errors import BandError
from crossband.raster.bands import parse_bands
from crossband.raster.open import known_bands, open_raster


@dataclass(frozen=True)
class Bands:
    """The bands of source and target, as the user states them; None leaves it to rows and files."""

    source: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None

    def of(self, row: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the bands of the source and of the target of a row, as far as it has them.

        They come from this object, else from the row's columns, else from the file. Where one
        file is both and only one side's bands are stated, the other side has all other bands.

        Raises:
            BandError: the bands are stated nowhere.
        """
        out = {}
        for side in ("source", "target"):
            if not pd.isna(row[side]):
                column = row[f"{side}_bands"]
                given = getattr(self, side)
                if given is None and not pd.isna(column):
                    given = parse_bands(column)
                out[side] = list(given) if given is not None else []
        for side in [s for s in out if not out[s]]:
            sensor = row_options(row, side, []).sensor
            opened = packed_file(row, side)
            names = list(known_bands(row[side], sensor, opened=opened))
            other = {"source": "target", "target": "source"}[side]
            if other in out and row[side] == row[other]:
                rest = [n for n in names if n not in out[other]]
                all_named = names or _band_count(row, side) <= len(out[other])
                names = rest or (list(out[other]) if all_named else [])
            if not names:
                raise BandError(
                    f"{row[side]}: the file names no band, and neither does the manifest: give "
                    f"a column {side}_bands, as in red=1,green=2,blue=3"
                )
            out[side] = names
        return out


def _band_count(row: Mapping[str, Any], side: str) -> int:
    packed = packed_file(row, side)
    if packed is not None:
        return packed.count
    with open_raster(row[side]) as opened:
        return int(opened.count)
