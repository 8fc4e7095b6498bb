"""The layout `sen2naip`: Sentinel-2 at 10 m and NAIP at 2.5 m of the same day.

Source: the cross-sensor part of huggingface.co/datasets/isp-uv-es/SEN2NAIP (`cross-sensor.zip`,
Aybar et al. 2024). The authors' code (github.com/ESAOpenSR/opensr-degradation) divides the 8-bit
numbers of NAIP by 255. The synthetic part of the dataset has no Sentinel-2 image, so it is not
read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossband.core import sensors
from crossband.data.layouts._rows import RGBN
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError


class SEN2NAIP(Layout):
    """SEN2NAIP, cross-sensor part: pairs of Sentinel-2 and NAIP, which is 4 times finer.

    The files are `ROI_<nnnn>/lr.tif` and `hr.tif`, both with the bands red, green, blue and NIR.
    `lr.tif` is Sentinel-2 surface reflectance x 10000. `hr.tif` is NAIP in 8 bits. Each ROI is a
    group.

    In version 2 (SEN2NAIPv2) `hr.tif` is harmonised to Sentinel-2, as reflectance x 10000 in 16
    bits. Its files are packed as `.taco`, which are not rasters; unpack them first.

    Args:
        sensor: sensor of `lr.tif`: `sentinel-2-l2a` if its stored numbers include the offset of
            baseline 04.00. Its scale for 16-bit numbers is used for any integer type of the file.
        target_sensor: sensor of `hr.tif`: `naip`, or `sentinel-2-l2a-no-offset` for version 2.
    """

    name = "sen2naip"
    origin = (
        "2,851 pairs Sentinel-2 L2A 10 m and NAIP 2.5 m of the USA (Aybar et al. 2024): "
        "huggingface.co/datasets/isp-uv-es/SEN2NAIP, CC BY 4.0"
    )

    def __init__(
        self, sensor: str = "sentinel-2-l2a-no-offset", target_sensor: str = "naip"
    ) -> None:
        self.sensor = sensors.get(sensor)
        sensors.get(target_sensor)
        self.target_sensor = target_sensor

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """Yield a row for each ROI; see `Layout.rows`."""
        coarse = search.files("**/ROI_*/lr.tif")
        fine = search.files("**/ROI_*/hr.tif")
        packed = search.files("**/*.taco", "**/*.mlstac")
        if packed and not coarse:
            raise ManifestError(
                f"{packed[0]}: a TACO archive cannot be read as files: write its pairs as "
                f"ROI_<nnnn>/lr.tif and hr.tif first (with tacoreader)"
            )
        # A file says int32 or uint16, its numbers are the same.
        numbers = {"scale": self.sensor.scale_for("uint16"), "offset": self.sensor.offset}
        for lr, hr in search.pair(coarse, fine, _roi):
            row: Row = {"source": lr, "target": hr, "source_bands": RGBN, "target_bands": RGBN}
            row |= {"sensor": self.sensor.name, "target_sensor": self.target_sensor}
            yield row | numbers | {"group": lr.parent.name}
        if coarse and fine:
            search.notes.append("targets are 4 times finer: a model for them has scale 4")


def _roi(path: Path) -> Path:
    return path.parent
