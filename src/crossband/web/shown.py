"""A scene as the page shows it, and a layer of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.model import Model
from crossband.raster.grid import Box, Window
from crossband.web.guides import OpenGuide
from crossband.web.previews import Cell, Previews, cells_of
from crossband.web.scenes import OpenResult, OpenScene
from crossband.web.views import View

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """Something that is shown of a scene, in physical units.

    Attributes:
        name: in addresses.
        title: for people.
        unit: of its values.
        bands: names of its one or three bands.
        view: how its pixels lie in the map.
        read: returns values [C, h, w] of a box of these pixels, or every n-th of them, NaN where
            nothing is known; None where a cell is missing.
        ranges: of each band, before anybody has looked at its distribution.
        colours: colour map of a single band; see `render`.
        cells: returns the cells that must be computed before a box is read.
        computed: its pixels are computed when they are looked at, so from near only.
    """

    name: str
    title: str
    unit: str
    bands: tuple[str, ...]
    view: View
    read: Callable[[Box, int], Array | None]
    ranges: tuple[tuple[float, float], ...]
    colours: str = "grey"
    cells: Callable[[Box], Sequence[Cell]] = field(default=lambda _: ())
    computed: bool = False

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to know of it."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "bands": list(self.bands),
            "ranges": [list(pair) for pair in self.ranges],
            "colours": self.colours,
            "computed": self.computed,
        }


@dataclass(frozen=True)
class Shown:
    """A scene, a model, and where the pixels of the result come from.

    Attributes:
        scene: the source.
        model: of the result.
        previews: compute it where there is no file.
        result: the finished file of a job, open; None without one.
        guide: of the result; None without one.
        guided: the result has a guide, or needs one.
    """

    scene: OpenScene
    model: Model
    previews: Previews
    result: OpenResult | None = None
    guide: OpenGuide | None = None
    guided: bool = False

    @property
    def unit(self) -> str:
        """Unit of the result; that of its guide where the scene has no physical one."""
        given = self.result or self.guide
        return self.model.signature.target_unit(self.scene.unit) if given is None else given.unit

    @property
    def ranges(self) -> Sequence[tuple[float, float]]:
        """Ranges of the bands of the result."""
        units = self.model.signature.units
        return units[self.unit if self.unit in units else self.scene.unit].target

    def cells(self, box: Box) -> Sequence[Cell]:
        """Return the cells of the result that a box needs."""
        if self.result is not None:
            return ()
        return cells_of(self.scene, self.model, box, guide=self.guide)

    def synthetic(self, box: Box, factor: int) -> Array | None:
        """Return the result [C, h, w], NaN where masked; None where a cell is missing."""
        signature = self.model.signature
        if self.result is not None:
            return nan_where_masked(self.result.read_thinned(box, factor))
        return self.previews.read(
            self.cells(box), box, self.model.network.scale, len(signature.target)
        )

    @property
    def can_compute(self) -> bool:
        """Whether windows can be computed on their own, or there is a file."""
        if self.result is not None:
            return True
        if (self.guide is not None and self.guide.note) or self.wants_guide:
            return False
        return self.model.network.margin is not None

    @property
    def wants_guide(self) -> bool:
        """Whether the network takes a guide, and none is chosen."""
        taken = self.guide is not None or self.result is not None
        return bool(self.model.signature.guide) and not taken


def nan_where_masked(window: Window) -> Array:
    """Return the values [C, h, w] of a window, NaN where they are masked."""
    return np.where(window.mask, window.values, np.float32(np.nan))
