"""Scores by the values of a manifest column, such as terrain, season, land cover or region."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crossband.errors import ManifestError, nearest
from crossband.evaluation.aggregate import Aggregate, GroupKey
from crossband.metrics import Score

#: A numeric column with more than `MAX_VALUES` different values is cut into `QUANTILES` classes of
#: equal size. Any other column has one class for each value.
MAX_VALUES, QUANTILES = 8, 4
#: A number as a CSV has it; a code such as 007 is none.
NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)?(\.\d+)?(?<=\d)([eE][+-]?\d+)?")
UNKNOWN = "unknown"


class Breakdowns:
    """One `Aggregate` for each column, with the classes of the column in the place of sensors.

    Args:
        columns: names of the columns.
        table: the evaluated rows of the manifest.
        baselines: names of the baselines.

    Raises:
        ManifestError: the table lacks a column.
    """

    def __init__(
        self, columns: Sequence[str], table: pd.DataFrame, baselines: Sequence[str]
    ) -> None:
        self.row_classes: dict[str, list[str]] = {}
        self.classes: dict[str, list[str]] = {}
        self.aggregates: dict[str, Aggregate] = {}
        for column in dict.fromkeys(columns):
            if column not in table.columns:
                raise ManifestError(
                    f"--by {column}: the manifest has no such column: "
                    f"{nearest(column, list(map(str, table.columns)))}"
                )
            self.row_classes[column], self.classes[column] = classify(table[column])
            self.aggregates[column] = Aggregate(baselines)

    def add(self, position: int, unit: str, group: str, scores: Mapping[str, Score]) -> None:
        """Add the scores of the row at a position."""
        light = {name: score.light() for name, score in scores.items()}
        for column, aggregate in self.aggregates.items():
            aggregate.add(GroupKey(self.row_classes[column][position], unit, group), light)

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each column, with one entry for each class and unit, in order."""
        out = []
        for column, aggregate in self.aggregates.items():
            values = [
                {"value" if k == "sensor" else k: v for k, v in record.items()}
                for record in aggregate.sensors()
            ]
            values.sort(key=lambda record: self.classes[column].index(record["value"]))
            out.append({"column": column, "values": values})
        return out


def classify(column: pd.Series[Any]) -> tuple[list[str], list[str]]:
    """Return the class of each row, and all classes in order.

    >>> classify(pd.Series(["wood", None, "field"]))
    (['wood', 'unknown', 'field'], ['field', 'wood', 'unknown'])
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        rows = [UNKNOWN if pd.isna(v) else str(v) for v in column]
        return rows, [c for c in (*map(str, column.cat.categories), UNKNOWN) if c in rows]
    if all(isinstance(v, str) and NUMBER.fullmatch(v.strip()) for v in column if not pd.isna(v)):
        column = pd.to_numeric(column.str.strip() if column.notna().any() else column)
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and column.nunique() > MAX_VALUES:
        return _quantile_classes(column)
    rows = [UNKNOWN if pd.isna(v) else _text(v) for v in column]
    values = sorted({v for v in column if not pd.isna(v)}, key=lambda v: (str(type(v)), v))
    classes = list(dict.fromkeys(_text(v) for v in values))
    return rows, [*classes, *([UNKNOWN] if UNKNOWN in rows and UNKNOWN not in classes else [])]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 2**53 else f"{value:g}"
    return str(value)


def _quantile_classes(column: pd.Series[Any]) -> tuple[list[str], list[str]]:
    values = column.to_numpy(float, na_value=np.nan)
    known = values[np.isfinite(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, QUANTILES + 1)))
    for digits in range(4, 18):  # as many as tell the edges apart
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(texts)) == len(texts):
            break
    classes = [f"{a} to {b}" for a, b in pairwise(texts)]
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(classes) - 1)
    rows = [classes[i] if np.isfinite(v) else UNKNOWN for i, v in zip(at, values, strict=True)]
    return rows, [*classes, *([UNKNOWN] if UNKNOWN in rows else [])]
