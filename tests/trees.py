"""Small trees in the form in which datasets are published: name -> function that writes one.

Every band of every image is constant, so that what a reader returns is known.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIDE = 8
DRIVERS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP"}
RGB, GREY = (51, 102, 153), (204,)  # 0.2, 0.4, 0.6 and 0.8 of 255
SEASONS = (("ROIs1158_spring", 1), ("ROIs1868_summer", 59), ("ROIs1970_fall", 7))
FLIR = "rgb_to_thermal_vid_map.json"


def write(path, bands, dtype="uint8", size=(SIDE, SIDE), names=(), **more):
    """Write a raster of constant bands, or of the values given; TIFFs have a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = DRIVERS.get(path.suffix.lower(), "GTiff")
    height, width = size
    values = np.stack([np.broadcast_to(b, (height, width)) for b in bands]).astype(dtype)
    profile = {"driver": driver, "count": len(bands), "dtype": dtype}
    profile |= {"height": height, "width": width}
    if driver == "GTiff":
        profile |= {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    if driver == "JPEG":
        profile |= {"QUALITY": 100}
    with rasterio.open(path, "w", **(profile | more)) as out:
        out.write(values)
        for number, name in enumerate(names, start=1):
            out.set_band_description(number, name)
    return path


def pix2pix(root: Path):
    """Write `train_A` and the others, as pix2pix has them."""
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for i in range(count):
            write(root / f"{split}_A/{i}.png", RGB)
            write(root / f"{split}_B/{i}.jpg", GREY)


def cyclegan(root: Path):
    """Write `trainA` and the others, as CycleGAN has them."""
    for split in ("train", "test"):
        for i in range(2):
            write(root / f"{split}A/{i}.jpg", RGB)
            write(root / f"{split}B/{i + 1}.jpg", GREY)


def halves(root: Path):
    """Write pictures that hold A in their left half and B in their right."""
    for split in ("train", "val", "test"):
        for i in range(2):
            columns = np.arange(2 * SIDE) < SIDE
            bands = [np.where(columns, value, GREY[0]) for value in RGB]
            write(root / f"{split}/{i}.png", bands, size=(SIDE, 2 * SIDE))


def sen12ms(root: Path, season="{}"):
    """Write two patches of each of three scenes; `season` is how the upper folder is called."""
    for name, scene in SEASONS:
        for patch in (30, 31):
            for side, bands, dtype in (
                ("s1", (-12.5, -19.25), "float32"),
                ("s2", range(1000, 2300, 100), "uint16"),
                ("lc", (1, 2, 3, 4), "uint8"),
            ):
                folder = root / season.format(name, side) / f"{side}_{scene}"
                write(folder / f"{name}_{side}_{scene}_p{patch}.tif", bands, dtype)


def sen12(root: Path):
    """Write two pairs of each of four terrains; one scene is in two of them."""
    scenes = {"agri": 59, "barrenland": 59, "grassland": 72, "urban": 8}
    for terrain, scene in scenes.items():
        for patch in (2, 3):
            for side, bands in (("s1", GREY), ("s2", RGB)):
                name = f"ROIs1868_summer_{side}_{scene}_p{patch + (terrain == 'agri') * 10}.png"
                write(root / f"v_2/{terrain}/{side}/{name}", bands)


def frame(video, n):
    return f"video-{video}-frame-{n:06d}-a1B2c3"


def flir(root: Path):
    """Write images of two videos a side, videos of which one frame has no counterpart, tiff."""
    for split, videos in (("train", ("aa", "bb")), ("val", ("cc",))):
        for video in videos:
            write(root / f"images_rgb_{split}/data/{frame(video, 0)}.jpg", RGB, size=(16, 20))
            name = frame(f"t{video}", 3)
            write(root / f"images_thermal_{split}/data/{name}.jpg", GREY)
            write(root / f"images_thermal_{split}/analyticsData/{name}.tiff", (7500,), "uint16")
    names = {}
    for video in ("vv", "ww"):
        for n in (1, 2):
            write(root / f"video_rgb_test/data/{frame(video, n)}.jpg", RGB, size=(16, 20))
            name = frame(f"t{video}", n + 5)
            write(root / f"video_thermal_test/data/{name}.jpg", GREY, size=(16, 20))
            dtype, value = ("uint8", 7) if (video, n) == ("ww", 2) else ("uint16", 7500)
            raw = root / f"video_thermal_test/analyticsData/{name}.tiff"
            write(raw, (value,), dtype, size=(16, 20))
            names[f"{frame(video, n)}.jpg"] = f"{name}.jpg"
    (root / FLIR).write_text(json.dumps(names))


def flir_aligned(root: Path):
    """Write the aligned version; one pair is in neither list."""
    for n in (2, 3, 8864, 9):
        write(root / f"align/JPEGImages/FLIR_{n:05d}_RGB.jpg", RGB)
        write(root / f"align/JPEGImages/FLIR_{n:05d}_PreviewData.jpeg", GREY)
    (root / "align/align_train.txt").write_text("FLIR_00002_PreviewData\nFLIR_00003_PreviewData\n")
    (root / "align/align_validation.txt").write_text("FLIR_08864_PreviewData\n")


def div2k(root: Path):
    """Write fine pictures and their versions of a half."""
    for folder, numbers in (("train", (1, 2, 3)), ("valid", (801,))):
        for n in numbers:
            write(root / f"DIV2K_{folder}_HR/{n:04d}.png", RGB, size=(12, 16))
            write(root / f"DIV2K_{folder}_LR_bicubic/X2/{n:04d}x2.png", RGB, size=(6, 8))


def geotiff(root: Path):
    """Write four-band files whose bands have names, in an order of their own."""
    for place in ("north", "south"):
        for i in range(2):
            write(
                root / f"{place}/scene{i}.tif",
                (300, 200, 100, 4000),
                "uint16",
                names=("B04", "B03", "B02", "B08"),
            )


def geotiff_apart(root: Path):
    """Write sources and targets in files of their own, told by the ending."""
    for i in range(2):
        write(root / f"{i}_rgb.tif", RGB, names=("red", "green", "blue"))
        write(root / f"{i}_nir.tif", (0.75,), "float32")


def item(name, assets, bbox=(10, 50, 11, 51), **properties):
    """Return a STAC item."""
    properties |= {"datetime": "2024-06-01T10:00:00Z"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "fields",
        "bbox": list(bbox),
        "geometry": None,
        "properties": properties,
        "assets": assets,
        "links": [],
    }


def stac(root: Path):
    """Write an ItemCollection (STAC 1.0) whose items have one file each."""
    bands = [{"name": f"B{n}", "common_name": c} for n, c in enumerate(("red", "nir", "green"))]
    bands.append({"name": "B02"})  # told by the sensor's label
    raster = [{"scale": 0.0001, "offset": -0.1, "nodata": 0}] * 4
    items = []
    for i in range(3):
        write(root / f"images/{i}.tif", (3000, 5000, 2000, 1500), "uint16")
        write(root / f"images/{i}.png", RGB)
        data = {"href": f"./images/{i}.tif", "eo:bands": bands, "raster:bands": raster}
        picture = {"href": f"images/{i}.png", "roles": ["visual"]}
        picture["eo:bands"] = [{"common_name": c} for c in ("red", "green", "blue")]
        grid = {"grid:code": "MGRS-33UUP"} if i else {}
        items.append(item(f"item{i}", {"data": {**data, "roles": ["data"]}, "visual": picture}))
        items[-1]["properties"] |= grid
    collection = {"type": "FeatureCollection", "features": items}
    (root / "items.json").write_text(json.dumps(collection))


def stac_apart(root: Path):
    """Write an item (STAC 1.1) with one file for each band."""
    assets = {}
    for name, value in (("red", 3000), ("green", 2000), ("blue", 1500), ("nir", 5000)):
        write(root / f"one/{name}.tif", (value,), "uint16", nodata=0)
        band = {"eo:common_name": name}
        assets[name] = {"href": f"{name}.tif", "bands": [band], "raster:scale": 0.0001}
    (root / "one/item.json").write_text(json.dumps(item("one", assets)))
    (root / "catalog.json").write_text(json.dumps({"type": "Catalog", "id": "c", "links": []}))


#: Layout -> (its options, the function that writes its tree).
TREES = {
    "folders": ({"target": "nir"}, pix2pix),
    "sen12ms": ({}, sen12ms),
    "sen12": ({}, sen12),
    "flir-adas-v2": ({"part": "videos"}, flir),
    "div2k": ({"scale": 2}, div2k),
    "geotiff": ({"sensor": "sentinel-2-l2a-no-offset"}, geotiff),
    "stac": ({"sensor": "sentinel-2-l2a"}, stac),
}
