"""The files of a series: a raster stack of one band a date, on one grid, and the table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crossband.errors import OutputError
from crossband.raster.compare import RATIO
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.journal import Store
from crossband.raster.warp import Readable, overlap, read_averaged, read_warped, resolution_ratio
from crossband.raster.write import Cog, Output, check_disk, failed, place_all

#: Side of what is read at once, in pixels of the stack.
SIDE = 1024
#: Numbers that a block of the file holds at most: all dates of its pixels.
_IN_BLOCK = 2**22


@dataclass(frozen=True)
class Layer:
    """A date of a stack.

    Attributes:
        label: the date, which describes the band.
        scene: name of the scene.
        open: opens its index.
    """

    label: str
    scene: str
    open: Callable[[], AbstractContextManager[Readable]]


def stack(
    path: Path,
    grid: Grid,
    index: str,
    layers: Sequence[Layer],
    tags: Mapping[str, str],
    *,
    aligned: bool = False,
) -> Path:
    """Write a stack as COG, float32 with NaN where masked: one date after the other, by windows.

    Args:
        path: final name; what is there is replaced.
        grid: of the stack.
        index: what it shows.
        layers: in the order of the bands; one is open at a time.
        tags: of the file.
        aligned: bring each onto `grid` (see `aligning`); else each lies on it.

    Raises:
        OutputError: it cannot be written; nothing is left.
    """
    output = Output(
        path,
        grid,
        tuple(layer.label for layer in layers),
        "1",
        Encoding("float32", nodata=float("nan")),
        tags,
        Cog(blocksize=_blocksize(len(layers))),
        band_tags=[{"date": la.label, "scene": la.scene, "index": index} for la in layers],
    )
    check_disk([output])
    store = Store.open(path, {})
    try:
        output.begin(store, "values")
        for band, layer in enumerate(layers):
            with layer.open() as readable:
                _write(output, band, readable, aligned=aligned)
        place_all([output], store)
    finally:
        store.remove()
    return path


def aligning(of: Grid, to: Grid) -> Callable[[Readable, Grid], Window]:
    """Return what brings a scene onto a grid: the mean over coarser pixels, else cubic convolution.

    Raises:
        InputError: the two do not share a whole pixel.
    """
    return read_averaged if resolution_ratio(of, to, overlap(of, to)) >= RATIO else read_warped


def _write(output: Output, band: int, readable: Readable, *, aligned: bool) -> None:
    assert output.raw is not None
    moved = aligning(readable.grid, output.grid) if aligned else None
    for row in range(0, output.grid.height, SIDE):
        for col in range(0, output.grid.width, SIDE):
            box = Box(row, col, SIDE, SIDE).intersection(output.grid.box)
            window = moved(readable, output.grid.crop(box)) if moved else readable.read(box)
            plane = np.where(window.mask, window.values[0], np.float32("nan"))
            try:
                output.raw.write_band(band, box, plane)
            except OSError as error:
                raise failed(output.path, error) from error


def _blocksize(dates: int) -> int:
    """Return the side of the file's blocks: smaller ones for many dates, so that memory is kept."""
    side = 512
    while side > 128 and side * side * dates > _IN_BLOCK:
        side //= 2
    return side


def table(path: Path, rows: pd.DataFrame) -> Path:
    """Write a table as CSV, with six digits behind the point; an empty cell is no value."""
    part = path.with_name(f".{path.name}.part")
    try:
        rows.to_csv(part, index=False, float_format="%.6f")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
