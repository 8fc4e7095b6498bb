"""Read windows of one file: stored numbers and the mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from crossband.errors import InputError
from crossband.raster.gdal import READ_ERRORS, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.lost_errors import raise_lost_errors


class FileReader:
    """Bands of an open raster; a `raster.scene.WindowReader`.

    Args:
        dataset: of rasterio, or an object with its methods; closed with this reader.
        path: for messages.
        numbers: 1-based band numbers, in the order in which they are read.
        named: numbers of other bands that are known not to be alpha bands.

    Attributes:
        grid: shape, affine, CRS.
        dtypes: stored data types of the bands.
        has_mask: the file carries an alpha band or an internal mask.
    """

    def __init__(
        self, dataset: Any, path: str, numbers: tuple[int, ...], named: Iterable[int] = ()
    ) -> None:
        self._dataset, self.path, self._numbers = dataset, path, numbers
        gcps, crs = dataset.gcps
        self.grid = Grid(
            dataset.height,
            dataset.width,
            dataset.transform,
            dataset.crs,
            tuple(gcps),
            crs,
            getattr(dataset, "rpcs", None),  # packed rasters have none
        )
        self.dtypes: tuple[str, ...] = tuple(dataset.dtypes[n - 1] for n in numbers)
        self._alpha = _alpha_band(dataset, {*numbers, *named})
        flags = dataset.mask_flag_enums[numbers[0] - 1]
        self._internal = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self.has_mask = self._internal or self._alpha is not None

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the blocks (tiles or strips) that the file is stored in."""
        rows, cols = self._dataset.block_shapes[self._numbers[0] - 1]
        return int(rows), int(cols)

    @property
    def has_overviews(self) -> bool:
        """Whether the file has coarser versions of the bands."""
        return bool(self._dataset.overviews(self._numbers[0]))

    def tag(self, name: str) -> str | None:
        """Return a tag of the file."""
        value: str | None = self._dataset.tags().get(name)
        return value

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the bands are read from, as GDAL lists them."""
        return tuple(self._dataset.files)

    def stored(
        self, box: Box, shape: tuple[int, int] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window: stored numbers [C, H, W] and the mask of the file [H, W].

        Args:
            box: the window.
            shape: rows and columns of the result: nearest pixels, of overviews where the file has
                them. By default all pixels.
        """
        at, indexes = box.rasterio(), list(self._numbers)
        # Packed rasters are never thinned, and do not know the argument.
        one: dict[str, Any] = {} if shape is None else {"out_shape": shape}
        several = {} if shape is None else {"out_shape": (len(indexes), *shape)}
        try:
            with raise_lost_errors():
                if len(set(self.dtypes)) == 1:
                    stored = self._dataset.read(indexes, window=at, **several)
                else:
                    stored = np.stack([self._dataset.read(n, window=at, **one) for n in indexes])
                mask = np.ones(stored.shape[1:], dtype=bool)
                if self._alpha is not None:
                    mask &= self._dataset.read(self._alpha, window=at, **one) > 0
                elif self._internal:
                    mask &= self._dataset.read_masks(indexes[0], window=at, **one) > 0
        except READ_ERRORS as error:
            raise InputError(f"{self.path}: cannot be read: {reason(error)}") from error
        return stored, mask

    def calibrated(self, stored: NDArray[Any], box: Box) -> NDArray[Any]:
        """Return the numbers unchanged: a file has only a scale and an offset."""
        return stored

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()


def _alpha_band(dataset: Any, used: set[int]) -> int | None:
    """Return the number of the alpha band; None for a band that is in use or has another name.

    GDAL takes the fourth band of an 8-bit RGB + NIR file for alpha unless the file says otherwise.
    A description ("nir"), an explicit choice, or a sensor with a fixed order of bands overrides it.
    """
    for number, colour in enumerate(dataset.colorinterp, start=1):
        label = dataset.descriptions[number - 1] or ""
        named = label.strip().lower() not in ("", colour.name)
        if colour == ColorInterp.alpha and number not in used and not named:
            return number
    return None
