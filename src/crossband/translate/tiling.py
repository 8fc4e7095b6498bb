"""Cut a scene into tiles for a model, and turn the network's outputs into finished pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossband.core.limits import Limit
from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.networks.base import Generator
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.scene import Scene
from crossband.translate.blend import (
    BlendedTile,
    Blender,
    blended_plan,
    check_overlap,
    default_overlap,
)
from crossband.translate.engine import Engine, PreparedBatch
from crossband.translate.options import TileOptions
from crossband.translate.tiles import (
    Tile,
    TileBatch,
    batch_tiles,
    column_groups,
    core_size,
    halo,
    plan_tiles,
)

#: Least side of the window that a network sees, halo included. Larger tiles waste less on the halo
#: and take more memory.
TILE = 896
#: Pixels computed per pixel kept, minus one, that the halo may cost in the middle of a scene.
HALO = 0.15
#: Largest side of a tile's output, in pixels of the result, so that memory suffices.
OUTPUT_SIDE = 2048
#: Rows from which a scene of a single tile is cut into two, which are computed at once.
SPLIT = 512
#: Tiles of a scene; the plan takes about 3 KiB of memory for each.
MAX_TILES = Limit("CROSSBAND_MAX_TILES", 1_000_000)
#: Pixels of a result that are turned into stored numbers at once.
_PIXELS_AT_ONCE = 2**18


def default_tile(network: Generator) -> int:
    """Return the default side of the window that a network sees.

    A network with a large margin gets larger windows, so that the halo costs no more than `HALO`,
    as far as `OUTPUT_SIDE` allows. A network that makes pixels finer gets smaller windows, as its
    outputs are larger, but not so small that the halo dominates. A network for whole pictures gets
    the largest windows.
    """
    if network.whole_pictures:
        return OUTPUT_SIDE // network.scale
    reach, stride = halo(network.margin or 0, network.stride), network.stride
    # Of a side t, t - 2 reach is kept: (t / (t - 2 reach))^2 <= 1 + HALO.
    enough = math.ceil(2 * reach / (1 - 1 / math.sqrt(1 + HALO)) / stride) * stride
    largest = max(OUTPUT_SIDE // network.scale, 8 * reach, 128)
    return min(max(TILE, min(enough, OUTPUT_SIDE)), largest)


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut into batches of tiles.

    Attributes:
        groups: batches of one group of columns each. Blocks of the file that are read for one batch
            are kept for its neighbours in the group.
        tile: side of the window that the network sees, in source pixels.
        exact: the tiled result equals that of the whole scene at once.
        overlap: source pixels over which tiles are blended; None where they are not.
    """

    groups: tuple[tuple[TileBatch, ...], ...]
    tile: int
    exact: bool
    overlap: int | None

    @property
    def batches(self) -> list[TileBatch]:
        """All batches, in order."""
        return [batch for group in self.groups for batch in group]

    @classmethod
    def of(
        cls,
        model: Model,
        grid: Grid,
        options: TileOptions = TileOptions(),
        columns: int | None = None,
        part: Box | None = None,
        around: Box | None = None,
    ) -> Self:
        """Cut a scene for a model.

        Args:
            model: whose network's margin, stride and scale decide.
            grid: the scene's.
            options: tile, batch, overlap and whole.
            columns: width of a group in source pixels; by default the scene's.
            part: of the scene that is cut, for a network with a finite margin; see `plan_tiles`.
            around: the pixels that can be read, likewise.

        Raises:
            CrossbandError: options that do not fit each other or the model.
        """
        network, batch = model.network, options.batch
        tile, overlap, whole = options.tile, options.overlap, options.whole
        if whole and (tile is not None or overlap is not None):
            raise CrossbandError("--whole: a scene in one piece has no --tile and no --overlap")
        if whole:
            fringe = 2 * halo(network.margin or 0, network.stride) + 2 * network.stride
            tile = max(grid.height, grid.width) + fringe
        tile = default_tile(network) if tile is None else tile
        if tile < 1:
            raise CrossbandError(f"--tile {tile}: must be at least 1")
        if batch < 1:
            raise CrossbandError(f"--batch {batch}: must be at least 1")
        if batch > 1 and network.located:
            raise CrossbandError(
                f"--batch {batch}: a network that takes the place is given one tile at a time"
            )
        tiles: list[Tile]
        if network.margin is not None:
            if overlap is not None:
                raise CrossbandError(
                    f"--overlap: {model.name} sees {network.margin} pixels far, so its tiles fit "
                    f"exactly; leave it out"
                )
            _check_count(part or grid.box, core_size(tile, network.margin, network.stride))
            rows = 1 if options.tile or whole else _least_rows(part or grid.box, network)
            plan = plan_tiles(
                grid.height, grid.width, tile, network.margin, network.stride, part, rows, around
            )
            groups, exact = column_groups(plan, columns or grid.width), True
        else:
            overlap = default_overlap(tile, network.stride) if overlap is None else overlap
            check_overlap(overlap, tile)
            _check_count(grid.box, max(tile - overlap, 1))
            tiles = list(blended_plan(grid.height, grid.width, tile, overlap, network.stride))
            # One group, row by row: the ramps of a row of tiles are needed for the next row.
            groups, exact = [tiles], len(tiles) == 1
        numbered: list[tuple[TileBatch, ...]] = []
        first = 0
        for group in groups:
            own = [TileBatch(first + b.number, b.tiles) for b in batch_tiles(group, batch)]
            numbered.append(tuple(own))
            first += len(own)
        return cls(tuple(numbered), tile, exact, None if exact else overlap)


