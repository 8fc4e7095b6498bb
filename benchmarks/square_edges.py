r"""The picture of what one bright object does to the answers of `rgb2nir` around it.

    git archive 5963124^ src/crossband/weights/rgb2nir | tar -x -C build/before
    python benchmarks/square_edges.py --before build/before/src/crossband/weights/rgb2nir \
        [--out docs/square-edges.png]

The first row is a smooth field with one bright object of 3 x 3 pixels; the second one is the
brightest object of the demo scene. What is drawn is the answer with the object minus the answer
without it: in the scene, the object is replaced by the median around it.

Each panel has colours of its own: they end at the largest change beyond 12 pixels from the object.
Its title has that change, and the largest step there from a pixel to the next, in reflectance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import crossband
from crossband import Model
from crossband.cli.demo import sample, window
from crossband.core.atomic import atomic_file
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
BANDS = ("red", "green", "blue")
#: Pixels along a side of what is drawn, around the object where the median is taken, and from the
#: object to where changes are measured.
SIDE, AROUND, BEYOND = 112, 12, 12


def field() -> tuple[Floats, Floats, Mask]:
    """Return a smooth field with the object, the same without it, and where it is."""
    rows, columns = np.mgrid[: 2 * SIDE, : 2 * SIDE]
    smooth = 0.08 + 0.015 * np.sin(rows / 60) * np.cos(columns / 75)
    without = np.stack([smooth, smooth * 0.95, smooth * 0.8]).astype(np.float32)
    where = np.zeros(smooth.shape, bool)
    where[SIDE - 1 : SIDE + 2, SIDE - 1 : SIDE + 2] = True
    return np.where(where, np.float32(0.5), without), without, where


def scene() -> tuple[Floats, Floats, Mask]:
    """Return the demo scene, the same without its brightest object, and where that is."""
    stored = sample()
    values = np.stack([stored[b] for b in BANDS]).astype(np.float32) * np.float32(1e-4)
    light = values.mean(axis=0)
    inner = light[SIDE // 2 : -SIDE // 2, SIDE // 2 : -SIDE // 2]
    row, column = np.array(np.unravel_index(inner.argmax(), inner.shape)) + SIDE // 2
    around = (slice(row - AROUND, row + AROUND + 1), slice(column - AROUND, column + AROUND + 1))
    usual = np.median(values[:, *around], axis=(1, 2))
    labels, _ = ndimage.label(light > (light[row, column] + usual.mean()) / 2)
    where = ndimage.binary_dilation(labels == labels[row, column], np.ones((3, 3)))
    return values, np.where(where, usual[:, None, None], values), where


def answer(model: Model, values: Floats) -> Floats:
    """Translate a scene in reflectance."""
    made = translate_window(model, window(values, BANDS), TileOptions(precision="fp32"))
    return np.asarray(made.values[0])


def largest(response: Floats, where: Mask) -> tuple[float, float]:
    """Return the largest change and the largest step; see above."""
    outside = ndimage.distance_transform_edt(~where) > BEYOND
    change = np.abs(response[outside]).max()
    steps = [
        np.abs(np.diff(response, axis=0))[outside[1:] & outside[:-1]].max(),
        np.abs(np.diff(response, axis=1))[outside[:, 1:] & outside[:, :-1]].max(),
    ]
    return float(change), float(max(steps))


def main() -> None:
    """Draw the picture, and print the steps."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--before", required=True, help="a model folder, of older weights")
    parser.add_argument("--out", type=Path, default=Path("docs/square-edges.png"))
    a = parser.parse_args()
    models = {"before": crossband.load(a.before), "now": crossband.load("rgb2nir")}
    figure, axes = plt.subplots(2, 3, figsize=(9.3, 6.6), layout="constrained")
    rows = {"a smooth field": field(), "the demo scene": scene()}
    for line, (name, (given, without, where)) in zip(axes, rows.items(), strict=True):
        row, column = (int(c) for c in ndimage.center_of_mass(where))
        part = (
            slice(row - SIDE // 2, row + SIDE // 2),
            slice(column - SIDE // 2, column + SIDE // 2),
        )
        line[0].imshow(np.clip(given[:, *part].transpose(1, 2, 0) / 0.3, 0, 1) ** 0.7)
        line[0].set_title(f"{name}: source")
        for axis, (who, model) in zip(line[1:], models.items(), strict=True):
            response = answer(model, given) - answer(model, without)
            limit, step = largest(response, where)
            axis.imshow(response[part], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(f"{who}: change {limit:.4f}, step {step:.4f}")
            print(f"{name}, {who}: change {limit:.4f}, step {step:.4f}")
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    with atomic_file(a.out) as new:
        figure.savefig(new, dpi=80, format="png", bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main()
