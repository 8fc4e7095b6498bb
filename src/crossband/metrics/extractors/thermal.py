"""Descriptors of thermal images for re-identification, as in the evaluation of ThermalGAN.

After Kniaz et al. 2018: a model translates a colour image (the probe) to several plausible thermal
images. The match is the thermal image of the gallery that is nearest to any of them. Images are
compared by their histogram of temperatures and by a feature descriptor. Here this descriptor is a
histogram of oriented gradients, which needs no trained network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def thermal_histogram(
    values: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    bins: int = 32,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Array:
    """Return the share of valid pixels in each of several equal steps of temperature.

    Args:
        values: [H, W]. Values outside the limits are counted in the first or last step.
        mask: bool [H, W], True for valid pixels; None: all. Values that are not finite are masked.
        bins: number of steps.
        limits: lowest and highest value, in the unit of the values.

    Returns:
        [bins], with a sum of 1; zeros if no pixel is valid.

    >>> thermal_histogram([[0.1, 0.2, 0.9, 7.0]], bins=2).tolist()
    [0.5, 0.5]
    """
    v, valid = _checked(values, mask)
    low, high = limits
    if not low < high or bins < 1:
        raise ValueError(f"a histogram needs low < high and at least one bin, not {limits}, {bins}")
    counts, _ = np.histogram(np.clip(v[valid], low, high), bins=bins, range=(low, high))
    return np.asarray(counts / max(counts.sum(), 1))


def gradient_histograms(
    values: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    cell: int = 16,
    orientations: int = 9,
) -> Array:
    """Return histograms of oriented gradients (HOG) of square cells. Dalal and Triggs 2005.

    Gradients are central differences, and 0 at the border of the image. Each pixel adds the length
    of its gradient to the bin of its orientation (0 to 180 degrees). The histogram h of a cell is
    divided by sqrt(|h|^2 + 1e-10), so temperature and contrast do not change it. A pixel beside a
    masked one has no gradient. Rows and columns beyond the last complete cell are left out.

    Args:
        values: [H, W].
        mask: bool [H, W], True for valid pixels; None: all.
        cell: side of a cell in pixels.
        orientations: number of orientations over 180 degrees.

    Returns:
        [H // cell, W // cell, orientations].
    """
    v, valid = _checked(values, mask)
    v = np.where(valid, v, 0.0)
    down, along = np.zeros_like(v), np.zeros_like(v)
    down[1:-1] = np.where(valid[2:] & valid[:-2], v[2:] - v[:-2], 0.0)
    along[:, 1:-1] = np.where(valid[:, 2:] & valid[:, :-2], v[:, 2:] - v[:, :-2], 0.0)
    length = np.hypot(down, along) * valid
    turn = np.rad2deg(np.arctan2(down, along)) % 180.0
    step = np.minimum((turn / 180.0 * orientations).astype(int), orientations - 1)
    rows, cols = v.shape[0] // cell, v.shape[1] // cell
    out = np.zeros((rows, cols, orientations))
    for n in range(orientations):
        part = np.where(step == n, length, 0.0)[: rows * cell, : cols * cell]
        out[:, :, n] = part.reshape(rows, cell, cols, cell).sum(axis=(1, 3))
    return np.asarray(out / np.sqrt((out**2).sum(axis=2, keepdims=True) + 1e-10))


def thermal_signature(
    values: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    bins: int = 32,
    cell: int = 16,
) -> Array:
    """Return the descriptor of a thermal image: its histogram and its HOG, as one vector.

    Both parts have norm 1 (0 if they are empty), so that they have the same weight in a distance.
    Only descriptors of images of the same size can be compared.
    """
    parts = (
        thermal_histogram(values, mask, bins=bins, limits=limits),
        gradient_histograms(values, mask, cell=cell).ravel(),
    )
    return np.concatenate([h / max(float(np.linalg.norm(h)), 1e-12) for h in parts])


def rank_gallery(probes: Sequence[Array], gallery: Sequence[Array]) -> NDArray[np.int_]:
    """Return the positions of the gallery's images, nearest first.

    Args:
        probes: descriptors of the plausible thermal images of one colour image. The distance of an
            image of the gallery is that to the nearest of them.
        gallery: descriptor of each known thermal image.
    """
    distances = np.linalg.norm(np.stack(probes)[:, None] - np.stack(gallery)[None], axis=2)
    return np.argsort(distances.min(axis=0), kind="stable")


def _checked(values: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 2:
        raise ValueError(f"a thermal picture is [H, W], not {list(v.shape)}")
    valid = np.isfinite(v)
    if mask is not None:
        valid &= np.asarray(mask, dtype=bool)
    return v, valid
