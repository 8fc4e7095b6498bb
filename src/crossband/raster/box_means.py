"""Means of an image over the larger pixels of any other grid.

They are the same to the last bit in whatever window they are computed. Where the axes of the grids
agree, `separable` gives the same numbers, and is faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossband.errors import InputError
from crossband.raster.grid import Grid
from crossband.raster.places import places, row_parts

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Parts of one in the fixed point numbers of sums, and the largest physical value.
_UNITS, _LARGEST = 2**32, 2.0**15


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
        InputError: the CRS of one grid cannot be transformed into that of the other; or the values
            are too large to be averaged over so many pixels.
    """
    from crossband.raster.loops import box_sums, summed  # Numba takes a while

    made = np.full((len(values), to.height, to.width), np.nan, np.float32)
    share = np.zeros((to.height, to.width), np.float32)
    values = np.where(mask, values, np.float32(0.0))
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise InputError(f"values up to {largest:.4g} cannot be averaged: is a scale missing?")
    one_more = mask.shape[0] + 1, mask.shape[1] + 1
    table = np.empty((len(values), *one_more), np.int64)
    summed(values, float(_UNITS), table)
    valid = np.empty((0, 0, 0) if mask.all() else (1, *one_more), np.int64)
    if len(valid):
        summed(mask[None].astype(np.float32), 1.0, valid)  # faster than truth values
    sides = np.array(mask.shape, dtype=float)[:, None]
    for part in row_parts(to):
        corners = np.stack(places(to.crop(part), of, corners=True))  # rows, columns
        four = [corners[:, i : i + part.height, j : j + part.width] for i in (0, 1) for j in (0, 1)]
        low, high = np.minimum.reduce(four), np.maximum.reduce(four)
        met = ((low < sides[..., None]) & (high > 0) & np.isfinite(high - low)).all(axis=0)
        low, high = low[:, met], high[:, met]
        whole = np.prod(high - low, axis=0)
        low, high = low.clip(0, sides), high.clip(0, sides)  # nothing is known beyond the edge
        most = largest * float(np.prod(high - low + 2, axis=0).max(initial=0.0))
        if most * _UNITS >= 2.0**63:
            raise InputError(
                f"values up to {largest:.4g} cannot be averaged over pixels that are so many "
                f"times larger: is a scale missing?"
            )
        sums, area = np.empty((len(values), len(whole))), np.empty(len(whole))
        box_sums(table, valid, low, high, sums, area)
        at = part.slices()
        with np.errstate(divide="ignore", invalid="ignore"):
            made[:, *at][:, met] = sums / _UNITS / area
        share[at][met] = area / np.maximum(whole, 1e-9)
    return made, share
