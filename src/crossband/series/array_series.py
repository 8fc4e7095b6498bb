"""Time series of a DataArray; lazy where the array is in dask chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from crossband.core import indices
from crossband.errors import BandError, CrossbandError, InputError
from crossband.metrics.families.index import written_index
from crossband.model import Model
from crossband.raster.grid import Box
from crossband.raster.options import ReadOptions
from crossband.series import cubes, maps, measure, places
from crossband.series.field_widths import FieldWidths, with_field_intervals
from crossband.series.places import Place
from crossband.translate.dataarray import ArrayReader
from crossband.translate.lazy import translate_array
from crossband.translate.options import (
    NO_INTERVALS,
    IntervalOptions,
    TileOptions,
    TranslateOptions,
)
from crossband.translate.provenance import synthetic_tags, tags_beside
from crossband.translate.uncertain_bands import SIDES
from crossband.translate.width_files import calibrated_windows


def index_dataset(
    model: Model,
    array: xr.DataArray,
    index: Sequence[str] = ("NDVI",),
    read: ReadOptions = ReadOptions(),
    tile: TileOptions = TileOptions(),
    sure: IntervalOptions = NO_INTERVALS,
) -> xr.Dataset:
    """Compute spectral indices of an array through time.

    Args:
        model: loaded model.
        array: dimensions of time, bands, rows and columns, in any order; the coordinates of time
            are dates. In memory, or in dask chunks.
        index: names.
        read: see `translate.lazy.translate_array`.
        tile: see `translate.lazy.translate_array`.
        sure: a level adds the widths of each index before any factor, `NDVI_below` and
            `NDVI_above`, of which intervals of means over fields are made.

    Returns:
        Variables (time, y, x), float32, NaN where masked, sorted by date: `NDVI` of synthetic
        bands; and where the array has the measured bands, told by their names, `NDVI_true` and
        `NDVI_difference`, which is synthetic less true. In chunks where the array is.

    Raises:
        InputError: no dates, or one of them twice.
        CrossbandError: see `translate.lazy.translate_array`; a model that makes pixels finer.
    """
    if model.network.scale != 1:
        raise CrossbandError(
            f"{model.name} makes pixels {model.network.scale} times finer: an index needs source "
            f"and target on one grid"
        )
    time = cubes.time_dimension(array)
    if array.ndim != 4:
        raise InputError(
            f"the DataArray: a series has dates, bands, rows and columns, and it has "
            f"{', '.join(map(str, array.dims))}"
        )
    source = list(model.signature.source)
    own = read.only(source)  # without measured bands, which the model does not take
    widths = () if sure.interval is None else tuple(index)
    made = translate_array(model, array, own, tile, sure, widths)
    reader = ArrayReader.of(array, source, own)
    band, unit = reader.band, model.signature.target_unit(reader.radiometry.unit)
    synthetic = {name: made.sel({band: name}, drop=True) for name in model.signature.target}
    out: dict[str, xr.DataArray] = {}
    for name in index:
        wanted, plain = maps.split_bands(model, name)
        measured = _physical(array, plain, read)
        fields = {**{n: synthetic[n] for n in wanted}, **measured}
        out[name] = _index(name, fields, array, time, unit)
        tags = synthetic_tags(model, str(array.name or "DataArray"))
        out[name].attrs = {**tags_beside(tags, (name,)), "units": "1"}
        for side in SIDES if widths else ():
            width = made.sel({band: f"{name}_{side}"}, drop=True).assign_attrs(units="1")
            out[f"{name}_{side}"] = width.transpose(time, array.rio.y_dim, array.rio.x_dim)
        try:
            known = {**measured, **_physical(array, wanted, read)}
        except BandError:
            continue  # the array has no measured bands
        true = _index(name, known, array, time, unit)
        out[f"{name}_true"] = true.assign_attrs(units="1", long_name=f"{name} of measured bands")
        difference = out[name] - true
        out[f"{name}_difference"] = difference.assign_attrs(out[name].attrs)
    for name, one in out.items():
        out[name] = one.rename(name)
        out[name].encoding["grid_mapping"] = array.rio.grid_mapping
    return xr.Dataset(out).sortby(time)


def place_statistics(
    model: Model,
    array: xr.DataArray,
    index: Sequence[str],
    given: str | Path | Sequence[Place],
    read: ReadOptions = ReadOptions(),
    tile: TileOptions = TileOptions(),
    sure: IntervalOptions = NO_INTERVALS,
    *,
    place_name: str | None = None,
) -> pd.DataFrame:
    """Compute the statistics of places through time, with one date in memory at a time.

    Args:
        model: see `index_dataset`.
        array: see `index_dataset`.
        index: see `index_dataset`.
        given: GeoJSON file, or places.
        read: see `index_dataset`.
        tile: see `index_dataset`.
        sure: level and promise of the intervals of the means.
        place_name: property of the GeoJSON with their names.

    Returns:
        A table with the columns `measure.COLUMNS`, and with intervals `measure.BOUNDS`.

    Raises:
        CrossbandError: see `index_dataset` and `field_widths.with_field_intervals`.
    """
    sure = with_field_intervals(model, index, TranslateOptions(interval=sure)).interval
    wanted = places.read_places(given, place_name) if isinstance(given, str | Path) else list(given)
    every = index_dataset(model, array, index, read, tile, sure)
    time = cubes.time_dimension(every[index[0]])
    source = list(model.signature.source)
    reader = ArrayReader.of(array, source, read.only(source))
    found = [f for p in wanted if (f := places.locate_place(p, reader.grid, "the DataArray"))]
    rows, factors = [], {}
    if sure.interval is not None:
        unit = reader.radiometry.unit
        factors = {n: calibrated_windows(model, n, sure, unit, read.sensor) for n in index}
    dates = cubes.cube_dates(every[index[0]], time)
    for number, date in enumerate(dates):
        now = every.isel({time: number}).compute()
        for name in index:
            made = _map(now[name], name, reader)
            true = _map(now[f"{name}_true"], name, reader) if f"{name}_true" in now else None
            widths = _widths(now, name, reader, factors[name]) if factors else None
            for place in found:
                row = measure.place_row(place, str(date), str(array.name or ""), made, true, widths)
                if row is not None:
                    rows.append(row)
    return measure.place_table(rows, [p.name for p in wanted], index, bounds=bool(factors))


def _widths(
    now: xr.Dataset, name: str, reader: ArrayReader, factors: dict[int, float]
) -> FieldWidths:
    planes = np.stack([_plane(now[f"{name}_{side}"], reader) for side in SIDES])
    return FieldWidths(name, lambda box: planes[:, *box.slices()], factors)


def _plane(values: xr.DataArray, reader: ArrayReader) -> NDArray[np.float32]:
    plane: NDArray[np.float32] = values.transpose(reader.y, reader.x).values
    return plane


def _map(values: xr.DataArray, name: str, reader: ArrayReader) -> maps.ComputedIndex:
    plane = _plane(values, reader)

    def read(box: Box) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        part = plane[box.slices()]
        return part, np.isfinite(part)

    return maps.ComputedIndex(name, reader.grid, read)


def _physical(
    array: xr.DataArray, bands: Sequence[str], read: ReadOptions
) -> dict[str, xr.DataArray]:
    """Convert bands to physical units, NaN where masked."""
    if not bands:
        return {}
    reader = ArrayReader.of(array, list(bands), read.only(bands))
    r, out = reader.radiometry, {}
    for number, (name, chosen) in enumerate(zip(reader.bands, reader.positions, strict=True)):
        stored = array.isel({reader.band: chosen}, drop=True)
        one = type(r)(
            r.unit, (r.scale[number],), (r.offset[number],), (r.nodata[number],), r.power, r.origin
        )
        out[name] = xr.apply_ufunc(
            _values,
            stored,
            kwargs={"radiometry": one},
            dask="parallelized",
            output_dtypes=[np.float32],
        )
    return out


def _values(stored: NDArray[Any], radiometry: Any) -> NDArray[np.float32]:
    values, valid = radiometry.physical(stored.reshape(1, 1, -1))
    masked: NDArray[np.float32] = np.where(valid, values[0], np.float32("nan")).reshape(
        stored.shape
    )
    return masked


def _index(
    name: str, fields: dict[str, xr.DataArray], array: xr.DataArray, time: str, unit: str
) -> xr.DataArray:
    """Compute an index (time, y, x), NaN where it is not defined."""
    fields = {k: v.drop_attrs(deep=False) for k, v in fields.items()}
    bands = indices.required_bands(name)
    kept = xr.apply_ufunc(
        _written_index,
        *(fields[band] for band in bands),
        kwargs={"name": name, "bands": bands, "unit": unit},
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    ordered: xr.DataArray = kept.transpose(time, array.rio.y_dim, array.rio.x_dim)
    return ordered


def _written_index(
    *values: NDArray[np.float32], name: str, bands: Sequence[str], unit: str
) -> NDArray[np.float32]:
    """Return an index of bands of one shape, NaN where it is not defined."""
    index, defined = written_index(name, dict(zip(bands, values, strict=True)), unit)
    masked: NDArray[np.float32] = np.where(defined, index, np.float32("nan"))
    return masked
