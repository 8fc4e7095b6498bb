"""The numbers by any column of the manifest: terrain, season, land cover, region, sensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crossband.errors import ManifestError, nearest
from crossband.evaluation.aggregate import Cell, Tally
from crossband.metrics import Score

#: A column of numbers with more different values than this is cut into as many equal shares as
#: `PARTS`; one of text has as many rows as values.
FEW, PARTS = 8, 4
UNKNOWN = "unknown"


class Breakdowns:
    """A tally for each column.

    Args:
        columns: of the table.
        table: the rows that are judged.
        baselines: names of the baselines.

    Raises:
        ManifestError: a column that is not there.
    """

    def __init__(
        self, columns: Sequence[str], table: pd.DataFrame, baselines: Sequence[str]
    ) -> None:
        self.values: dict[str, list[str]] = {}
        self.order: dict[str, list[str]] = {}
        self.tallies: dict[str, Tally] = {}
        for column in dict.fromkeys(columns):
            if column not in table.columns:
                raise ManifestError(
                    f"--by {column}: the manifest has no such column: "
                    f"{nearest(column, list(map(str, table.columns)))}"
                )
            self.values[column], self.order[column] = labels(table[column])
            self.tallies[column] = Tally(baselines)

    def add(self, position: int, unit: str, group: str, scores: Mapping[str, Score]) -> None:
        """Add the scores of the row at a position."""
        light = {who: score.light() for who, score in scores.items()}
        for column, tally in self.tallies.items():
            tally.add(Cell(self.values[column][position], unit, group), light)

    def records(self) -> list[dict[str, Any]]:
        """Return for each column a record of each value and unit, values in their order."""
        out = []
        for column, tally in self.tallies.items():
            values = [
                {"value" if k == "sensor" else k: v for k, v in record.items()}
                for record in tally.sensors()
            ]
            place = {name: n for n, name in enumerate(self.order[column])}
            values.sort(key=lambda record: place[record["value"]])
            out.append({"column": column, "values": values})
        return out


def labels(column: pd.Series[Any]) -> tuple[list[str], list[str]]:
    """Return the class of each row, and all classes in their order.

    >>> labels(pd.Series(["wood", None, "field"]))
    (['wood', 'unknown', 'field'], ['field', 'wood', 'unknown'])
    """
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numeric and column.nunique() > FEW:
        return _shares(column)
    texts = [UNKNOWN if pd.isna(v) else _word(v) for v in column]
    there = sorted({v for v in column if not pd.isna(v)}, key=lambda v: (str(type(v)), v))
    order = list(dict.fromkeys(_word(v) for v in there))
    return texts, [*order, *([UNKNOWN] if UNKNOWN in texts and UNKNOWN not in order else [])]


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shares(column: pd.Series[Any]) -> tuple[list[str], list[str]]:
    values = column.to_numpy(float, na_value=np.nan)
    known = values[np.isfinite(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, PARTS + 1)))
    names = [f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges)]
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(names) - 1)
    texts = [names[i] if np.isfinite(v) else UNKNOWN for i, v in zip(at, values, strict=True)]
    return texts, [*names, *([UNKNOWN] if UNKNOWN in texts else [])]
