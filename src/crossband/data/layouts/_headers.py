"""Read the metadata of many files in parallel, without their pixels."""

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

#: More than processors, because opening waits for the disk or the network.
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
        has_unit: at least one band states a unit.
    """

    format: str
    height: int
    width: int
    dtype: str
    colours: tuple[str, ...]
    has_unit: bool

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.colours)

    @property
    def size(self) -> str:
        """Width x height, as text."""
        return f"{self.width} x {self.height}"


def read_header(path: Path) -> Header:
    """Read the metadata of a raster; InputError if it cannot be opened."""
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
    """Yield each path, in order, with the result of `read` or the CrossbandError that it raised."""

    def attempt(path: Path) -> tuple[Path, T | CrossbandError]:
        try:
            return path, read(path)
        except CrossbandError as error:
            return path, error

    # All threads share the filters of warnings, so they are set before the threads start.
    with gdal(), ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(attempt, paths)
