"""Refuse rasters whose blocks are too large: GDAL decodes a block (a tile or strip) as a whole.

And those with so many bands that to look at each takes minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.enums import Interleaving, MaskFlags

from crossband.core.limits import Limit
from crossband.errors import InputError
from crossband.raster.labels import describe

#: MiB that one decoded block may take, of all bands where these are stored together.
MAX_BLOCK = Limit("CROSSBAND_MAX_BLOCK_MIB", 256)
#: Bands of a raster.
_MOST_BANDS = 10_000
#: Drivers that decode the whole picture, whatever blocks they state.
_WHOLE = ("WEBP", "AVIF", "HEIF", "JPEGXL", "GIF")


def check_blocks(dataset: Any, path: str) -> None:
    """Raise InputError for too many bands, or a block of one or of the mask above `MAX_BLOCK`.

    Args:
        dataset: of rasterio; nothing is read.
        path: for messages.
    """
    if dataset.count > _MOST_BANDS:
        raise InputError(f"{path}: {dataset.count:,} bands, and at most {_MOST_BANDS:,} are read")
    sizes = [np.dtype(name.replace("complex_int16", "int32")).itemsize for name in dataset.dtypes]
    shapes = list(dataset.block_shapes)
    if dataset.driver in _WHOLE:
        shapes = [dataset.shape] * len(sizes)
    if dataset.driver in _WHOLE or dataset.interleaving == Interleaving.pixel:
        sizes = [sum(sizes)] * len(sizes)
    if any(
        MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in dataset.mask_flag_enums
    ):
        for block in describe(dataset).iterfind("MaskBand//SourceProperties"):
            shapes.append((int(block.get("BlockYSize", 0)), int(block.get("BlockXSize", 0))))
            sizes.append(1)
    most = MAX_BLOCK.value
    for (rows, cols), size in zip(shapes, sizes, strict=True):
        need = -(-rows * cols * size // 2**20)
        if need > most:
            raise InputError(
                f"{path}: it is stored in blocks of {cols} x {rows} pixels, which take {need} MiB "
                f"each to decode; {MAX_BLOCK.variable}={need} allows more than {most}"
            )
