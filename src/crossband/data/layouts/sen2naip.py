"""SEN2NAIP: Sentinel-2 at 10 m and NAIP at 2.5 m of the same day, the cross-sensor part.

The form is that of huggingface.co/datasets/isp-uv-es/SEN2NAIP (`cross-sensor.zip`, Aybar et al.
2024): `ROI_0000/{lr.tif,hr.tif,metadata.json}`, 4 bands red, green, blue, NIR. `lr.tif` is surface
reflectance x 10000; `hr.tif` is NAIP as it is flown, 8-bit (the code of its authors,
github.com/ESAOpenSR/opensr-degradation, divides it by 255), 4 times finer.

In version 2 (SEN2NAIPv2) `hr.tif` is harmonised to Sentinel-2's reflectance x 10000, 16-bit; it is
packed in `.taco` files, which are no rasters. The synthetic part has no Sentinel-2 picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossband.core import sensors
from crossband.data.layouts._rows import RGBN
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError


class SEN2NAIP(Layout):
    """`ROI_<nnnn>/lr.tif` and `hr.tif`; each ROI is a group.

    Args:
        sensor: of `lr.tif`, as `sentinel-2-l2a` where its numbers carry the offset of baseline
            04.00; read as 16-bit numbers of that sensor whatever integer the file is stored in.
        target_sensor: of `hr.tif`: `naip`, or `sentinel-2-l2a-no-offset` for files of version 2.
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
