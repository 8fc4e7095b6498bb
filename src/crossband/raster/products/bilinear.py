"""Bilinear interpolation of a masked raster onto pixels of equal or smaller size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Tolerance of positions in pixels, for rounded coordinates.
SLACK = 1e-3


@dataclass(frozen=True)
class AxisWeights:
    """Interpolation weights of output pixels along one axis of a raster.

    Attributes:
        low: index of the input pixel before each output pixel.
        high: index of the input pixel after it; the same one at an edge.
        share: weight of the pixel after it, 0..1.
        inside: which output pixels lie inside the raster. From the outermost pixel centres to the
            edge, half a pixel, the outermost values continue.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: NDArray[np.float32]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, first: int, count: int, step: float, start: float, size: int) -> AxisWeights:
        """Compute the weights.

        Args:
            first: index of the first output pixel.
            count: number of output pixels.
            step: size of an output pixel, in input pixels.
            start: position of the edge of output pixel 0, in input pixels from the raster's edge.
            size: number of input pixels.
        """
        at = step * (first + np.arange(count) + 0.5) + start - 0.5
        whole = np.rint(at)
        at = np.where(np.abs(at - whole) < SLACK, whole, at)
        inside = (at >= -0.5 - SLACK) & (at <= size - 0.5 + SLACK)
        at = np.clip(at, 0, size - 1)
        low = np.floor(at).astype(np.intp)
        high = np.minimum(low + 1, size - 1)
        return cls(low, high, (at - low).astype(np.float32), inside)

    @property
    def span(self) -> tuple[int, int]:
        """First input pixel that is needed, and the number of pixels from it to the last one."""
        first, last = int(self.low.min()), int(self.high.max())
        return first, last - first + 1


def blend(
    values: NDArray[np.floating], rows: AxisWeights, cols: AxisWeights
) -> NDArray[np.floating]:
    """Interpolate [h, w], which begins at the first pixels of both spans, to [H, W]."""
    top, left = rows.span[0], cols.span[0]
    down, across = rows.share[:, None], cols.share[None]
    lines = values[rows.low - top] * (1 - down) + values[rows.high - top] * down
    out: NDArray[np.floating] = lines[:, cols.low - left] * (1 - across)
    out += lines[:, cols.high - left] * across
    return out


def resample(
    numbers: NDArray[np.generic], valid: NDArray[np.bool_], rows: AxisWeights, cols: AxisWeights
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Interpolate stored numbers of one band.

    Args:
        numbers: [h, w], from the first pixels of both spans.
        valid: bool [h, w].
        rows: weights of the output rows.
        cols: weights of the output columns.

    Returns:
        Numbers [H, W] of the same type, integers rounded, and a mask [H, W]: a pixel is valid if it
        lies inside the raster and all input pixels with a weight above 0 are valid.
    """
    kind = numbers.dtype
    # float32 represents every number of two bytes.
    exact = np.float32 if kind.itemsize <= 2 or kind == np.float32 else np.float64
    clean: NDArray[np.floating] = numbers.astype(exact)
    clean[~valid] = 0
    out: NDArray[np.generic] = blend(clean, rows, cols)
    if kind.kind in "iu":
        out = np.rint(out)
    known = rows.inside[:, None] & cols.inside[None]
    if not valid.all():
        known = known & (blend((~valid).astype(np.float32), rows, cols) == 0)
    return out.astype(kind, copy=False), known
