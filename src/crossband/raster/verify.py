"""Read a finished file back, so that an incomplete one never gets its final name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from crossband.core.processors import processors
from crossband.raster.gdal import gdal
from crossband.raster.vrt import OPTIONS

#: Bytes that are compared at once.
_AT_ONCE = 2**24
#: Threads at most; each keeps such windows in memory.
MOST_THREADS = 8


def check_whole(source: Path, final: Path, *, masked: bool) -> None:
    """Compare a finished file with the raw numbers that it was made from.

    GDAL writes the last blocks of a file when it closes it, and does not report a disk that is full
    then. So all numbers and the mask are compared, and the overviews are decoded, by as many
    threads as there are processors: GDAL decodes with one.

    Args:
        source: VRT of the raw numbers.
        final: the file, with the same bands, and with an alpha band after them if it is a picture.
        masked: the file has a mask.

    Raises:
        OSError, RasterioError: the file cannot be read, or differs.
    """
    threads = min(processors(), MOST_THREADS)
    with gdal(), ThreadPoolExecutor(threads, "crossband-check") as pool:
        parts = [
            pool.submit(_check_part, source, final, masked, slice(first, None, threads))
            for first in range(threads)
        ]
        for part in parts:
            part.result()


def _check_part(source: Path, final: Path, masked: bool, part: slice) -> None:
    """Compare the windows of a part of the file, and decode those of its overviews."""
    # GDAL's options are those of a thread.
    with gdal(**OPTIONS), rasterio.open(source) as wanted, rasterio.open(final) as made:
        numbers = wanted.indexes
        alpha = made.count > wanted.count
        levels = len(made.overviews(1))
        for window in list(_windows(made))[part]:
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
            with rasterio.open(final, overview_level=level) as smaller:
                for window in list(_windows(smaller))[part]:
                    smaller.read(window=window)
                    if masked:
                        smaller.dataset_mask(window=window)


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
