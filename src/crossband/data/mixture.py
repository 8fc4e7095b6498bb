"""Several manifests as one table, of which each is drawn from at its share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from crossband.data.manifest import check_split, read_prefixed
from crossband.errors import ManifestError


def mixture(paths: Sequence[str | Path], shares: Sequence[float] | None = None) -> pd.DataFrame:
    """Read several manifests as one table.

    The column `manifest` has the name of each row's manifest; `balance` begins with it, and
    `with_shares` gives the rows that are drawn from their weights. Groups with one name are one
    group, even in different manifests. Rows without a group get one that begins with the name of
    their manifest.

    Args:
        paths: manifests.
        shares: relative frequency at which each manifest is drawn from; by default equal.

    Raises:
        ManifestError: see `manifest.read`; also two manifests with one name, or invalid shares.
    """
    if not paths:
        raise ManifestError("no manifest is given: the list of them is empty")
    shares = [1.0] * len(paths) if shares is None else list(shares)
    if len(shares) != len(paths):
        raise ManifestError(f"{len(paths)} manifests, but {len(shares)} shares")
    if any(not (math.isfinite(s) and s >= 0) for s in shares) or not any(shares):
        raise ManifestError(f"shares of manifests must be 0 or more, and not all 0: {shares}")
    names = [Path(p).stem for p in paths]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ManifestError(f"two manifests are called {twice!r}: rename one")
    tables = []
    for path, name in zip(map(Path, paths), names, strict=True):
        table = read_prefixed(path, f"{name}/")
        tables.append(table.assign(manifest=name))
    given = [t for t in tables if "split" in t.columns]
    if given and len(given) < len(tables):
        without = next(t for t in tables if "split" not in t.columns)
        raise ManifestError(
            f"some manifests have a column 'split' and {without['manifest'].iloc[0]!r} has none: "
            f"split it first (crossband data split)"
        )
    whole = pd.concat(tables, ignore_index=True)
    if given:
        check_split("the manifests together", whole)
    return whole


def with_shares(
    table: pd.DataFrame, paths: Sequence[str | Path], shares: Sequence[float] | None
) -> pd.DataFrame:
    """Return rows of a mixture with weights by which each manifest is drawn at its share.

    Args:
        table: the rows that are drawn from.
        paths: see `mixture`.
        shares: likewise.
    """
    share = dict(zip((Path(p).stem for p in paths), shares or [1.0] * len(paths), strict=True))
    drawn = table["weight"].where(table["weight"] > 0)
    mean = drawn.groupby(table["manifest"]).transform("mean").fillna(1.0)
    return table.assign(weight=table["weight"] * table["manifest"].map(share) / mean)
