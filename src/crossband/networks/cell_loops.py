"""The sums over cells from which `LocalPyramid` computes its statistics, by a compiled loop."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossband.core.compiled import Loop, compiled, inlined


def sums_of_cells(image: Tensor, cell: int, centre: float) -> Tensor:
    """Return the means over the cells of an image: [B, C, H, W] -> [B, maps, H / cell, W / cell].

    Args:
        image: float32; 0 in all bands where it is not valid. H and W are multiples of the cell.
        cell: side of a cell in pixels.
        centre: subtracted from valid colours, so that small variances are not lost.

    Returns:
        Share of valid pixels, mean colours, mean squares, mean products of two bands, and the mean
        absolute difference of the brightness from the pixels below and right. Pixels that are not
        valid count as 0.
    """
    count, bands, height, width = image.shape
    maps = 2 + 2 * bands + bands * (bands - 1) // 2
    result = torch.empty(count, maps, height // cell, width // cell)
    loop = cell_sums(bands, cell, centre)
    for sample, into in zip(image.contiguous().numpy(), result.numpy(), strict=True):
        loop(sample, into)
    return result


@inlined
def _brightness(image: Any, row: int, light: Any, valid: Any) -> None:
    """Write the mean of the bands of a row, and 1 where one is not 0; 0 beyond the image."""
    bands, height, width = image.shape
    light[:], valid[:] = 0, 0
    if row < height:
        for band in range(bands):
            for c in range(width):
                light[c] += image[band, row, c] / bands
                valid[c] = np.float32(1) if image[band, row, c] != 0 else valid[c]


@functools.cache
def cell_sums(bands: int, cell: int, centre: float) -> Loop:
    """Return the loop over cells that `LocalPyramid` computes its statistics from.

    Args:
        bands: of the image, C.
        cell: side of a cell in pixels.
        centre: subtracted from valid colours.
    """
    maps = 2 + 2 * bands + bands * (bands - 1) // 2
    middle, per_cell = np.float32(centre), np.float32(1 / cell**2)

    def loop(image: Any, result: Any) -> None:
        # image [C, H, W] with H and W multiples of the cell; result [maps, H / cell, W / cell]
        height, width = image.shape[1:]
        sums = np.empty((maps, width), np.float32)
        valid = np.empty((2, width + 1), np.float32)  # of a row and the next one
        light = np.empty((2, width + 1), np.float32)
        for r in range(height + 1):
            now, after = (r + 1) % 2, r % 2  # row r - 1 is finished with what row r tells
            _brightness(image, r, light[after], valid[after])
            if r == 0:
                continue
            if (r - 1) % cell == 0:
                sums[:] = 0
            for c in range(width):
                known, here = valid[now, c], light[now, c]
                right = abs(light[now, c + 1] - here) * valid[now, c + 1]
                below = abs(light[after, c] - here) * valid[after, c]
                sums[maps - 1, c] += known * (right + below)
                sums[0, c] += known
            place = 1 + 2 * bands
            for band in range(bands):
                one, mean, square = image[band, r - 1], sums[1 + band], sums[1 + bands + band]
                for c in range(width):
                    value = (one[c] - middle) * valid[now, c]
                    mean[c] += value
                    square[c] += value * value
                for second in range(band + 1, bands):
                    other, product = image[second, r - 1], sums[place]
                    for c in range(width):
                        known = valid[now, c]
                        product[c] += (one[c] - middle) * (other[c] - middle) * known
                    place += 1
            if r % cell == 0:
                for number in range(maps):
                    for j in range(width // cell):
                        total = sums[number, j * cell : (j + 1) * cell].sum()
                        result[number, r // cell - 1, j] = total * per_cell

    return compiled(loop, any_order=True)
