"""Blend overlapping tiles of networks that see the whole image.

With instance norm, attention or pooling, two tiles give different outputs for one pixel, and no
halo prevents that. So the outputs are blended: over the ramp between two tiles the weight of the
second rises from 0 to 1 along half a period of a cosine, whose slope is 0 at both ends. At most two
tiles meet along an axis, and the blend is computed as `a + weight * (b - a)`. So the weights
sum to 1 in every pixel, and equal outputs stay as they are to the last bit.

The order of the sums is fixed by the positions of the tiles. A tile's own part depends on its left
and upper neighbours only. So the ramps of one row of tiles are kept in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.errors import CrossbandError
from crossband.raster.grid import Box
from crossband.translate.tiles import Tile, TileBatch


def default_overlap(tile: int, stride: int) -> int:
    """Return the default overlap: an eighth of the tile, rounded down to the stride.

    At this overlap 31% of the pixels are computed twice. A jump of d between two tiles becomes a
    slope of at most pi / 2 * d / overlap per pixel: 1.4% of the jump at a tile of 896.
    """
    return tile // 8 // stride * stride


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in source pixels.

    Attributes:
        start: first pixel that the network sees, on the stride.
        stop: one past the last.
        first: first pixel of the tile's own part, where the ramp from its predecessor begins.
        last: one past the last pixel of the own part, where the ramp to its successor begins.
        fade_in: length of the ramp from `first` on; 0 for the first tile.
        fade_out: length of the ramp from `last` on; 0 for the last tile.
    """

    start: int
    stop: int
    first: int
    last: int
    fade_in: int
    fade_out: int


def spans(length: int, tile: int, overlap: int, stride: int) -> list[Span]:
    """Cover an axis with evenly spaced tiles of one size whose origins lie on the stride.

    Args:
        length: pixels of the scene along the axis.
        tile: side of a tile. A scene that is not longer is one tile.
        overlap: least pixels that two neighbours share, at most a quarter of the tile.
        stride: the network's stride.

    Returns:
        Spans whose own parts cover each pixel once. Two neighbours share `overlap` pixels or more,
        and their ramp is the middle `overlap` of these.
    """
    tile = max(tile // stride, 1) * stride
    if length <= tile:
        return [Span(0, length, 0, length, 0, 0)]
    steps = -(-(length - tile) // stride)  # from the first origin to the last, in strides
    count = -(-steps // max((tile - overlap) // stride, 1)) + 1
    starts = [i * steps // (count - 1) * stride for i in range(count)]
    stops = [min(start + tile, length) for start in starts]
    shared = [0, *(stops[i] - starts[i + 1] for i in range(count - 1))]
    fades = [min(overlap, s) for s in shared] + [0]
    firsts = [start + (shared[i] - fades[i]) // 2 for i, start in enumerate(starts)] + [length]
    return [
        Span(starts[i], stops[i], firsts[i], firsts[i + 1], fades[i], fades[i + 1])
        for i in range(count)
    ]


@dataclass(frozen=True)
class BlendedTile(Tile):
    """A tile that is blended with its neighbours.

    Attributes:
        row: of the tile in the plan.
        col: of the tile in the plan.
        down: its extent along the rows.
        across: its extent along the columns.
    """

    row: int
    col: int
    down: Span
    across: Span


def check_overlap(overlap: int, tile: int) -> None:
    """Raise CrossbandError for an overlap where more than two tiles would meet."""
    if not 0 <= overlap <= tile // 4:
        raise CrossbandError(
            f"--overlap {overlap}: must be 0 to a quarter of the tile, {tile // 4} of {tile}"
        )


def blended_plan(
    height: int, width: int, tile: int, overlap: int, stride: int
) -> Iterator[BlendedTile]:
    """Cover a scene with overlapping tiles, row by row; see `spans` for the arguments.

    Yields:
        Tiles whose cores (their own parts) cover each pixel exactly once.
    """
    columns = spans(width, tile, overlap, stride)
    for row, down in enumerate(spans(height, tile, overlap, stride)):
        for col, across in enumerate(columns):
            source = Box(down.start, across.start, down.stop - down.start, 0)
            core = Box(down.first, across.first, down.last - down.first, 0)
            yield BlendedTile(
                Box(source.row, source.col, source.height, across.stop - across.start),
                Box(core.row, core.col, core.height, across.last - across.first),
                row,
                col,
                down,
                across,
            )


def ramp(length: int) -> NDArray[np.float32]:
    """Return the weights of the second of two tiles: half a period of a cosine, 0 to 1.

    >>> [round(float(weight), 3) for weight in ramp(4)]
    [0.038, 0.309, 0.691, 0.962]
    """
    at = (np.arange(length) + 0.5) / max(length, 1)
    return (0.5 - 0.5 * np.cos(np.pi * at)).astype(np.float32)


class Blender:
    """Blends the outputs of overlapping tiles, in the order of the plan.

    Args:
        scale: output pixels per source pixel along one side.
    """

    def __init__(self, scale: int = 1) -> None:
        self._scale = scale
        self._right: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._below: dict[tuple[int, int], NDArray[np.float32]] = {}

    def __call__(self, tile: BlendedTile, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the finished core of a tile, [C, h * scale, w * scale].

        Its left, upper and upper left neighbours must have been blended before. Otherwise the core
        is wrong where they overlap, and only what is kept for the tile's successors is right.

        Args:
            tile: its extent and position.
            output: of the network for the whole tile, [C, H * scale, W * scale].
        """
        s, at = self._scale, (tile.row, tile.col)
        down, across = tile.down, tile.across
        top, left = (down.first - down.start) * s, (across.first - across.start) * s
        height, width = tile.core.height * s, tile.core.width * s
        strip = output[:, top : top + height + down.fade_out * s]
        if across.fade_out:
            right = strip[:, :, left + width : left + width + across.fade_out * s]
            self._right[at] = right.copy()
        strip = strip[:, :, left : left + width].copy()
        before = self._right.pop((tile.row, tile.col - 1), None)
        if before is not None:
            _mix(before, strip[:, :, : before.shape[2]], ramp(before.shape[2]))
        if down.fade_out:
            self._below[at] = strip[:, height:].copy()
        above = self._below.pop((tile.row - 1, tile.col), None)
        if above is not None:
            _mix(above, strip[:, : above.shape[1]], ramp(above.shape[1])[:, None])
        return strip[:, :height]


def _mix(one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
    """Write (1 - weight) one + weight other into `other`."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is masked later
        other -= one
        other *= weight
        other += one


def needed_batches(batches: list[TileBatch], missing: Collection[int]) -> set[int]:
    """Return the numbers of the missing batches, and of those that they are blended with."""
    place = {
        (tile.row, tile.col): batch.number
        for batch in batches
        for tile in batch.tiles
        if isinstance(tile, BlendedTile)
    }
    needed = set(missing)
    for (row, col), number in place.items():
        if number in missing:
            around = ((row, col - 1), (row - 1, col), (row - 1, col - 1))
            needed |= {place[p] for p in around if p in place}
    return needed
