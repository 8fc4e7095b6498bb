"""What `Model.series` gives: a Dataset of maps, or a table of places."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import rioxarray
import xarray as xr

from crossband.errors import CrossbandError, SomeFailed
from crossband.model import Model
from crossband.series import arrays
from crossband.series.dates import Date
from crossband.series.places import Place
from crossband.series.run import Series, series


def answer(
    model: Model,
    scenes: Any,
    index: str | Sequence[str] = "NDVI",
    *,
    places: str | Path | Sequence[Place] | None = None,
    place_name: str | None = None,
    output: str | Path | None = None,
    **options: Any,
) -> xr.Dataset | pd.DataFrame:
    """Return an index through time; see `Model.series`."""
    indices = [index] if isinstance(index, str) else list(index)
    if isinstance(scenes, xr.DataArray):
        if output is not None:
            raise CrossbandError("a DataArray gives a Dataset or a table: leave the output out")
        if places is None:
            return arrays.dataset(model, scenes, indices, **options)
        return arrays.frame(model, scenes, indices, places, place_name=place_name, **options)
    inputs = [scenes] if isinstance(scenes, str | Path) else list(scenes)
    how: dict[str, Any] = {"indices": indices, "places": places, "place_name": place_name}
    if output is not None:
        options.setdefault("compared", places is None)
        done = series(model, inputs, output, **how, **options)
        return _given(done, places is None)
    with tempfile.TemporaryDirectory(prefix="crossband-") as folder:
        fixed: dict[str, Any] = {
            "stacked": places is None,
            "compared": places is None,
            "drawn": False,
        }
        clash = next((name for name in fixed if name in options), None)
        if clash is not None:
            raise CrossbandError(f"{clash} is about files: give an output, too")
        done = series(model, inputs, folder, **how, **fixed, **options)
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
    return dataset(done.stacks, done.labels)


def dataset(stacks: Mapping[str, Path], labels: Sequence[str]) -> xr.Dataset:
    """Open stacks as variables (time, y, x), lazily.

    Args:
        stacks: name -> file.
        labels: dates of their bands.
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
