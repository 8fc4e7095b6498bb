"""A small GDAL file (VRT) that stacks bands of several files; no pixel is copied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from crossband.errors import ManifestError, OutputError
from crossband.raster.scene import gdal, open_dataset

_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True)
class Layer:
    """One band of a file.

    Attributes:
        asset: what the file is called.
        href: where it is.
        name: common name of the band.
        number: its number in the file, from 1.
        radiometry: scale, offset and nodata, None where they are not stated.
    """

    asset: str
    href: str
    name: str
    number: int
    radiometry: tuple[float | None, float | None, float | None]


def stack(path: Path, layers: Sequence[Layer]) -> Path:
    """Write a VRT with one band for each layer, in this order, and return its whole path.

    Raises:
        ManifestError: the files do not share a grid, or cannot be opened.
        OutputError: a file of this name that says something else is there, or cannot be written.
    """
    bands, grids = [], {}
    for number, layer in enumerate(layers, start=1):
        with gdal(), open_dataset(layer.href) as file:
            crs = file.crs.to_wkt() if file.crs else ""
            grids[file.width, file.height, file.transform, crs] = layer.href
            dtype, own = file.dtypes[layer.number - 1], file.nodatavals[layer.number - 1]
        if dtype not in _TYPES:
            raise ManifestError(f"{layer.href}: {dtype} numbers cannot be stacked")
        scale, offset, stated = layer.radiometry
        nodata = own if stated is None else stated
        facts = (("NoDataValue", nodata), ("Offset", offset), ("Scale", scale))
        words = "".join(f"<{tag}>{value}</{tag}>" for tag, value in facts if value is not None)
        bands.append(
            f'<VRTRasterBand dataType="{_TYPES[dtype]}" band="{number}">'
            f"<Description>{escape(layer.name)}</Description>{words}"
            f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(layer.href)}'
            f"</SourceFilename><SourceBand>{layer.number}</SourceBand></SimpleSource>"
            f"</VRTRasterBand>"
        )
    if len(grids) > 1:
        raise ManifestError(
            f"bands of one side must share a grid, but {' and '.join(grids.values())} do not"
        )
    width, height, transform, crs = next(iter(grids))
    georeference = f"<SRS>{escape(crs)}</SRS>" if crs else ""
    if not transform.is_identity:
        georeference += f"<GeoTransform>{','.join(map(repr, transform.to_gdal()))}</GeoTransform>"
    text = (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{georeference}'
        f"{''.join(bands)}</VRTDataset>\n"
    )
    return _write(path.resolve(), text)


def _write(path: Path, text: str) -> Path:
    try:
        if path.exists():
            if path.read_text(encoding="utf-8") == text:
                return path
            raise OutputError(f"{path}: exists and says something else; give another --vrt-dir")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error
    return path
