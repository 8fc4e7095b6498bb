"""Write VRTs (GDAL's virtual format) that stack bands of several files without copying pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from crossband.core.atomic import atomic_file
from crossband.errors import ManifestError, OutputError
from crossband.raster.gdal import gdal
from crossband.raster.open import open_raster
from crossband.raster.radiometry import stated_nodata

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
        href: where the file is.
        number: the band's number in it, from 1.
        radiometry: scale, offset and nodata, None where they are not stated.
    """

    href: str
    number: int = 1
    radiometry: tuple[float | None, float | None, float | None] = (None, None, None)


def write_stack(bands: Mapping[str, Path | Layer], to: Path) -> Path:
    """Write a VRT with one band for each file of one band, or each layer, in this order.

    Args:
        bands: common name -> file or layer.
        to: the VRT; an error leaves no partial file.

    Returns:
        Its absolute path.

    Raises:
        InputError: a file cannot be opened.
        ManifestError: the files do not share a grid and a data type, or it cannot be stacked.
        OutputError: it cannot be written, or exists with another content.
    """
    parts: list[str] = []
    grid, first = None, ""
    for number, (name, band) in enumerate(bands.items(), start=1):
        layer = band if isinstance(band, Layer) else Layer(str(Path(band).resolve()))
        with gdal(), open_raster(layer.href) as file:
            crs = file.crs.to_wkt() if file.crs else ""
            dtype = file.dtypes[layer.number - 1]
            own = stated_nodata(file, layer.number, layer.href)
            own_grid = file.width, file.height, file.transform, crs, dtype
        grid, first = grid or own_grid, first or layer.href
        if own_grid != grid:
            raise ManifestError(f"{layer.href}: not of the grid and type of {first}")
        if dtype not in _TYPES:
            raise ManifestError(f"{layer.href}: {dtype} cannot be stacked: known: {list(_TYPES)}")
        parts.append(_band(number, name, layer, _TYPES[dtype], own))
    if grid is None:
        raise ManifestError(f"{to}: no bands to stack")
    width, height, affine, crs, _ = grid
    text = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">\n'
    text += f"  <SRS>{escape(crs)}</SRS>\n" if crs else ""
    if not affine.is_identity:
        text += f"  <GeoTransform>{', '.join(map(repr, affine.to_gdal()))}</GeoTransform>\n"
    return _write(to.resolve(), text + "".join(parts) + "</VRTDataset>\n")


def _band(number: int, name: str, layer: Layer, kind: str, own: float | None) -> str:
    scale, offset, stated = layer.radiometry
    elements = [("Description", escape(name)), ("NoDataValue", own if stated is None else stated)]
    elements += [("Offset", offset), ("Scale", scale)]
    lines = [f'  <VRTRasterBand dataType="{kind}" band="{number}">']
    lines += [f"    <{tag}>{value}</{tag}>" for tag, value in elements if value is not None]
    lines += ["    <SimpleSource>"]
    lines += [f'      <SourceFilename relativeToVRT="0">{escape(layer.href)}</SourceFilename>']
    lines += [f"      <SourceBand>{layer.number}</SourceBand>", "    </SimpleSource>"]
    return "\n".join([*lines, "  </VRTRasterBand>", ""])


def _write(path: Path, text: str) -> Path:
    try:
        if path.exists():
            if path.read_text(encoding="utf-8") == text:
                return path
            raise OutputError(f"{path}: exists and says something else; choose another folder")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error
    with atomic_file(path, wait=True) as part:  # another manifest may name the same file
        part.write_text(text, encoding="utf-8")
    return path
