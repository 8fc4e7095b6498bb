"""Stacks of dates, as NetCDF, Zarr or a DataArray: what they hold, and their dates as scenes.

A stack on disk is opened lazily with xarray. Of a Dataset the variables with rows and columns are
its bands, or its one variable with bands is taken.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import rioxarray  # noqa: F401 - gives arrays their `rio`
import xarray as xr

from crossband.errors import BandError, CrossbandError, InputError, OutputError
from crossband.jobs.sources import Source
from crossband.raster.gdal import gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.options import ReadOptions
from crossband.series.dates import Date, Dated
from crossband.translate.dataarray import Reading

#: Endings of what is a stack.
NETCDF, ZARR = (".nc", ".nc4", ".cdf"), (".zarr",)
#: Engines of xarray by the first bytes of a NetCDF file, and the packages that they need.
_CLASSIC, _HDF5 = (b"CDF\x01", b"CDF\x02"), b"\x89HDF"
#: Rows that are copied at once hold so many pixels.
_PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Slice:
    """A date of a stack: the array of its bands, and the file that it is copied into.

    Attributes:
        array: dimensions of bands, rows and columns.
        dated: the file as a scene.
        stack: the file or folder that it is of.
    """

    array: xr.DataArray
    dated: Dated
    stack: Path


def is_stack(text: str) -> bool:
    """Return whether an input is a stack of dates."""
    return Path(text).suffix.lower() in (*NETCDF, *ZARR)


def open_stack(path: str | Path) -> xr.DataArray:
    """Open a stack lazily.

    Returns:
        An array with a dimension of dates; see `time_of`.

    Raises:
        InputError: missing, not a stack, or of a format whose package is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        dataset = xr.open_dataset(path, engine=_engine(path), decode_coords="all")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a stack that xarray can open: {reason(error)}") from error
    spatial = [v for v in dataset.data_vars.values() if _is_spatial(v)]
    banded = [v for v in spatial if v.ndim == 4]
    if len(banded) == 1:
        array = banded[0]
    elif spatial and not banded:
        array = _together(dataset, [str(v.name) for v in spatial])
    else:
        found = ", ".join(f"{n} ({', '.join(map(str, v.dims))})" for n, v in dataset.items())
        raise InputError(
            f"{path}: no bands in it: one variable (time, band, y, x), or one (time, y, x) for "
            f"each band is read; it has {found or 'none'}"
        )
    return array


def time_of(array: xr.DataArray, said: str = "the DataArray") -> str:
    """Return the dimension of dates.

    Raises:
        InputError: no dimension has dates, several have, or some date is missing or there twice.
    """
    names = [
        str(d)
        for d in array.dims
        if d in array.coords and np.issubdtype(array.coords[d].dtype, np.datetime64)
    ]
    if len(names) != 1:
        raise InputError(
            f"{said}: {len(names) or 'none'} of its dimensions {', '.join(map(str, array.dims))} "
            f"{'has' if not names else 'have'} dates as coordinates; one is needed, as time"
        )
    times = pd.DatetimeIndex(array.coords[names[0]].values)
    if times.hasnans or not times.is_unique:
        wrong = "a date is missing" if times.hasnans else "a date is there twice"
        raise InputError(f"{said}: {wrong} along {names[0]}")
    return names[0]


def dates_of(array: xr.DataArray, time: str) -> list[Date]:
    """Return the dates of a stack, in its order; days where all times are midnight."""
    times = pd.DatetimeIndex(array.coords[time].values).tz_localize("UTC")
    days = bool((times == times.normalize()).all())
    return [Date(t.to_pydatetime(warn=False), days) for t in times]


def slices(path: str | Path, folder: Path) -> list[Slice]:
    """Return the dates of a stack on disk.

    Args:
        path: NetCDF or Zarr.
        folder: of the files that `copy` makes.
    """
    path = Path(path)
    array = open_stack(path)
    time = time_of(array, str(path))
    out = []
    for number, date in enumerate(dates_of(array, time)):
        file = folder / f"{path.stem}_{date.stem}.tif"
        # The copy says all of itself; what the command says is of the stack.
        source = Source(str(file), path.stem, f"{path} {date}", complete=True)
        out.append(Slice(array.isel({time: number}), Dated(source, date, time), path))
    return out


def holds(array: xr.DataArray, bands: list[str], options: ReadOptions) -> bool:
    """Return whether an array has bands of these names, told apart as `options` say."""
    try:
        _reading(array, bands, options)
    except BandError:
        return False
    return True


