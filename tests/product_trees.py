"""Products in miniature: the files, names and metadata that the agencies document."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
METRES = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | dict.fromkeys(("B01", "B09", "B10"), 60)
S2_NAME = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE"
S1_NAME = "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE"
LANDSAT_NAME = "LC08_L2SP_008059_20191201_20200825_02_T1"
#: The outer corner of Sentinel-2 images; of all resolutions the same.
CORNER = (399_960.0, 7_900_020.0)


def metres(label):
    return METRES.get(label, 20)


def numbers(label, height, width):
    """Noise of a band's own, uint16, without the special values."""
    rng = np.random.default_rng(ORDER.index(label))
    return rng.integers(1000, 9000, (height, width)).astype(np.uint16)


def write(path, values, transform, crs="EPSG:32601", **profile):
    """Write one band; JPEG 2000 without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jp2":
        profile |= {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
        profile |= {"BLOCKXSIZE": 64, "BLOCKYSIZE": 64}
    else:
        profile = {"driver": "GTiff"} | profile
    profile |= {"count": 1, "height": values.shape[0], "width": values.shape[1]}
    with rasterio.open(
        path, "w", dtype=values.dtype, crs=crs, transform=transform, **profile
    ) as out:
        out.write(values, 1)
    return path


def zipped(folder):
    """Return a zip beside a folder that holds it, as it is downloaded."""
    archive = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            out.write(path, path.relative_to(folder.parent))
    return archive


def sentinel2(
    root,
    level="2A",
    baseline="05.09",
    size=120,
    values=None,
    offsets=None,
    suffix=".jp2",
    labels=ORDER,
):
    """Write a .SAFE folder: `size` pixels of 10 m along a side.

    Args:
        root: where the folder is made.
        level: 1C or 2A.
        baseline: of the processing; from 04.00 on there are offsets.
        size: a multiple of 6.
        values: label -> stored numbers, where they are not `numbers`.
        offsets: by band_id; -1000 for all from baseline 04.00 on.
        suffix: of the images.
        labels: bands that are there.
    """
    surface = level == "2A"
    name = S2_NAME.replace("MSIL2A", f"MSIL{level}").replace("N0509", f"N{baseline[:2]}09")
    folder = root / name
    granule = f"GRANULE/L{level}_T01WCP_A041826_20230625T234624"
    images = []
    for label in labels:
        if surface and label == "B10":
            continue
        fine = metres(label)
        for step in (10, 20, 60) if surface else (fine,):
            if step < fine:
                continue
            side = size * 10 // step
            own = (values or {}).get(label) if step == fine else None
            own = numbers(label, side, side) if own is None else own
            image = f"{granule}/IMG_DATA/"
            image += f"R{step}m/" if surface else ""
            image += f"T01WCP_20230625T234621_{label}" + (f"_{step}m" if surface else "")
            transform = Affine(step, 0, CORNER[0], 0, -step, CORNER[1])
            write(folder / (image + suffix), own, transform)
            images.append(image)
        if label == "B04":
            images.append(f"{granule}/IMG_DATA/R10m/T01WCP_20230625T234621_TCI_10m")
    if offsets is None and float(baseline) >= 4:
        offsets = dict.fromkeys(range(13), -1000)
    (folder / f"MTD_MSIL{level}.xml").write_text(
        _s2_metadata(surface, baseline, images, offsets or {}), encoding="utf-8"
    )
    return folder


def _s2_metadata(surface, baseline, images, offsets):
    level = "2A" if surface else "1C"
    word = "BOA_ADD_OFFSET" if surface else "RADIO_ADD_OFFSET"
    listed = "".join(
        f'<{word} band_id="{number}">{value}</{word}>' for number, value in offsets.items()
    )
    around = "BOA_ADD_OFFSET_VALUES_LIST" if surface else "Radiometric_Offset_List"
    listed = f"<{around}>{listed}</{around}>" if offsets else ""
    quantum = (
        '<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000'
        '</BOA_QUANTIFICATION_VALUE><AOT_QUANTIFICATION_VALUE unit="none">1000.0'
        "</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>"
        if surface
        else '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>'
    )
    files = "".join(f"<IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    schema = f"https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_User_Product xmlns:n1="{schema}">
  <n1:General_Info>
    <Product_Info>
      <PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <Product_Organisation><Granule_List>
        <Granule datastripIdentifier="D" granuleIdentifier="G" imageFormat="JPEG2000">
          {files}
        </Granule>
      </Granule_List></Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
      <Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
      {quantum}
      {listed}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-{level}_User_Product>
"""


