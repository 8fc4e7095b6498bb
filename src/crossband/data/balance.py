"""Balanced sampling: which row of a manifest is drawn at which position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.errors import ManifestError, nearest


@dataclass(frozen=True)
class Balance:
    """Draws rows that are balanced over columns of the manifest.

    First a value of the first column is drawn, then a value of the second, and so on, then a row.
    The probability of a value is proportional to the mean `weight` of its rows, however many rows
    it has. Sampling is stratified: the probabilities are divided into `strata` equal parts, and
    `strata` consecutive positions draw once from each part, in random order. So batches differ
    little in what they hold.

    Attributes:
        edges: cumulative probability of the rows, in the order of `rows`.
        rows: row numbers; the rows of one combination of values follow each other.
        strata: number of equal parts.
    """

    edges: NDArray[np.float64]
    rows: NDArray[np.int64]
    strata: int

    @classmethod
    def of(cls, table: pd.DataFrame, columns: Sequence[str]) -> Balance:
        """Build from a table with a column `weight`.

        Args:
            table: rows of a manifest.
            columns: columns to balance over, the first one drawn first.

        Raises:
            ManifestError: no such column, or every weight is 0.
        """
        for column in columns:
            if column not in table.columns:
                known = [*map(str, table.columns)]
                raise ManifestError(
                    f"balance: the manifest has no column {column!r}: {nearest(column, known)}"
                )
        plain = table.reset_index(drop=True)
        plain = plain[plain["weight"] > 0]
        if plain.empty:
            raise ManifestError("every row of the manifest has weight 0")
        leaves = _leaves(plain, list(columns), 1.0)
        shares = [weight * part["weight"] / part["weight"].sum() for weight, part in leaves]
        rows = np.concatenate([part.index.to_numpy() for _, part in leaves])
        return cls(np.cumsum(np.concatenate(shares)), rows, min(len(leaves), 1024))

    def draw(self, seed: int, position: int, attempt: int = 0) -> int:
        """Return the row at a position, a pure function of its arguments.

        Args:
            seed: of the training.
            position: which sample of the training, counted from 0.
            attempt: another number draws another row.
        """
        more = [attempt] if attempt else []
        rounds, place = divmod(position, self.strata)
        order = np.random.default_rng([seed, rounds, 1, *more]).permutation(self.strata)
        within = np.random.default_rng([seed, position, 2, *more]).random()
        share = (order[place] + within) / self.strata * self.edges[-1]
        at = int(np.searchsorted(self.edges, share, side="right"))
        return int(self.rows[min(at, len(self.rows) - 1)])


def _leaves(
    table: pd.DataFrame, columns: list[str], share: float
) -> list[tuple[float, pd.DataFrame]]:
    """Split a table by the values of columns; return each part with its probability."""
    if not columns:
        return [(share, table)]
    keys = table[columns[0]].astype(object).where(table[columns[0]].notna(), "").astype(str)
    parts = [part for _, part in table.groupby(keys, sort=True)]
    weights = [float(part["weight"].mean()) for part in parts]
    out = []
    for part, weight in zip(parts, weights, strict=True):
        out += _leaves(part, columns[1:], share * weight / sum(weights))
    return out


def build_balances(
    table: pd.DataFrame, columns: Sequence[str], *, paired: bool
) -> tuple[Balance, Balance]:
    """Return how rows are drawn for the source, and how for the target.

    Args:
        table: rows of a manifest.
        columns: see `Balance.of`.
        paired: source and target come from the same row; otherwise each is drawn by itself.

    Raises:
        ManifestError: no row has a source, or no row has a target.
    """
    if paired:
        both = Balance.of(table, columns)
        return both, both
    sides = []
    for side in ("source", "target"):
        if table[side].isna().all():
            raise ManifestError(f"no row has a {side}: there is nothing to learn from")
        weight = table["weight"].where(table[side].notna(), 0)
        sides.append(Balance.of(table.assign(weight=weight), columns))
    return sides[0], sides[1]
