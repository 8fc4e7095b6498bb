"""Which pair is drawn at which position of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.errors import ManifestError, nearest


@dataclass(frozen=True)
class Balance:
    """Which row is drawn at which position: balanced over columns, dealt like cards.

    A value of the first column is chosen, then of the second, ..., then a row; every value of a
    column is equally likely, however many rows it has, or in proportion to the mean `weight` of
    its rows. Positions are dealt in rounds of `strata`: within a round every group comes about as
    often as it should, which makes batches alike.

    Attributes:
        edges: cumulative probability of the rows, in the order of `rows`.
        rows: row numbers, branch by branch.
        strata: positions of a round.
    """

    edges: NDArray[np.float64]
    rows: NDArray[np.int64]
    strata: int

    @classmethod
    def of(cls, table: pd.DataFrame, columns: Sequence[str]) -> Balance:
        """Build from a table with a column `weight`, for columns from the outermost in."""
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
        """Return the row at a position; each attempt draws another one."""
        more = [attempt] if attempt else []
        turn, place = divmod(position, self.strata)
        order = np.random.default_rng([seed, turn, 1, *more]).permutation(self.strata)
        within = np.random.default_rng([seed, position, 2, *more]).random()
        share = (order[place] + within) / self.strata * self.edges[-1]
        at = int(np.searchsorted(self.edges, share, side="right"))
        return int(self.rows[min(at, len(self.rows) - 1)])


def _leaves(
    table: pd.DataFrame, columns: list[str], share: float
) -> list[tuple[float, pd.DataFrame]]:
    """Split a table by columns; each part with its probability."""
    if not columns:
        return [(share, table)]
    keys = table[columns[0]].astype(object).where(table[columns[0]].notna(), "").astype(str)
    parts = [part for _, part in table.groupby(keys, sort=True)]
    weights = [float(part["weight"].mean()) for part in parts]
    out = []
    for part, weight in zip(parts, weights, strict=True):
        out += _leaves(part, columns[1:], share * weight / sum(weights))
    return out


def of_sides(
    table: pd.DataFrame, columns: Sequence[str], *, paired: bool
) -> tuple[Balance, Balance]:
    """Return how rows are drawn for the source, and for the target where it is another row's.

    ManifestError where no row has a source, or none a target.
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
