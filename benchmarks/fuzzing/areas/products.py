"""Products of several files: the metadata of Sentinel-2, Landsat and Sentinel-1, changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fuzzing import tiff
from fuzzing.case import RIGHT, Case, Draw, Files, mutate_text
from fuzzing.scenes import (
    LINE,
    Array,
    Line,
    Scene,
    compare,
    draw_size,
    georeference,
    model_files,
    safetensors,
    translate,
)

_WORDS = ("<!DOCTYPE a [<!ENTITY b 'c'>]>", 'encoding="x-unknown"', "&#xFFFFFFFF;", "<a>" * 3000)
Meaning = Callable[[bytes, Scene], Scene | None]


def case(draw: Draw) -> Case:
    """Draw a case."""
    height, width = draw_size(draw)
    rng = np.random.default_rng(draw.randrange(2**32))
    stored = rng.integers(0, 12000, (3, height, width)).astype(np.uint16)
    stored[:, 0, 0] = 5000
    scene = Scene(stored, nodata=(0.0,) * 3)
    return draw.choice((_sentinel2, _landsat, _sentinel1))(draw, scene)


def _case(
    draw: Draw, files: Files, metadata: str, text: str, scene: Scene, meaning: Meaning
) -> Case:
    """Return a case of a product with right or changed metadata."""
    folder = metadata.split("/", maxsplit=1)[0]
    data = mutate_text(draw, text, _WORDS) if draw.chance(0.7) else text.encode()
    must = RIGHT if data == text.encode() else None
    named = draw.choice((folder, metadata))

    def check(there: Path) -> str | None:
        meant = meaning((there / metadata).read_bytes(), scene)
        if meant is None:
            return "answered, though the metadata do not tell the numbers"
        return compare(there / "out.tif", meant)

    return Case(translate(named), {**LINE.files(), **files, metadata: data}, must, check)


def _band(values: Array) -> bytes:
    return tiff.write(values[None], None, georeference())


# Sentinel-2


def _sentinel2(draw: Draw, scene: Scene) -> Case:
    """Level-2A as GeoTIFF: reflectance = (stored + offset) / quantification."""
    folder = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE"
    granule = "GRANULE/L2A_T01WCP_A041826_20230625T234624/IMG_DATA/R10m"
    quantum, offset = draw.choice((10000, 1000)), draw.choice((-1000, 0, 250))
    files: Files = {}
    images = []
    for n, label in enumerate(("B04", "B03", "B02")):
        image = f"{granule}/T01WCP_20230625T234621_{label}_10m"
        files[f"{folder}/{image}.tif"] = _band(scene.stored[n])
        images.append(f"<IMAGE_FILE>{image}</IMAGE_FILE>")
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{n}">{offset}</BOA_ADD_OFFSET>' for n in range(13))
    text = f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product.xsd">
<n1:General_Info><Product_Info><PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
<PROCESSING_BASELINE>05.09</PROCESSING_BASELINE><Product_Organisation><Granule_List>
<Granule granuleIdentifier="G">{"".join(images)}</Granule></Granule_List></Product_Organisation>
</Product_Info><Product_Image_Characteristics><Special_Values>
<SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
</Special_Values><Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values><QUANTIFICATION_VALUES_LIST>
<BOA_QUANTIFICATION_VALUE unit="none">{quantum}</BOA_QUANTIFICATION_VALUE>
</QUANTIFICATION_VALUES_LIST><BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>
</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>"""
    return _case(draw, files, f"{folder}/MTD_MSIL2A.xml", text, scene, _of_sentinel2)


def _of_sentinel2(data: bytes, scene: Scene) -> Scene | None:
    """Return the scene as its metadata have it."""
    try:
        root = ElementTree.fromstring(data)
        quantum = float(next(root.iter("BOA_QUANTIFICATION_VALUE")).text or "")
        added = root.iter("BOA_ADD_OFFSET")
        offsets = {int(e.get("band_id", "")): float(e.text or "") for e in added}
        special = {"NODATA": 0.0}
        for e in root.iter("Special_Values"):
            name = (e.findtext("SPECIAL_VALUE_TEXT") or "").strip()
            special[name] = float(e.findtext("SPECIAL_VALUE_INDEX") or "")
        images = " ".join(e.text or "" for e in next(root.iter("Granule")))
        if any(f"_{label}" not in images for label in ("B04", "B03", "B02")):
            return None
    except (ElementTree.ParseError, StopIteration, ValueError, TypeError):
        return None
    special.pop("", None)
    mask = np.asarray(~np.isin(scene.stored, list(special.values())).any(0))
    offset = tuple(offsets.get(n, 0.0) / quantum for n in (3, 2, 1))
    return replace(scene, scale=(1 / quantum,) * 3, offset=offset, nodata=(None,) * 3, mask=mask)


# Landsat


