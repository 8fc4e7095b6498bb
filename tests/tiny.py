"""Recipes in miniature: narrow networks, small crops, and pairs of every task."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from PIL import Image
from registered import sizes

from crossband.networks import Discriminator, Generator
from crossband.networks.generators.thermal_gan import Encoder
from crossband.networks.samplers.vector_field import Field
from crossband.training import recipe
from crossband.training.losses import Loss


def overrides(name):
    """Options that make a recipe small enough for a test."""
    config = recipe.load(name)
    found = [f"--{path}={value}" for path, value in _smaller(config["method"], "method")]
    crop = config["data"]["init_args"].get("crop", 128)
    return [*found, f"--data.crop={min(crop, 16)}", "--data.batch=2", "--data.cache_mb=8"]


def _smaller(node, path):
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from _smaller(item, f"{path}.{number}")
    if not isinstance(node, dict):
        return
    for key, value in _sizes().get(str(node.get("class_path")), {}).items():
        yield f"{path}.{key}", value
    for key, value in (node.get("init_args") or {}).items():
        yield from _smaller(value, f"{path}.{key}")


@functools.cache
def _sizes():
    """Return the arguments that make a class small, whichever recipe names it."""
    families = (Generator, Discriminator, Encoder, Field, Loss)
    return {name: found for base in families for name, found in sizes(base).items()}


def smooth(rng, bands, height, width):
    """Blobs between 0 and 1, float32 [bands, height, width]."""
    coarse = rng.uniform(0, 1, (bands, 5, 6))
    rows, cols = np.linspace(0, 3.99, height), np.linspace(0, 4.99, width)
    r, c = rows.astype(int), cols.astype(int)
    fr, fc = (rows - r)[:, None], (cols - c)[None]
    top = coarse[:, r][:, :, c] * (1 - fc) + coarse[:, r][:, :, c + 1] * fc
    low = coarse[:, r + 1][:, :, c] * (1 - fc) + coarse[:, r + 1][:, :, c + 1] * fc
    return (top * (1 - fr) + low * fr).astype(np.float32)


def pairs(folder, task, count=4, height=28, width=36):
    """Write some pairs of a task and return their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [WRITERS[task](folder, i, rng, height, width) for i in range(count)]
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def _raster(path, values, names):
    profile = {"height": values.shape[1], "width": values.shape[2], "count": len(values)}
    profile |= {"dtype": "float32", "crs": "EPSG:32633"}
    profile["transform"] = Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(path, "w", **profile) as out:
        out.write(values)
        out.descriptions = names
    return path.name


def _picture(path, values):
    stored = (values * 255).round().astype(np.uint8)
    Image.fromarray(stored[0] if len(stored) == 1 else stored.transpose(1, 2, 0)).save(path)
    return path.name


def _rgb2nir(folder, i, rng, height, width):
    blue, green, red = smooth(rng, 3, height, width) * 0.3 + 0.02
    values = np.stack([blue, green, red, 0.05 + 0.6 * red + 0.4 * green])
    name = _raster(folder / f"{i}.tif", values, ("blue", "green", "red", "nir"))
    return {"source": name, "target": name, "sensor": "reflectance"}


def _sar2optical(folder, i, rng, height, width):
    vv, vh = smooth(rng, 2, height, width)
    colour = np.stack([0.3 * vv + 0.1, 0.2 * vh + 0.1, 0.1 * vv + 0.2 * vh])
    source = _raster(folder / f"{i}_s1.tif", np.stack([25 * vv - 25, 20 * vh - 30]), ("vv", "vh"))
    target = _raster(folder / f"{i}_s2.tif", colour, ("red", "green", "blue"))
    return {"source": source, "sensor": "sentinel-1-grd-db", "target": target,
            "target_sensor": "reflectance"}  # fmt: skip


def _rgb2thermal(folder, i, rng, height, width):
    colour = smooth(rng, 3, height, width)
    return {
        "source": _picture(folder / f"{i}_rgb.png", colour),
        "sensor": "display",
        "source_bands": "red=1,green=2,blue=3",
        "target": _picture(folder / f"{i}_thermal.png", 0.7 * colour[:1] + 0.2 * colour[1:2]),
        "target_sensor": "thermal-camera",
    }


def _super_resolution(folder, i, rng, height, width):
    name = _picture(folder / f"{i}.png", smooth(rng, 3, 2 * height, 2 * width))
    return {"source": None, "target": name, "sensor": "display",
            "target_bands": "red=1,green=2,blue=3", "degradation": "Bicubic"}  # fmt: skip


WRITERS = {
    "rgb2nir": _rgb2nir,
    "sar2optical": _sar2optical,
    "rgb2thermal": _rgb2thermal,
    "super-resolution": _super_resolution,
}
