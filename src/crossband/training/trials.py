"""The trials of a sweep, and the table of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: its folder is `trial-<number>`.
        state: `complete`, `pruned`, `failed` or `running`.
        score: best validation score; None where there was none.
        parameters: option -> value.
    """

    number: int
    state: str
    score: float | None
    parameters: dict[str, Any]


def trials_table(rows: Sequence[Trial]) -> str:
    """Return the trials as text, with the best one marked."""
    if not rows:
        return ""
    names = list(rows[0].parameters)
    short = [n.rpartition(".")[2] for n in names]
    heads = [s if short.count(s) == 1 else n for n, s in zip(names, short, strict=True)]
    best = best_trial(rows)
    lines = [["trial", "state", "score", *heads]]
    for row in rows:
        score = "-" if row.score is None else f"{row.score:.5f}"
        mark = "*" if row is best else ""
        values = [value_text(row.parameters.get(n)) for n in names]
        lines.append([str(row.number), row.state, score + mark, *values])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*text, "* best: lowest validation score"])


def best_trial(rows: Sequence[Trial]) -> Trial | None:
    """Return the best of the completed trials; pruned ones do not count."""
    scored = [(row.score, row.number, row) for row in rows if row.state == "complete"]
    known = [item for item in scored if item[0] is not None]
    return min(known, key=lambda item: item[:2])[2] if known else None


def lowest(values: dict[int, float]) -> float | None:
    """Return the lowest finite score; None where there is none."""
    finite = [value for value in values.values() if math.isfinite(value)]
    return min(finite) if finite else None


def value_text(value: Any) -> str:
    """Return the value of an option as it is printed."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