def _landsat(draw: Draw, scene: Scene) -> Case:
    """Collection 2, level 2, as MTL in text: reflectance = stored x MULT + ADD."""
    folder = "LC08_L2SP_008059_20191201_20200825_02_T1"
    files: Files = {}
    contents, own = [], []
    for n, band in enumerate((4, 3, 2)):
        file = f"{folder}_SR_B{band}.TIF"
        files[f"{folder}/{file}"] = _band(scene.stored[n])
        contents.append(f'    FILE_NAME_BAND_{band} = "{file}"\n')
        scale, offset = draw.choice(("2.75e-05", "1.0E-4")), draw.choice(("-0.2", "0.0", "-0.1"))
        own.append(f"    REFLECTANCE_MULT_BAND_{band} = {scale}\n")
        own.append(f"    REFLECTANCE_ADD_BAND_{band} = {offset}\n")
    text = f"""GROUP = LANDSAT_METADATA_FILE
  GROUP = PRODUCT_CONTENTS
    LANDSAT_PRODUCT_ID = "{folder}"
    PROCESSING_LEVEL = "L2SP"
    COLLECTION_NUMBER = 02
{"".join(contents)}  END_GROUP = PRODUCT_CONTENTS
  GROUP = IMAGE_ATTRIBUTES
    SPACECRAFT_ID = "LANDSAT_8"
    SENSOR_ID = "OLI_TIRS"
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
{"".join(own)}  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
END_GROUP = LANDSAT_METADATA_FILE
END
"""
    return _case(draw, files, f"{folder}/{folder}_MTL.txt", text, scene, _of_landsat)


def _of_landsat(data: bytes, scene: Scene) -> Scene | None:
    """Return the scene as its metadata have it."""
    text = data.decode("utf-8", "replace")
    stored: list[Array] = []
    scale: list[float] = []
    offset: list[float] = []
    try:
        for band in (4, 3, 2):
            for word, out in (("MULT", scale), ("ADD", offset)):
                found = re.findall(rf"REFLECTANCE_{word}_BAND_{band}\s*=\s*(.*)", text)
                out.append(float(found[-1].strip().strip('"')))
            file = re.findall(rf'FILE_NAME_BAND_{band}\s*=\s*"?(.*?)"?\s*$', text, re.MULTILINE)
            number = re.search(r"SR_B([234])", file[-1])
            stored.append(scene.stored[(4, 3, 2).index(int(number[1] if number else 0))])
    except (ValueError, IndexError):
        return None
    return replace(scene, stored=np.stack(stored), scale=tuple(scale), offset=tuple(offset))


# Sentinel-1


def _sentinel1(draw: Draw, scene: Scene) -> Case:
    """GRD with constant tables; what changed tables mean is not computed."""
    folder = "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE"
    files: Files = {}
    height, width = scene.stored.shape[1:]
    texts = {}
    for number, name in enumerate(("vv", "vh"), start=1):
        stem = f"s1a-iw-grd-{name}-20210809t173953-20210809t174018-039156-049f13-{number:03d}"
        files[f"{folder}/measurement/{stem}.tiff"] = tiff.write(scene.stored[number - 1][None])
        texts[f"{folder}/annotation/{stem}.xml"] = (
            "<product><adsHeader><productType>GRD</productType></adsHeader><imageAnnotation>"
            "<processingInformation><thermalNoiseCorrectionPerformed>true"
            "</thermalNoiseCorrectionPerformed></processingInformation></imageAnnotation></product>"
        )
        last = max(width - 1, 1)
        texts[f"{folder}/annotation/calibration/calibration-{stem}.xml"] = (
            "<calibration><calibrationVectorList><calibrationVector><line>0</line>"
            f'<pixel count="2">0 {last}</pixel><sigmaNought count="2">500.0 500.0</sigmaNought>'
            "</calibrationVector></calibrationVectorList></calibration>"
        )
        texts[f"{folder}/annotation/calibration/noise-{stem}.xml"] = "<noise></noise>"
    texts[f"{folder}/manifest.safe"] = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" '
        'xmlns:safe="http://www.esa.int/safe/sentinel-1.0" '
        'xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1">'
        '<metadataSection><safe:processing><safe:software name="Sentinel-1 IPF" version="003.31"/>'
        "</safe:processing><safe:platform><safe:familyName>SENTINEL-1</safe:familyName>"
        "</safe:platform><s1sarl1:standAloneProductInformation><s1sarl1:productType>GRD"
        "</s1sarl1:productType></s1sarl1:standAloneProductInformation></metadataSection></xfdu:XFDU>"
    )
    changed = draw.choice((*texts, None))
    files |= {name: text.encode() for name, text in texts.items()}
    if changed is not None:
        files[changed] = mutate_text(draw, texts[changed], _WORDS)
    power = np.maximum(scene.stored[:2].astype(np.float64) ** 2, 1.0) / 500.0**2
    known = Scene(
        np.concatenate([10 * np.log10(power), np.zeros((1, height, width))]).astype(np.float32),
        "db",
        mask=(scene.stored[:2] != 0).all(0),
    )
    line = Line(weights=(0.7, 0.2, 0.0), low=(-30.0,) * 3, high=(30.0,) * 3, target=(-40.0, 20.0))
    description = replace(line, units=("db",)).description()
    description["signature"] |= {"source": ["vv", "vh"], "target": ["hh"]}
    description["network"]["arguments"]["in_channels"] = 2
    description["network"]["parameters"] = 3
    description["signature"]["units"]["db"]["source"].pop()
    tensors = line.tensors()
    tensors["line.weight"] = np.ascontiguousarray(tensors["line.weight"][:, :2])
    files |= model_files(description, safetensors(tensors))

    def check(there: Path) -> str | None:
        return None if changed is not None else compare(there / "out.tif", known, line)

    must = RIGHT if changed is None and known.physical()[1].any() else None
    return Case(translate(folder), files, must, check)
