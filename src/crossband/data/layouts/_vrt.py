"""Single-band files -> one raster: GDAL's VRT, a small XML file that points to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
from rasterio.errors import RasterioError

from crossband.errors import InputError, ManifestError, OutputError
from crossband.raster.scene import gdal, reason

_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}


def stack(bands: Mapping[str, Path], to: Path) -> Path:
    """Write a VRT whose bands are single-band files of one grid; no pixel is copied.

    Args:
        bands: common name -> file, in the order of the stack.
        to: the VRT; it appears whole or not at all, and is replaced where it exists.

    Returns:
        `to`.

    Raises:
        InputError: a file cannot be opened.
        ManifestError: the files are not of one grid, or of a type that is not known.
        OutputError: the VRT cannot be written.
    """
    parts: list[str] = []
    first = None
    for number, (name, path) in enumerate(bands.items(), start=1):
        try:
            with gdal(), rasterio.open(path) as dataset:
                crs = dataset.crs.to_wkt() if dataset.crs else ""
                size, kind = (dataset.width, dataset.height), dataset.dtypes[0]
                grid = size, tuple(dataset.transform)[:6], crs, kind
                nodata = dataset.nodata
        except (RasterioError, OSError) as error:
            raise InputError(f"{path}: not a raster that can be opened: {reason(error)}") from error
        first = first or grid
        if grid != first:
            raise ManifestError(f"{path}: not of the grid and type of {next(iter(bands.values()))}")
        if kind not in _TYPES:
            raise ManifestError(f"{path}: {kind} cannot be stacked: known: {', '.join(_TYPES)}")
        parts.append(_band(number, name, path, _TYPES[kind], nodata))
    if first is None:
        raise ManifestError(f"{to}: no bands to stack")
    (width, height), affine, crs, _ = first
    a, b, c, d, e, f = affine
    text = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">\n'
    text += f"  <SRS>{escape(crs)}</SRS>\n" if crs else ""
    text += f"  <GeoTransform>{', '.join(map(repr, (c, a, b, f, d, e)))}</GeoTransform>\n"
    text += "".join(parts) + "</VRTDataset>\n"
    part = to.with_name(f".{to.name}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, to)
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror or error}") from error
    return to


def _band(number: int, name: str, path: Path, kind: str, nodata: float | None) -> str:
    lines = [f'  <VRTRasterBand dataType="{kind}" band="{number}">']
    lines += [f"    <Description>{escape(name)}</Description>"]
    lines += [f"    <NoDataValue>{nodata}</NoDataValue>"] * (nodata is not None)
    lines += ["    <SimpleSource>"]
    lines += [f'      <SourceFilename relativeToVRT="0">{escape(str(path))}</SourceFilename>']
    lines += ["      <SourceBand>1</SourceBand>", "    </SimpleSource>", "  </VRTRasterBand>", ""]
    return "\n".join(lines)
