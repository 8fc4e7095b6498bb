"""Means of an image over the larger pixels of any other grid.

They are the same to the last bit in whatever window they are computed: places are multiples of a
small part of a pixel, and a pixel adds up its own. Where the axes of the grids agree, `separable`
gives the same numbers, and is faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossband.raster.grid import Box, Grid
from crossband.raster.places import make_parts, places

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Coarse pixels that are averaged at a time, about.
_PART = 2**16


def average(values: Values, mask: Mask, of: Grid, to: Grid) -> tuple[Values, Values]:
    """Return the mean of the valid pixels of an image over the pixels of a coarser grid.

    If one grid is rotated against the other, it is the mean over the upright rectangle around a
    coarse pixel.

    Args:
        values: [C, H, W].
        mask: [H, W].
        of: the grid of the image.
        to: the grid of the result.

    Returns:
        Means [C, h, w], NaN where nothing is valid; and the share of the valid area [h, w].

    Raises:
        InputError: the CRS of one grid cannot be transformed into that of the other.
    """
    from crossband.raster.loops import box_sums  # Numba takes a while

    made = np.full((len(values), to.height, to.width), np.nan, np.float32)
    share = np.zeros((to.height, to.width), np.float32)
    sides = np.array(mask.shape, dtype=float)[:, None]

    def make(part: Box) -> None:
        corners = np.stack(places(to.crop(part), of, corners=True))  # rows, columns
        four = [corners[:, i : i + part.height, j : j + part.width] for i in (0, 1) for j in (0, 1)]
        low, high = np.minimum.reduce(four), np.maximum.reduce(four)
        met = ((low < sides[..., None]) & (high > 0) & np.isfinite(high - low)).all(axis=0)
        low, high = low[:, met], high[:, met]
        whole = np.prod(high - low, axis=0)
        low, high = low.clip(0, sides), high.clip(0, sides)  # nothing is known beyond the edge
        sums, area = np.empty((len(values), len(whole))), np.empty(len(whole))
        box_sums(values, mask, low, high, sums, area)
        at = part.slices()
        with np.errstate(divide="ignore", invalid="ignore"):
            made[:, *at][:, met] = sums / area
        share[at][met] = area / np.maximum(whole, 1e-9)

    make_parts(to, make, _PART)
    return made, share
