"""The picture of docs/uncertainty.md: intervals over the demo's scene, beside what was measured.

    python benchmarks/uncertainty_picture.py [--out docs/uncertainty.png]

The scene is the Sentinel-2 sample of the demo, whose near infrared was measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

import crossband
from crossband.cli.demo import sample, write_scene
from crossband.core.atomic import atomic_file

Array = NDArray[np.float32]
LEVEL = 0.9
#: Row of the profile, largest reflectance that is shown, and colours of the file.
ROW, BRIGHT, COLOURS = 150, 0.5, 256


def main() -> None:
    """Draw the picture, and print the numbers that its caption names."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/uncertainty.png"))
    out = parser.parse_args().out
    measured = sample()
    true = (measured["nir"] * 1e-4).astype(np.float32)
    colours = np.stack([measured[b] for b in ("red", "green", "blue")], axis=-1) * 1e-4
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene.tif", measured)
        found = crossband.load("rgb2nir").translate(scene, interval=LEVEL, familiarity=True)
    assert isinstance(found, xr.DataArray)
    made, low, high, far = found.values
    inside = (low <= true) & (true <= high)
    width, error = np.median(high - low), np.median(np.abs(made - true))
    print(f"covered: {inside.mean():.1%}; medians: width {width:.3f}, error {error:.3f}")
    print(f"unfamiliar: {(far > 1).mean():.1%}")
    draw(out, colours, np.stack([true, made, low, high]), inside)


def draw(out: Path, colours: NDArray[np.float64], bands: Array, inside: NDArray[np.bool_]) -> None:
    """Draw the scene, the width of its interval, where it fails, and a row of it."""
    true, made, low, high = bands
    figure = plt.figure(figsize=(11, 6.6), layout="constrained")
    axes = figure.subplot_mosaic([["a", "b", "c"], ["d", "d", "d"]], height_ratios=[1.4, 1])
    axes["a"].imshow(np.clip(colours / 0.18, 0, 1))
    axes["a"].axhline(ROW, color="white", linewidth=0.8)
    axes["a"].set_title("colours (the line: see below)")
    image = axes["b"].imshow(high - low, cmap="magma", vmin=0)
    figure.colorbar(image, ax=axes["b"], shrink=0.8)
    axes["b"].set_title(f"width of the {LEVEL:.0%} interval")
    missed = np.where(inside, 0, np.where(true > high, 1, -1))
    axes["c"].imshow(missed, cmap="RdBu_r", vmin=-1.4, vmax=1.4)
    axes["c"].set_title(f"measured above or below it: {1 - inside.mean():.0%}")
    for name in "abc":
        axes[name].set_axis_off()
    columns = np.arange(true.shape[1])
    axis = axes["d"]
    axis.fill_between(columns, low[ROW], high[ROW], alpha=0.25, label=f"interval, {LEVEL:.0%}")
    axis.plot(columns, made[ROW], label="made from the colours")
    axis.plot(columns, true[ROW], "k", linewidth=0.8, label="measured")
    axis.set(xlabel="column", ylabel="reflectance", xlim=(0, len(columns)), ylim=(0, BRIGHT))
    axis.legend(ncols=3, frameon=False, loc="upper right")
    with atomic_file(out) as part:
        figure.savefig(part, dpi=100, format="png")
        with Image.open(part) as image_file:
            image_file.convert("RGB").quantize(COLOURS).save(part, format="png", optimize=True)
    plt.close(figure)


if __name__ == "__main__":
    main()
