"""Read windows that overlap, and each block of the file about once.

The windows of a tile plan overlap by their halos, and a file is stored in blocks (tiles or strips)
that fit neither. So whole blocks are read, kept as they are stored (uint8 is a quarter of float32)
and dropped after the last window that looks at them. What stays is the halo between two rows of
tiles; of a file in strips, which are as wide as the scene, the strips of one row of tiles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from crossband.raster.gdal import gdal_options
from crossband.raster.grid import Box, Window
from crossband.raster.scene import Scene

#: Bytes of decoded pixels that may be kept for the next row of tiles. Where a scene in tiles is
#: wider, it is worked on in groups of columns, and the blocks between two groups are read twice.
BUDGET = 128 * 2**20
#: Least sides of what is read at once: a strip of one row is not worth a call.
LEAST_ROWS, LEAST_COLS = 64, 512


@dataclass
class ReadStats:
    """How much was read.

    Attributes:
        blocks: blocks of the file.
        block_reads: blocks decoded, those that were decoded again included.
        pixels: source pixels decoded, of one band.
        seen: source pixels of all windows, halos included.
        seconds: time spent reading and converting.
    """

    blocks: int = 0
    block_reads: int = 0
    pixels: int = 0
    seen: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ChunkShape:
    """How a scene is cut into what is read at once: whole blocks, where they are not too large.

    Attributes:
        rows: rows of a piece, a multiple of the block's.
        cols: columns of a piece.
        row_bytes: bytes of one decoded row of the scene.
    """

    rows: int
    cols: int
    row_bytes: int

    @classmethod
    def of(cls, scene: Scene) -> ChunkShape:
        """Return the pieces of a scene."""
        height, width = scene.block
        pixel = np.dtype(scene.dtype).itemsize * len(scene.numbers) + 1
        rows = height * max(LEAST_ROWS // height, 1)
        cols = min(width * max(LEAST_COLS // width, 1), scene.grid.width)
        if rows * cols * pixel > BUDGET // 2:  # as in a scene that is one block
            rows, cols = LEAST_COLS, cols if width == scene.grid.width else LEAST_COLS
        return cls(rows, cols, scene.grid.width * pixel)

    def columns(self, scene: Scene, halo: int) -> int:
        """Return how many columns of a scene can be worked on side by side within the budget."""
        if self.cols >= scene.grid.width:
            return scene.grid.width
        kept = self.row_bytes * (self.rows + 2 * halo)
        return max(scene.grid.width * BUDGET // kept, 1)


class BlockReader:
    """Reads the windows of a scene in a known order.

    Args:
        scene: read by one thread only.
        reads: is counted up.
    """

    def __init__(self, scene: Scene, reads: ReadStats) -> None:
        self._scene, self._reads = scene, reads
        self._blocks = ChunkShape.of(scene)
        height, width = scene.block
        self._block = (height, width)
        grid = scene.grid
        reads.blocks = -(-grid.height // height) * -(-grid.width // width)

    def windows(self, boxes: Sequence[Box]) -> Iterator[Window]:
        """Yield the windows of one group of columns, in order, in physical units."""
        last = {piece: i for i, box in enumerate(boxes) for piece in self._pieces(box)}
        kept: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.bool_]]] = {}
        self._reads.seen += sum(b.height * b.width for b in boxes)
        for i, box in enumerate(boxes):
            start = time.perf_counter()
            pieces = self._pieces(box)
            for piece in pieces:
                if piece not in kept:
                    kept[piece] = self._read(piece)
            window = self._assemble(box, kept)
            for piece in pieces:
                if last[piece] == i:
                    del kept[piece]
            self._reads.seconds += time.perf_counter() - start
            yield window

    def _pieces(self, box: Box) -> list[tuple[int, int]]:
        rows, cols = self._blocks.rows, self._blocks.cols
        return [
            (r, c)
            for r in range(box.row // rows, -(-(box.row + box.height) // rows))
            for c in range(box.col // cols, -(-(box.col + box.width) // cols))
        ]

    def _box(self, piece: tuple[int, int]) -> Box:
        rows, cols = self._blocks.rows, self._blocks.cols
        whole = self._scene.grid.box
        row, col = piece[0] * rows, piece[1] * cols
        return Box(row, col, min(rows, whole.height - row), min(cols, whole.width - col))

    def _read(self, piece: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        box = self._box(piece)
        height, width = self._block
        down = -(-(box.row + box.height) // height) - box.row // height
        across = -(-(box.col + box.width) // width) - box.col // width
        self._reads.block_reads += down * across
        self._reads.pixels += box.height * box.width
        # GDAL's cache is bounded only inside: outside it takes a twentieth of the memory.
        with rasterio.Env(**gdal_options()):
            return self._scene.stored(box)

    def _assemble(
        self, box: Box, kept: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.bool_]]]
    ) -> Window:
        bands = len(self._scene.numbers)
        stored: NDArray[Any] | None = None
        mask = np.empty((box.height, box.width), bool)
        for piece in self._pieces(box):
            numbers, known = kept[piece]
            if stored is None:
                stored = np.empty((bands, box.height, box.width), numbers.dtype)
            at = self._box(piece)
            part = box.intersection(at)
            here, there = part.relative_to(box).slices(), part.relative_to(at).slices()
            stored[:, *here] = numbers[:, *there]
            mask[here] = known[there]
        assert stored is not None  # a box has pixels, so it has pieces
        return self._scene.physical(stored, mask, box)
