"""Agreement of the structure of two images, independent of their levels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Agreement:
    """Correlation of the differences between neighbouring pixels, summed over windows.

    A shift of the level or a gain does not change it.

    Attributes:
        count: pixels that are valid in both.
    """

    def __init__(self) -> None:
        self.count, self._sums = 0, np.zeros(3)

    def add(self, one: Array, other: Array, mask: NDArray[np.bool_]) -> None:
        """Add a window of both images [C, H, W], where they are valid [H, W]."""
        self.count += int(mask.sum())
        self._sums += _products(one, other, mask)

    @property
    def correlation(self) -> float:
        """The correlation; NaN where there are too few pixels beside each other."""
        xy, xx, yy = self._sums
        return float(xy / math.sqrt(xx * yy)) if xx > 0 and yy > 0 else math.nan


def _products(one: Array, other: Array, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the sums of x y, x x and y y over differences of neighbours x and y in all bands."""
    sums = np.zeros(3)
    for axis in (0, 1):
        both = np.logical_and(*_beside(mask, axis))
        x, y = (
            (np.subtract(*_beside(values, axis + 1))[:, both]).astype(np.float64)
            for values in (one, other)
        )
        sums += [np.vdot(x, y), np.vdot(x, x), np.vdot(y, y)]
    return sums


def _beside(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all but the first and all but the last along an axis."""
    moved = np.moveaxis(values, axis, 0)
    return np.moveaxis(moved[1:], 0, axis), np.moveaxis(moved[:-1], 0, axis)
