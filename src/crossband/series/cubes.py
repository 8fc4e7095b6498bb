"""Data cubes with dates, as NetCDF, Zarr or a DataArray, and their dates as scenes.

A cube on disk is opened lazily with xarray. Its bands are the variables of the Dataset that have
rows and columns, or the bands of its one variable with a band dimension.
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

from crossband.core.dates import Date
from crossband.core.regular_file import open_regular_file
from crossband.errors import BandError, CrossbandError, InputError, OutputError
from crossband.jobs.dates import DatedScene
from crossband.jobs.inputs import SceneInput
from crossband.raster.gdal import gdal, reason
from crossband.raster.grid import Box, Grid
from crossband.raster.options import ReadOptions
from crossband.translate.dataarray import ArrayReader

#: Endings of data cubes.
NETCDF, ZARR = (".nc", ".nc4", ".cdf"), (".zarr",)
#: First bytes of NetCDF-3 and of NetCDF-4 files.
_CLASSIC, _HDF5 = (b"CDF\x01", b"CDF\x02"), b"\x89HDF"
#: Pixels that are copied at once.
_PIXELS_AT_ONCE = 2**20


@dataclass(frozen=True)
class CubeSlice:
    """A date of a cube: the array of its bands, and the file that it is copied to.

    Attributes:
        array: dimensions of bands, rows and columns.
        dated: the copy as a dated scene.
        cube: path of the cube.
    """

    array: xr.DataArray
    dated: DatedScene
    cube: Path


def is_cube(text: str) -> bool:
    """Return whether an input is a data cube, by its ending."""
    return Path(text).suffix.lower() in (*NETCDF, *ZARR)


def open_cube(path: str | Path) -> xr.DataArray:
    """Open a data cube lazily.

    Returns:
        An array with a dimension of dates; see `time_dimension`.

    Raises:
        InputError: missing, not a data cube, or in a format whose package is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        dataset = xr.open_dataset(path, engine=_engine(path), decode_coords="all")
    except Exception as error:  # SciPy raises whatever comes of the bytes, as MemoryError
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


def time_dimension(array: xr.DataArray, label: str = "the DataArray") -> str:
    """Return the name of the dimension of dates.

    Args:
        array: a data cube.
        label: its name in messages.

    Raises:
        InputError: not exactly one dimension has dates; a date is missing or occurs twice.
    """
    names = [
        str(d)
        for d in array.dims
        if d in array.coords and np.issubdtype(array.coords[d].dtype, np.datetime64)
    ]
    if len(names) != 1:
        raise InputError(
            f"{label}: {len(names) or 'none'} of its dimensions {', '.join(map(str, array.dims))} "
            f"{'has' if not names else 'have'} dates as coordinates; one is needed, as time"
        )
    times = pd.DatetimeIndex(array.coords[names[0]].values)
    if times.hasnans or not times.is_unique:
        wrong = "a date is missing" if times.hasnans else "a date is there twice"
        raise InputError(f"{label}: {wrong} along {names[0]}")
    return names[0]


def cube_dates(array: xr.DataArray, time: str) -> list[Date]:
    """Return the dates of a cube, in its order; without time of day where all are midnight."""
    times = pd.DatetimeIndex(array.coords[time].values).tz_localize("UTC")
    days = bool((times == times.normalize()).all())
    return [Date(t.to_pydatetime(warn=False), days) for t in times]


def cube_slices(path: str | Path, folder: Path) -> list[CubeSlice]:
    """Return the dates of a cube on disk.

    Args:
        path: NetCDF or Zarr.
        folder: into which `copy_slice` writes.
    """
    path = Path(path)
    array = open_cube(path)
    time = time_dimension(array, str(path))
    out = []
    for number, date in enumerate(cube_dates(array, time)):
        file = folder / f"{path.stem}_{date.stem}.tif"
        # The copy is in physical units: the options of the run apply to the cube only.
        source = SceneInput(str(file), path.stem, f"{path} {date}", complete=True)
        out.append(CubeSlice(array.isel({time: number}), DatedScene(source, date, time), path))
    return out


