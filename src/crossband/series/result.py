"""The result of `Model.series`: a Dataset of maps, or a table of places."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import rioxarray
import xarray as xr

from crossband.core.dates import Date
from crossband.errors import CrossbandError, SomeFailed
from crossband.model import Model
from crossband.series import array_series
from crossband.series.options import SeriesKeywords, split_keywords
from crossband.series.places import Place
from crossband.series.run import series
from crossband.series.steps import Series
from crossband.translate import lazy


def series_result(
    model: Model,
    scenes: Any,
    index: str | Sequence[str] = "NDVI",
    *,
    places: str | Path | Sequence[Place] | None = None,
    output: str | Path | None = None,
    **options: Unpack[SeriesKeywords],
) -> xr.Dataset | pd.DataFrame:
    """Compute spectral indices through time; see `Model.series`."""
    _check_types(scenes, index, places, written=output is not None)
    indices = [index] if isinstance(index, str) else list(index)
    translate, series_options = split_keywords(**options)
    if places is None and output is None and translate.interval.interval is not None:
        raise CrossbandError(
            "interval: maps have none, it is that of the mean of a place; give places, or an "
            "output, whose table has the mean of all pixels"
        )
    if isinstance(scenes, xr.DataArray):
        if output is not None:
            raise CrossbandError("a DataArray gives a Dataset or a table: leave the output out")
        own = set() if places is None else {"place_name", "interval", "promise"}
        lazy.check_keywords(scenes, [name for name in options if name not in own], intervals=False)
        read, tile = translate.read, translate.tile
        if places is None:
            return array_series.index_dataset(model, scenes, indices, read, tile)
        name = series_options.place_name
        return array_series.place_statistics(
            model, scenes, indices, places, read, tile, translate.interval, place_name=name
        )
    inputs = [scenes] if isinstance(scenes, str | Path) else list(scenes)
    maps = places is None
    if output is not None:
        compared = options.get("compared", maps)
        series_options = replace(series_options, compared=compared)
        done = series(
            model, inputs, output, translate, series_options, indices=indices, places=places
        )
        return _maps_or_table(done, maps)
    clash = next((name for name in ("stacked", "compared", "drawn") if name in options), None)
    if clash is not None:
        raise CrossbandError(f"{clash} is about files: give an output, too")
    series_options = replace(series_options, stacked=maps, compared=maps, drawn=False)
    with tempfile.TemporaryDirectory(prefix="crossband-") as folder:
        done = series(
            model, inputs, folder, translate, series_options, indices=indices, places=places
        )
        result = _maps_or_table(done, maps)
        if isinstance(result, xr.Dataset):
            result.load()
            result.close()
        return result


def _maps_or_table(done: Series, maps: bool) -> xr.Dataset | pd.DataFrame:
    if done.failed:
        name, why = next(iter(done.failed.items()))
        raise SomeFailed(f"{len(done.failed)} scenes failed, as {name}: {why}")
    if not maps or not done.stacks:
        return done.table
    return open_stacks(done.stacks, done.labels)


def open_stacks(stacks: Mapping[str, Path], labels: Sequence[str]) -> xr.Dataset:
    """Open raster stacks lazily as variables (time, y, x).

    Args:
        stacks: name of the variable -> path.
        labels: dates of the bands.
    """
    times = [Date.parse(label).time.replace(tzinfo=None) for label in labels]
    out = {}
    for name, path in stacks.items():
        array = rioxarray.open_rasterio(path)
        assert isinstance(array, xr.DataArray)
        named = array.rename(band="time").assign_coords(time=pd.DatetimeIndex(times))
        kept = {k: v for k, v in named.attrs.items() if k.startswith(("CROSSBAND_", "TIFFTAG_"))}
        named.attrs = {**kept, "units": "1"}
        out[name] = named.rename(name).rio.write_nodata(float("nan"))
    return xr.Dataset(out)


def _check_types(scenes: Any, index: Any, places: Any, *, written: bool) -> None:
    """Raise CrossbandError for arguments of another type than `series_result` takes.

    Args:
        scenes: its argument.
        index: its argument.
        places: its argument.
        written: files are written, so that a result without any place is one, too.
    """
    names = [index] if isinstance(index, str) else index
    if not isinstance(names, list | tuple) or not names or not all(type(n) is str for n in names):
        raise CrossbandError(f"index: the name of an index, or a list of them, not {index!r:.60}")
    named = isinstance(places, list | tuple) and all(isinstance(p, Place) for p in places)
    if not (places is None or isinstance(places, str | Path) or (named and (places or written))):
        raise CrossbandError(
            f"places: a GeoJSON file, or a list of series.places.Place, not {places!r:.60}"
        )
    if isinstance(scenes, xr.DataArray | str | Path):
        return
    if not isinstance(scenes, list | tuple) or not all(isinstance(s, str | Path) for s in scenes):
        raise CrossbandError(
            f"scenes: paths, or a DataArray with a time, not {type(scenes).__name__}"
        )
