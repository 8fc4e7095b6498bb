"""Helpers of layouts: rows whose source and target are one file, and CSV files of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from crossband.data import table_file
from crossband.data.layouts.base import Row
from crossband.errors import ManifestError
from crossband.raster.bands import parse_bands

SENTINEL_2_L2A = (
    "coastal=1,blue=2,green=3,red=4,rededge071=5,rededge075=6,rededge078=7,nir=8,nir08=9,nir09=10,"
    "swir16=11,swir22=12"
)
RGBN = "red=1,green=2,blue=3,nir=4"


def single_file_row(path: Path, bands: str, sensor: str, **columns: Any) -> Row:
    """Return the row of a file that is source and target; a model chooses its bands from it.

    Args:
        path: the file.
        bands: all known bands, as in `red=1,green=2,blue=3,nir=4`.
        sensor: name in `crossband.core.sensors`.
        **columns: more columns of the manifest.

    Raises:
        BandError: bands that are not in this form.
    """
    parse_bands(bands)
    both = {"source": path, "target": path, "source_bands": bands, "target_bands": bands}
    return both | {"sensor": sensor, **columns}


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV file of a dataset.

    Raises:
        ManifestError: it cannot be read, or lacks one of the columns.
    """
    table = table_file.read_table(path)
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise ManifestError(
            f"{path}: no column {' and no column '.join(map(repr, missing))}: it has "
            f"{', '.join(map(str, table.columns))}"
        )
    return table
