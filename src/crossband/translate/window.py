"""Translate pixels in memory, and compute the windows of a tile plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.uncertain import channel_names
from crossband.raster.grid import Box, Window
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine
from crossband.translate.options import TileOptions
from crossband.translate.tiling import Postprocessor, Tiling


def translate_window(
    model: Model,
    window: Window,
    options: TileOptions = TileOptions(),
    guide: Callable[[Sequence[Box]], Tensor] | None = None,
) -> Window:
    """Translate pixels in memory; the window is treated as a whole scene.

    Args:
        model: loaded model.
        window: values [C, H, W] in physical units, with the model's source bands.
        options: device, precision, tiles and seed.
        guide: of a network that takes one; see `SceneConditions`.

    Returns:
        Values [Ct, H * scale, W * scale] in physical units, 0 where masked. For an uncertain model
        its further channels follow, see `model.uncertain.channel_names`.

    Raises:
        UnitError: the model does not take this unit.
        CrossbandError: the model does not take these bands or options.
    """
    check_source(model, window.unit, window.bands)
    engine = Engine(model, options.device, options.precision)
    tiling = Tiling.of(model, window.grid, options)
    conditions = SceneConditions(model.network, window.grid, options.seed, options.whole, guide)
    grid = window.grid.zoom(model.network.scale)
    out = np.zeros((engine.channels, grid.height, grid.width), np.float32)
    mask = np.zeros((grid.height, grid.width), bool)
    for box, values, valid in compute_windows(engine, tiling, conditions, window.crop):
        rows, cols = box.slices()
        out[:, rows, cols], mask[rows, cols] = values, valid
    unit = model.signature.target_unit(window.unit)
    return Window(out, mask, grid, channel_names(model), unit)


def compute_windows(
    engine: Engine,
    tiling: Tiling,
    conditions: SceneConditions,
    read: Callable[[Box], Window],
) -> Iterator[tuple[Box, NDArray[np.float32], NDArray[np.bool_]]]:
    """Compute the tiles of a plan, one batch after the other.

    Args:
        engine: the model.
        tiling: the plan.
        conditions: noise, style and places of the scene.
        read: returns the source window of a tile.

    Yields:
        Box on the target's grid, physical values [Ct, h, w] and mask [h, w].
    """
    postprocess = Postprocessor(engine, tiling)
    for batch in tiling.batches:
        prepared = engine.prepare(batch, [read(tile.source) for tile in batch.tiles], conditions)
        for box, values, mask, _ in postprocess(prepared, engine.compute(prepared)):
            yield box, values, mask


def check_source(model: Model, unit: str, bands: Sequence[str]) -> None:
    """Raise CrossbandError for a unit or bands that the model does not take."""
    model.signature.check_unit(unit)
    if tuple(bands) != tuple(model.signature.source):
        raise CrossbandError(
            f"{model.name} takes {', '.join(model.signature.source)}, not {', '.join(bands)}"
        )
