"""Names and hashes of the pairs that a model is trained on, for its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import pandas as pd

from crossband.core.messages import say
from crossband.data.reader import PairReader
from crossband.errors import UnreadableError
from crossband.model.training_data import target_hash

#: Values of a target, bands times pixels, that are read at once to be hashed, at most.
MOST_VALUES = 2**26


def hash_pairs(reader: PairReader) -> list[tuple[str, str]]:
    """Return name and hash of the target of each pair, as `crossband evaluate` reads it.

    Rows without a target have no hash. Files that cannot be read, and targets of more than
    `MOST_VALUES`, are left out, and a line says how many.

    Args:
        reader: of the training rows; their whole targets are read.
    """
    found, unread, large = [], 0, 0
    bands = len(reader.signature.target) * reader.scale**2
    for position, row in enumerate(reader.rows):
        if pd.isna(row["target"]):
            continue
        try:
            box = reader.info(position).grid.box
            if box.height * box.width * bands > MOST_VALUES:
                large += 1
                continue
            pixels = reader.read(position, box)
        except UnreadableError:  # `data.on_error: skip` has trained without it
            unread += 1
            continue
        found.append((_name(row), target_hash(pixels.target, pixels.mask)))
    if unread or large:
        say(
            f"crossband: the list of training pairs lacks {unread} that cannot be read and {large} "
            f"of more than {MOST_VALUES:,} values",
            error=True,
        )
    return found


def units_of(reader: PairReader) -> dict[str, int]:
    """Return unit of the source -> number of rows that have it; rows that cannot be read are none.

    Args:
        reader: of the training rows; their headers are read.
    """
    found: Counter[str] = Counter()
    for position in range(len(reader.rows)):
        with suppress(UnreadableError):
            found[reader.info(position).unit] += 1
    return dict(sorted(found.items()))


def _name(row: Mapping[str, Any]) -> str:
    path = PurePath(str(row["target"]))
    window = row.get("target_window")
    return f"{path.parent.name}/{path.name}" + ("" if pd.isna(window) else f" {window}")
