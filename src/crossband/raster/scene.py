"""Scenes: bands of a file or a product on one grid, read by windows in physical units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import POSSIBLE
from crossband.core.warned import warn
from crossband.errors import InputError
from crossband.raster.file_reader import FileReader
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.radiometry import Radiometry, leave_out_fill


class WindowReader(Protocol):
    """Reads the stored numbers of a scene, from one file or from the files of a product."""

    @property
    def grid(self) -> Grid:
        """Return shape, affine transform and CRS of the whole raster."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return the stored data type of each band."""

    @property
    def has_mask(self) -> bool:
        """Return whether `stored` returns a mask that is not all True."""

    @property
    def block(self) -> tuple[int, int]:
        """Return rows and columns of the blocks that are decoded as a whole."""

    @property
    def files(self) -> tuple[str, ...]:
        """Return all files that are read."""

    def stored(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window: stored numbers [C, H, W] and the mask [H, W]."""

    def calibrated(self, stored: NDArray[Any], box: Box) -> NDArray[Any]:
        """Apply a calibration that depends on the position in the scene, as Sentinel-1's does."""

    def close(self) -> None:
        """Close all files."""


class Scene:
    """A raster or product, opened by `raster.open.open_scene`; use as a context manager.

    Args:
        path: as the caller gave it.
        numbers: common name -> 1-based band number, in the order that `read` returns.
        radiometry: how stored numbers become physical values.
        reader: reads stored numbers.
        marked: the caller stated the nodata number, so it is used beside a mask of the file.
        named_otherwise: see the attribute.

    Attributes:
        path: see above.
        grid: shape, affine, CRS.
        around: the pixels that `read` may be asked for, counted from the grid's first pixel: those
            of the grid, and beyond it where the scene is a part of a larger one; see `part`.
        bands: common names of the bands that `read` returns, in this order.
        numbers: their 1-based band numbers in the file or product.
        dtypes: their stored data types.
        dtype: a data type that holds the stored numbers of all of them.
        unit: physical unit of what `read` returns.
        radiometry: see above.
        has_mask: the file carries an alpha band or an internal mask.
        marked: whether the nodata number means "no data". Beside a mask it does not, unless the
            caller stated it, so that a valid zero stays valid.
        named_otherwise: in words, bands that the caller gave by number and the file names as
            others.
        limits: where set, a physical value below or above is no data; by default what can
            be no measurement in a file of floats: fill values that it does not declare.
        fill: the first such value that was read; None before there is one.
        told: people know of it; else they are told when the scene is closed.
    """

    def __init__(
        self,
        path: str,
        numbers: Mapping[str, int],
        radiometry: Radiometry,
        reader: WindowReader,
        *,
        marked: bool = False,
        named_otherwise: tuple[str, ...] = (),
    ) -> None:
        self.path, self._reader, self.named_otherwise = path, reader, named_otherwise
        self.bands, self.numbers = tuple(numbers), tuple(numbers.values())
        self.radiometry, self.unit = radiometry, radiometry.unit
        self.grid = reader.grid
        self._at = self.around = self.grid.box
        self.dtypes = reader.dtypes
        self.dtype = str(np.result_type(*self.dtypes))
        self.has_mask = reader.has_mask
        self.marked = marked or not self.has_mask
        floats = np.issubdtype(self.dtype, np.floating)
        self.limits: tuple[float, float] | None = POSSIBLE if floats else None
        self.fill: float | None = None
        self.told = False

    def warn_of_bands(self, option: str = "--bands") -> None:
        """Warn of each band that the caller gave by number though the file names it otherwise."""
        for words in self.named_otherwise:
            warn(f"{self.path}: {option} {words}")

    def part(self, box: Box, *, seen: bool = False) -> Scene:
        """Restrict this scene to a rectangle, as one half of a picture that holds two; return it.

        Args:
            box: the rectangle.
            seen: the pixels around it belong to the same picture, and may be read.

        Raises:
            InputError: the rectangle is not inside the scene.
        """
        whole = self.grid.box
        inside = box.row + box.height <= whole.height and box.col + box.width <= whole.width
        if min(box.row, box.col) < 0 or min(box.height, box.width) < 1 or not inside:
            raise InputError(
                f"{self.path}: the window {box.srcwin()} is not inside its {whole.width} x "
                f"{whole.height} pixels"
            )
        self.grid = self.grid.crop(box)
        self.around = self.around.relative_to(box) if seen else self.grid.box
        self._at = replace(box, row=self._at.row + box.row, col=self._at.col + box.col)
        return self

    def read(self, box: Box | None = None) -> Window:
        """Read a window (the whole scene by default) in physical units.

        Returns:
            Values float32 [C, H, W], 0 where masked. A pixel is valid if every band is: not nodata,
            finite, and valid in the mask of the file.

        Raises:
            InputError: the window is not inside of `around`.
        """
        box = box or self.grid.box
        if box.intersection(self.around) != box:
            raise InputError(
                f"{self.path}: the window {box.srcwin()} is not inside its {self.grid.width} x "
                f"{self.grid.height} pixels"
            )
        return self.physical(*self.stored(box), box)

    def read_thinned(self, box: Box, factor: int) -> Window:
        """Read about every `factor`-th pixel of a window in physical units, to be looked at.

        Overviews of the file are used. Their pixels may be means, also over what is masked.
        """
        if factor == 1:
            return self.read(box)
        rows, columns = -(-box.height // factor), -(-box.width // factor)
        if isinstance(self._reader, FileReader):
            stored, mask = self._reader.stored(self._placed(box), (rows, columns))
            seen = self.physical(stored, mask, Box(0, 0, rows, columns))
            values, mask = seen.values, seen.mask
        else:  # a calibration may depend on the position of every pixel
            values = np.empty((len(self.bands), rows, columns), np.float32)
            mask = np.empty((rows, columns), bool)
            for row in range(rows):
                line = self.read(Box(box.row + row * factor, box.col, 1, box.width))
                values[:, row], mask[row] = line.values[:, 0, ::factor], line.mask[0, ::factor]
        grid = self.grid.crop(box).resized(rows, columns)
        return Window(values, mask, grid, self.bands, self.unit)

    @property
    def has_overviews(self) -> bool:
        """Whether the file has coarser versions of its bands."""
        return isinstance(self._reader, FileReader) and self._reader.has_overviews

    def tag(self, name: str) -> str | None:
        """Return a tag of the file; None for a scene of several files."""
        return self._reader.tag(name) if isinstance(self._reader, FileReader) else None

    @property
    def window(self) -> Box:
        """The rectangle of the file that the scene shows: see `part`."""
        return self._at

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the blocks (tiles or strips) that the file is stored in."""
        return self._reader.block

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the scene is read from, as GDAL lists them."""
        return self._reader.files

    def stored(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window: stored numbers [C, H, W] and the mask of the file [H, W]."""
        return self._reader.stored(self._placed(box))

    def physical(self, stored: NDArray[Any], mask: NDArray[np.bool_], box: Box) -> Window:
        """Convert a window that `stored` returned to physical values; see `read`."""
        stored = self._reader.calibrated(stored, self._placed(box))
        values = np.empty(stored.shape, np.float32)
        mask = mask.copy()
        # A few rows at a time fit the processor's cache, which makes float64 in between cheap.
        rows = max(2**15 // max(box.width, 1), 1)
        for top in range(0, box.height, rows):
            part = slice(top, top + rows)
            values[:, part], valid = self.radiometry.physical(stored[:, part], self.marked)
            mask[part] &= valid
            if self.limits is not None:
                fill = leave_out_fill(values[:, part], mask[part], self.limits)
                self.fill = fill if self.fill is None else self.fill
            if not mask[part].all():
                values[:, part][:, ~mask[part]] = 0.0
        return Window(values, mask, self.grid.crop(box), self.bands, self.unit)

    def _placed(self, box: Box) -> Box:
        """Return the rectangle of the file for a rectangle of the scene."""
        return replace(box, row=self._at.row + box.row, col=self._at.col + box.col)

    def close(self) -> None:
        """Close the file; tell of a fill value that it does not declare, if one was read."""
        self._reader.close()
        if self.fill is not None and not self.told:
            self.told = True
            warn(
                f"{self.path}: numbers that are far from {self.unit}, as {self.fill:.4g}, are "
                f"taken as no data; gdal_edit -a_nodata declares them",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
