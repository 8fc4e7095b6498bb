"""The tile plan: which windows to read, and which part of each result to keep.

With a finite margin the plan is exact: a kept pixel sees the same source pixels, at the same phase
of the stride, as it would in the whole scene. For networks without a finite margin see `blend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from crossband.raster.grid import Box


@dataclass(frozen=True)
class Tile:
    """A window that the network sees, and the part of it that is kept.

    Attributes:
        source: core and halo, clipped to the scene, in source pixels.
        core: the kept part, in source pixels.
    """

    source: Box
    core: Box


def halo(margin: int, stride: int) -> int:
    """Return the margin rounded up to the stride, so that tile origins stay on it.

    >>> halo(29, 4)
    32
    """
    return -(-margin // stride) * stride


def core_size(tile: int, margin: int, stride: int) -> int:
    """Return the side of a tile's core: a multiple of the stride, at least one stride."""
    return max((tile - 2 * halo(margin, stride)) // stride, 1) * stride


def plan_tiles(
    height: int,
    width: int,
    tile: int,
    margin: int,
    stride: int,
    part: Box | None = None,
    rows: int = 1,
    around: Box | None = None,
) -> Iterator[Tile]:
    """Cover a scene with tiles, row by row.

    The cores are of nearly equal size: so tiles that are computed at the same time end together.

    Args:
        height: rows of the scene, in source pixels.
        width: columns of the scene.
        tile: side of the window that the network sees, halo included. It is enlarged where the halo
            alone would fill it.
        margin: the network's margin in source pixels.
        stride: the network's stride.
        part: of the scene that is covered; by default all of it.
        rows: rows of tiles, at least.
        around: the pixels that can be read, where the scene is a part of a larger one. Its tiles
            are at the same phase of the stride as those of the larger one.

    Yields:
        Tiles whose cores cover each pixel of the part exactly once.
    """
    reach, step = halo(margin, stride), core_size(tile, margin, stride)
    part = part or Box(0, 0, height, width)
    whole = around or Box(0, 0, height, width)
    top = part.row - (part.row - whole.row) % stride
    left = part.col - (part.col - whole.col) % stride
    bottom, end = part.row + part.height, part.col + part.width
    down = _even_step(bottom - top, max(rows, -(-(bottom - top) // step)), stride)
    right = _even_step(end - left, -(-(end - left) // step), stride)
    for row in range(top, bottom, down):
        for col in range(left, end, right):
            cells = Box(row, col, min(down, bottom - row), min(right, end - col))
            yield Tile(cells.expanded(reach, whole), cells.intersection(part))


def _even_step(length: int, count: int, stride: int) -> int:
    """Return the least multiple of the stride of which `count` cover a length."""
    return -(-length // (count * stride)) * stride


@dataclass(frozen=True)
class TileBatch:
    """Tiles of one shape that go through the network together; the unit of the journal.

    The last bit of a convolution depends on the batch. So the batches depend on the plan alone, and
    not on what was computed before: a resumed run gives the same pixels.

    Attributes:
        number: place of the batch in the plan.
        tiles: of one shape.
    """

    number: int
    tiles: tuple[Tile, ...]


def batch_tiles(tiles: Iterable[Tile], batch: int) -> Iterator[TileBatch]:
    """Group neighbouring tiles of one shape into batches.

    >>> tiles = plan_tiles(10, 25, 10, 0, 1)
    >>> [len(batch.tiles) for batch in batch_tiles(tiles, 4)]
    [2, 1]

    Args:
        tiles: row by row.
        batch: tiles of a batch, at most.
    """
    number = 0
    for _, run in groupby(tiles, lambda t: (t.source.height, t.source.width, t.source.row)):
        members = list(run)
        for first in range(0, len(members), batch):
            yield TileBatch(number, tuple(members[first : first + batch]))
            number += 1


def column_groups(tiles: Iterable[Tile], columns: int) -> list[list[Tile]]:
    """Split a plan into groups of about `columns` pixels in width, each from top to bottom."""
    groups: dict[int, list[Tile]] = {}
    for tile in tiles:
        groups.setdefault(tile.core.col // columns, []).append(tile)
    return [groups[key] for key in sorted(groups)]
