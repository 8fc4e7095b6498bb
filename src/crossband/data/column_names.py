"""Misspelt columns of a manifest, which would be kept and never read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from crossband.core import columns
from crossband.data import manifest

#: The columns that a manifest may have.
KNOWN = tuple(dict.fromkeys((*manifest.PATHS, *manifest.TEXT, *manifest.NUMBERS, *columns.GUIDE)))
#: What some write for source and target at the beginning of a name.
SHORT = {"src_": "source_", "tgt_": "target_", "dst_": "target_"}


def misspelt_columns(path: str | Path) -> dict[str, str]:
    """Return unknown columns of a manifest -> the known column that each may have been meant as.

    A known column that is there as well is not meant.
    """
    given = [str(column) for column in manifest.load_table(Path(path)).columns]
    absent = [c for c in KNOWN if c not in given]
    found = {}
    for name in given:
        if name not in absent and (close := _meant(name, absent)):
            found[name] = close
    return found


def _meant(name: str, absent: Sequence[str]) -> str | None:
    """Return the absent column that a name resembles; None for a known column's name."""
    if name in KNOWN:
        return None
    plain = name.lower().replace("-", "_").replace(" ", "_")
    plain = SHORT.get(plain[:4], plain[:4]) + plain[4:]
    close = difflib.get_close_matches(plain, absent, n=1, cutoff=0.85)
    return close[0] if close else None