def _reading(array: xr.DataArray, bands: list[str], options: ReadOptions) -> Reading:
    return Reading.of(array, bands, options.only(bands))


def grid_of(part: Slice, bands: list[str], options: ReadOptions) -> Grid:
    """Return the grid of a date; raises what `copy` does."""
    return _named(part, bands, options).grid


def _named(part: Slice, bands: list[str], options: ReadOptions) -> Reading:
    """Tell bands and units of a date; errors name the file."""
    try:
        return _reading(part.array, bands, options)
    except CrossbandError as error:
        raise type(error)(str(error).replace("the DataArray", str(part.stack))) from error


def copy(part: Slice, bands: list[str], options: ReadOptions) -> None:
    """Write a date of a stack as GeoTIFF in physical units, some rows at a time.

    The file has the time of change of the stack, so that a later run knows what it need not do.

    Args:
        part: the date.
        bands: common names that are needed; other bands are left out.
        options: how the stack is read.

    Raises:
        InputError, BandError, UnitError: as with any DataArray.
    """
    reading = _named(part, bands, options)
    grid, out = reading.grid, Path(part.dated.source.path)
    numbers = reading.numbers(part.array)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": len(bands),
        "dtype": "float32",
        "nodata": float("nan"),
        "crs": grid.crs,
        "transform": grid.transform,
        "tiled": True,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    # GDAL's own rule for blocks: a multiple of 16, and not larger than the picture needs.
    profile |= {"blockxsize": 512, "blockysize": 512}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with gdal(), rasterio.open(out, "w", **profile) as file:
            for number, band in enumerate(reading.bands, start=1):
                file.set_band_description(number, band)
            file.units = [reading.radiometry.unit] * len(bands)
            for box in _rows(grid.height, grid.width):
                rows, _ = box.slices()
                stored = np.asarray(numbers.isel({reading.y: rows}).values)
                window = reading.window(stored, grid.crop(box))
                values = np.where(window.mask, window.values, np.float32("nan"))
                file.write(values, window=box.rasterio())
        state = part.stack.stat()
        os.utime(out, ns=(state.st_mtime_ns, state.st_mtime_ns))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {reason(error)}") from error


def _rows(height: int, width: int) -> Iterator[Box]:
    # Whole rows of blocks, so that none is compressed twice.
    step = max(_PIXELS_AT_ONCE // max(width, 1) // 512, 1) * 512
    for row in range(0, height, step):
        yield Box(row, 0, min(step, height - row), width)


def _engine(path: Path) -> str:
    """Return the engine of xarray that opens a file; InputError where its package is missing."""
    if path.suffix.lower() in ZARR:
        return _installed(path, "Zarr", {"zarr": "zarr"})
    try:
        with open(path, "rb") as file:
            first = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if first in _CLASSIC:
        return "scipy"
    engines = {"h5netcdf": "h5netcdf", "netCDF4": "netcdf4"}
    if first != _HDF5:  # NetCDF-3 with 64-bit numbers, or no NetCDF at all: the library says it
        del engines["h5netcdf"]
    return _installed(path, "NetCDF-4" if first == _HDF5 else "this kind of NetCDF", engines)


def _installed(path: Path, kind: str, engines: dict[str, str]) -> str:
    """Return the engine of the first package that is installed."""
    for package, engine in engines.items():
        if importlib.util.find_spec(package) is not None:
            return engine
    first = next(iter(engines))
    raise InputError(f"{path}: reading {kind} needs the package {first}: pip install {first}")


def _is_spatial(variable: xr.DataArray) -> bool:
    dims = {str(d) for d in variable.dims}
    across = {"x", "lon", "longitude", "easting"} & dims
    down = {"y", "lat", "latitude", "northing"} & dims
    return bool(across and down) and variable.ndim in (3, 4) and variable.dtype.kind in "iuf"


def _together(dataset: xr.Dataset, names: list[str]) -> xr.DataArray:
    """Return variables as the bands of one array, with their units."""
    array: xr.DataArray = dataset[names].to_array("band")
    units = [dataset[n].attrs.get("units") for n in names]
    if any(u is not None for u in units):
        array.attrs["units"] = units[0] if len(set(units)) == 1 else units
    mapping = dataset[names[0]].encoding.get("grid_mapping")
    if mapping is not None:
        array.encoding["grid_mapping"] = mapping  # where rioxarray finds the CRS
    return array
