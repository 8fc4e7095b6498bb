"""From the name of a number to what it is."""

from __future__ import annotations

from crossband.metrics.catalogue import OF_INDEX, Metric, of_index
from crossband.metrics.score import CATALOGUE


def described(name: str) -> Metric | None:
    """Return what a number of `Score.numbers` is; None for a count.

    >>> described("mae").heading, described("NDVI_mae").heading, described("NDVI_n")
    ('MAE', 'NDVI MAE', None)
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    index, _, kind = name.rpartition("_")
    known = {m.name for m in OF_INDEX}
    return of_index(index, kind) if index and kind in known else None
