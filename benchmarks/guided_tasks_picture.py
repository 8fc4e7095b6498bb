"""A picture of a guided translation for each task that a bundled model has: docs/guiding-tasks.png.

    python benchmarks/guided_tasks_picture.py [--out docs/guiding-tasks.png] [--data ../shared/data]

The images are Copernicus Sentinel data whose providers allow any use; the radar pair is from
SSL4EO-S12 (CC BY 4.0). None of the places is in the vault.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from affine import Affine
from guided_picture import save
from manifests import DATA
from numpy.typing import NDArray
from scipy.ndimage import zoom

import crossband

Array = NDArray[np.float32]
COLOURS, NIR = ("red", "green", "blue"), ("nir",)
#: Bands of 20 m, their numbers in a file of all twelve bands of Sentinel-2, and the one shown.
TWENTY = {"rededge071": 5, "rededge075": 6, "rededge078": 7, "nir08": 9, "swir16": 11, "swir22": 12}
SHOWN = "swir16"
#: Size of a guide's pixels in the second row, in pixels of the result.
COARSER = 8
#: A row of the picture: titles and images.
Row = list[tuple[str, Array]]


def read(path: Path, numbers: list[int], scale: float = 1e-4) -> Array:
    """Return bands of a file as physical values."""
    with rasterio.open(path) as file:
        return np.asarray(file.read(numbers), np.float32) * np.float32(scale)


def write(
    path: Path, values: Array, bands: tuple[str, ...], size: float, unit: str = "reflectance"
) -> Path:
    """Write bands as a GeoTIFF with pixels of a size in metres, at a place that is made up."""
    count, height, width = values.shape
    profile = {"driver": "GTiff", "dtype": "float32", "count": count, "crs": "EPSG:32633"}
    profile |= {"height": height, "width": width, "transform": Affine(size, 0, 5e5, 0, -size, 5e6)}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values.astype(np.float32))
        file.descriptions, file.units = bands, (unit,) * count
    return path


def coarse(values: Array, ratio: int) -> Array:
    """Return means over squares of pixels; what is left over at the borders is cut."""
    height, width = (n // ratio for n in values.shape[1:])
    cut = values[:, : height * ratio, : width * ratio]
    return np.asarray(cut.reshape(-1, height, ratio, width, ratio).mean((2, 4)))


def made(path: Any) -> Array:
    """Return the bands of the file of a result."""
    with rasterio.open(path) as file:
        return np.asarray(file.read())


def error(one: Array, other: Array) -> str:
    """Return the mean absolute error in words."""
    return f"error {np.abs(one - other).mean():.4f}"


def another_date(data: Path, folder: Path) -> Row:
    """Near infrared from colours, and a guide of another season."""
    files = [data / "rgb2nir" / "satellite" / f"s2_l2a_ftw-austria_win{n}.tif" for n in "BA"]
    now, then = (read(path, [1, 2, 3, 4])[:, 64:224, :160] for path in files)
    source = write(folder / "now.tif", now[:3], COLOURS, 10.0)
    guide = write(folder / "then.tif", then, COLOURS + NIR, 10.0)
    out = [
        crossband.load(name).translate(source, folder / f"{name}.tif", guide=g, dtype="float32")
        for name, g in (("rgb2nir", None), ("rgb2nir-guided", guide))
    ]
    alone, guided = (made(path)[0] for path in out)
    return [
        ("colours", now[:3]),
        ("guide: near infrared of another date", then[3]),
        (f"colours alone, {error(alone, now[3])}", alone),
        (f"rgb2nir-guided, {error(guided, now[3])}", guided),
        ("measured", now[3]),
    ]


def radar(data: Path, folder: Path) -> Row:
    """Colours from radar, and a coarse optical image of about the same date as guide."""
    place = data / "sar2optical" / "ssl4eo_pk"
    decibels = read(place / "s1" / "0000200_20200604.tif", [1, 2], 1.0)[:, :256, :256]
    true = read(place / "s2" / "0000200_20200604.tif", [3, 2, 1])[:, :256, :256]
    source = write(folder / "radar.tif", decibels, ("vv", "vh"), 10.0, "dB")
    small = write(folder / "small.tif", coarse(true, COARSER), COLOURS, 10.0 * COARSER)
    model = crossband.load("sar2optical")
    alone, guided = (
        made(
            model.translate(
                source,
                folder / f"optical{number}.tif",
                guide=guide,
                sensor="sentinel-1-grd-db",
                dtype="float32",
            )
        )
        for number, guide in enumerate((None, small))
    )
    return [
        ("radar, VV", decibels[0]),
        (
            f"guide: pixels {COARSER} times larger",
            np.kron(coarse(true, COARSER), np.ones((COARSER,) * 2)),
        ),
        (f"radar alone, {error(alone, true)}", alone),
        (f"sar2optical, residual, {error(guided, true)}", guided),
        ("measured", true),
    ]


def sharpened(data: Path, folder: Path) -> Row:
    """Bands of 20 m at 10 m, at half of the resolution, where the truth is known."""
    path = data / "rgb2nir" / "satellite" / "s2_l2a_satclip_252161.tif"
    true = coarse(read(path, list(TWENTY.values())), 2)
    ten = coarse(read(path, [4, 3, 2, 8]), 2)
    source = write(folder / "ten.tif", ten, COLOURS + NIR, 20.0)
    guide = write(folder / "twenty.tif", coarse(true, 2), tuple(TWENTY), 40.0)
    out = crossband.load("sentinel-2-sharpen").translate(
        source, folder / "sharp.tif", guide=guide, dtype="float32"
    )
    number = list(TWENTY).index(SHOWN)
    sharp, blurred = made(out)[number], np.kron(coarse(true, 2)[number], np.ones((2, 2)))
    smooth = zoom(coarse(true, 2)[number], 2, order=3, mode="nearest", grid_mode=True)
    return [
        ("colours, 20 m", ten[:3]),
        (f"guide: {SHOWN}, 40 m, {error(blurred, true[number])}", blurred),
        (f"the guide enlarged, {error(smooth, true[number])}", smooth),
        (f"sentinel-2-sharpen, {error(sharp, true[number])}", sharp),
        (f"measured {SHOWN}, 20 m", true[number]),
    ]


def draw(rows: list[Row], out: Path) -> None:
    """Draw a line of images for each task; results and truth in the same colours."""
    figure, axes = plt.subplots(len(rows), 5, figsize=(12, 2.7 * len(rows)), layout="constrained")
    for line, row in zip(axes, rows, strict=True):
        truth = row[-1][1]
        for number, (axis, (title, image)) in enumerate(zip(line, row, strict=True)):
            axis.set_axis_off()
            of = truth if number > 0 and image.ndim == truth.ndim else image
            low, high = np.percentile(of, (1, 99))
            shown = ((image - low) / (high - low)).clip(0, 1)
            colours = shown.transpose(1, 2, 0) if shown.ndim == 3 else shown
            axis.imshow(colours, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=8)
    save(figure, out)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/guiding-tasks.png"))
    parser.add_argument("--data", type=Path, default=DATA)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        draw([task(a.data, Path(name)) for task in (another_date, radar, sharpened)], a.out)


if __name__ == "__main__":
    main()
