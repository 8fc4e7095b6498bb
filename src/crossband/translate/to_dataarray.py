"""Translate a scene into a DataArray in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401 - gives arrays their `rio`
import xarray as xr

from crossband.core.warned import warn
from crossband.errors import MaskedError
from crossband.model import Model
from crossband.model.uncertain import DISSIMILARITY
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.translate.conditions import SceneConditions
from crossband.translate.dataarray import long_name
from crossband.translate.familiarity import UNFAMILIAR_TAG, counted, scene_familiarity
from crossband.translate.options import NO_INTERVALS, IntervalOptions, TileOptions
from crossband.translate.provenance import translation_tags
from crossband.translate.tiling import Tiling, with_surroundings
from crossband.translate.uncertain_bands import SureBands
from crossband.translate.uncertain_files import ready_model
from crossband.translate.unit_check import warn_of_unit
from crossband.translate.window import check_source, translate_window


def translate_to_array(
    model: Model,
    source: str | Path,
    read: ReadOptions = ReadOptions(),
    tile: TileOptions = TileOptions(),
    sure: IntervalOptions = NO_INTERVALS,
) -> xr.DataArray:
    """Translate a scene and return it as a DataArray.

    Args:
        model: loaded model.
        source: what `translate.scene.translate_scene` takes.
        read: how the scene is read.
        tile: how it is computed.
        sure: intervals and familiarity, as further bands.

    Returns:
        float32 (band, y, x) in physical units, NaN where masked, with `rio.crs`, `rio.transform`
        and `rio.nodata`; `attrs` say that it is synthetic.

    Raises:
        InputError, BandError, UnitError: the scene cannot be read, or not by this model.
        MaskedError: every pixel is masked.
    """
    model.check_unguided("a DataArray as result takes")
    with open_scene(source, read, needed=model.signature.source) as scene:
        scene.warn_of_bands()
        check_source(model, scene.unit, scene.bands)
        warn_of_unit(model, scene.unit, scene.path)
        found = scene_familiarity(model, scene)
        model = ready_model(model, sure, scene.unit)
        bands = SureBands.of(model, sure, scene.unit, read.sensor)
        own = scene.grid.box
        seen = with_surroundings(scene, model.network)
        window = scene.read(seen)
        tiling = Tiling.of(model, window.grid, tile)
        conditions = SceneConditions(model.network, scene.grid, tile.seed)
        seed = conditions.seed if conditions.draws else None
        tags = translation_tags(model, scene.path, exact=tiling.exact, seed=seed)
    core = own.relative_to(seen)
    if not window.mask[core.slices()].any():
        raise MaskedError(f"{source}: every pixel is masked (nodata, NaN or alpha)")
    result = translate_window(model, window, tile).crop(core.scaled(model.network.scale))
    values, grid = bands.apply(result.values, result.mask), result.grid
    values = np.where(result.mask, values, np.float32("nan"))
    if sure.familiarity:
        found = counted(found, values[bands.names.index(DISSIMILARITY)])
    if found is not None:
        tags[UNFAMILIAR_TAG] = f"{found.share:.3f}"
        if found.line:
            warn(f"{source}: {found.line}")
    array = xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={"band": list(bands.names)},
        name=bands.names[0] if len(bands.names) == 1 else model.name,
        attrs={"long_name": long_name(bands.names), **tags, **bands.attributes(result.unit)},
    )
    if not grid.transform.is_identity and grid.transform.is_rectilinear:
        cols, rows = np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5
        array = array.assign_coords(
            x=grid.transform.c + cols * grid.transform.a,
            y=grid.transform.f + rows * grid.transform.e,
        )
    if grid.crs is not None:
        array = array.rio.write_crs(grid.crs)
    array = array.rio.write_transform(grid.transform)
    if grid.gcps:
        array = array.rio.write_gcps(grid.gcps, grid.gcps_crs)
    marked: xr.DataArray = array.rio.write_nodata(float("nan"))
    return marked
