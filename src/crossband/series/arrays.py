"""An index through time of a DataArray: lazily where it is in chunks, as `lazy` translates it."""

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
from crossband.model import Model
from crossband.raster.grid import Box
from crossband.raster.options import ReadOptions
from crossband.series import maps, measure, places, stack
from crossband.series.places import Place
from crossband.translate.dataarray import Reading
from crossband.translate.lazy import translate_array
from crossband.translate.options import TileOptions
from crossband.translate.provenance import synthetic_tags


def dataset(
    model: Model,
    array: xr.DataArray,
    index: Sequence[str] = ("NDVI",),
    read: ReadOptions = ReadOptions(),
    tile: TileOptions = TileOptions(),
) -> xr.Dataset:
    """Return indices of an array through time.

    Args:
        model: loaded model.
        array: dimensions of time, bands, rows and columns, in any order; the one of time has dates
            as coordinates. In memory, or in chunks of dask.
        index: names.
        read: see `translate.lazy.translate_array`.
        tile: see there.

    Returns:
        Variables (time, y, x), float32, NaN where masked, sorted by date: `NDVI` of synthetic
        bands; and where the array has the measured bands, told by their names, `NDVI_true` and
        `NDVI_difference`, which is synthetic less true. In chunks where the array is.

    Raises:
        InputError: no dates, or one twice.
        CrossbandError: what `translate.lazy.translate_array` raises; a model that makes
            pixels finer.
    """
    if model.network.scale != 1:
        raise CrossbandError(
            f"{model.name} makes pixels {model.network.scale} times finer: an index needs source "
            f"and target on one grid"
        )
    time = stack.time_of(array)
    if array.ndim != 4:
        raise InputError(
            f"the DataArray: a series has dates, bands, rows and columns, and it has "
            f"{', '.join(map(str, array.dims))}"
        )
    source = list(model.signature.source)
    own = read.only(source)  # it may name measured bands, which the model does not take
    made = translate_array(model, array, own, tile)
    band = Reading.of(array, source, own).band
    synthetic = {name: made.sel({band: name}, drop=True) for name in model.signature.target}
    out: dict[str, xr.DataArray] = {}
    for name in index:
        wanted, plain = maps.needs(model, name)
        measured = _physical(array, plain, read)
        fields = {**{n: synthetic[n] for n in wanted}, **measured}
        out[name] = _index(name, fields, array, time)
        out[name].attrs = {**synthetic_tags(model, str(array.name or "DataArray")), "units": "1"}
        try:
            known = {**measured, **_physical(array, wanted, read)}
        except BandError:
            continue  # the array does not have them
        true = _index(name, known, array, time)
        out[f"{name}_true"] = true.assign_attrs(units="1", long_name=f"{name} of measured bands")
        difference = out[name] - true
        out[f"{name}_difference"] = difference.assign_attrs(out[name].attrs)
    for name, one in out.items():
        out[name] = one.rename(name)
        out[name].encoding["grid_mapping"] = array.rio.grid_mapping
    return xr.Dataset(out).sortby(time)


def frame(
    model: Model,
    array: xr.DataArray,
    index: Sequence[str],
    given: str | Path | Sequence[Place],
    read: ReadOptions = ReadOptions(),
    tile: TileOptions = TileOptions(),
    *,
    place_name: str | None = None,
) -> pd.DataFrame:
    """Return the statistics of places through time: `measure.COLUMNS`; one date is in memory.

    Args:
        model: see `dataset`.
        array: see there.
        index: see there.
        given: GeoJSON, or places.
        place_name: property of the GeoJSON that names them.
        read: see `dataset`.
        tile: see there.
    """
    wanted = places.read(given, place_name) if isinstance(given, str | Path) else list(given)
    every = dataset(model, array, index, read, tile)
    time = stack.time_of(every[index[0]])
    source = list(model.signature.source)
    reading = Reading.of(array, source, read.only(source))
    found = [f for p in wanted if (f := places.locate(p, reading.grid, "the DataArray"))]
    rows = []
    dates = stack.dates_of(every[index[0]], time)
    for number, date in enumerate(dates):
        now = every.isel({time: number}).compute()
        for name in index:
            made = _map(now[name], name, reading)
            true = _map(now[f"{name}_true"], name, reading) if f"{name}_true" in now else None
            for place in found:
                row = measure.row(place, str(date), str(array.name or ""), made, true)
                if row is not None:
                    rows.append(row)
    return measure.table(rows, [p.name for p in wanted], index)


def _map(values: xr.DataArray, name: str, reading: Reading) -> maps.Values:
    plane = values.transpose(reading.y, reading.x).values

    def read(box: Box) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        part = plane[box.slices()]
        return part, np.isfinite(part)

    return maps.Values(name, reading.grid, read)


def _physical(
    array: xr.DataArray, bands: Sequence[str], read: ReadOptions
) -> dict[str, xr.DataArray]:
    """Return bands in physical units, NaN where they are masked."""
    if not bands:
        return {}
    told = Reading.of(array, list(bands), read.only(bands))
    r, out = told.radiometry, {}
    for number, (name, chosen) in enumerate(zip(told.bands, told.chosen, strict=True)):
        stored = array.isel({told.band: chosen}, drop=True)
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
    name: str, fields: dict[str, xr.DataArray], array: xr.DataArray, time: str
) -> xr.DataArray:
    """Return an index (time, y, x), NaN where it is not defined."""
    fields = {k: v.drop_attrs(deep=False) for k, v in fields.items()}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = indices.compute(name, fields)
    kept = values.where(np.isfinite(values)).astype(np.float32)
    ordered: xr.DataArray = kept.transpose(time, array.rio.y_dim, array.rio.x_dim)
    return ordered
