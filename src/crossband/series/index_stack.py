"""Write the files of a series: raster stacks with one band per date, and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crossband.core.atomic import atomic_file
from crossband.raster.cog import Cog
from crossband.raster.compare import RATIO
from crossband.raster.disk_space import check_disk_space
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.journal import Store
from crossband.raster.output import OutputFile, finish_files, write_error
from crossband.raster.warp import Readable, overlap, read_averaged, read_warped, resolution_ratio

#: Side in pixels of the windows that are read at once.
SIDE = 1024
#: Numbers in a block of the file at most; a block holds all dates of its pixels.
_IN_BLOCK = 2**22


@dataclass(frozen=True)
class DateLayer:
    """A date of a raster stack.

    Attributes:
        label: the date, as description of the band.
        scene: name of the scene.
        open: opens the index of the scene.
    """

    label: str
    scene: str
    open: Callable[[], AbstractContextManager[Readable]]


def write_index_stack(
    path: Path,
    grid: Grid,
    index: str,
    layers: Sequence[DateLayer],
    tags: Mapping[str, str],
    *,
    aligned: bool = False,
) -> Path:
    """Write an index of several dates as COG, float32 with NaN where masked.

    Args:
        path: of the file; an existing one is replaced.
        grid: of the file.
        index: name of the index.
        layers: in the order of the bands; one is open at a time.
        tags: of the file.
        aligned: resample each layer to `grid` (see `alignment`); otherwise all have this grid.

    Raises:
        OutputError: the file cannot be written; none is left.
    """
    output = OutputFile(
        path,
        grid,
        tuple(layer.label for layer in layers),
        "1",
        Encoding("float32", nodata=float("nan")),
        tags,
        Cog(blocksize=_blocksize(len(layers))),
        band_tags=[{"date": la.label, "scene": la.scene, "index": index} for la in layers],
    )
    check_disk_space([output])
    store = Store.open(path, {})
    try:
        output.begin(store, "values")
        for band, layer in enumerate(layers):
            with layer.open() as readable:
                _write(output, band, readable, aligned=aligned)
        finish_files([output], store)
    finally:
        store.remove()
    return path


def alignment(of: Grid, to: Grid) -> Callable[[Readable, Grid], Window]:
    """Return the resampling between two grids: the mean for coarser pixels, else cubic convolution.

    Raises:
        InputError: the two do not share a whole pixel.
    """
    return read_averaged if resolution_ratio(of, to, overlap(of, to)) >= RATIO else read_warped


def _write(output: OutputFile, band: int, readable: Readable, *, aligned: bool) -> None:
    assert output.raw is not None
    moved = alignment(readable.grid, output.grid) if aligned else None
    for row in range(0, output.grid.height, SIDE):
        for col in range(0, output.grid.width, SIDE):
            box = Box(row, col, SIDE, SIDE).intersection(output.grid.box)
            window = moved(readable, output.grid.crop(box)) if moved else readable.read(box)
            plane = np.where(window.mask, window.values[0], np.float32("nan"))
            try:
                output.raw.write_band(band, box, plane)
            except OSError as error:
                raise write_error(output.path, error) from error


def _blocksize(dates: int) -> int:
    """Return the side of the file's blocks; they are smaller for many dates, to save memory."""
    side = 512
    while side > 128 and side * side * dates > _IN_BLOCK:
        side //= 2
    return side


def write_table(path: Path, rows: pd.DataFrame) -> Path:
    """Write a table as CSV with six decimals; missing values are empty cells."""
    with atomic_file(path) as part:
        rows.to_csv(part, index=False, float_format="%.6f")
    return path
