"""The tile plan: which windows to read, and which part of each result to keep.

With a finite margin the plan is exact: a kept pixel sees the same source pixels at the same phase
of the stride as it would in the whole scene, so tiled equals whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crossband.raster.grid import Box


@dataclass(frozen=True)
class Tile:
    """Read `source` (core and halo, clipped to the scene), keep `core`; both in source pixels."""

    source: Box
    core: Box


def halo(margin: int, stride: int) -> int:
    """Return the margin rounded up to the stride, so that tile origins stay on it.

    >>> halo(29, 4)
    32
    """
    return -(-margin // stride) * stride


def core_size(tile: int, margin: int, stride: int) -> int:
    """Return the side of the part that is kept of a tile of `tile` pixels, on the stride, > 0."""
    return max((tile - 2 * halo(margin, stride)) // stride, 1) * stride


def plan(height: int, width: int, tile: int, margin: int, stride: int) -> Iterator[Tile]:
    """Cover a scene with tiles, row by row.

    Args:
        height: rows of the scene, in source pixels.
        width: columns of the scene.
        tile: side of the window that the network sees, halo included; grows where the halo alone
            would fill it.
        margin: the network's margin in source pixels.
        stride: the network's stride.

    Yields:
        Tiles whose cores cover each pixel of the scene exactly once.
    """
    reach, step = halo(margin, stride), core_size(tile, margin, stride)
    for row in range(0, height, step):
        for col in range(0, width, step):
            core = Box(row, col, min(step, height - row), min(step, width - col))
            top, left = max(row - reach, 0), max(col - reach, 0)
            bottom = min(core.row + core.height + reach, height)
            right = min(core.col + core.width + reach, width)
            yield Tile(Box(top, left, bottom - top, right - left), core)


def overhead(height: int, width: int, tile: int, margin: int, stride: int) -> float:
    """Return source pixels computed per pixel kept, minus one: the cost of the halo.

    >>> round(overhead(8192, 8192, 1024, 32, 4), 3)
    0.129
    """
    computed = sum(
        t.source.height * t.source.width for t in plan(height, width, tile, margin, stride)
    )
    return computed / (height * width) - 1.0
