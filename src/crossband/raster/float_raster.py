"""A raster of float32 in a file without a name, which disappears with the process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from crossband.raster.grid import Box, Grid, Window


class FloatRaster:
    """Values that are written and read by window; a pixel that nobody wrote is masked.

    Args:
        grid: of the pixels.
        bands: names of the channels.
        unit: of the values.
        folder: on whose disk the values lie. The file has no name there, so nothing is left of a
            process that is killed.

    Raises:
        OSError: the disk has no room for it.
    """

    def __init__(self, grid: Grid, bands: tuple[str, ...], unit: str, folder: Path) -> None:
        self.grid, self.bands, self.unit = grid, bands, unit
        shape = (len(bands), grid.height, grid.width)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        size = 4 * int(np.prod(shape))
        # Without room, writing to the mapped memory would end the process with SIGBUS.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, size)
        else:
            self._file.truncate(size)
        self._values = np.memmap(self._file, np.float32, "r+", shape=shape)
        for rows in range(0, grid.height, 1024):
            self._values[:, rows : rows + 1024] = np.nan

    def write(self, box: Box, values: NDArray[np.float32]) -> None:
        """Write the values [C, H, W] of a rectangle; NaN is masked."""
        self._values[:, *box.slices()] = values

    def read(self, box: Box) -> Window:
        """Read a rectangle within the raster; masked pixels hold 0."""
        values = np.array(self._values[:, *box.slices()])
        mask = np.asarray(np.isfinite(values).all(axis=0))
        values[:, ~mask] = 0.0
        return Window(values, mask, self.grid.crop(box), self.bands, self.unit)

    def close(self) -> None:
        """Give the disk back."""
        del self._values
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
