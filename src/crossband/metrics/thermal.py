"""Thermal descriptors: how a thermal picture is told from others, as in re-identification.

After Kniaz et al. 2018, ThermalGAN: a colour picture (the probe) is turned into a set of plausible
thermal pictures, and the gallery's thermal picture that is nearest to any of them is the match.
What is compared is the histogram of temperatures and a descriptor of features; here that is a
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
    """Return the share of a picture's valid pixels in each of some equal steps of temperature.

    Args:
        values: [H, W]; what lies beyond the limits counts to the first and the last step.
        mask: bool [H, W]; all where None. What is not finite does not count either.
        bins: steps.
        limits: lowest and highest value, in the values' unit.

    Returns:
        [bins], sums to 1; zeros where no pixel is valid.

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
    """Return histograms of oriented gradients of square cells. Dalal and Triggs 2005.

    Gradients are central differences, 0 at the borders of the picture; each pixel adds the length
    of its gradient to the orientation (0 to 180 degrees, in equal steps) that it has. Each cell's
    histogram h is divided by sqrt(|h|^2 + 1e-10): warmth and contrast do not matter, shapes do. A
    pixel beside an invalid one has no gradient. Rows and columns beyond the last whole cell are
    left out.

    Args:
        values: [H, W].
        mask: bool [H, W]; all where None.
        cell: side of a cell in pixels.
        orientations: steps of a half turn.

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
    """Return what a thermal picture is told by: its histogram and its gradients', one vector.

    Each half has length 1 (0 where there is nothing), so that both weigh alike in a distance.
    Pictures that are compared have one size.
    """
    halves = (
        thermal_histogram(values, mask, bins=bins, limits=limits),
        gradient_histograms(values, mask, cell=cell).ravel(),
    )
    return np.concatenate([h / max(float(np.linalg.norm(h)), 1e-12) for h in halves])


def ranks(probes: Sequence[Array], gallery: Sequence[Array]) -> NDArray[np.int_]:
    """Return the gallery's numbers, nearest first.

    Args:
        probes: signatures of the plausible thermal pictures of one colour picture; the nearest of
            them counts.
        gallery: a signature of each known thermal picture.
    """
    apart = np.linalg.norm(np.stack(probes)[:, None] - np.stack(gallery)[None], axis=2)
    return np.argsort(apart.min(axis=0), kind="stable")


def _checked(values: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 2:
        raise ValueError(f"a thermal picture is [H, W], not {list(v.shape)}")
    valid = np.isfinite(v)
    if mask is not None:
        valid &= np.asarray(mask, dtype=bool)
    return v, valid
