"""Read overlapping windows of a scene, and decode each block of its file about once.

The windows of tiles overlap by their halos, and the blocks of a file (tiles or strips) are not
aligned with them. So chunks of whole blocks are read, kept as stored numbers (uint8 needs a quarter
of the memory of float32), and dropped after the last window that needs them. What is kept is the
halo between two rows of tiles, or, in a file in strips, the strips of one row of tiles.
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

#: Bytes of decoded pixels that may be kept for the next row of tiles. A wider scene is processed in
#: groups of columns, and the blocks between two groups are decoded twice.
BUDGET = 128 * 2**20
#: Least rows and columns of a chunk: reading strips of one row each would be slow.
LEAST_ROWS, LEAST_COLS = 64, 512


@dataclass
class ReadStats:
    """Counters of what was read.

    Attributes:
        blocks: blocks in the file.
        block_reads: decoded blocks; a block that is decoded twice counts twice.
        pixels: decoded source pixels, of one band.
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
    """The shape of the chunks that a scene is read in: whole blocks, unless they are too large.

    Attributes:
        rows: rows of a chunk, a multiple of a block's.
        cols: columns of a chunk.
        row_bytes: bytes of one decoded row of the scene.
    """

    rows: int
    cols: int
    row_bytes: int

    @classmethod
    def of(cls, scene: Scene) -> ChunkShape:
        """Return the shape of the chunks of a scene."""
        height, width = scene.block
        pixel = np.dtype(scene.dtype).itemsize * len(scene.numbers) + 1
        rows = height * max(LEAST_ROWS // height, 1)
        cols = min(width * max(LEAST_COLS // width, 1), scene.grid.width)
        if rows * cols * pixel > BUDGET // 2:  # for example a scene that is one block
            rows, cols = LEAST_COLS, cols if width == scene.grid.width else LEAST_COLS
        return cls(rows, cols, scene.grid.width * pixel)

    def columns(self, scene: Scene, halo: int) -> int:
        """Return how many columns of a scene fit the budget at once, with a halo in rows."""
        if self.cols >= scene.grid.width:
            return scene.grid.width
        kept = self.row_bytes * (self.rows + 2 * halo)
        return max(scene.grid.width * BUDGET // kept, 1)


class BlockReader:
    """Reads the windows of a scene in a known order.

    Args:
        scene: used by one thread only.
        reads: counters, which are increased.
    """

    def __init__(self, scene: Scene, reads: ReadStats) -> None:
        self._scene, self._reads = scene, reads
        self._blocks = ChunkShape.of(scene)
        height, width = scene.block
        self._block = (height, width)
        grid = scene.grid
        reads.blocks = -(-grid.height // height) * -(-grid.width // width)

    def windows(self, boxes: Sequence[Box]) -> Iterator[Window]:
        """Yield the windows of one group of columns in physical units, in the given order."""
        last = {chunk: i for i, box in enumerate(boxes) for chunk in self._chunks(box)}
        kept: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.bool_]]] = {}
        self._reads.seen += sum(b.height * b.width for b in boxes)
        for i, box in enumerate(boxes):
            start = time.perf_counter()
            chunks = self._chunks(box)
            for chunk in chunks:
                if chunk not in kept:
                    kept[chunk] = self._read(chunk)
            window = self._assemble(box, kept)
            for chunk in chunks:
                if last[chunk] == i:
                    del kept[chunk]
            self._reads.seconds += time.perf_counter() - start
            yield window

    def _chunks(self, box: Box) -> list[tuple[int, int]]:
        rows, cols = self._blocks.rows, self._blocks.cols
        return [
            (r, c)
            for r in range(box.row // rows, -(-(box.row + box.height) // rows))
            for c in range(box.col // cols, -(-(box.col + box.width) // cols))
        ]

    def _box(self, chunk: tuple[int, int]) -> Box:
        rows, cols = self._blocks.rows, self._blocks.cols
        box = Box(chunk[0] * rows, chunk[1] * cols, rows, cols)
        return box.intersection(self._scene.around)

    def _read(self, chunk: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        box = self._box(chunk)
        height, width = self._block
        down = -(-(box.row + box.height) // height) - box.row // height
        across = -(-(box.col + box.width) // width) - box.col // width
        self._reads.block_reads += down * across
        self._reads.pixels += box.height * box.width
        # Without these options GDAL's cache takes up to a twentieth of the memory.
        with rasterio.Env(**gdal_options()):
            return self._scene.stored(box)

    def _assemble(
        self, box: Box, kept: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.bool_]]]
    ) -> Window:
        bands = len(self._scene.numbers)
        stored: NDArray[Any] | None = None
        mask = np.empty((box.height, box.width), bool)
        for chunk in self._chunks(box):
            numbers, known = kept[chunk]
            if stored is None:
                stored = np.empty((bands, box.height, box.width), numbers.dtype)
            at = self._box(chunk)
            part = box.intersection(at)
            here, there = part.relative_to(box).slices(), part.relative_to(at).slices()
            stored[:, *here] = numbers[:, *there]
            mask[here] = known[there]
        assert stored is not None  # a box has pixels, so it has chunks
        return self._scene.physical(stored, mask, box)
