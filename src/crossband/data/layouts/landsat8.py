"""The layout `landsat8`: scenes of Landsat 8 and 9 as USGS delivers them, or patches of scenes.

Sources: for scenes, USGS, "Landsat 8-9 Collection 2 Level 2 Science Product Guide"; for patches,
github.com/simon-donike/NIR-GAN (`data/download_l8.py`), which downloads them from Earth Engine's
`LANDSAT/LC08/C02/T1_TOA`. The split of NIR-GAN (the last 100 files in the order of the disk) cannot
be reproduced, so it is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from crossband.core import sensors
from crossband.data.layouts._rows import RGBN, single_file_row
from crossband.data.layouts._vrt import write_stack
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError, nearest

_SENSOR = "landsat-c2-l2"
#: Common name -> label in the file's name. A scene needs the first four.
_BANDS = {
    "blue": "SR_B2",
    "green": "SR_B3",
    "red": "SR_B4",
    "nir": "SR_B5",
    "coastal": "SR_B1",
    "swir16": "SR_B6",
    "swir22": "SR_B7",
}
_NEEDED = 4
_SCENE = re.compile(r"(LC0[89]_L2S[PR]_(\d{6})_\d{8}_\d{8}_02_\w\w)_(SR_B\d)", re.IGNORECASE)


class Landsat8(Layout):
    """Scenes of Landsat 8 and 9 with one file for each band, or patches with all bands in one file.

    --form scenes: files of Collection 2 Level-2, as
    `LC08_L2SP_193024_20200408_20200822_02_T1_SR_B4.TIF`. A manifest has one file for each side.
    So a small GDAL file (VRT) that refers to the bands is written for each scene; pixels are not
    copied. Each WRS-2 path and row is a group.

    --form patches: GeoTIFF files with the bands red, green, blue and NIR (B4, B3, B2, B5), as float
    reflectance 0..1 at the top of the atmosphere. All patches `l8_<place>_<n>.tif` of a place are
    a group.

    Args:
        form: `scenes` or `patches`.
        vrt_dir: for scenes: the folder for the VRTs. They contain the full paths of the band files,
            so run the command again if those files move.
        bands: for patches: the numbers of the bands, as `red=1,green=2,blue=3,nir=4`.
        sensor: for patches: `reflectance` for float values 0..1, `landsat-c2-l2` for USGS's stored
            numbers.
    """

    examples = ({"vrt_dir": "vrt"},)

    name = "landsat8"
    origin = (
        "Landsat 8/9 OLI at 30 m: earthexplorer.usgs.gov (Collection 2 Level-2), or patches of it; "
        "USGS, public domain"
    )

    def __init__(
        self,
        form: str = "scenes",
        vrt_dir: str = "",
        bands: str = RGBN,
        sensor: str = "reflectance",
    ) -> None:
        if form not in ("scenes", "patches"):
            raise ManifestError(
                f"landsat8 has no form {form!r}: {nearest(form, ('scenes', 'patches'))}"
            )
        sensors.get(sensor)
        self.form, self.vrt_dir, self.bands, self.sensor = form, vrt_dir, bands, sensor

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """Yield a row for each scene or patch; see `Layout.rows`."""
        return self._scenes(search) if self.form == "scenes" else self._patches(search)

    def _scenes(self, search: FileSearch) -> Iterator[Row]:
        files = search.files("**/*_SR_B[1-7].TIF", "**/*_SR_B[1-7].tif")
        scenes: dict[tuple[Path, str, str], dict[str, Path]] = {}
        for path in files:
            match = _SCENE.match(path.name)
            if match is not None:
                found = scenes.setdefault((path.parent, match[1], match[2]), {})
                found[match[3].upper()] = path
        if not scenes:
            level_1 = search.files("**/LC0[89]_L1*_B[1-7].TIF")
            if level_1:
                raise ManifestError(
                    f"{level_1[0]}: Level-1 numbers are no surface reflectance: get the Level-2 "
                    f"product (files ..._SR_B4.TIF)"
                )
            return
        if not self.vrt_dir:
            raise ManifestError(
                f"landsat8: {len(scenes):,} scenes in a file a band: say with --vrt-dir FOLDER "
                f"where the VRTs that stack them are written"
            )
        names = [scene for _, scene, _ in scenes]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            raise ManifestError(f"landsat8: two folders hold the scene {twice}")
        incomplete: list[str] = []
        for (folder, scene, place), found in scenes.items():
            bands = {name: found[label] for name, label in _BANDS.items() if label in found}
            missing = [n for n in list(_BANDS)[:_NEEDED] if n not in bands]
            if missing:
                incomplete.append(f"{folder / scene} without {', '.join(missing)}")
                continue
            path = write_stack(bands, Path(self.vrt_dir).resolve() / f"{scene}.vrt")
            numbers = ",".join(f"{name}={n}" for n, name in enumerate(bands, start=1))
            yield single_file_row(path, numbers, _SENSOR, group=f"wrs2-{place}")
        if len(incomplete) == len(scenes):
            raise ManifestError(f"landsat8: no scene has all of its bands, as {incomplete[0]}")
        if incomplete:
            search.notes.append(
                f"{len(incomplete):,} of {len(scenes):,} scenes were left out, as {incomplete[0]}"
            )

    def _patches(self, search: FileSearch) -> Iterator[Row]:
        for path in search.files("**/*.tif", "**/*.tiff"):
            match = re.match(r"(l8_\d+)_\d+$", path.stem)
            group = {"group": match[1]} if match else {}
            yield single_file_row(path, self.bands, self.sensor, **group)
