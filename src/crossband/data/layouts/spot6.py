"""The layout `spot6`: multispectral products of SPOT 6 and 7, or patches of them.

Sources: Airbus, "SPOT 6/7 Imagery User Guide" (the format DIMAP V2), and
github.com/simon-donike/NIR-GAN (`data/extract_spot.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from crossband.core import sensors
from crossband.data.layouts._rows import single_file_row
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError

_PRODUCT = re.compile(r"IMG_(SPOT[67])_([A-Z]+)_(\d+)")


class SPOT6(Layout):
    """SPOT 6/7 multispectral images: whole products as Airbus delivers them, or patches.

    The `.tif` or `.jp2` files of a product are called `IMG_SPOT6_MS_<time>_..._R1C1.JP2` or `.TIF`.
    They have reflectance x 10000 if the product was ordered as REFLECTANCE. Panchromatic files
    (`..._P_...`) are left out. Large scenes need not be cut, because training reads crops. Each
    acquisition is a group.

    SPOT calls its bands B0 (blue), B1 (green), B2 (red) and B3 (NIR). Their order in the file
    differs from archive to archive, so you must state it.

    Args:
        bands: the numbers of the bands, as `red=1,green=2,blue=3,nir=4`; required.
        sensor: `spot-6` for reflectance x 10000, or the sensor that fits the files.
    """

    examples = ({"bands": "blue=1,green=2,red=3,nir=4"},)

    name = "spot6"
    origin = "SPOT 6/7 multispectral at 6 m, or sharpened at 1.5 m: Airbus DS, licensed by Airbus"

    def __init__(self, bands: str = "", sensor: str = "spot-6") -> None:
        if not bands:
            raise ManifestError(
                "spot6: the order of the bands differs from archive to archive: say it with "
                "--bands red=1,green=2,blue=3,nir=4 or --bands blue=1,green=2,red=3,nir=4"
            )
        sensors.get(sensor)
        self.bands, self.sensor = bands, sensor

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """Yield a row for each file; see `Layout.rows`."""
        ends = ("tif", "TIF", "tiff", "jp2", "JP2")
        left_out = 0
        for path in search.files(*(f"**/*.{end}" for end in ends)):
            match = _PRODUCT.search(path.name)
            if match is not None and match[2] == "P":
                left_out += 1
                continue
            group = {"group": f"{match[1]}-{match[3]}"} if match else {}
            yield single_file_row(path, self.bands, self.sensor, **group)
        if left_out:
            search.notes.append(f"{left_out:,} panchromatic files were left out")
