"""From the name of a number to what it is."""

from __future__ import annotations

from crossband.metrics.catalogue import OF_INDEX, Metric, of_index
from crossband.metrics.family import known_families


def known_metrics() -> dict[str, Metric]:
    """Return every metric by name, in the order of `Score.numbers`; without those of indices."""
    return {m.name: m for f in known_families().values() for m in f.metrics}


def described(name: str) -> Metric | None:
    """Return what a number of `Score.numbers` is; None for a count.

    >>> described("mae").heading, described("NDVI_mae").heading, described("NDVI_n")
    ('MAE', 'NDVI MAE', None)
    """
    known = known_metrics()
    if name in known:
        return known[name]
    index, _, kind = name.rpartition("_")
    kinds = {m.name for m in OF_INDEX}
    return of_index(index, kind) if index and kind in kinds else None
