"""Bilinear interpolation of a raster onto pixels that are as fine or finer, along both axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Share of a pixel within which two places are one: coordinates are rounded.
SLACK = 1e-3


@dataclass(frozen=True)
class Axis:
    """Where pixels lie between the centres of two pixels of the raster that is interpolated.

    Attributes:
        low: index of the pixel before.
        high: index of the pixel behind; the same one at an edge.
        share: how far it is from the one before to the one behind, 0..1.
        inside: which lie within the raster. Beyond its outermost centres the raster goes on as it
            ends, for half a pixel.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: NDArray[np.float32]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, first: int, count: int, step: float, start: float, size: int) -> Axis:
        """Place pixels.

        Args:
            first: index of the first pixel that is wanted.
            count: how many are wanted.
            step: pixels of the raster from one to the next.
            start: where in the raster, from its edge, the edge of pixel 0 lies.
            size: how many pixels the raster has.
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
        """First pixel that is looked at, and how many there are from it to the last."""
        first, last = int(self.low.min()), int(self.high.max())
        return first, last - first + 1


def blend(values: NDArray[np.floating], rows: Axis, cols: Axis) -> NDArray[np.floating]:
    """Interpolate [h, w], which begins at the first pixel of both spans, to [H, W]."""
    top, left = rows.span[0], cols.span[0]
    down, across = rows.share[:, None], cols.share[None]
    lines = values[rows.low - top] * (1 - down) + values[rows.high - top] * down
    out: NDArray[np.floating] = lines[:, cols.low - left] * (1 - across)
    out += lines[:, cols.high - left] * across
    return out


def resample(
    numbers: NDArray[np.generic], valid: NDArray[np.bool_], rows: Axis, cols: Axis
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Interpolate stored numbers of one band.

    Args:
        numbers: [h, w], from the first pixel of both spans.
        valid: [h, w].
        rows: where the pixels lie.
        cols: where the pixels lie.

    Returns:
        Numbers [H, W] of the same type, integers rounded, and which are valid: those within the
        raster all of whose neighbours are, as far as they have a weight.
    """
    kind = numbers.dtype
    # float32 holds every number of two bytes.
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