def has_bands(array: xr.DataArray, bands: list[str], options: ReadOptions) -> bool:
    """Return whether an array has bands of these names, where `options` may name them."""
    try:
        _reading(array, bands, options)
    except BandError:
        return False
    return True


def _reading(array: xr.DataArray, bands: list[str], options: ReadOptions) -> ArrayReader:
    return ArrayReader.of(array, bands, options.only(bands))


def slice_grid(part: CubeSlice, bands: list[str], options: ReadOptions) -> Grid:
    """Return the grid of a date; see `copy_slice` for errors."""
    return _named(part, bands, options).grid


def _named(part: CubeSlice, bands: list[str], options: ReadOptions) -> ArrayReader:
    """Find bands and units of a date; errors name the cube."""
    try:
        return _reading(part.array, bands, options)
    except CrossbandError as error:
        raise type(error)(str(error).replace("the DataArray", str(part.cube))) from error


def copy_slice(part: CubeSlice, bands: list[str], options: ReadOptions) -> None:
    """Write a date of a cube as GeoTIFF in physical units, some rows at a time.

    The copy gets the modification time of the cube, so that a later run finds its result up to
    date.

    Args:
        part: the date.
        bands: common names of the bands to copy.
        options: how the cube is read.

    Raises:
        InputError, BandError, UnitError: see `translate.dataarray.ArrayReader.of`.
        OutputError: the copy cannot be written.
    """
    reader = _named(part, bands, options)
    grid, out = reader.grid, Path(part.dated.source.path)
    numbers = reader.stored(part.array)
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
    profile |= {"blockxsize": 512, "blockysize": 512}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with gdal(), rasterio.open(out, "w", **profile) as file:
            for number, band in enumerate(reader.bands, start=1):
                file.set_band_description(number, band)
            file.units = [reader.radiometry.unit] * len(bands)
            for box in _rows(grid.height, grid.width):
                rows, _ = box.slices()
                stored = np.asarray(numbers.isel({reader.y: rows}).values)
                window = reader.window(stored, grid.crop(box))
                values = np.where(window.mask, window.values, np.float32("nan"))
                file.write(values, window=box.rasterio())
        state = part.cube.stat()
        os.utime(out, ns=(state.st_mtime_ns, state.st_mtime_ns))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {reason(error)}") from error


def _rows(height: int, width: int) -> Iterator[Box]:
    # Whole rows of blocks, so that no block is compressed twice.
    step = max(_PIXELS_AT_ONCE // max(width, 1) // 512, 1) * 512
    for row in range(0, height, step):
        yield Box(row, 0, min(step, height - row), width)


def _engine(path: Path) -> str:
    """Return xarray's engine for a file; InputError where its package is missing."""
    if path.suffix.lower() in ZARR:
        return _installed(path, "Zarr", {"zarr": "zarr"})
    with open_regular_file(path) as file:
        first = file.read(4)
    if first in _CLASSIC:
        return "scipy"
    engines = {"h5netcdf": "h5netcdf", "netCDF4": "netcdf4"}
    if first != _HDF5:  # NetCDF-3 with 64-bit integers, or another format: netCDF4 reports it
        del engines["h5netcdf"]
    return _installed(path, "NetCDF-4" if first == _HDF5 else "this kind of NetCDF", engines)


def _installed(path: Path, kind: str, engines: dict[str, str]) -> str:
    """Return the engine of the first package that is installed; InputError where none is."""
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
    """Join variables as the bands of one array, with their units."""
    array: xr.DataArray = dataset[names].to_array("band")
    units = [dataset[n].attrs.get("units") for n in names]
    if any(u is not None for u in units):
        array.attrs["units"] = units[0] if len(set(units)) == 1 else units
    mapping = dataset[names[0]].encoding.get("grid_mapping")
    if mapping is not None:
        array.encoding["grid_mapping"] = mapping  # where rioxarray finds the CRS
    return array
