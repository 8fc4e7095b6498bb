"""Measure the shift between source and target: phase correlation of edges, in several blocks.

Values of two sensors cannot be compared, but both show the borders of fields, roads and roofs. So
each image is replaced by its gradient magnitude, compressed so that no single bright edge
dominates. The phase correlation of two blocks has its peak at their shift (Kuglin and Hines, 1975).
Shadows and clouds can mislead single blocks, so the result is the median of the blocks with a clear
peak; if these disagree, there is no result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crossband.raster.grid import Box

#: Standard deviation of the smoothing before the gradient, in pixels: above the scale of noise and
#: of speckle, below the size of roads and fields.
SIGMA = 1.5
#: Smallest and largest side of a block, in source pixels.
BLOCK = (64, 256)
#: Blocks along a side of the scene.
ALONG = 3
#: A peak is clear if it is this many standard deviations above the mean of the surface. The maximum
#: of the 1,000 to 16,000 values that are searched is 3.2 to 4.0 of them above it in pure noise.
PEAK = 6.0
#: Blocks that must agree, and how closely (pixels from their median, along each axis).
AGREE, CLOSE = 3, 1.0
#: A block is used if this share of it is valid.
VALID = 0.9

Read = Callable[[Box], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Shift:
    """The shift of a target against its source, in source pixels.

    Attributes:
        rows: how far the target's content lies below the source's.
        cols: how far it lies to the right.
        error: standard error of the shift, from the spread of the blocks.
        blocks: number of blocks that agree.
        of: number of blocks that were tried.
    """

    rows: float
    cols: float
    error: float
    blocks: int
    of: int

    @property
    def pixels(self) -> float:
        """Length of the shift in source pixels."""
        return float(np.hypot(self.rows, self.cols))


def measure(read: Read, height: int, width: int) -> Shift | None:
    """Measure the shift of a target against its source.

    Args:
        read: returns, for a rectangle of source pixels, source [h, w], target [h, w] on the
            source's grid, and a mask [h, w] of where both are valid.
        height: of the source.
        width: of the source.

    Returns:
        The median over the blocks that agree; None if fewer than `AGREE` do, as on featureless
        ground, or if the image is smaller than a block.
    """
    side = int(np.clip(min(height, width) // 2, *BLOCK))
    if min(height, width) < side:
        return None
    corners = [
        (int(row), int(col))
        for row in np.unique(np.linspace(0, height - side, ALONG).round())
        for col in np.unique(np.linspace(0, width - side, ALONG).round())
    ]
    shifts = []
    for row, col in corners:
        # The shifted target lies within a quarter of a block around it.
        top, left = max(0, row - side // 4), max(0, col - side // 4)
        bottom = min(height, row + side + side // 4)
        right = min(width, col + side + side // 4)
        source, target, mask = read(Box(top, left, bottom - top, right - left))
        at = Box(row - top, col - left, side, side)
        if mask[at.slices()].mean() >= VALID:
            shift = _block(edges(source, mask), edges(target, mask), at)
            if shift is not None:
                shifts.append(shift)
    return _agreed(shifts, len(corners))


def edges(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the edge strength of an image [h, w], 0 to 1; 0 where masked."""
    known, filled = mask, values.astype(np.float32)
    if not mask.all():
        # The border of the mask is not an edge of the image.
        known = ndimage.binary_erosion(mask, iterations=3, border_value=1)
        if not known.any():
            return np.zeros(values.shape, np.float32)
        filled = np.where(mask, filled, np.median(filled[mask]))
    # In float64: the squares of large numbers, as of a nodata number that nobody names, fit there.
    strength = ndimage.gaussian_gradient_magnitude(filled, SIGMA, output=np.float64)
    typical = float(strength[known].mean())
    if typical <= 0:
        return np.zeros(values.shape, np.float32)
    return np.where(known, strength / (strength + 2 * typical), 0.0).astype(np.float32)


def correlate(one: NDArray[np.float32], two: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the shift (rows, columns) of `two` against `one`; None without a clear peak.

    Args:
        one: edges [n, n].
        two: edges [n, n].
    """
    side = one.shape[0]
    window = np.hanning(side + 2)[1:-1]
    window = window[:, None] * window[None, :]
    spectra = []
    for block in (one, two):
        if float(block.std()) < 1e-6:
            return None
        mean = float((block * window).sum() / window.sum())
        spectra.append(np.fft.rfft2((block - mean) * window))
    cross = np.conj(spectra[0]) * spectra[1]
    rows, cols = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    # Low-pass: frequencies that the smoothing removed hold only noise. The peak is then Gaussian,
    # and can be located to a fraction of a pixel.
    weight = np.exp(-2 * (np.pi * SIGMA) ** 2 * (rows**2 + cols**2))
    surface = np.fft.irfft2(cross / (np.abs(cross) + 1e-9) * weight, s=one.shape)
    reach = side // 4
    near = np.roll(surface, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    row, col = (int(i) for i in np.unravel_index(int(near.argmax()), near.shape))
    if row in (0, 2 * reach) or col in (0, 2 * reach):
        return None
    rest = np.ones(near.shape, bool)
    rest[max(0, row - 4) : row + 5, max(0, col - 4) : col + 5] = False
    if near[row, col] < near[rest].mean() + PEAK * near[rest].std():
        return None
    down = _vertex(near[row - 1 : row + 2, col])
    right = _vertex(near[row, col - 1 : col + 2])
    return row - reach + down, col - reach + right


def _block(
    one: NDArray[np.float32], two: NDArray[np.float32], box: Box
) -> tuple[float, float] | None:
    """Return the shift in one block; None without a clear peak."""
    here = one[box.slices()]
    first = correlate(here, two[box.slices()])
    if first is None:
        return None
    # Measured again on the part of the target that shows the same ground: the window function
    # biases the first result towards zero.
    down, right = round(first[0]), round(first[1])
    top, left = box.row + down, box.col + right
    inside = 0 <= top <= two.shape[0] - box.height and 0 <= left <= two.shape[1] - box.width
    if (down, right) == (0, 0) or not inside:
        return first
    second = correlate(here, two[top : top + box.height, left : left + box.width])
    return None if second is None else (down + second[0], right + second[1])


def _vertex(three: NDArray[np.float64]) -> float:
    """Return the position of the maximum of a parabola through three values, from the middle."""
    before, middle, after = (float(v) for v in three)
    curve = before - 2 * middle + after
    return 0.0 if curve >= 0 else float(np.clip((before - after) / (2 * curve), -0.5, 0.5))


def _agreed(found: list[tuple[float, float]], of: int) -> Shift | None:
    if len(found) < AGREE:
        return None
    shifts = np.array(found)
    close = np.abs(shifts - np.median(shifts, axis=0)).max(axis=1) <= CLOSE
    if close.sum() < max(AGREE, len(found) / 2):
        return None
    rows, cols = np.median(shifts[close], axis=0)
    # 1.25: ratio of the standard errors of median and mean, for a normal distribution.
    error = 1.25 * float(np.hypot(*shifts[close].std(axis=0))) / np.sqrt(close.sum())
    return Shift(float(rows), float(cols), float(error), int(close.sum()), of)
