"""What files say of themselves, read from many at once; no pixel is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crossband.errors import CrossbandError
from crossband.raster.gdal import gdal
from crossband.raster.open import open_raster

T = TypeVar("T")

#: Opening waits for the disk, on a network one most of all, so there may be more than processors.
THREADS = 16


@dataclass(frozen=True)
class Header:
    """Metadata of a raster.

    Attributes:
        format: GDAL's name of its format, as `PNG`, `JPEG`, `GTiff`.
        height: in pixels.
        width: in pixels.
        dtype: stored data type of the first band.
        colours: GDAL's colour of each band, as `red`, `gray`, `undefined`.
        has_unit: some band states a unit.
    """

    format: str
    height: int
    width: int
    dtype: str
    colours: tuple[str, ...]
    has_unit: bool

    @property
    def count(self) -> int:
        """How many bands."""
        return len(self.colours)

    @property
    def size(self) -> str:
        """Width x height."""
        return f"{self.width} x {self.height}"


def read_header(path: Path) -> Header:
    """Read the metadata of a raster; InputError where it is none."""
    with open_raster(path) as dataset:
        return Header(
            dataset.driver,
            dataset.height,
            dataset.width,
            dataset.dtypes[0],
            tuple(c.name for c in dataset.colorinterp),
            any(dataset.units),
        )


def read_all(
    paths: Iterable[Path], read: Callable[[Path], T]
) -> Iterator[tuple[Path, T | CrossbandError]]:
    """Yield each path, in order, with what `read` returns or the user's error that it raises."""

    def attempt(path: Path) -> tuple[Path, T | CrossbandError]:
        try:
            return path, read(path)
        except CrossbandError as error:
            return path, error

    # Filters of warnings are shared by all threads: set them before the threads and after them.
    with gdal(), ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(attempt, paths)
