"""The error of a model where both its source and its target were measured."""

from __future__ import annotations

import numpy as np

from crossband.model import Model
from crossband.raster.grid import Box, Window
from crossband.raster.warp import BandView, Readable
from crossband.translate.difference import subtract
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

#: Pixels around a block that a network without a margin sees as well.
_SURROUNDINGS = 64


class MeasuredError:
    """How far measured values of a scene are from computed ones, read by window.

    See `difference` for what that is in each unit.

    Args:
        model: with one output pixel for each source pixel.
        source: with the bands that the model takes, in a unit that it takes.
        target: the bands that it gives, in its unit, on the same grid.
        options: device, precision and seed.

    Attributes:
        source: the bands that the model takes, in their order.
    """

    def __init__(
        self, model: Model, source: Readable, target: Readable, options: TileOptions
    ) -> None:
        self.grid, self.unit, self.bands = target.grid, target.unit, target.bands
        self._model, self._options = model, options
        self.source, self._target = BandView(source, tuple(model.signature.source)), target
        network = model.network
        margin = _SURROUNDINGS if network.margin is None else network.margin
        # Blocks begin at multiples of the stride, as tiles do.
        self._edge = -(-margin // network.stride) * network.stride
        self._stride = network.stride

    def read(self, box: Box) -> Window:
        """Read a rectangle; it is masked where any of the bands is."""
        row, col = box.row % self._stride, box.col % self._stride
        aligned = Box(box.row - row, box.col - col, box.height + row, box.width + col)
        outer = aligned.expanded(self._edge, self.grid.box)
        computed = translate_window(self._model, self.source.read(outer), self._options)
        found = computed.crop(box.relative_to(outer))
        measured = self._target.read(box)
        mask = found.mask & measured.mask
        values = np.where(mask, subtract(measured.values, found.values, self.unit), np.float32(0.0))
        return Window(values, mask, found.grid, self.bands, self.unit)