def with_surroundings(scene: Scene, network: Generator) -> Box:
    """Return the pixels on which the results of a scene depend, as far as they can be read.

    They go beyond the grid where the scene is a part of a larger one, and begin at a multiple of
    the network's stride there: so its results are those of the larger one. Drawn numbers and places
    are those of the grid, and networks that take them see nothing beyond it.
    """
    box, around, stride = scene.grid.box, scene.around, network.stride
    if network.margin is None or network.conditioned:
        return box
    top, left = -(-around.row % stride), -(-around.col % stride)
    aligned = Box(top, left, box.height - top, box.width - left)
    return aligned.expanded(halo(network.margin, stride), around)


def _least_rows(box: Box, network: Generator) -> int:
    """Return 2 where two tiles at once are faster than one, in spite of the halo between them."""
    between = 2 * halo(network.margin or 0, network.stride)
    return 2 if network.parallel_tiles and box.height >= max(between / HALO, SPLIT) else 1


def _check_count(box: Box, step: int) -> None:
    """Raise CrossbandError for a scene of so many tiles that their plan takes the memory."""
    count = -(-box.height // step) * -(-box.width // step)
    if count > MAX_TILES.value:
        raise CrossbandError(
            f"{box.width} x {box.height} pixels are {count} tiles, and at most {MAX_TILES.value} "
            f"are planned: larger ones with --tile, or {MAX_TILES.variable}={count}"
        )


class Postprocessor:
    """Crops or blends the network's outputs and converts them to physical units.

    Args:
        engine: the model.
        tiling: how the scene is cut.
        wanted: numbers of the batches whose pixels are needed; by default all. Other batches are
            computed only because wanted ones are blended with them.
    """

    def __init__(self, engine: Engine, tiling: Tiling, wanted: set[int] | None = None) -> None:
        self._engine, self._wanted = engine, wanted
        self._scale = engine.model.network.scale
        self._blender = None if tiling.overlap is None else Blender(self._scale)

    def __call__(
        self, prepared: PreparedBatch, outputs: Tensor | None
    ) -> Iterator[tuple[Box, NDArray[np.float32], NDArray[np.bool_], Window]]:
        """Yield the finished pixels of a batch, a few rows at a time.

        Args:
            prepared: the batch.
            outputs: of the network for it, see `Engine.compute`; None where nothing was computed.

        Yields:
            Box on the target's grid, physical values [C, h, w], mask [h, w], source window.
        """
        wanted = self._wanted is None or prepared.batch.number in self._wanted
        for i, (tile, core) in enumerate(zip(prepared.batch.tiles, prepared.cores, strict=True)):
            normal = self._core(tile, None if outputs is None else outputs[i])
            if wanted:
                yield from self._rows(tile, core, normal)

    def _core(self, tile: Tile, output: Tensor | None) -> NDArray[np.float32] | None:
        if self._blender is not None:
            assert isinstance(tile, BlendedTile)
            if output is None:
                box = tile.source.scaled(self._scale)
                bands = self._engine.channels
                return self._blender(tile, np.zeros((bands, box.height, box.width), np.float32))
            return self._blender(tile, output.float().numpy())
        if output is None:
            return None
        rows, cols = tile.core.relative_to(tile.source).scaled(self._scale).slices()
        kept: NDArray[np.float32] = output[:, rows, cols].float().numpy()
        return kept

    def _rows(
        self, tile: Tile, core: Window, normal: NDArray[np.float32] | None
    ) -> Iterator[tuple[Box, NDArray[np.float32], NDArray[np.bool_], Window]]:
        s = self._scale
        step = max(_PIXELS_AT_ONCE // (core.grid.width * s * s), 1)
        for row in range(0, core.grid.height, step):
            part = Box(row, 0, min(step, core.grid.height - row), core.grid.width)
            box = Box(tile.core.row + row, tile.core.col, part.height, part.width).scaled(s)
            source = core.crop(part)
            mask = source.mask.repeat(s, 0).repeat(s, 1)
            if normal is None:
                bands = self._engine.channels
                values = np.zeros((bands, box.height, box.width), np.float32)
            else:
                part_of = normal[:, row * s : (row + part.height) * s]
                values, mask = self._engine.physical(part_of, mask, core.unit)
            yield box, values, mask, source
