"""The pictures of a guided near infrared: of the README, and enlarged in docs/guiding.md.

    python benchmarks/guided_picture.py [--out docs/guided.png] [--enlarged docs/guiding.png]

The second one shows a part of the scene, and the power spectra: squares of the guide's pixels would
show in the result's at the multiples of the guide's frequency, as they do in that of the guide.

The scene is the Sentinel-2 sample of the demo. Its guide is its own near infrared, averaged to
pixels of 80 m. A guide must lie at a place and the sample has none, so coordinates are made up.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from affine import Affine
from matplotlib.figure import Figure
from numpy.typing import NDArray

import crossband
from crossband.cli.demo import sample
from crossband.core.atomic import atomic_file

Array = NDArray[np.float32]
#: Pixels of the scene (10 m) for each pixel of the guide, along one side.
COARSER = 8
#: Rows and columns that are shown: the part of the scene that whole pixels of the guide cover.
SIDE = 296
#: The part that is enlarged: first row, first column, pixels along a side.
PART = (88, 120, 96)


def main() -> None:
    """Draw the picture, and print the errors that its caption names."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/guided.png"))
    stored = sample()
    scene = {name: (band[:SIDE, :SIDE] * 1e-4).astype(np.float32) for name, band in stored.items()}
    parser.add_argument("--enlarged", type=Path, default=Path("docs/guiding.png"))
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, guided = translate(Path(folder), scene)
    for name, made in (("colours alone", alone), ("guided", guided)):
        print(f"{name}: MAE {np.abs(made - scene['nir']).mean():.4f}")
    draw(a.out, scene, guided)
    draw_enlarged(a.enlarged, scene, alone, guided)


def translate(folder: Path, scene: dict[str, Array]) -> tuple[Array, Array]:
    """Return the near infrared from colours alone, and with a guide of coarse pixels."""
    colours = write(folder / "scene.tif", {b: scene[b] for b in ("red", "green", "blue")}, 10.0)
    guide = write(folder / "guide.tif", {"nir": coarse(scene["nir"])}, 10.0 * COARSER)
    model = crossband.load("rgb2nir")
    made = []
    for name, given in (("alone.tif", None), ("guided.tif", guide)):
        path = model.translate(colours, folder / name, guide=given, dtype="float32")
        with rasterio.open(str(path)) as file:
            made.append(file.read(1))
    return made[0], made[1]


def coarse(band: Array) -> Array:
    """Return the means of squares of the guide's pixel size."""
    side = SIDE // COARSER
    return np.asarray(band.reshape(side, COARSER, side, COARSER).mean((1, 3)))


def write(path: Path, bands: dict[str, Array], size: float) -> Path:
    """Write bands in reflectance as a GeoTIFF with pixels of a size in metres."""
    values = np.stack(list(bands.values()))
    profile = {"driver": "GTiff", "dtype": "float32", "count": len(values), "crs": "EPSG:32633"}
    profile |= {"height": values.shape[1], "width": values.shape[2]}
    profile["transform"] = Affine(size, 0, 5e5, 0, -size, 5e6)
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        file.descriptions = tuple(bands)
        file.units = ("reflectance",) * len(values)
    return path


def draw(out: Path, scene: dict[str, Array], made: Array) -> None:
    """Draw colours, measured and made near infrared side by side."""
    colours = np.stack([scene[b] for b in ("red", "green", "blue")], axis=-1)
    low, high = np.percentile(colours, (1, 99))
    grey = np.percentile(scene["nir"], (1, 99))
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    axes[0].imshow(((colours - low) / (high - low)).clip(0, 1))
    for axis, band in zip(axes[1:], (scene["nir"], made), strict=True):
        axis.imshow(band, cmap="gray", vmin=grey[0], vmax=grey[1])
    titles = ("given: red, green, blue", "near infrared, measured", "near infrared, made")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=13)
        axis.set_axis_off()
    save(figure, out)


def draw_enlarged(out: Path, scene: dict[str, Array], alone: Array, guided: Array) -> None:
    """Draw a part of the near infrared in each way, and the power spectra of the whole scene."""
    row, col, side = PART
    part = (slice(row, row + side), slice(col, col + side))
    measured = scene["nir"]
    squares = np.kron(coarse(measured), np.ones((COARSER, COARSER), np.float32))
    low, high = np.percentile(measured[part], (1, 99))
    bands = {
        "the guide, 80 m": squares,
        "from colours alone, 10 m": alone,
        "guided, 10 m": guided,
        "measured, 10 m": measured,
    }
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.3), layout="constrained")
    for axis, (title, band) in zip(axes, bands.items(), strict=False):
        axis.imshow(band[part], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    plot = axes[-1]
    for multiple in range(1, COARSER // 2 + 1):
        plot.axvline(multiple / COARSER, color="0.85", linewidth=3)
    for name, band in (("measured", measured), ("guided", guided), ("the guide", squares)):
        frequency, power = spectrum(band)
        plot.semilogy(frequency, power, label=name, linewidth=1)
    plot.set_title("power, grey: the guide's frequency", fontsize=11)
    plot.set_xlabel("cycles per pixel")
    plot.set_ylim(power[1:].max() * 1e-6, power[1:].max() * 2)
    plot.legend(fontsize=8)
    save(figure, out)


def spectrum(band: Array) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return frequencies along rows and columns, and the mean power of both."""
    seen = np.hanning(SIDE)
    powers = [
        (np.abs(np.fft.rfft((of - of.mean(1, keepdims=True)) * seen, axis=1)) ** 2).mean(0)
        for of in (band, band.T)
    ]
    return np.fft.rfftfreq(SIDE), np.mean(powers, axis=0)


def save(figure: Figure, out: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_file(out) as new:
        figure.savefig(new, dpi=90, format="png", bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main()
