"""Files that `compare_commits.py` translates, trains on and refuses: small, seeded, of every kind.

Nothing here imports Crossband: both commits read the same files.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform

TESTS = Path(__file__).parents[1] / "tests"
UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
BANDS = ("blue", "green", "red", "nir")
LABELS = ("B02", "B03", "B04", "B08")
PROJECTION = "+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80 +units=m"


def surface(seed: int, height: int, width: int, bands: int = 4) -> np.ndarray:
    """Return blobs with some noise, like reflectance: float64 [bands, height, width]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    out = rng.normal(0, 0.004, (bands, height, width))
    for band in range(bands):
        for _ in range(6):
            row, col, size = rng.uniform(0, 1, 3)
            blob = np.exp(-((y - row) ** 2 + (x - col) ** 2) / (0.02 + 0.1 * size))
            out[band] += rng.uniform(0.01, 0.09) * blob
    if bands >= 4:
        out[3] = 0.1 + 0.8 * out[1] + 0.5 * out[3]
    return np.clip(out + 0.03, 0.001, 0.95)


def raster(
    path: Path,
    values: np.ndarray,
    *,
    names: Sequence[str] = (),
    unit: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    mask: np.ndarray | None = None,
    colours: Sequence[ColorInterp] = (),
    **profile: Any,
) -> Path:
    """Write a GeoTIFF, or what `driver` says; it has a place unless `crs` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = values.shape
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": UTM, **profile}
    profile |= {"count": bands, "height": height, "width": width, "dtype": values.dtype}
    profile = {key: value for key, value in profile.items() if value is not None}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile) as out,
    ):
        out.write(values)
        if names:
            out.descriptions = tuple(names)
        if unit:
            out.units = (unit,) * bands
        if scale is not None:
            out.scales, out.offsets = (scale,) * bands, (offset or 0.0,) * bands
        if colours:
            out.colorinterp = colours
        if mask is not None:
            out.write_mask(mask)
    return path


def stored(values: np.ndarray, dtype: str = "uint16", scale: float = 1e-4) -> np.ndarray:
    """Return reflectance as stored numbers."""
    return np.round(values / scale).astype(dtype)


def bytes_of(values: np.ndarray) -> np.ndarray:
    """Return reflectance as an 8-bit picture."""
    return np.clip(np.round(values * 400), 1, 255).astype(np.uint8)


def holes(height: int, width: int) -> np.ndarray:
    """Return a mask with a rectangle and a pixel left out."""
    mask = np.ones((height, width), bool)
    mask[height // 4 : height // 2, width // 5 : width // 2] = False
    mask[-2, 3] = False
    return mask


def write(folder: Path) -> None:
    """Write all inputs into a folder."""
    sys.path.insert(0, str(TESTS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        types(folder)
        masks(folder)
        grids(folder)
        pictures(folder)
        products(folder)
        fleet(folder / "fleet")
        series(folder / "series")
        pairs(folder / "pairs")
        datasets(folder / "datasets")
        refused(folder)


def types(folder: Path) -> None:
    """Write rasters of each data type and layout."""
    scene = surface(1, 90, 130)
    raster(folder / "u8.tif", bytes_of(scene[[2, 1, 0, 3]]), blockysize=7)
    numbers = stored(scene) * holes(90, 130)
    tiled: dict[str, Any] = {"tiled": True, "blockxsize": 32, "blockysize": 48}
    raster(folder / "s2.tif", numbers, names=LABELS, nodata=0, compress="deflate", **tiled)
    raster(folder / "plain16.tif", stored(scene + 0.1), interleave="band")
    empty = np.where(holes(90, 130), stored(scene, "int16"), -9999).astype(np.int16)
    raster(folder / "i16.tif", empty, names=BANDS, nodata=-9999, compress="lzw", predictor=2)
    gaps = np.where(holes(90, 130), scene, np.nan)
    raster(folder / "f32.tif", gaps.astype(np.float32), names=BANDS, compress="zstd")
    raster(folder / "f64.tif", gaps, names=BANDS, nodata=float("nan"))
    raster(
        folder / "scaled.tif", stored(scene + 0.1), names=BANDS, unit="reflectance", scale=1e-4,
        offset=-0.1,
    )  # fmt: skip
    raster(folder / "big-endian.tif", numbers, names=LABELS, nodata=0, ENDIANNESS="BIG")
    many = stored(surface(2, 40, 50, 12))
    labels = [f"B{n:02d}" for n in (1, 2, 3, 4, 5, 6, 7, 8)] + ["B8A", "B09", "B11", "B12"]
    raster(folder / "bands12.tif", many, names=labels)
    raster(folder / "large.tif", stored(surface(3, 700, 1000)), names=BANDS, driver="COG")
    raster(folder / "middle.tif", stored(surface(9, 250, 330)), names=BANDS, tiled=True)
    radar = np.stack([25 * scene[0] * 3 - 22, 20 * scene[1] * 3 - 28]).astype(np.float32)
    raster(folder / "radar.tif", radar, names=("vv", "vh"))
    coarse = Affine(40, 0, 499_900, 0, -40, 5_000_100)
    raster(
        folder / "reference.tif", stored(surface(1, 32, 40)), names=LABELS, nodata=0,
        transform=coarse,
    )  # fmt: skip
    for name, dtype in (("red", "uint16"), ("green", "int16"), ("blue", "int32")):
        band = stored(scene[[BANDS.index(name)]], dtype)
        raster(folder / f"one/{name}.tif", band, nodata=0 if name == "red" else None)
    kinds = {"red": "UInt16", "green": "Int16", "blue": "Int32"}
    vrt(folder / "mixed.vrt", 90, 130, kinds, {})
    vrt(folder / "nodatas.vrt", 90, 130, kinds, {"red": 0, "green": -1})


def vrt(
    path: Path,
    height: int,
    width: int,
    kinds: Mapping[str, str],
    nodata: Mapping[str, int],
) -> None:
    """Write a VRT of files of one band each, `one/NAME.tif`."""
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n}"><Description>{name}</Description>'
        + (f"<NoDataValue>{nodata[name]}</NoDataValue>" if name in nodata else "")
        + f'<SimpleSource><SourceFilename relativeToVRT="1">one/{name}.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, (name, kind) in enumerate(kinds.items(), start=1)
    )
    place = ", ".join(map(str, UTM.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )


def masks(folder: Path) -> None:
    """Write rasters whose masks are told in each way."""
    scene, mask = surface(4, 70, 100), holes(70, 100)
    picture = bytes_of(scene[[2, 1, 0]])
    raster(folder / "mask.tif", stored(scene), names=BANDS, mask=mask)
    alpha = np.concatenate([picture, mask[None] * np.uint8(255)])
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    raster(folder / "alpha.tif", alpha, colours=colours, photometric="rgb", alpha="unspecified")
    raster(folder / "alpha.png", alpha, driver="PNG", crs=None, transform=None)
    raster(folder / "masked.tif", np.zeros((4, 40, 50), np.uint16), names=BANDS, nodata=0)


def grids(folder: Path) -> None:
    """Write rasters that lie on the ground in each way."""
    scene = stored(surface(5, 60, 80))
    some: dict[str, Any] = {"names": BANDS, "nodata": 0}
    turned = Affine.translation(5e5, 5e6) @ Affine.rotation(30) @ Affine.scale(10, -10)
    raster(folder / "rotated.tif", scene, transform=turned, **some)
    raster(folder / "south-up.tif", scene, transform=Affine(10, 0, 5e5, 0, 20, 5e6), **some)
    raster(
        folder / "geographic.tif", scene, crs="EPSG:4326",
        transform=Affine(0.0001, 0, 10, 0, -0.0001, 50), **some,
    )  # fmt: skip
    raster(folder / "own-crs.tif", scene, crs=PROJECTION, **some)
    raster(folder / "nowhere.tif", scene, crs=None, transform=None, **some)
    corners = [(0, 0), (0, 80), (60, 0), (60, 80)]
    points = [
        GroundControlPoint(r, c, 10 + c / 900, 50 - r / 950, 3.0, str(n))
        for n, (r, c) in enumerate(corners)
    ]
    raster(folder / "gcps.tif", scene, crs="EPSG:4326", transform=None, gcps=points, **some)
    raster(folder / "column.tif", scene[:, :, :1], **some)
    raster(folder / "row.tif", scene[:, :1], **some)
    raster(folder / "tiny.tif", scene[:, :2, :3], **some)


def pictures(folder: Path) -> None:
    """Write PNG and JPEG pictures."""
    scene = surface(6, 70, 110)[[2, 1, 0]]
    nowhere: dict[str, Any] = {"crs": None, "transform": None}
    raster(folder / "picture.png", bytes_of(scene), driver="PNG", **nowhere)
    wide = np.clip(scene * 1e5, 1, 65535).astype(np.uint16)
    raster(folder / "picture16.png", wide, driver="PNG", **nowhere)
    raster(folder / "grey.png", bytes_of(scene)[:1], driver="PNG", **nowhere)
    raster(folder / "picture.jpg", bytes_of(scene), driver="JPEG", QUALITY=92, **nowhere)
    (folder / "picture.jgw").write_text("10\n0\n0\n-10\n500005\n4999995\n")


def products(folder: Path) -> None:
    """Write whole products in miniature, STAC items and a folder of bands."""
    trees = importlib.import_module("product_trees")
    kinds: dict[str, dict[str, str]] = {
        "s2a": {},
        "s1c": {"level": "1C"},
        "early": {"baseline": "02.14", "suffix": ".tif"},
    }
    for name, options in kinds.items():
        trees.sentinel2(folder / name, size=60, **options)
    trees.zipped(trees.sentinel2(folder / "zip", size=60))
    trees.landsat(folder / "landsat", values=None)
    trees.landsat(folder / "landsat1", level="L1TP", kind="json", size=30)
    amplitudes = np.random.default_rng(7).integers(200, 900, (60, 80)).astype(np.uint16)
    amplitudes[:, :4] = 0
    trees.sentinel1(folder / "s1", amplitudes)
    scene = stored(surface(8, 50, 60) + 0.1)
    assets: dict[str, Any] = {}
    newer: dict[str, Any] = {}
    for n, name in enumerate(BANDS):
        raster(folder / f"stac/{name}.tif", scene[[n]], nodata=0)
        facts = {"scale": 1e-4, "offset": -0.1, "nodata": 0, "unit": "reflectance"}
        assets[name] = {
            "href": f"{name}.tif",
            "eo:bands": [{"name": name, "common_name": name}],
            "raster:bands": [facts],
        }
        newer[name] = {"href": f"./{name}.tif", "bands": [{"eo:common_name": name}]}
        newer[name] |= {"raster:scale": 1e-4, "raster:offset": -0.1}
    trees.item(folder / "stac", assets)
    trees.item(folder / "stac", newer, "1.1.0", name="newer.json")
    items = []
    for number in (1, 2):
        path = trees.item(folder / "stac", assets, name="one.json")
        items.append(json.loads(path.read_text()) | {"id": f"item{number}"})
        path.unlink()
    collection = {"type": "FeatureCollection", "features": items}
    (folder / "stac/items.json").write_text(json.dumps(collection))


def fleet(folder: Path) -> None:
    """Write scenes, one of them broken, a list and a manifest of them."""
    for number, name in enumerate("abc"):
        scene = surface(10 + number, 60 + 10 * number, 80)
        raster(folder / f"{name}.tif", stored(scene), names=LABELS, nodata=0)
    (folder / "d.tif").write_text("this is no image")
    (folder / "scenes.txt").write_text("# two of them\na.tif\n\nc.tif\n")
    rows = [
        {"source": "a.tif", "source_window": "8,4,40,32", "source_bands": "red=3,green=2,blue=1"},
        {"source": "b.tif", "source_window": None, "source_bands": None},
        {"source": "../u8.tif", "sensor": "naip"},
    ]
    table = pd.DataFrame(rows)
    table["sensor"] = table["sensor"].fillna("sentinel-2-l2a-no-offset")
    table.to_csv(folder / "scenes.csv", index=False)
    table.to_parquet(folder / "scenes.parquet")


def series(folder: Path) -> None:
    """Write dated scenes with clouds, a stack of them, and places among them."""
    import xarray as xr

    size, days = 48, ("20240501", "20240511", "20240521")
    values = np.stack([surface(20 + n, size, size) for n in range(len(days))])
    for n, day in enumerate(days):
        numbers = stored(values[n])
        numbers[:, :, : 12 * n] = 0
        raster(
            folder / f"s2_{day}.tif", numbers, names=BANDS, nodata=0, unit="reflectance", scale=1e-4
        )
    xs, ys = np.arange(size) * 10 + 500_005.0, 4_999_995.0 - np.arange(size) * 10
    place = {"time": pd.to_datetime(list(days)).to_numpy(), "y": ys, "x": xs}
    bands = values.transpose(1, 0, 2, 3).astype(np.float32)
    unit = {"units": "reflectance"}
    apart = xr.Dataset(
        {name: (("time", "y", "x"), band, unit) for name, band in zip(BANDS, bands, strict=True)},
        coords=place,
    )
    apart.to_netcdf(folder / "cube.nc", engine="scipy")

    def lonlat(col: float, row: float) -> list[float]:
        x, y = UTM @ (col, row)
        lon, lat = transform("EPSG:32633", "EPSG:4326", [x], [y])
        return [lon[0], lat[0]]

    def box(left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        return {"type": "Polygon", "coordinates": [[lonlat(*c) for c in corners]]}

    places = {
        "field": box(10, 5, 30, 15),
        "edge": box(40, 40, 56, 46),
        "tower": {"type": "Point", "coordinates": lonlat(25.7, 3.2)},
        "elsewhere": {"type": "Point", "coordinates": [-60.0, -20.0]},
    }
    features = [
        {"type": "Feature", "properties": {"name": name, "crop": f"c{n}"}, "geometry": geometry}
        for n, (name, geometry) in enumerate(places.items())
    ]
    collection = {"type": "FeatureCollection", "features": features}
    (folder / "places.geojson").write_text(json.dumps(collection))


def pairs(folder: Path) -> None:
    """Write manifests: near infrared, radar, pictures of two sides, and one full of faults."""
    rows = []
    for n in range(8):
        path = raster(folder / f"{n}.tif", surface(30 + n, 48, 64).astype(np.float32), names=BANDS)
        rows.append(
            {
                "source": path.name,
                "target": path.name,
                "sensor": "reflectance",
                "source_bands": "red=3,green=2,blue=1",
                "target_bands": "nir=4",
                "group": f"field-{n // 2}",
                "terrain": ("plain", "hills")[n % 4 // 2],
                "split": "train" if n < 4 else "test",
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(folder / "pairs.csv", index=False)
    table.drop(columns="split").to_csv(folder / "unsplit.csv", index=False)
    table.drop(columns="target").to_csv(folder / "no-target.csv", index=False)
    table.assign(sensor="sentinel-9").to_csv(folder / "bad.csv", index=False)
    (folder / "broken.tif").write_bytes((folder / "0.tif").read_bytes()[:900])
    raster(folder / "turned.tif", surface(40, 64, 48).astype(np.float32), names=BANDS)
    raster(folder / "void.tif", np.full((4, 48, 64), np.nan, np.float32), names=BANDS)
    faults = table.copy()
    faults.loc[1, "source"] = "missing.tif"
    faults.loc[2, "target"] = "turned.tif"
    faults.loc[3, ["source", "target"]] = "broken.tif"
    faults.loc[4, ["source", "target"]] = "void.tif"
    faults.loc[5, ["source", "target"]] = "0.tif"
    faults.loc[6, "source_bands"] = "red=1,green=2,blue=3"
    faults.to_csv(folder / "faults.csv", index=False)
    radar, thermal = [], []
    for n in range(4):
        scene = surface(50 + n, 32, 40)
        both = np.stack([60 * scene[0] - 22, 60 * scene[1] - 28]).astype(np.float32)
        s1 = raster(folder / f"{n}_s1.tif", both, names=("vv", "vh"))
        colours = scene[[2, 1, 0]].astype(np.float32)
        s2 = raster(folder / f"{n}_s2.tif", colours, names=("red", "green", "blue"))
        radar.append({"source": s1.name, "sensor": "sentinel-1-grd-db", "target": s2.name,
                      "target_sensor": "reflectance"})  # fmt: skip
        nowhere: dict[str, Any] = {"driver": "PNG", "crs": None, "transform": None}
        rgb = raster(folder / f"{n}_rgb.png", bytes_of(colours), **nowhere)
        heat = raster(folder / f"{n}_thermal.png", bytes_of(scene[[3]]), **nowhere)
        thermal.append({"source": rgb.name, "sensor": "display", "target": heat.name,
                        "target_sensor": "thermal-camera"})  # fmt: skip
    pd.DataFrame(radar).to_csv(folder / "radar.csv", index=False)
    pd.DataFrame(thermal).to_csv(folder / "thermal.csv", index=False)


def datasets(folder: Path) -> None:
    """Write public datasets in miniature, by the tests' own functions: a folder for each layout."""
    for name in ("trees", "trees2"):
        for layout, (_, tree) in importlib.import_module(name).TREES.items():
            tree(folder / layout)


def refused(folder: Path) -> None:
    """Write what cannot be read."""
    (folder / "text.tif").write_text("this is no image")
    whole = (folder / "s2.tif").read_bytes()
    (folder / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    values = np.ones((3, 20, 20), np.complex64)
    raster(folder / "complex.tif", values, names=("red", "green", "blue"))
    raster(folder / "unnamed.tif", np.full((2, 20, 20), 7, np.uint16))
