"""Describe a raw file to GDAL as a VRT with grid, bands, radiometry and tags."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Protocol
from xml.etree import ElementTree

from crossband.core.messages import printable
from crossband.raster.encoding import DTYPES, Encoding
from crossband.raster.grid import Grid
from crossband.raster.journal import RawFile

#: By default, GDAL does not open raw files that a VRT names by absolute paths.
OPTIONS = {"GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE": "ALL"}
_COLOURS = {"red": "Red", "green": "Green", "blue": "Blue"}


class Described(Protocol):
    """The metadata of a raster; see `raster.output.OutputFile`."""

    grid: Grid
    bands: tuple[str, ...]
    unit: str
    encoding: Encoding
    tags: Mapping[str, str]
    band_tags: Sequence[Mapping[str, str]]


def vrt(output: Described, raw: RawFile, *, masked: bool) -> str:
    """Return the XML of a VRT (GDAL's virtual format) of a raw file; open it with `OPTIONS`.

    Args:
        output: grid, bands, unit, encoding and tags.
        raw: the numbers.
        masked: include the mask band, which costs space if nothing is masked.
    """
    grid, e = output.grid, output.encoding
    root = ElementTree.Element(
        "VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height)
    )
    if grid.crs is not None:
        _add(root, "SRS", grid.crs.to_wkt())
    if not grid.transform.is_identity:
        _add(root, "GeoTransform", ", ".join(map(repr, map(float, grid.transform.to_gdal()))))
    if grid.gcps:
        projection = grid.gcps_crs.to_wkt() if grid.gcps_crs is not None else ""
        points = ElementTree.SubElement(root, "GCPList", Projection=projection)
        for number, p in enumerate(grid.gcps, start=1):
            place = {"Pixel": p.col, "Line": p.row, "X": p.x, "Y": p.y, "Z": p.z or 0.0}
            words = {name: repr(float(value)) for name, value in place.items()}
            ElementTree.SubElement(points, "GCP", {"Id": str(p.id or number), **words})
    _metadata(root, dict(output.tags))
    if grid.rpcs is not None:
        _metadata(root, grid.rpcs.to_gdal(), domain="RPC")
    coloured = set(_COLOURS) <= set(output.bands)
    for number, name in enumerate(output.bands, start=1):
        band = _band(root, raw, number - 1, DTYPES[e.dtype], raw.dtype.itemsize)
        band.set("band", str(number))
        own = output.band_tags[number - 1] if output.band_tags else {"common_name": name}
        _metadata(band, dict(own))
        _add(band, "Description", printable(name))
        if e.nodata is not None:
            whole = raw.dtype.kind in "iu"  # float64 cannot represent all 64-bit integers
            _add(band, "NoDataValue", str(int(e.nodata)) if whole else repr(float(e.nodata)))
        _add(band, "UnitType", output.unit)
        _add(band, "Offset", repr(float(e.offset)))
        _add(band, "Scale", repr(float(e.scale)))
        if coloured and name in _COLOURS:
            _add(band, "ColorInterp", _COLOURS[name])
    if masked:
        mask = ElementTree.SubElement(root, "MaskBand")
        _band(mask, raw, len(output.bands), "Byte", 1)
    return ElementTree.tostring(root, encoding="unicode")


def _band(
    parent: ElementTree.Element, raw: RawFile, planes: int, dtype: str, size: int
) -> ElementTree.Element:
    """Add a band that begins after that many planes of numbers."""
    _, height, width = raw.shape
    band = ElementTree.SubElement(
        parent, "VRTRasterBand", dataType=dtype, subClass="VRTRawRasterBand"
    )
    # Absolute: the COG driver copies the VRT into memory, where relative paths are invalid.
    name = ElementTree.SubElement(band, "SourceFilename", relativeToVRT="0")
    name.text = str(raw.path.resolve())
    _add(band, "ImageOffset", str(planes * height * width * raw.dtype.itemsize))
    _add(band, "PixelOffset", str(size))
    _add(band, "LineOffset", str(width * size))
    _add(band, "ByteOrder", "LSB" if sys.byteorder == "little" else "MSB")
    return band


def _metadata(
    parent: ElementTree.Element, items: dict[str, str], domain: str | None = None
) -> None:
    metadata = ElementTree.SubElement(parent, "Metadata", {"domain": domain} if domain else {})
    for key, value in items.items():
        ElementTree.SubElement(metadata, "MDI", key=printable(key)).text = printable(value)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
