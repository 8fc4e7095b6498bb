"""The mean of a fine image over the pixels of a coarse sensor, as that sensor sees it.

A sensor does not average over the square of a pixel. Its point spread function is wider, and is
described by the modulation transfer function (MTF) at the Nyquist frequency of its pixels: 0.2 to
0.35 for Sentinel-2 (0.637 for the square). The function is taken to be a Gaussian, as in Aiazzi et
al. 2006, "MTF-tailored multiscale fusion of high-resolution MS and Pan imagery".
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DECIBEL
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.warp import Readable, read_extended, read_shares

#: MTF at the Nyquist frequency, where nothing is known of the sensor.
MTF = 0.3
#: From this ratio of pixel sizes on, squares of half a coarse pixel are averaged first. It is below
#: 3, because the ratio of 30 m and 10 m is 2.99 to 3.01 between two zones.
_SQUARES = 2.9
#: Reach of the kernel to each side, in half coarse pixels: 2.7 standard deviations.
_REACH = 3
#: Share of the kernel that must lie on valid pixels.
_COVER = 0.5


def read_as_seen(scene: Readable, grid: Grid, ratio: float) -> Window:
    """Return what a sensor with the pixels of `grid` would have seen of a finer image.

    Args:
        scene: the fine image, with CRS and affine transform; physical units.
        grid: the coarse pixels; they may lie partly or wholly outside the scene.
        ratio: size of a coarse pixel in pixels of the scene, about. Below 1.45 the scene is
            interpolated (see `read_extended`): there is nothing to average.

    Returns:
        A window in which a pixel is valid where half of its kernel lies on valid pixels.
    """
    if ratio < _SQUARES / 2:
        return read_extended(scene, grid)
    if scene.unit == DECIBEL:  # a sensor adds up power
        seen = read_as_seen(_Power(scene), grid, ratio)
        decibels = 10 * np.log10(np.where(seen.mask, seen.values, np.float32(1)))
        return Window(decibels, seen.mask, grid, seen.bands, scene.unit)
    edge = _REACH - 1  # half pixels beyond the grid on each side
    half = grid.zoom(2).crop(
        Box(-edge, -edge, 2 * grid.height + 2 * edge, 2 * grid.width + 2 * edge)
    )
    if ratio >= _SQUARES:
        values, share = read_shares(scene, half)
    else:
        seen = read_extended(scene, half)
        values, share = seen.values, seen.mask.astype(np.float32)
    weight = _sampled(share)
    total = _sampled(np.where(share > 0, values * share, np.float32(0.0)))
    mask = weight >= _COVER
    made = np.zeros_like(total)
    np.divide(total, weight, out=made, where=mask)
    return Window(made, mask, grid, scene.bands, scene.unit)


class _Power:
    """An image in decibels as power."""

    def __init__(self, scene: Readable) -> None:
        self.grid, self.bands, self.unit = scene.grid, scene.bands, "power"
        self._scene = scene

    def read(self, box: Box) -> Window:
        """Return a window, 0 where it is masked."""
        seen = self._scene.read(box)
        power = np.where(seen.mask, 10.0 ** (seen.values / 10), 0.0).astype(np.float32)
        return replace(seen, values=power, unit=self.unit)


def gaussian_width(mtf: float, ratio: float = 1.0) -> float:
    """Return the standard deviation of a sensor's Gaussian in fine pixels.

    Args:
        mtf: of the sensor at the Nyquist frequency of its pixels.
        ratio: size of its pixels in fine pixels.

    >>> round(gaussian_width(0.2, 4), 3)
    2.284
    """
    return ratio / math.pi * math.sqrt(-2.0 * math.log(mtf))


def kernel(mtf: float = MTF) -> NDArray[np.float32]:
    """Return the weights of the six half pixels around the centre of a coarse one, of sum 1.

    >>> [round(float(w), 3) for w in kernel(0.3)]
    [0.013, 0.12, 0.367, 0.367, 0.12, 0.013]
    """
    # The squares of half a pixel are a part of the blur already: the variance of a square is 1/12.
    variance = gaussian_width(mtf) ** 2 - 0.25 / 12
    at = np.arange(0.5 - _REACH, _REACH) / 2
    weights = np.exp(-0.5 * at**2 / variance)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _sampled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weigh half pixels [..., 2 H + 4, 2 W + 4] with the kernel; returns [..., H, W]."""
    weights = kernel()
    for axis in (-2, -1):
        count = (values.shape[axis] - 2 * (_REACH - 1)) // 2
        moved = np.moveaxis(values, axis, 0)
        summed = sum(w * moved[i : i + 2 * count : 2] for i, w in enumerate(weights))
        values = np.moveaxis(np.asarray(summed, dtype=np.float32), 0, axis)
    return values
