"""Small trees in the form in which datasets are published: name -> function that writes one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIDE = 8
LANDSAT = ("LC08_L2SP_193024_20200408_20200822_02_T1", "LC09_L2SP_193024_20220408_20220822_02_T1")


def write(path, bands, dtype="uint8", side=SIDE, georeferenced=False):
    """Write a raster of constant bands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".jpg": "JPEG", ".png": "PNG"}.get(path.suffix.lower(), "GTiff")
    profile = {"driver": driver, "count": len(bands), "dtype": dtype}
    profile |= {"width": side, "height": side}
    if georeferenced:
        profile |= {"crs": "EPSG:32633", "transform": Affine(30, 0, 5e5, 0, -30, 5e6)}
    with rasterio.open(path, "w", **profile) as out:
        for number, value in enumerate(bands, start=1):
            out.write(np.full((side, side), value, dtype), number)
    return path


def s2_100k(root: Path, columns=("fn", "lon", "lat"), granules=()):
    lines = [",".join([*columns, *(["granule_id"] if granules else [])])]
    for i in range(3):
        write(root / f"images/patch_{i}.tif", range(1000, 2200, 100), "uint16")
        lines.append(
            ",".join([f"patch_{i}.tif", f"{10.5 + i}", f"{-20.5 - i}", *granules[i : i + 1]])
        )
    (root / "index.csv").write_text("\n".join(lines) + "\n")


def sen2naip(root: Path, fine="uint8"):
    for i in range(3):
        roi = root / f"cross-sensor/ROI_{i:04d}"
        write(roi / "lr.tif", (1000, 2000, 3000, 4000), "int32")
        value = 51 if fine == "uint8" else 5100
        write(roi / "hr.tif", (value,) * 4, fine, side=4 * SIDE)


def worldstrat(root: Path, split=("train", "val", "test")):
    lines, places = [",tile,split"], [",lon,lat,n"]
    for i, part in enumerate(split):
        tile = f"Amnesty POI-{i}-1-1"
        folder = root / "hr_dataset" / tile
        write(folder / f"{tile}_rgbn.tiff", (1000, 2000, 3000, 4000), "uint16")
        write(folder / f"{tile}_ps.tiff", (0.1, 0.2, 0.3, 0.4), "float32", side=4 * SIDE)
        write(folder / f"{tile}_pan.tiff", (1500,), "uint16", side=4 * SIDE)
        for n in (1, 2):
            name = f"lr_dataset/{tile}/L2A/{tile}-{n}-L2A_data.tiff"
            write(root / name, np.arange(12) / 20, "float32", side=5)
            places.append(f"{tile},{10 + i},{20 + i},{n}")
        lines.append(f"{i},{tile},{part}")
    (root / "stratified_train_val_test_split.csv").write_text("\n".join(lines) + "\n")
    (root / "metadata.csv").write_text("\n".join(places) + "\n")


def landsat8(root: Path, labels=(2, 3, 4, 5)):
    for scene in LANDSAT:
        for label in labels:
            path = root / scene / f"{scene}_SR_B{label}.TIF"
            write(path, (8000 + 1000 * label,), "uint16", georeferenced=True)
        write(root / scene / f"{scene}_QA_PIXEL.TIF", (1,), "uint16")


def landsat8_patches(root: Path):
    for name in ("l8_0_0", "l8_0_1", "l8_7_0"):
        write(root / f"{name}.tif", (0.1, 0.2, 0.3, 0.4), "float32")


def spot6(root: Path):
    for tile in ("R1C1", "R1C2"):
        name = f"IMG_SPOT6_MS_202007290959110_ORT_x_{tile}.TIF"
        write(root / "IMG_SPOT6_MS_001_A" / name, (1000, 2000, 3000, 4000), "uint16")
    name = "IMG_SPOT6_P_202007290959110_ORT_x_R1C1.TIF"
    write(root / "IMG_SPOT6_P_001_A" / name, (1000,), "uint16")
    write(root / "patches/a.tif", (1000, 2000, 3000, 4000), "uint16")


def _pair(visible: Path, thermal: Path, channels=1, side=SIDE):
    write(visible, (51, 102, 153), side=side)
    write(thermal, (204,) * channels)


def msrs(root: Path):
    for part, name in (("train", "00001D"), ("train", "00002N"), ("test", "00055N")):
        _pair(root / part / f"vi/{name}.png", root / part / f"ir/{name}.png")
    _pair(root / "detection/vi/55.png", root / "detection/ir/55.png")


def roadscene(root: Path):
    for name in ("FLIR_00006", "FLIR_00018", "FLIR_08526"):
        _pair(root / f"crop_LR_visible/{name}.jpg", root / f"cropinfrared/{name}.jpg")
        write(root / f"crop_HR_visible/{name}.jpg", (51, 102, 153), side=3 * SIDE)


def llvip(root: Path):
    for part, name in (("train", "010001"), ("train", "020001"), ("test", "190001")):
        visible, thermal = root / f"visible/{part}/{name}.jpg", root / f"infrared/{part}/{name}.jpg"
        _pair(visible, thermal, channels=3)


def m3fd(root: Path):
    for archive, name in (("M3FD_Detection", "00000"), ("M3FD_Detection", "00250")):
        _pair(root / archive / f"Vis/{name}.png", root / archive / f"Ir/{name}.png")
    _pair(root / "M3FD_Fusion/Vis/00000.png", root / "M3FD_Fusion/Ir/00000.png")


def kaist(root: Path):
    for video in ("set02/V000", "set05/V001", "set06/V000"):
        _pair(root / video / "visible/I00000.jpg", root / video / "lwir/I00000.jpg", channels=3)


def vifb(root: Path):
    for name in ("carShadow", "fight"):
        _pair(root / f"VI/{name}.jpg", root / f"IR/{name}.jpg")
    write(root / "VI/snow.jpg", (51,))
    write(root / "IR/snow.jpg", (204,))


#: Layout -> (its options, the function that writes its tree).
TREES = {
    "s2-100k": ({"sensor": "sentinel-2-l2a", "min_bytes": 0}, s2_100k),
    "sen2naip": ({}, sen2naip),
    "worldstrat": ({}, worldstrat),
    "landsat8": ({"vrt_dir": "vrt"}, landsat8),
    "spot6": ({"bands": "blue=1,green=2,red=3,nir=4"}, spot6),
    "msrs": ({}, msrs),
    "roadscene": ({}, roadscene),
    "llvip": ({}, llvip),
    "m3fd": ({}, m3fd),
    "kaist": ({}, kaist),
    "vifb": ({}, vifb),
}
