"""Read a finished file back, so that an incomplete one never gets its final name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

#: Bytes that are compared at once.
_AT_ONCE = 2**24


def check_whole(source: Path, final: Path, *, masked: bool) -> None:
    """Compare a finished file with the raw numbers that it was made from.

    GDAL writes the last blocks of a file when it closes it, and does not report a disk that is full
    then. So all numbers and the mask are compared, and the overviews are decoded.

    Args:
        source: VRT of the raw numbers.
        final: the file, with the same bands, and with an alpha band after them if it is a picture.
        masked: the file has a mask.

    Raises:
        OSError, RasterioError: the file cannot be read, or differs.
    """
    with rasterio.open(source) as wanted, rasterio.open(final) as made:
        numbers = wanted.indexes
        alpha = made.count > wanted.count
        levels = len(made.overviews(1))
        for window in _windows(made):
            same = np.array_equal(
                _bytes(wanted.read(numbers, window=window)),
                _bytes(made.read(numbers, window=window)),
            )
            if same and masked:
                there = (
                    made.read(made.count, window=window)
                    if alpha
                    else made.dataset_mask(window=window)
                )
                same = np.array_equal(wanted.dataset_mask(window=window) > 0, there > 0)
            if not same:
                raise OSError("what was written reads back as something else")
    for level in range(levels):
        with rasterio.open(final, overview_level=level) as made:
            for window in _windows(made):
                made.read(window=window)
                if masked:
                    made.dataset_mask(window=window)


def _bytes(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return numbers as integers of the same bytes, so that NaN equals itself."""
    return numbers.view(f"u{numbers.dtype.itemsize}")


def _windows(dataset: Any) -> Iterator[Window]:
    """Yield windows of whole blocks: one tile, or as many strips as are compared at once."""
    height, width = dataset.block_shapes[0]
    row = sum(np.dtype(d).itemsize for d in dataset.dtypes) * dataset.width
    if width >= dataset.width:
        height *= max(_AT_ONCE // (row * height), 1)
    for top in range(0, dataset.height, height):
        for left in range(0, dataset.width, width):
            yield Window(
                left, top, min(width, dataset.width - left), min(height, dataset.height - top)
            )
