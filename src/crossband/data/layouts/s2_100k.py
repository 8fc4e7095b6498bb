"""The layout `s2-100k`: Sentinel-2 L2A patches from all land areas, as published with SatCLIP.

Source: github.com/microsoft/satclip (`satclip/datamodules/s2geo_dataset.py`,
`scripts/download_s2.py`).

The scenes are from 2021 to 2023. Some have processing baseline 04.00, whose stored numbers are 1000
higher. Neither the files nor the published index say which, and the date does not tell either,
because scenes are processed again later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossband.core import sensors
from crossband.data.layouts._headers import read_header
from crossband.data.layouts._rows import SENTINEL_2_L2A, read_table, single_file_row
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError

BANDS = 12
_BASELINE = re.compile(r"_N(\d\d)\.?(\d\d)$")


class S2100K(Layout):
    """S2-100K: 100,000 patches of Sentinel-2 L2A, 256 x 256 pixels.

    The files are `index.csv` (columns fn, lon, lat) and `images/patch_<i>.tif` (uint16, the 12
    bands B01 to B12 without B10, not named in the file). Each patch is a group.

    Patches of processing baseline 04.00 or later have stored numbers that are 1000 higher. The
    baseline comes from --sensor, or from a column `granule_id` of the index, which SatCLIP's
    download script writes. A granule_id ends in the baseline, as `_N04.00`.

    Args:
        sensor: `sentinel-2-l2a` (baseline 04.00 or later) or `sentinel-2-l2a-no-offset`
            (before); needed if the index has no column `granule_id`.
        min_bytes: smaller files are left out, as SatCLIP does, because they are mostly nodata.
    """

    examples = ({"sensor": "sentinel-2-l2a"},)

    name = "s2-100k"
    origin = (
        "100,000 Sentinel-2 L2A patches 256 x 256, 12 bands (Klemmer et al. 2023): "
        "github.com/microsoft/satclip, Copernicus Sentinel data, free and open"
    )

    def __init__(self, sensor: str = "", min_bytes: int = 10_000) -> None:
        if sensor:
            sensors.get(sensor)
        self.sensor, self.min_bytes = sensor, min_bytes

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """Yield a row for each line of the index; see `Layout.rows`."""
        indexes = search.files("index.csv")
        images = {p.name: p for p in search.files("images/*.tif")}
        if not indexes or not images:
            return
        lines = read_table(indexes[0], "fn", "lon", "lat")
        if not self.sensor and "granule_id" not in lines.columns:
            raise ManifestError(
                f"{indexes[0]}: it does not say which patches are of processing baseline 04.00 "
                f"(1000 higher); say it with --sensor sentinel-2-l2a or sentinel-2-l2a-no-offset"
            )
        _check_bands(next(iter(images.values())))
        small, absent = 0, 0
        for line in lines.to_dict("records"):
            path = images.pop(Path(str(line["fn"])).name, None)
            if path is None:
                absent += 1
            elif path.stat().st_size < self.min_bytes:
                small += 1
            else:
                sensor = self.sensor or _sensor(indexes[0], line)
                place = {"lon": float(line["lon"]), "lat": float(line["lat"])}
                yield single_file_row(path, SENTINEL_2_L2A, sensor, group=path.stem, **place)
        if small + absent == len(lines):
            raise ManifestError(
                f"{indexes[0]}: of its {len(lines):,} files {absent:,} are not in images/ and "
                f"{small:,} are below {self.min_bytes:,} bytes (--min-bytes)"
            )
        if absent:
            search.notes.append(f"{absent:,} lines of index.csv have no file in images/")
        if small:
            search.notes.append(f"{small:,} files below {self.min_bytes:,} bytes were left out")
        if images:
            first = next(iter(images.values()))
            search.notes.append(
                f"{len(images):,} files are not in index.csv and were left out, as {first}"
            )


def _check_bands(path: Path) -> None:
    count = read_header(path).count
    if count != BANDS:
        raise ManifestError(
            f"{path}: it has {count} bands; those of S2-100K have {BANDS} (B01 to B12 without B10)"
        )


def _sensor(index: Path, line: dict[Any, Any]) -> str:
    match = _BASELINE.search(str(line["granule_id"]))
    if match is None:
        raise ManifestError(
            f"{index}: {line['fn']}: granule_id {line['granule_id']!r} does not end in its "
            f"processing baseline, as _N04.00"
        )
    baseline = int(match[1]), int(match[2])
    return "sentinel-2-l2a" if baseline >= (4, 0) else "sentinel-2-l2a-no-offset"
