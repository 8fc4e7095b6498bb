"""Statistics of an index at a place on a date; they are the rows of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crossband.metrics.moments import Moments
from crossband.raster.warp import Readable
from crossband.series.field_widths import FieldWidths
from crossband.series.places import LocatedPlace

#: Columns of the table, in order; see docs/series.md.
COLUMNS = (
    "place",
    "date",
    "index",
    "synthetic",
    "synthetic_std",
    "valid",
    "pixels",
    "share",
    "true",
    "true_std",
    "difference",
    "compared",
    "scene",
)
#: Further columns with intervals.
BOUNDS = ("lower", "upper")


def place_row(
    found: LocatedPlace,
    date: str,
    scene: str,
    synthetic: Readable,
    true: Readable | None,
    widths: FieldWidths | None = None,
) -> dict[str, Any] | None:
    """Compute the statistics of a place on a date; None where no pixel of it lies in the scene.

    Args:
        found: the place in the scene.
        date: of the scene.
        scene: name of the scene.
        synthetic: the index of synthetic bands.
        true: the index of measured bands, on the same grid; None where there is none.
        widths: of the index; None without intervals.
    """
    index, wide = synthetic.bands[0], np.zeros((2, 3))
    inside, own, both = 0, Moments(), Moments()
    for box, mask in found.parts():
        count = int(np.count_nonzero(mask))
        if not count:
            continue
        inside += count
        made_window = synthetic.read(box)
        valid = made_window.mask & mask
        own += Moments.of(made_window.values[0], made_window.values[0], valid)
        if widths is not None:
            wide += widths.sums(box, valid)
        if true is not None:
            known = true.read(box)
            both += Moments.of(made_window.values[0], known.values[0], valid & known.mask)
    if not inside:
        return None
    pixels = inside if found.total is None else max(found.total, inside)
    bounds = math.nan, math.nan
    if widths is not None and own.n:
        bounds = widths.bounds(own.mean_p, wide)
    return {
        "place": found.place.name,
        "date": date,
        "index": index,
        "synthetic": own.mean_p if own.n else math.nan,
        "synthetic_std": math.sqrt(own.m2_p / own.n) if own.n else math.nan,
        "valid": own.n,
        "pixels": pixels,
        "share": own.n / pixels,
        "true": both.mean_t if both.n else math.nan,
        "true_std": math.sqrt(both.m2_t / both.n) if both.n else math.nan,
        "difference": both.error / both.n if both.n else math.nan,
        "compared": pd.NA if true is None else both.n,
        "scene": scene,
        **dict(zip(BOUNDS, bounds, strict=True)),
    }


def place_table(
    rows: Sequence[dict[str, Any]],
    places: Sequence[str],
    indices: Sequence[str],
    *,
    bounds: bool = False,
) -> pd.DataFrame:
    """Return rows as a table, sorted by place and index in the orders given.

    Args:
        rows: of `place_row`, in the order of their dates.
        places: names.
        indices: names.
        bounds: with the columns `BOUNDS`.
    """
    first = {name: number for number, name in enumerate(places)}
    # The sort is stable, so that dates keep their order.
    ordered = sorted(rows, key=lambda r: (first[r["place"]], list(indices).index(r["index"])))
    out = pd.DataFrame(ordered, columns=[*COLUMNS, *(BOUNDS if bounds else ())])
    for column in ("valid", "pixels", "compared"):
        out[column] = out[column].astype("Int64")
    for column in ("synthetic", "synthetic_std", "share", "true", "true_std", "difference"):
        out[column] = out[column].astype("float64")
    return out
