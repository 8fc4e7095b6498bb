"""Open the sides of a row: what its columns say of source and target, for whoever reads pixels.

Here so that whatever looks at a manifest opens its files as training does, and without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crossband.data.manifest import TARGET_OWN
from crossband.errors import CrossbandError, ManifestError
from crossband.raster.bands import parse_bands
from crossband.raster.grid import Box
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.scene import Scene


def open_side(
    row: Mapping[str, Any], side: str, needed: list[str], *, alone: bool = False
) -> Scene:
    """Open the source or the target of a row for reading the bands `needed`.

    Args:
        row: of the table that `manifest.read` gives.
        side: `source` or `target`.
        needed: common names, in the order in which they are read.
        alone: the other side is not read.

    Raises:
        InputError, BandError, UnitError: see `open_scene`.
        ManifestError: a window that is none.
    """
    return open_bands(
        row, side, bands_of(row, f"{side}_bands", needed), needed, prefix_of(row, side, alone=alone)
    )


def prefix_of(row: Mapping[str, Any], side: str, *, alone: bool = False) -> str:
    """Return the prefix of the columns that describe a side: `target_` or nothing.

    A target beside a source has columns of its own where it has a sensor of its own.
    """
    if side == "source":
        return ""
    own = has_own(row) if alone else pd.notna(row["target_sensor"])
    return "target_" if own else ""


def sensor_of(row: Mapping[str, Any], side: str, *, alone: bool = False) -> str | None:
    """Return the sensor that a row declares for one side, as `open_side` takes it."""
    name = row[f"{prefix_of(row, side, alone=alone)}sensor"]
    return None if pd.isna(name) else str(name)


def has_own(row: Mapping[str, Any]) -> bool:
    """Return whether the target is declared apart from the source."""
    return any(pd.notna(row[c]) for c in ("target_sensor", *TARGET_OWN))


def bands_of(row: Mapping[str, Any], column: str, needed: list[str]) -> dict[str, int | str]:
    """Parse a column of bands; a manifest may name more bands than this model needs."""
    if pd.isna(row[column]):
        return {}
    return {k: v for k, v in parse_bands(row[column]).items() if k in needed}


def open_bands(
    row: Mapping[str, Any],
    side: str,
    bands: Mapping[str, int | str],
    needed: list[str],
    own: str,
    opened: Any = None,
) -> Scene:
    """Open one side of a pair.

    Args:
        row: of the table that `manifest.read` gives.
        side: `source` or `target`.
        bands: from `bands_of`.
        needed: common names, in the order in which they are read.
        own: prefix of the columns that describe the side, from `prefix_of`.
        opened: the file as an open dataset, where it is open already.
    """

    def cell(column: str) -> Any:
        value = row[column]
        return None if pd.isna(value) else value

    scene = open_scene(
        row[side],
        ReadOptions(
            bands,
            cell(f"{own}sensor"),
            cell(f"{own}scale"),
            cell(f"{own}offset"),
            cell(f"{own}nodata"),
        ),
        needed=needed,
        opened=opened,
    )
    window = cell(f"{side}_window")
    if window is None:
        return scene
    try:
        return scene.part(Box.parse(window))
    except ValueError:
        scene.close()
        raise ManifestError(
            f"{side}_window {window!r} is not column,row,width,height in pixels"
        ) from None
    except CrossbandError:
        scene.close()
        raise
