"""Repeat valid pixels into holes, as the pixels at the edge of a file are repeated beyond it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Where the neighbours of a pixel are: those beside it, and those at its corners.
_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def repeat_edges(values: Values, mask: Mask, pixels: int) -> tuple[Values, Mask]:
    """Repeat valid pixels into invalid ones near them.

    An invalid pixel gets the mean of the valid ones beside it, else of those at its corners. At a
    straight edge that is the last pixel of a row.

    Args:
        values: [C, H, W]; not changed.
        mask: [H, W]; not changed.
        pixels: how far.
    """
    for _ in range(pixels):
        if mask.all() or not mask.any():
            break
        values, mask = _grown(values, mask)
    return values, mask


def _grown(values: Values, mask: Mask) -> tuple[Values, Mask]:
    height, width = mask.shape
    known = np.pad(mask, 1)
    padded = np.pad(np.where(mask, values, np.float32(0.0)), ((0, 0), (1, 1), (1, 1)))
    made, valid = values.copy(), mask.copy()
    for neighbours in (_BESIDE, _CORNERS):
        at = [
            (slice(1 + down, 1 + down + height), slice(1 + across, 1 + across + width))
            for down, across in neighbours
        ]
        count = np.sum([known[own] for own in at], axis=0)
        new = ~valid & (count > 0)
        total = np.sum([padded[:, *own][:, new] for own in at], axis=0, dtype=np.float32)
        made[:, new] = total / count[new].astype(np.float32)
        valid |= new
    return made, valid
