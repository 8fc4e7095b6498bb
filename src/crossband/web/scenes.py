"""Scenes that are open, for the model and the options that a visitor has chosen."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from crossband.core.sensors import SENSORS
from crossband.errors import BandError, CrossbandError, InputError, UnitError
from crossband.model import Model
from crossband.raster import dataset
from crossband.raster.bands import named_bands, parse_bands
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.scene import Scene
from crossband.translate.options import GuideOptions
from crossband.translate.window import check_source
from crossband.web.places import Place, Places

#: Scenes that are kept open; the least recently used one is forgotten.
_OPEN = 24
#: Pixels along a side of a scene that is looked at from afar, about.
_COARSE = 1024
#: Scenes that are read from afar at once, each by a thread.
_READING = threading.Semaphore(4)


@dataclass(frozen=True)
class Choice:
    """What a visitor has chosen.

    Attributes:
        scene: as the page names it; see `places`.
        model: name of the model.
        bands: as `--bands` takes them, or nothing.
        sensor: name, or nothing.
        scale: text of a number, or nothing.
        offset: likewise.
        job: whose result is looked at instead of previews, or nothing.
        guide: a scene that corrects the result, as the page names it, or nothing.
        guide_sensor: its sensor, or nothing.
        guide_bands: its bands, or nothing.
        guide_method: see `--guide-method`, or nothing.
        guide_days: see `--guide-days`: text of a number, or nothing.
    """

    scene: str
    model: str
    bands: str = ""
    sensor: str = ""
    scale: str = ""
    offset: str = ""
    job: str = ""
    guide: str = ""
    guide_sensor: str = ""
    guide_bands: str = ""
    guide_method: str = ""
    guide_days: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Choice:
        """Read a choice from the query of an address."""
        return cls(*(given.get(field.name, "").strip() for field in fields(cls)))

    def read_options(self, *, self_contained: bool) -> ReadOptions:
        """Return the options of reading.

        Raises:
            BandError, CrossbandError: a text that is none.
        """
        return ReadOptions(
            parse_bands(self.bands) if self.bands else None,
            self.sensor or None,
            number_of("--scale", self.scale),
            number_of("--offset", self.offset),
            self_contained=self_contained,
        )

    def guide_options(self, path: str, *, self_contained: bool) -> GuideOptions:
        """Return the options of the guide.

        Args:
            path: of the guide.
            self_contained: it may name no other file.

        Raises:
            BandError: its bands are no bands.
            CrossbandError: its age is no number.
        """
        bands = parse_bands(self.guide_bands) if self.guide_bands else None
        sensor = self.guide_sensor or None
        read = ReadOptions(bands, sensor, self_contained=self_contained)
        days = number_of("--guide-days", self.guide_days)
        return GuideOptions(path, self.guide_method or None, sensor, bands, read=read, days=days)


class BusyError(CrossbandError):
    """What is asked for is being made; the page asks again."""


class Coarse:
    """A whole scene at coarse pixels, read once strip by strip, where the file has no overviews.

    Args:
        scene: is read.
        lock: is held for each strip only, so that others read in between.
    """

    def __init__(self, scene: Scene, lock: threading.Lock) -> None:
        self._scene, self._lock = scene, lock
        grid = scene.grid
        side = max(grid.height, grid.width)
        self.factor = 2 ** max((side - 1) // _COARSE, 1).bit_length()
        shape = -(-grid.height // self.factor), -(-grid.width // self.factor)
        self._shape, self._values = (len(scene.bands), *shape), np.zeros(0, np.float32)
        self._thread = threading.Thread(target=self._read, name="overview", daemon=True)
        self._error: CrossbandError | None = None
        self._starting, self._started = threading.Lock(), False

    def read(self, box: Box, factor: int) -> Window:
        """Return every n-th pixel of a window.

        Raises:
            BusyError: the scene is still being read.
            InputError: it cannot be read.
        """
        self._start(waits=False)
        if self._thread.is_alive():
            raise BusyError("the scene is being read from afar")
        if self._error is not None:
            raise self._error
        step, own = factor // self.factor, self.factor
        rows = slice(box.row // own, -(-(box.row + box.height) // own), step)
        columns = slice(box.col // own, -(-(box.col + box.width) // own), step)
        values = self._values[:, rows, columns]
        mask = np.asarray(np.isfinite(values).all(axis=0))
        grid = self._scene.grid.crop(box).resized(*mask.shape)
        filled = np.where(mask, values, np.float32(0.0))
        return Window(filled, mask, grid, self._scene.bands, self._scene.unit)

    def wait(self) -> None:
        """Wait until the scene is read."""
        self._start(waits=True)
        self._thread.join()

    def _start(self, *, waits: bool) -> None:
        """Have the scene read, if it is not, with some others at most."""
        with self._starting:
            if self._started:
                return
            if not _READING.acquire(blocking=waits):
                raise BusyError("many scenes are being read from afar; asking again ...")
            self._started = True
            self._thread.start()

    def _read(self) -> None:
        whole, factor = self._scene.grid.box, self.factor
        step = -(-512 // factor) * factor
        self._values = np.full(self._shape, np.nan, np.float32)
        try:
            for row in range(0, whole.height, step):
                box = Box(row, 0, step, whole.width).intersection(whole)
                with self._lock, gdal():
                    seen = self._scene.read_thinned(box, factor)
                first = row // factor
                part = self._values[:, first : first + seen.mask.shape[0]]
                np.copyto(part, seen.values, where=seen.mask)
        except CrossbandError as error:
            self._error = error
        finally:
            _READING.release()


class OpenResult:
    """The finished file of a job; threads take turns to read it.

    Args:
        path: of the file.
        bands: of the result.

    Attributes:
        unit: of its values.
    """

    def __init__(self, path: Path, bands: Sequence[str]) -> None:
        self._lock = threading.Lock()
        with gdal():
            self._scene = open_scene(path, needed=bands)
        self.unit = self._scene.unit

    def read_thinned(self, box: Box, factor: int) -> Window:
        """Read a window, or every n-th pixel of it."""
        with self._lock, gdal():
            return self._scene.read_thinned(box, factor)


class OpenScene:
    """A scene that is open for a model; threads take turns to read it.

    Args:
        place: where it lies.
        choice: model and options.
        model: the model.
        places: checks files and sizes.

    Attributes:
        key: place, version and choice.
        path: of the scene, as it was opened.
        grid: of the scene.
        truth: the model's target bands as the file has them; None where it has not.
    """

    def __init__(self, place: Place, choice: Choice, model: Model, places: Places) -> None:
        self.place, self.choice = place, choice
        self.model_name = choice.model
        self.key = scene_key(place, choice)
        self._lock = threading.Lock()
        options = choice.read_options(self_contained=place.self_contained)
        with gdal():
            self._scene = open_scene(place.path, options, needed=model.signature.source)
            try:
                if not place.self_contained:
                    for name in self._scene.files:
                        places.check_file(name, place.name)
                check_source(model, self._scene.unit, self._scene.bands)
            except BaseException:
                self._scene.close()
                raise
            self.truth = self._open_truth(model, options)
        self.path: str = self._scene.path
        self.grid: Grid = self._scene.grid
        self.bands, self.unit = self._scene.bands, self._scene.unit
        self._coarse = {
            measured: Coarse(scene, self._lock)
            for measured, scene in ((False, self._scene), (True, self.truth))
            if scene is not None and max(self.grid.height, self.grid.width) > 4 * _COARSE
        }
        if self._scene.has_overviews:
            self._coarse = {}

    def _open_truth(self, model: Model, options: ReadOptions) -> Scene | None:
        """Open the target bands; None where the file does not have them, on its own grid."""
        target = tuple(model.signature.target)
        if model.network.scale != 1 or set(target) & set(model.signature.source):
            return None
        with suppress(BandError, UnitError, InputError):
            own = ReadOptions(
                None,
                options.sensor,
                options.scale,
                options.offset,
                self_contained=options.self_contained,
            )
            truth = open_scene(self.place.path, own, needed=target)
            if truth.grid == self._scene.grid and truth.unit == model.signature.target_unit(
                self._scene.unit
            ):
                return truth
            truth.close()
        return None

    def read(self, box: Box) -> Window:
        """Read a window in physical units."""
        with self._lock, gdal():
            return self._scene.read(box)

    def wait(self) -> None:
        """Wait until the scene can be read from afar."""
        for coarse in self._coarse.values():
            coarse.wait()

    def read_thinned(self, box: Box, factor: int, *, measured: bool = False) -> Window:
        """Read a window of the source, or of the measured target, to be looked at."""
        coarse = self._coarse.get(measured)
        if coarse is not None and factor >= coarse.factor:
            return coarse.read(box, factor)
        scene = self.truth if measured else self._scene
        assert scene is not None
        with self._lock, gdal():
            return scene.read_thinned(box, factor)


class Scenes:
    """Opens scenes, and keeps those that were used last.

    Args:
        places: finds them.
        models: returns a model by its name.
    """

    def __init__(self, places: Places, models: Callable[[str], Model]) -> None:
        self._places, self._models = places, models
        self._open: OrderedDict[tuple[str, ...], OpenScene] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, choice: Choice) -> OpenScene:
        """Return an open scene.

        Raises:
            CrossbandError: what the command would say, with the name of the file as its visitor
                knows it.
        """
        place = self._places.find(choice.scene)
        key = scene_key(place, choice)
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
        model = self._models(choice.model)
        try:
            self._places.check_declared(place)
            made = OpenScene(place, choice, model, self._places)
        except CrossbandError as error:
            raise own_words(error, place) from error
        with self._lock:
            made = self._open.setdefault(key, made)
            while len(self._open) > _OPEN:
                # It is closed when nobody holds it any more: a cell of it may still wait.
                self._open.popitem(last=False)
        return made

    def describe(self, choice: Choice) -> dict[str, Any]:
        """Return size and bands of a file, whatever the model takes."""
        place = self._places.find(choice.scene)
        about: dict[str, Any] = {"name": place.name, "bands": [], "width": None, "height": None}
        if place.path.endswith(".SAFE"):
            return about
        sensor = SENSORS.get(choice.sensor)
        try:
            with (
                gdal(),
                dataset.open_dataset(place.path, self_contained=place.self_contained) as raster,
            ):
                self._places.check_size(raster, place)
                known: dict[int, str] = {}
                for source in reversed(named_bands(raster, sensor)):
                    known.update(source)
                about |= {"width": raster.width, "height": raster.height}
                about["bands"] = [
                    {
                        "number": n,
                        "label": raster.descriptions[n - 1] or "",
                        "name": known.get(n, ""),
                        "dtype": raster.dtypes[n - 1],
                    }
                    for n in range(1, min(raster.count, 100) + 1)
                ]
        except CrossbandError as error:
            raise own_words(error, place) from error
        return about


def scene_key(place: Place, choice: Choice) -> tuple[str, ...]:
    """Return what tells an open scene from others."""
    read = choice.bands, choice.sensor, choice.scale, choice.offset
    return (place.path, place.version, choice.model, *read)


def own_words(error: CrossbandError, *places: Place) -> CrossbandError:
    """Return an error that names files as their visitor knows them."""
    return type(error)(visitors_words(str(error), *places))


def visitors_words(text: str, *places: Place) -> str:
    """Return words that name files as their visitor knows them."""
    for place in places:
        text = text.replace(place.path, place.name)
    return text


def number_of(flag: str, text: str) -> float | None:
    """Return the number that a text says; None for an empty one.

    Raises:
        CrossbandError: it is none.
    """
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise CrossbandError(f"{flag} {text[:40]}: a number is needed") from error
