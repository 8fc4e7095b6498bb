"""Names and units of bands as GDAL reads them; rasterio reads UTF-8 only."""

from __future__ import annotations

import re
from typing import Any, Self
from xml.etree import ElementTree

import rasterio.shutil
from rasterio.io import MemoryFile

from crossband.raster.gdal import gdal

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def with_labels(dataset: Any) -> Any:
    """Return a dataset whose `descriptions` and `units` can be read, as Latin-1 where not UTF-8.

    Args:
        dataset: of rasterio, or an object with its methods.
    """
    try:
        assert len(dataset.descriptions) == len(dataset.units)
    except UnicodeDecodeError:
        return _Latin1Labels(dataset)
    return dataset


def describe(dataset: Any) -> ElementTree.Element:
    """Return what GDAL says of a dataset, as a VRT; texts are read as Latin-1."""
    inner = getattr(dataset, "dataset", dataset)
    with gdal(), MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(inner, memory.name, driver="VRT")
        return ElementTree.fromstring(_CONTROL.sub("", memory.read().decode("latin-1")))


class _Latin1Labels:
    """A dataset of rasterio, with the labels of its bands read as Latin-1."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        bands = describe(dataset).findall("VRTRasterBand")
        self.descriptions = tuple(band.findtext("Description") for band in bands)
        self.units = tuple(band.findtext("UnitType") for band in bands)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()
