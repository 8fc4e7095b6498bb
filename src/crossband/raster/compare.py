"""Compare two scenes on different grids pixel by pixel.

The finer scene is averaged over the pixels of the coarser one. Images of different resolution have
different distributions of values, and a mapping fitted between them would remove that difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.errors import InputError
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.warp import (
    Readable,
    crosses_antimeridian,
    overlap,
    read_averaged,
    read_warped,
    resolution_ratio,
)

#: Side of the squares of the finer scene that are read at once, in its pixels.
SIDE = 2048
#: Largest number of pixels that are compared. Of more, every k-th row and column is used: so many
#: pixels give the 0.001 quantile of a smooth distribution to a few thousandths of its spread.
MOST = 2**21
#: From this ratio of pixel sizes on, fine pixels are averaged. Below, cubic interpolation keeps
#: more detail.
RATIO = 1.5


@dataclass(frozen=True)
class Overlap:
    """The overlap of two scenes, in whole pixels of the coarser one.

    Attributes:
        grid: grid of these pixels.
        box: their rectangle in the coarser scene.
        coarser: which scene is coarser, 0 or 1.
        ratio: size of a coarse pixel in fine pixels, about.
    """

    grid: Grid
    box: Box
    coarser: int
    ratio: float

    @classmethod
    def of(cls, first: Grid, second: Grid) -> Overlap:
        """Return the overlap of two grids that have a CRS and an affine transform.

        Raises:
            InputError: the overlap has no whole pixel, or the first one crosses the antimeridian
                and the second has another CRS.
        """
        if first.crs != second.crs and crosses_antimeridian(first):
            raise InputError(
                "it crosses the antimeridian, where another CRS is torn: gdalwarp one of the two "
                "to the CRS of the other"
            )
        box = overlap(first, second)
        ratio = resolution_ratio(first, second, box)
        if ratio > 1 - 1e-6:  # the second is the coarser one, or equal
            return cls(second.crop(box), box, 1, ratio)
        box = overlap(second, first)
        return cls(first.crop(box), box, 0, 1 / ratio)

    @property
    def step(self) -> int:
        """Every `step`-th row and column is compared."""
        return math.ceil(math.sqrt(self.box.height * self.box.width / MOST))

    def blocks(self) -> Iterator[Box]:
        """Yield rectangles of the overlap, small enough for memory in fine pixels."""
        side = max(int(SIDE / self.ratio), 1)
        whole = self.grid.box
        for row in range(0, whole.height, side):
            for col in range(0, whole.width, side):
                yield Box(row, col, side, side).intersection(whole)

    def window(self, scene: Readable, which: int, part: Box) -> Window:
        """Read a rectangle of the overlap from the first (0) or second (1) scene."""
        if which == self.coarser:
            at = Box(self.box.row + part.row, self.box.col + part.col, part.height, part.width)
            return scene.read(at)
        read = read_averaged if self.ratio >= RATIO else read_warped
        return read(scene, self.grid.crop(part))

    def thinned(self, part: Box) -> tuple[slice, slice]:
        """Return which rows and columns of a rectangle are compared."""
        middle = self.step // 2
        return (
            slice((middle - part.row) % self.step, None, self.step),
            slice((middle - part.col) % self.step, None, self.step),
        )

    def pixels(
        self, first: Readable, second: Readable, see: Callable[[Window, Window], None] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the values [C, N] of both scenes at the pixels that are valid in both.

        Args:
            first: a scene.
            second: the other one.
            see: called with each window of both, of which these are all pixels or every k-th.
        """
        found: list[list[NDArray[np.float32]]] = [[], []]
        for part in self.blocks():
            at = self.thinned(part)
            windows = [self.window(s, i, part) for i, s in enumerate((first, second))]
            if see is not None:
                see(*windows)
            valid = windows[0].mask[at] & windows[1].mask[at]
            for values, window in zip(found, windows, strict=True):
                values.append(window.values[:, *at][:, valid])
        one, two = (np.concatenate(values, axis=1) for values in found)
        return one, two
