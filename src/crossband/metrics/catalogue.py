"""What each number is called, measured in, and worth: one table for pages, tables and tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

#: Unit of a metric: that of the data, or one of its own; "" is a pure number.
DATA, DECIBELS, DEGREES, PERCENT, NONE = "data", "dB", "degrees", "%", ""

Better = Literal["less", "more", "zero", ""]


@dataclass(frozen=True)
class Metric:
    """One number of `Score.numbers`.

    Attributes:
        name: its key.
        heading: of a column.
        unit: `data` (the unit of the target), `dB`, `degrees`, `%`, or nothing.
        better: `less`, `more`, `zero` (what is nearest to it), or nothing.
        needs: when it is there, in words; "" means always.
        about: what it is, one line.
        source: the paper it comes from, or nothing.
        format: how it is printed.
    """

    name: str
    heading: str
    unit: str
    better: Better
    about: str
    needs: str = ""
    source: str = ""
    format: str = ".4f"


#: What each index adds, after its name and `_`.
OF_INDEX = (
    Metric("mae", "MAE", NONE, "less", "mean absolute error of the index"),
    Metric("rmse", "RMSE", NONE, "less", "root mean squared error of the index"),
    Metric("bias", "bias", NONE, "zero", "mean of synthetic - true index"),
    Metric("r2", "R2", NONE, "more", "coefficient of determination of the index", format=".3f"),
    Metric("r", "r", NONE, "more", "Pearson's correlation of the index", format=".3f"),
)


def of_index(index: str, kind: str) -> Metric:
    """Return what `<index>_<kind>` is; KeyError where there is no such number.

    >>> of_index("NDVI", "mae").heading
    'NDVI MAE'
    """
    found = {m.name: m for m in OF_INDEX}[kind]
    return replace(
        found,
        name=f"{index}_{kind}",
        heading=f"{index} {found.heading}",
        needs="bands of the index, one of them synthetic; reflectance unless a normalised ratio",
    )
