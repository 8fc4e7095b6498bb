"""Guides that are open: windows of a result are corrected by them as they are looked at.

The difference between guide and result depends on the result nearby only (see
`translate.residual.Difference`). So a window is corrected without the rest of the scene, and has
the values of the file. Where the correction depends on the whole result, a small scene is computed
whole, and of a large one there is no preview. A network that was trained with a guide gets the
guide's pixels of each window.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossband.core.warned import collected_warnings
from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box, Window
from crossband.raster.warp import Readable
from crossband.translate.correction import GuideCorrection
from crossband.translate.guide_file import POOR
from crossband.translate.options import TileOptions
from crossband.translate.residual import Corrected, Difference
from crossband.translate.trained_guide import TrainedGuide
from crossband.web.places import Place, Places
from crossband.web.scenes import Choice, OpenScene, own_words, visitors_words

Array = NDArray[np.float32]
#: Guides that are kept open; the least recently used one is forgotten.
_OPEN = 8
#: Pixels of a scene that are computed for one window that is looked at, at most.
_MOST = 400 * 256**2
#: Side in pixels of the result of the blocks of differences, about; bytes of them that are kept.
_SIDE, _KEPT = 512, 64 * 2**20
#: Pixels after which it is known how well a guide agrees.
_FEWEST = 500


class _Blocks:
    """A raster that is computed block by block when it is read, and kept while there is room.

    Args:
        raster: is computed.
        side: of a block in its pixels.
    """

    def __init__(self, raster: Readable, side: int) -> None:
        self.grid, self.bands, self.unit = raster.grid, raster.bands, raster.unit
        self._raster, self._side = raster, side
        self._kept: OrderedDict[tuple[int, int], Window] = OrderedDict()
        self._most = max(_KEPT // (4 * side * side * len(raster.bands)), 256)

    def read(self, box: Box) -> Window:
        """Read a rectangle."""
        values = np.zeros((len(self.bands), box.height, box.width), np.float32)
        mask = np.zeros((box.height, box.width), bool)
        side = self._side
        for row in range(box.row // side, -(-(box.row + box.height) // side)):
            for col in range(box.col // side, -(-(box.col + box.width) // side)):
                own = Box(row * side, col * side, side, side).intersection(self.grid.box)
                both = own.intersection(box)
                found, here = self._block((row, col), own), both.relative_to(own).slices()
                there = both.relative_to(box).slices()
                values[:, *there], mask[there] = found.values[:, *here], found.mask[here]
        return Window(values, mask, self.grid.crop(box), self.bands, self.unit)

    def _block(self, key: tuple[int, int], box: Box) -> Window:
        if key not in self._kept:
            self._kept[key] = self._raster.read(box)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class _WithoutHoles:
    """The differences of a guide as they are enlarged."""

    def __init__(self, difference: Difference, stored: Readable) -> None:
        self.grid, self.bands, self.unit = difference.grid, difference.bands, difference.unit
        self._difference, self._stored = difference, stored

    def read(self, box: Box) -> Window:
        """Read a rectangle."""
        values = self._difference.without_holes(self._stored, box)
        return Window(
            values, np.ones(values.shape[1:], bool), self.grid.crop(box), self.bands, self.unit
        )


class OpenGuide:
    """A guide that is open for a scene and a model.

    Args:
        place: where it lies.
        choice: how it is read and used.
        scene: what it corrects.
        model: whose result it corrects, or whose network takes it.
        places: checks files.
        tile: how the model is run on the guide's own bands.

    Attributes:
        key: tells it from others.
        unit: of the guided result.
        corrects: whether the result is corrected by it.
        inputs: what a network that takes a guide gets of it (see `SceneConditions`); None for
            other networks.
        note: why there is no preview; empty where there is one.

    Raises:
        CrossbandError: the guide cannot be used.
    """

    def __init__(
        self,
        place: Place,
        choice: Choice,
        scene: OpenScene,
        model: Model,
        places: Places,
        tile: TileOptions,
    ) -> None:
        self.key, self._place, self._scene = guide_key(place, choice, scene.key), place, scene
        self._lock, self._reading, self._checking = (threading.Lock() for _ in range(3))
        self._corrected: Corrected | None = None
        self._difference: Difference | None = None
        self._checked = not model.signature.guide
        self._words = self._poor = ""
        self.inputs: Callable[[Sequence[Box]], Tensor] | None = None
        options = choice.guide_options(place.path, self_contained=place.self_contained)
        self._trained = partial(TrainedGuide, options, model, scene, scene.place.name)
        with ExitStack() as stack, gdal():
            self._correction: GuideCorrection | TrainedGuide
            if model.signature.guide:
                self._correction = stack.enter_context(self._trained())
                self._taken = stack.enter_context(self._trained())
                self.corrects, self.inputs = self._correction.corrects, self._read
            else:
                self._correction = stack.enter_context(
                    GuideCorrection(options, model, tile, scene, scene.place.name)
                )
                self.corrects = True
            if not place.self_contained:
                for name in self._correction.files:
                    places.check_file(name, place.name)
            stack.pop_all()  # closed when nobody holds it any more: a cell may still wait
        self.unit = self._correction.unit
        self.note = self._without_preview(model)

    def _without_preview(self, model: Model) -> str:
        grid, scale = self._scene.grid, model.network.scale
        small = grid.height * grid.width <= _MOST
        if small or model.network.margin is None or not self.corrects:
            return ""
        probe = self._correction.difference(_Nothing(self._scene, model))
        if probe is None:
            return (
                "This method fits the whole result at once: translate the whole scene to see it "
                "with the guide."
            )
        if (256 + 2 * math.ceil(probe.reach / scale)) ** 2 > _MOST:
            return (
                "The pixels of the guide are so large that a window needs most of the scene: "
                "translate the whole scene to see it with the guide."
            )
        return ""

    def _read(self, boxes: Sequence[Box]) -> Tensor:
        """Return what the network gets of the guide; threads take turns."""
        # Not the files that `correct` reads: who holds them waits for cells that need this.
        with self._reading:
            return self._taken.at(boxes)

    def calibrated_as(self) -> tuple[float, float]:
        """Return the size of the guide's pixels and its age in days, for intervals.

        Raises:
            CrossbandError: intervals are not calibrated for results that are corrected like this.
        """
        return self._correction.calibrated_as()

    def check(self) -> None:
        """Compare a guide that a network takes with the scene, once.

        Raises:
            CrossbandError: too few pixels are valid in both.
        """
        with self._checking:
            if self._checked:
                return
            try:
                with gdal(), collected_warnings() as warnings, self._trained() as guide:
                    self._words = guide.check()
            except CrossbandError as error:
                raise own_words(error, self._place, self._scene.place) from error
            self._poor = visitors_words(" ".join(warnings), self._place, self._scene.place)
            self._checked = True

    def correct(self, result: Readable, box: Box) -> Array:
        """Return the corrected values [C, h, w] of a rectangle; NaN where masked.

        Args:
            result: of the network; it is read around the rectangle.
            box: the rectangle, in pixels of the result.

        Raises:
            CrossbandError: the guide does not fit the result.
        """
        with self._lock, gdal():
            try:
                if self._corrected is None:
                    self._corrected = self._prepared(result)
                window = self._corrected.read(box)
            except CrossbandError as error:
                raise own_words(error, self._place, self._scene.place) from error
        return np.where(window.mask, window.values, np.float32(np.nan))

    def _prepared(self, result: Readable) -> Corrected:
        difference = self._correction.difference(result)
        if isinstance(self._correction, GuideCorrection):
            self._difference = difference
        if difference is None:
            with ExitStack() as stack, collected_warnings() as warnings:
                folder = Path(tempfile.gettempdir())  # files without a name
                corrected, self._words = self._correction.corrected(result, stack, folder)
                self._poor = visitors_words(" ".join(warnings), self._place, self._scene.place)
                stack.pop_all()
            return corrected
        ratio = result.grid.height / max(difference.grid.height, 1)
        stored = _Blocks(difference, max(int(_SIDE / max(ratio, 1.0)), 1))
        ready = _WithoutHoles(difference, stored)
        return Corrected(result, lambda at, x: difference.add(ready, at, x), self.unit)

    @property
    def said(self) -> str:
        """How the guide is used and how well it agrees, as far as was looked."""
        if self._difference is None or not self._difference.count:
            return self._words
        agreement = self._difference.agreement
        return (
            f"{self._place.name}, {self._correction.method}, agreement {agreement:.2f} "
            f"on {self._difference.count:,} pixels that were looked at"
        )

    @property
    def poor(self) -> str:
        """What to think of where the guide does not agree; empty where it does."""
        difference = self._difference
        if difference is None:
            return self._poor
        if difference.count < _FEWEST or not difference.agreement < POOR:
            return ""
        return (
            f"{self._place.name}: the correlation of its structure with the result's is "
            f"{difference.agreement:.2f}; a guide of the same place and band has mostly "
            "more than 0.2. "
            "Is it of another place, shifted, cloudy, or another band?"
        )


class _Nothing:
    """A result that is not read, by which it is known how a guide would be used."""

    def __init__(self, scene: OpenScene, model: Model) -> None:
        self.grid = scene.grid.zoom(model.network.scale)
        self.bands = tuple(model.signature.target)
        self.unit = model.signature.target_unit(scene.unit)

    def read(self, box: Box) -> Window:
        """Refuse to read."""
        raise NotImplementedError


class Guides:
    """Opens guides, and keeps those that were used last.

    Args:
        places: finds them.
        tile: how a model is run on a guide's own bands.
    """

    def __init__(self, places: Places, tile: TileOptions) -> None:
        self._places, self._tile = places, tile
        self._open: OrderedDict[tuple[str, ...], OpenGuide] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, choice: Choice, scene: OpenScene, model: Model) -> OpenGuide:
        """Return an open guide.

        Raises:
            CrossbandError: what the command would say, with the name of the file as its visitor
                knows it.
        """
        place = self._places.find(choice.guide)
        key = guide_key(place, choice, scene.key)
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
        try:
            self._places.check_declared(place)
            made = OpenGuide(place, choice, scene, model, self._places, self._tile)
        except CrossbandError as error:
            raise own_words(error, place, scene.place) from error
        with self._lock:
            made = self._open.setdefault(key, made)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return made


def guide_key(place: Place, choice: Choice, scene: Sequence[str]) -> tuple[str, ...]:
    """Return what tells an open guide from others."""
    how = choice.guide_method, choice.guide_sensor, choice.guide_bands, choice.guide_days
    return (*scene, "guide", place.path, place.version, *how)