def plane(transform, height, width, slope=(0.8, -0.5), base=9000.0):
    """Numbers that grow evenly along x and y: interpolation gives them back."""
    cols, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform @ (cols, rows)
    return base + slope[0] * (x - 300_000) + slope[1] * (y - 200_000)


def landsat(root, level="L2SP", sensor="OLI_TIRS", kind="txt", size=40, values=None, pan=False):
    """Write a Landsat Collection 2 folder; returns it.

    Args:
        root: where it is made.
        level: L2SP, L2SR, L1TP.
        sensor: of SENSOR_ID.
        kind: of the MTL file: txt, json or xml.
        size: pixels of 30 m along a side.
        values: file's band ("4", "ST_B10") -> stored numbers; a plane elsewhere.
        pan: with the panchromatic band, whose corner lies half a pixel of 15 m further in.
    """
    surface = level.startswith("L2")
    name = LANDSAT_NAME.replace("L2SP", level)
    folder = root / name
    bands = [str(n) for n in range(1, 8) if sensor.startswith("OLI") or n != 6]
    heat = "ST_B10" if sensor.startswith("OLI") else "ST_B6"
    if surface and level == "L2SP":
        bands.append(heat)
    if not surface:
        bands += ["8"] * pan + ["10"] * sensor.startswith("OLI")
    contents = {
        "LANDSAT_PRODUCT_ID": name,
        "PROCESSING_LEVEL": level,
        "COLLECTION_NUMBER": "02",
    }
    own, below, warm = {}, {}, {}
    for band in bands:
        ending = band if band.startswith("ST") else f"SR_B{band}" if surface else f"B{band}"
        file = f"{name}_{ending}.TIF"
        contents[f"FILE_NAME_BAND_{band}"] = file
        step, corner = (15.0, 7.5) if band == "8" else (30.0, 0.0)
        side = size * 2 - 1 if band == "8" else size
        transform = Affine(step, 0, 300_000 + corner, 0, -step, 200_000 - corner)
        stored = (values or {}).get(band)
        if stored is None:
            stored = plane(transform, side, side).round().astype(np.uint16)
        write(folder / file, stored, transform, "EPSG:32618", nodata=0)
        if band == heat:
            warm |= {f"TEMPERATURE_MULT_BAND_{band}": "0.00341802"}
            warm |= {f"TEMPERATURE_ADD_BAND_{band}": "149.0"}
        elif band != "10":
            own |= {f"REFLECTANCE_MULT_BAND_{band}": "2.75e-05"}
            own |= {f"REFLECTANCE_ADD_BAND_{band}": "-0.2"}
            below |= {f"REFLECTANCE_MULT_BAND_{band}": "2.0000E-05"}
            below |= {f"REFLECTANCE_ADD_BAND_{band}": "-0.100000"}
    groups = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8",
            "SENSOR_ID": sensor,
            "SUN_ELEVATION": "30.0",
        },
    }
    if surface:
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = own
    if warm:
        groups["LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"] = warm
    groups["LEVEL1_RADIOMETRIC_RESCALING"] = below
    (folder / f"{name}_MTL.{kind}").write_text(_mtl(groups, kind))
    return folder


