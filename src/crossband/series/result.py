"""The result of `Model.series`: a Dataset of maps, or a table of places."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import rioxarray
import xarray as xr

from crossband.core.options import from_keywords, keywords
from crossband.errors import CrossbandError, SomeFailed
from crossband.model import Model
from crossband.series import array_series
from crossband.series.dates import Date
from crossband.series.options import SeriesKeywords, SeriesOptions
from crossband.series.places import Place
from crossband.series.run import Series, series
from crossband.translate import lazy
from crossband.translate.options import TranslateOptions


def series_result(
    model: Model,
    scenes: Any,
    index: str | Sequence[str] = "NDVI",
    *,
    places: str | Path | Sequence[Place] | None = None,
    output: str | Path | None = None,
    **options: Unpack[SeriesKeywords],
) -> xr.Dataset | pd.DataFrame:
    """Return an index through time; see `Model.series`."""
    indices = [index] if isinstance(index, str) else list(index)
    names = keywords(SeriesOptions)
    if isinstance(scenes, xr.DataArray):
        if output is not None:
            raise CrossbandError("a DataArray gives a Dataset or a table: leave the output out")
        place_name = options.pop("place_name", None) if places is not None else None
        lazy.check_keywords(scenes, options)
        every = TranslateOptions.of(**options)  # type: ignore[misc]
        if places is None:
            return array_series.index_dataset(model, scenes, indices, every.read, every.tile)
        return array_series.place_statistics(
            model, scenes, indices, places, every.read, every.tile, place_name=place_name
        )
    inputs = [scenes] if isinstance(scenes, str | Path) else list(scenes)
    given: dict[str, Any] = dict(options)
    every = TranslateOptions.of(**{k: v for k, v in given.items() if k not in names})
    if output is not None:
        what = from_keywords(SeriesOptions, {"compared": places is None, **given})
        done = series(model, inputs, output, every, what, indices=indices, places=places)
        return _given(done, places is None)
    with tempfile.TemporaryDirectory(prefix="crossband-") as folder:
        fixed = {"stacked": places is None, "compared": places is None, "drawn": False}
        clash = next((name for name in fixed if name in given), None)
        if clash is not None:
            raise CrossbandError(f"{clash} is about files: give an output, too")
        what = from_keywords(SeriesOptions, given | fixed)
        done = series(model, inputs, folder, every, what, indices=indices, places=places)
        found = _given(done, places is None)
        if isinstance(found, xr.Dataset):
            found.load()
            found.close()
        return found


def _given(done: Series, maps: bool) -> xr.Dataset | pd.DataFrame:
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
