"""VRT: its XML over one file, right, hostile and changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fuzzing.areas.tiff import by_gdal
from fuzzing.case import REFUSED, RIGHT, Case, Draw, mutate_text
from fuzzing.scenes import LINE, NAMES, Scene, compare, draw_scene, translate

_GDAL = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}
_HOSTILE = (
    '<VRTDataset rasterXSize="2147483647" rasterYSize="1">{bands}</VRTDataset>',
    '<VRTDataset rasterXSize="2147483647" rasterYSize="2147483647">{bands}</VRTDataset>',
    '<VRTDataset rasterXSize="-5" rasterYSize="7">{bands}</VRTDataset>',
    '<!DOCTYPE a [<!ENTITY b "cccccccccc"><!ENTITY d "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    '<VRTDataset rasterXSize="5" rasterYSize="5"><SRS>&d;</SRS></VRTDataset>',
    "<VRTDataset rasterXSize='5' rasterYSize='5'>" + "<VRTRasterBand>" * 5000,
    '<VRTDataset rasterXSize="9" rasterYSize="9" subClass="VRTWarpedDataset">{bands}</VRTDataset>',
)
#: Sources that are missing, the VRT itself, other files, or a pipe of names.
_ODD_SOURCES = (
    *("none.tif", "in.vrt", ".", "", "model/model.json", "/dev/zero", "/proc/self/mem"),
    *("/vsizip/a.tif/b", "/vsistdin/", "vrt://a.tif", "a.tif:1", "\x01"),
    '<VRTDataset rasterXSize="1" rasterYSize="1"/>',
)


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = replace(draw_scene(draw, tuple(_GDAL)), mask=None, nodata=(None,) * 3)
    files = {**LINE.files(), "a.tif": scene.file(draw, said=False)}
    text, must = _dataset(scene), None
    kind = draw.randrange(6)
    if kind <= 1:
        seen = scene
        if kind == 0:
            seen, text = _part(draw, scene)
        files["in.vrt"] = text.encode()
        must = RIGHT if seen.physical()[1].any() else REFUSED
        return Case(translate("in.vrt"), files, must, lambda f: compare(f / "out.tif", seen))
    if kind == 2:
        bands = text[text.index(">") + 1 : -len("</VRTDataset>")]
        text, must = draw.choice(_HOSTILE).replace("{bands}", bands), REFUSED
    elif kind == 3:
        text = text.replace("a.tif", draw.choice(_ODD_SOURCES), draw.choice((1, 3)))
    data = text.encode()
    if kind > 3:
        words = ("<ComplexSource>", "<ScaleRatio>0</ScaleRatio>", "<NODATA>7</NODATA>", "in.vrt")
        data = mutate_text(draw, text, words)
    return Case(
        translate("in.vrt"), {**files, "in.vrt": data}, must, partial(by_gdal, name="in.vrt")
    )


def _dataset(scene: Scene, inside: str = "", source: str = "SimpleSource") -> str:
    """Return a VRT over `a.tif`; `inside` is what each source says beside its band."""
    kind = _GDAL[scene.stored.dtype.name]
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n + 1}"><Description>{NAMES[n]}</Description>'
        f"<UnitType>{scene.unit}</UnitType><Offset>{scene.offset[n]!r}</Offset>"
        f"<Scale>{scene.scale[n]!r}</Scale><{source}>"
        f'<SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
        f"<SourceBand>{n + 1}</SourceBand>{inside}</{source}></VRTRasterBand>"
        for n in range(3)
    )
    height, width = scene.stored.shape[1:]
    return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'


def _part(draw: Draw, scene: Scene) -> tuple[Scene, str]:
    """Return a window of the file, whose numbers the VRT may change, and the VRT."""
    height, width = scene.stored.shape[1:]
    top, left = draw.randrange(height), draw.randrange(width)
    rows, cols = draw.randint(1, height - top), draw.randint(1, width - left)
    place = f'xSize="{cols}" ySize="{rows}"'
    inside = f'<SrcRect xOff="{left}" yOff="{top}" {place}/><DstRect xOff="0" yOff="0" {place}/>'
    stored, source = scene.stored[:, top : top + rows, left : left + cols], "SimpleSource"
    if scene.stored.dtype.kind == "f" and draw.chance(0.5):
        ratio, add = draw.choice((0.5, 2.0, -1.0)), draw.choice((0.0, 0.25))
        inside += f"<ScaleOffset>{add}</ScaleOffset><ScaleRatio>{ratio}</ScaleRatio>"
        source = "ComplexSource"
        with np.errstate(over="ignore", invalid="ignore"):
            stored = (stored.astype(np.float64) * ratio + add).astype(np.float32)
    seen = replace(scene, stored=stored)
    return seen, _dataset(seen, inside, source)
