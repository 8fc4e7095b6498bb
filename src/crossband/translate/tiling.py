"""How a scene is cut into tiles for a model, and how answers become finished pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.networks.base import Generator
from crossband.raster.grid import Box, Grid, Window
from crossband.translate.blend import (
    BlendedTile,
    Blender,
    blended_plan,
    check_overlap,
    default_overlap,
)
from crossband.translate.engine import Engine, Prepared
from crossband.translate.options import TileOptions
from crossband.translate.tiles import Job, Tile, grouped, halo, jobs, plan

#: Least side of the window that a network sees, halo included. Larger tiles waste less on the halo
#: and take more memory.
TILE = 896
#: Pixels computed per pixel kept, minus one, that the halo may cost in the middle of a scene.
HALO = 0.15
#: Side of the largest answer, in pixels of the result: larger ones would take too much memory.
ANSWER = 2048
#: Pixels of a result that are turned into stored numbers at once.
_PIXELS_AT_ONCE = 2**18


def default_tile(network: Generator) -> int:
    """Return the side of the window that a network sees where nobody says another.

    One that sees far has larger windows, so that the halo costs no more than `HALO`, as far as
    `ANSWER` allows. One that makes pixels finer answers with so many more of them: its windows are
    smaller, but not so small that the halo takes over.
    """
    reach, stride = halo(network.margin or 0, network.stride), network.stride
    # Of a side t, t - 2 reach is kept: (t / (t - 2 reach))^2 <= 1 + HALO.
    enough = math.ceil(2 * reach / (1 - 1 / math.sqrt(1 + HALO)) / stride) * stride
    return min(max(TILE, min(enough, ANSWER)), max(ANSWER // network.scale, 8 * reach, 128))


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut: groups of jobs, and whether tiled equals whole.

    Attributes:
        groups: jobs that are worked on side by side; what is read for one serves its neighbours.
        tile: side of the window that the network sees.
        exact: the result is that of the whole scene at once.
        overlap: source pixels over which tiles fade into each other; None where they do not.
    """

    groups: tuple[tuple[Job, ...], ...]
    tile: int
    exact: bool
    overlap: int | None

    @property
    def jobs(self) -> list[Job]:
        """All jobs, in order."""
        return [job for group in self.groups for job in group]

    @classmethod
    def of(
        cls,
        model: Model,
        grid: Grid,
        options: TileOptions = TileOptions(),
        columns: int | None = None,
    ) -> Self:
        """Cut a scene for a model.

        Args:
            model: its network's margin, stride and scale count.
            grid: the scene's.
            options: tile, batch, overlap and whole.
            columns: source pixels side by side in one group; all where None.
        """
        network, batch = model.network, options.batch
        tile, overlap, whole = options.tile, options.overlap, options.whole
        if whole and (tile is not None or overlap is not None):
            raise CrossbandError("--whole: a scene in one piece has no --tile and no --overlap")
        if whole:
            around = 2 * halo(network.margin or 0, network.stride) + network.stride
            tile = max(grid.height, grid.width) + around
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
            tiles = list(plan(grid.height, grid.width, tile, network.margin, network.stride))
            parts, exact = grouped(tiles, columns or grid.width), True
        else:
            overlap = default_overlap(tile, network.stride) if overlap is None else overlap
            check_overlap(overlap, tile)
            tiles = list(blended_plan(grid.height, grid.width, tile, overlap, network.stride))
            # Row by row across the scene: the ramps of one row of tiles wait for the next.
            parts, exact = [tiles], len(tiles) == 1
        numbered: list[tuple[Job, ...]] = []
        first = 0
        for part in parts:
            own = [Job(first + job.number, job.tiles) for job in jobs(part, batch)]
            numbered.append(tuple(own))
            first += len(own)
        return cls(tuple(numbered), tile, exact, None if exact else overlap)


class Results:
    """Turns the network's answers into finished pixels, a few rows at a time."""

    def __init__(self, engine: Engine, tiling: Tiling, wanted: set[int] | None = None) -> None:
        self._engine, self._wanted = engine, wanted
        self._scale = engine.model.network.scale
        self._blender = None if tiling.overlap is None else Blender(self._scale)

    def __call__(
        self, prepared: Prepared, answers: Tensor | None
    ) -> Iterator[tuple[Box, NDArray[np.float32], NDArray[np.bool_], Window]]:
        """Yield (box on the target grid, physical values, mask, source window) of a job's cores."""
        wanted = self._wanted is None or prepared.job.number in self._wanted
        for i, (tile, core) in enumerate(zip(prepared.job.tiles, prepared.cores, strict=True)):
            normal = self._core(tile, None if answers is None else answers[i])
            if wanted:
                yield from self._rows(tile, core, normal)

    def _core(self, tile: Tile, answer: Tensor | None) -> NDArray[np.float32] | None:
        if self._blender is not None:
            assert isinstance(tile, BlendedTile)
            if answer is None:
                box = tile.source.scaled(self._scale)
                bands = len(self._engine.model.signature.target)
                return self._blender(tile, np.zeros((bands, box.height, box.width), np.float32))
            return self._blender(tile, answer.float().numpy())
        if answer is None:
            return None
        rows, cols = tile.core.relative_to(tile.source).scaled(self._scale).slices()
        kept: NDArray[np.float32] = answer[:, rows, cols].float().numpy()
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
                bands = len(self._engine.model.signature.target)
                values = np.zeros((bands, box.height, box.width), np.float32)
            else:
                part_of = normal[:, row * s : (row + part.height) * s]
                values, mask = self._engine.physical(part_of, mask, core.unit)
            yield box, values, mask, source
