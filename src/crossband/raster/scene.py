"""A scene: bands of a file or a product on one grid, read by windows in physical units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from crossband.errors import InputError
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.radiometry import Radiometry


class WindowReader(Protocol):
    """What reads the stored numbers of a scene: one file, or the files of a product."""

    @property
    def grid(self) -> Grid:
        """Return shape, affine and CRS of all that can be read."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return the stored data type of each band."""

    @property
    def has_mask(self) -> bool:
        """Return whether `stored` gives a mask beside the numbers."""

    @property
    def block(self) -> tuple[int, int]:
        """Return rows and columns of the blocks that are decoded at once."""

    @property
    def files(self) -> tuple[str, ...]:
        """Return all files that are read."""

    def stored(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window as it is stored: numbers [C, H, W] and the mask [H, W]."""

    def calibrated(self, stored: NDArray[Any], box: Box) -> NDArray[Any]:
        """Apply what depends on the place in the scene, as Sentinel-1's calibration does."""

    def close(self) -> None:
        """Close all files."""


class Scene:
    """A raster or product, opened by `raster.open.open_scene`; use as a context manager.

    Args:
        path: as the caller gave it.
        numbers: common name -> 1-based band number, in the order that `read` returns.
        radiometry: how stored numbers become physical values.
        reader: reads stored numbers.
        marked: the nodata number is the caller's, which counts beside a mask of the file.

    Attributes:
        path: see above.
        grid: shape, affine, CRS.
        bands: common names of the bands that `read` returns, in this order.
        numbers: their 1-based band numbers in the file or product.
        dtypes: their stored data types.
        dtype: the data type that holds what is stored of all of them.
        unit: physical unit of what `read` returns.
        radiometry: see above.
        has_mask: the file carries an alpha band or an internal mask.
        marked: the nodata number means "no data"; where a mask says it, a valid zero stays valid.
    """

    def __init__(
        self,
        path: str,
        numbers: Mapping[str, int],
        radiometry: Radiometry,
        reader: WindowReader,
        *,
        marked: bool = False,
    ) -> None:
        self.path, self._reader = path, reader
        self.bands, self.numbers = tuple(numbers), tuple(numbers.values())
        self.radiometry, self.unit = radiometry, radiometry.unit
        self.grid = reader.grid
        self._at = self.grid.box
        self.dtypes = reader.dtypes
        self.dtype = str(np.result_type(*self.dtypes))
        self.has_mask = reader.has_mask
        self.marked = marked or not self.has_mask

    def part(self, box: Box) -> Scene:
        """Look at a part only, as at one half of a picture that holds two; returns this scene.

        Raises:
            InputError: the part is not inside the scene.
        """
        whole = self.grid.box
        inside = box.row + box.height <= whole.height and box.col + box.width <= whole.width
        if min(box.row, box.col) < 0 or min(box.height, box.width) < 1 or not inside:
            raise InputError(
                f"{self.path}: the window {box.srcwin()} is not inside its {whole.width} x "
                f"{whole.height} pixels"
            )
        self.grid = self.grid.crop(box)
        self._at = replace(box, row=self._at.row + box.row, col=self._at.col + box.col)
        return self

    def read(self, box: Box | None = None) -> Window:
        """Read a window (the whole scene by default) in physical units.

        Returns:
            Values float32 [C, H, W], 0 where masked; a pixel is valid where every band is: not
            nodata (see `open`), finite, inside the file's own mask.
        """
        box = box or self.grid.box
        return self.physical(*self.stored(box), box)

    @property
    def window(self) -> Box:
        """Where the scene lies in its file: see `part`."""
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
        """Read a window as it is stored: numbers [C, H, W] and the file's own mask [H, W]."""
        return self._reader.stored(self._placed(box))

    def physical(self, stored: NDArray[Any], mask: NDArray[np.bool_], box: Box) -> Window:
        """Turn what `stored` read of a window into physical values; see `read`."""
        stored = self._reader.calibrated(stored, self._placed(box))
        values = np.empty(stored.shape, np.float32)
        mask = mask.copy()
        # A few rows at a time stay in the processor's cache: float64 in between costs nothing.
        rows = max(2**15 // max(box.width, 1), 1)
        for top in range(0, box.height, rows):
            part = slice(top, top + rows)
            values[:, part], valid = self.radiometry.physical(stored[:, part], self.marked)
            mask[part] &= valid
            if not mask[part].all():
                values[:, part][:, ~mask[part]] = 0.0
        return Window(values, mask, self.grid.crop(box), self.bands, self.unit)

    def _placed(self, box: Box) -> Box:
        """Return where a window of the scene lies in what the reader reads."""
        return replace(box, row=self._at.row + box.row, col=self._at.col + box.col)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
