"""The tile plan: which windows to read, and which part of each result to keep.

With a finite margin the plan is exact: a kept pixel sees the same source pixels at the same phase
of the stride as it would in the whole scene, so tiled equals whole. Without one, see `blend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

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


@dataclass(frozen=True)
class Job:
    """Tiles of one shape that go through the network together; the unit of the journal.

    What is computed together does not depend on what was computed before, so that a run that is
    taken up again gives the same pixels: the last bit of a convolution depends on the batch.
    """

    number: int
    tiles: tuple[Tile, ...]


def jobs(tiles: Iterable[Tile], batch: int) -> Iterator[Job]:
    """Put `batch` neighbouring tiles of one shape into each job; order and content are fixed.

    >>> tiles = plan(10, 25, 10, 0, 1)
    >>> [len(job.tiles) for job in jobs(tiles, 4)]
    [2, 1]
    """
    number = 0
    for _, run in groupby(tiles, lambda t: (t.source.height, t.source.width, t.source.row)):
        members = list(run)
        for first in range(0, len(members), batch):
            yield Job(number, tuple(members[first : first + batch]))
            number += 1


def grouped(tiles: Iterable[Tile], columns: int) -> list[list[Tile]]:
    """Split a plan into groups of about `columns` pixels side by side, each from top to bottom."""
    groups: dict[int, list[Tile]] = {}
    for tile in tiles:
        groups.setdefault(tile.core.col // columns, []).append(tile)
    return [groups[key] for key in sorted(groups)]


def overhead(height: int, width: int, tile: int, margin: int, stride: int) -> float:
    """Return source pixels computed per pixel kept, minus one: the cost of the halo.

    >>> round(overhead(8192, 8192, 1024, 32, 4), 3)
    0.129
    """
    computed = sum(
        t.source.height * t.source.width for t in plan(height, width, tile, margin, stride)
    )
    return computed / (height * width) - 1.0