def _mtl(groups, kind):
    if kind == "json":
        return json.dumps({"LANDSAT_METADATA_FILE": groups})
    if kind == "xml":
        inner = "".join(
            f"<{g}>{''.join(f'<{k}>{v}</{k}>' for k, v in keys.items())}</{g}>"
            for g, keys in groups.items()
        )
        return f'<?xml version="1.0"?><LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>'
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, keys in groups.items():
        lines.append(f"  GROUP = {group}")
        for key, value in keys.items():
            word = value if value.lstrip("-")[:1].isdigit() else f'"{value}"'
            lines.append(f"    {key} = {word}")
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def sentinel1(
    root,
    stored,
    *,
    polarisations=("vv", "vh"),
    table=((0, 400.0, 500.0), (30, 500.0, 600.0)),
    noise=((0, 100.0, 200.0), (30, 300.0, 400.0)),
    azimuth=((0, 0, 1.0, 2.0),),
    ipf="003.31",
    product="GRD",
    removed="false",
):
    """Write a GRD .SAFE folder.

    Args:
        root: where it is made.
        stored: amplitudes [H, W], of every polarisation.
        polarisations: that are there.
        table: lines of sigmaNought: line, number at the first column, number at the last.
        noise: lines of noiseRangeLut, in the same form.
        azimuth: blocks of the noise, side by side: first and last column, factor at the first line,
            factor at the last. (0, 0) stands for the whole width.
        ipf: version of the processor.
        product: GRD or another type.
        removed: of thermalNoiseCorrectionPerformed.
    """
    folder = root / S1_NAME
    height, width = stored.shape
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    points = [
        GroundControlPoint(r, c, 10 + c / 1000, 50 - r / 1000, 0.0, str(n))
        for n, (r, c) in enumerate(corners, start=1)
    ]
    for number, name in enumerate(polarisations, start=1):
        stem = f"s1a-iw-grd-{name}-20210809t173953-20210809t174018-039156-049f13-{number:03d}"
        image = folder / "measurement" / f"{stem}.tiff"
        write(image, stored, Affine.identity(), "EPSG:4326", gcps=points)
        where = folder / "annotation" / "calibration"
        where.mkdir(parents=True, exist_ok=True)
        (folder / "annotation" / f"{stem}.xml").write_text(
            "<product><adsHeader><productType>GRD</productType></adsHeader><imageAnnotation>"
            f"<processingInformation><thermalNoiseCorrectionPerformed>{removed}"
            "</thermalNoiseCorrectionPerformed></processingInformation></imageAnnotation></product>"
        )
        (where / f"calibration-{stem}.xml").write_text(
            "<calibration><calibrationVectorList>"
            + _vectors("calibrationVector", "sigmaNought", table, width)
            + "</calibrationVectorList></calibration>"
        )
        blocks = "".join(
            f"<noiseAzimuthVector><swath>IW1</swath><firstAzimuthLine>0</firstAzimuthLine>"
            f"<firstRangeSample>{first}</firstRangeSample>"
            f"<lastAzimuthLine>{height - 1}</lastAzimuthLine>"
            f"<lastRangeSample>{last or width - 1}</lastRangeSample>"
            f'<line count="2">0 {height - 1}</line>'
            f'<noiseAzimuthLut count="2">{low} {high}</noiseAzimuthLut></noiseAzimuthVector>'
            for first, last, low, high in azimuth
        )
        (where / f"noise-{stem}.xml").write_text(
            "<noise><noiseRangeVectorList>"
            + _vectors("noiseRangeVector", "noiseRangeLut", noise, width)
            + f"</noiseRangeVectorList><noiseAzimuthVectorList>{blocks}"
            "</noiseAzimuthVectorList></noise>"
        )
    (folder / "manifest.safe").write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0"
  xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1"><metadataSection>
  <safe:processing name="GRD Post Processing"><safe:facility>
    <safe:software name="Sentinel-1 IPF" version="{ipf}"/></safe:facility></safe:processing>
  <safe:platform><safe:familyName>SENTINEL-1</safe:familyName><safe:number>A</safe:number>
  </safe:platform>
  <s1sarl1:standAloneProductInformation><s1sarl1:productType>{product}</s1sarl1:productType>
  </s1sarl1:standAloneProductInformation></metadataSection></xfdu:XFDU>
"""
    )
    return folder


def _vectors(vector, name, rows, width):
    return "".join(
        f"<{vector}><azimuthTime>2021-08-09T17:39:53</azimuthTime><line>{line}</line>"
        f'<pixel count="2">0 {width - 1}</pixel><{name} count="2">{first} {last}</{name}>'
        f"</{vector}>"
        for line, first, last in rows
    )


def item(folder, assets, version="1.0.0", properties=None, name="item.json"):
    """Write a STAC item; returns its path."""
    found = {
        "type": "Feature",
        "stac_version": version,
        "id": "scene",
        "geometry": None,
        "properties": {"datetime": "2023-06-25T00:00:00Z", **(properties or {})},
        "links": [],
        "assets": assets,
    }
    path = Path(folder) / name
    path.write_text(json.dumps(found))
    return path
