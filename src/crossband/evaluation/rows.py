"""Which rows of a manifest are evaluated, and which baselines are fitted to."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from crossband.core import columns
from crossband.data import manifest as manifests
from crossband.errors import ManifestError


def select_split(rows: pd.DataFrame, split: str | None) -> tuple[pd.DataFrame, str | None]:
    """Return the rows to evaluate, and the name of their split (None: all rows)."""
    if "split" not in rows.columns:
        if split is not None:
            raise ManifestError(f"the manifest has no column 'split', so no split {split!r}")
        return rows, None
    splits = set(rows["split"])
    if split is None:
        split = next((s for s in ("test", "val") if s in splits), None)
        if split is None:
            return rows, None
    if split not in splits:
        raise ManifestError(
            f"the manifest has no row with split {split!r}: it has {', '.join(sorted(splits))}"
        )
    return rows[rows["split"] == split].reset_index(drop=True), split


def judged_rows(manifest: str | Path, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows with source and target, and those with a guide where any row has one.

    Returns:
        The rows; they have columns about guides where they have guides. And how many rows are left
        out because they have no counterpart, or no guide.
    """
    paired = manifests.is_paired(rows)
    if not paired.any():
        raise ManifestError(f"{manifest}: no row to judge has both a source and a target")
    left_out, rows = {"n_unpaired": int((~paired).sum())}, rows[paired]
    guided = rows["guide"].notna()
    if guided.any():
        left_out["n_unguided"], rows = int((~guided).sum()), rows[guided]
    else:
        rows = rows.drop(columns=list(columns.GUIDE))
    return rows.reset_index(drop=True), left_out


def train_rows(full: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of the split `train`, to which baselines are fitted."""
    train = full[full["split"] == "train"] if "split" in full.columns else full[:0]
    return train[manifests.is_paired(train)].reset_index(drop=True)
