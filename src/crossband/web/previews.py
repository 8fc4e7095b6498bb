"""Windows of results, computed when somebody looks at them, with one network in memory.

The scene is cut into cells whose origins lie on the network's stride. Each is computed with the
network's margin, so its pixels are those of the translated file. Cells are kept while there is
room.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from crossband.core.devices import resolve_device
from crossband.errors import CrossbandError
from crossband.model import Model, load
from crossband.model.uncertain import uncertain_model
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box, Window
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine
from crossband.translate.executor import LocalComputer, LocalExecutor
from crossband.translate.options import TileOptions
from crossband.translate.tiling import Tiling
from crossband.translate.window import compute_windows
from crossband.web.guides import OpenGuide
from crossband.web.scenes import BusyError, OpenScene

Array = NDArray[np.float32]
#: Side of a cell in pixels of the result, about; bytes of cells that are kept; cells that may wait.
SIDE, KEPT, MOST_WAITING = 256, 256 * 2**20, 512
#: Cells that are computed at once on a CPU, at most, each by one thread of torch.
AT_ONCE = 4
#: Seconds after which a cell that nobody has asked for again is not computed any more.
WANTED_FOR = 10.0
#: Scene with options and model, first row, first column.
CellKey: TypeAlias = tuple[tuple[str, ...], int, int]


class Models:
    """The models that are offered, each loaded once, when it is first needed.

    Args:
        addresses: bundled names, folders, `hf://owner/name`.
        tile: device and precision.

    Attributes:
        names: of the models, as the page shows them: of a folder its last part only.

    Raises:
        CrossbandError: two have one name.
    """

    def __init__(self, addresses: Sequence[str], tile: TileOptions = TileOptions()) -> None:
        self._tile = tile
        self._addresses = {a if a.startswith("hf://") else Path(a).name or a: a for a in addresses}
        if len(self._addresses) < len(addresses):
            raise CrossbandError(f"--model: two of one name among {', '.join(addresses)}")
        self.names = tuple(self._addresses)
        self._loaded: dict[str, Model] = {}
        self._executor = LocalExecutor()
        self._lock = threading.Lock()

    def get(self, name: str) -> Model:
        """Return a model.

        Raises:
            ModelError: it cannot be loaded.
            CrossbandError: it is not offered.
        """
        if name not in self._addresses:
            raise CrossbandError(f"the model {name[:100]!r} is not offered")
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load(self._addresses[name])
            return self._loaded[name]

    def engine(self, name: str) -> Engine:
        """Return the engine of a model, which previews and jobs share."""
        return self.ready(self.get(name), self._tile).engine

    def sure_engine(self, name: str, unit: str) -> Engine:
        """Return the engine of a calibrated model with its further channels."""
        return self.ready(uncertain_model(self.get(name), unit), self._tile).engine

    def ready(self, model: Model, options: TileOptions) -> LocalComputer:
        """Make a model ready; see `translate.executor.Executor`."""
        with self._lock:
            return self._executor.ready(model, options)


@dataclass(frozen=True)
class Cell:
    """A part of a scene that is computed at once.

    Attributes:
        key: tells it from all others.
        core: in pixels of the source.
        sure: with widths and dissimilarity, of a calibrated model.
        guide: the network takes it, or the cell is corrected by it; None: neither.
        corrected: by the guide, from cells as the network computes them.
    """

    key: CellKey
    core: Box
    sure: bool = False
    guide: OpenGuide | None = None
    corrected: bool = False


@dataclass
class _Waiting:
    """A cell that waits to be computed, and when somebody has last asked for it."""

    scene: OpenScene
    cell: Cell
    future: Future[None]
    asked: float


class Previews:
    """Computes cells, and keeps them.

    On a CPU each is computed by one thread of torch, and as many at once as torch has threads:
    cells are small, and many are asked for.

    Args:
        models: whose engines compute.
        tile: seed and other options of the computation.
        kept: bytes of cells that are kept.

    Attributes:
        computed: cells that went through a network.
    """

    def __init__(self, models: Models, tile: TileOptions = TileOptions(), kept: int = KEPT) -> None:
        self._models, self._tile, self._room = models, tile, kept
        self._kept: OrderedDict[CellKey, Array] = OrderedDict()
        self._waiting: OrderedDict[CellKey, _Waiting] = OrderedDict()
        self._running: dict[CellKey, _Waiting] = {}
        self._bytes, self._closed, self.computed = 0, False, 0
        self._changed = threading.Condition()
        cpu = resolve_device(tile.device).type == "cpu"
        threads = torch.get_num_threads()
        count = min(threads, AT_ONCE) if cpu else 1
        self._threads = [
            threading.Thread(target=self._work, args=(cpu,), name="previews", daemon=True)
            for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, scene: OpenScene, cells: Sequence[Cell]) -> list[Future[None]]:
        """Have cells computed; return a future for each that is not there yet.

        Raises:
            BusyError: too many wait.
        """
        now, futures = time.monotonic(), []
        with self._changed:
            for cell in cells:
                if cell.key in self._kept:
                    self._kept.move_to_end(cell.key)
                    continue
                known = self._running.get(cell.key) or self._waiting.get(cell.key)
                if known is None or known.future.cancelled():
                    if len(self._waiting) >= MOST_WAITING:
                        raise BusyError("many visitors look at new places now; asking again ...")
                    known = _Waiting(scene, cell, Future(), now)
                    self._waiting[cell.key] = known
                    self._changed.notify()
                known.asked = now
                futures.append(known.future)
        return futures

    def read(self, cells: Sequence[Cell], box: Box, scale: int, bands: int) -> Array | None:
        """Return the values [C, h, w] of a box of the result; None where a cell is not kept."""
        with self._changed:
            kept = [(cell, self._kept[cell.key]) for cell in cells if cell.key in self._kept]
        if len(kept) < len(cells):  # their box may be as large as the scene
            return None
        out = np.full((bands, box.height, box.width), np.nan, np.float32)
        for cell, values in kept:
            _paste(values, cell.core.scaled(scale), out, box)
        return out

    def close(self) -> None:
        """End the threads after the cells that they compute."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=2)

    def _work(self, single: bool) -> None:
        torch.get_num_threads()  # its first call in a thread sets the number of the whole process
        if single:
            torch.set_num_threads(1)
        while True:
            with self._changed:
                while (key := self._next()) is None and not self._closed:
                    self._changed.wait()
                if self._closed or key is None:
                    return
                item = self._waiting.pop(key)
                if time.monotonic() - item.asked > WANTED_FOR:
                    item.future.cancel()
                    continue
                if not item.future.set_running_or_notify_cancel():
                    continue  # of a request that was broken off
                self._running[key] = item
            with suppress(Exception):  # the thread must live; who waits for the future is told
                self._run(item)

    def _next(self) -> CellKey | None:
        """Return the cell that has waited longest, of guides with which no thread computes now."""
        busy = {item.cell.guide for item in self._running.values() if item.cell.corrected}
        for key, item in self._waiting.items():
            if not item.cell.corrected or item.cell.guide not in busy:
                return key
        return None

    def value(self, scene: OpenScene, cell: Cell) -> Array:
        """Return a cell, in a thread that computes: kept, or computed now.

        Raises:
            CrossbandError: it cannot be computed, or the server ends.
        """
        while True:
            with self._changed:
                if self._closed:
                    raise CrossbandError("the server ends")
                if cell.key in self._kept:
                    self._kept.move_to_end(cell.key)
                    return self._kept[cell.key]
                known = self._running.get(cell.key)
                item = self._waiting.pop(cell.key, None) if known is None else None
                if item is None or not item.future.set_running_or_notify_cancel():
                    item = _Waiting(scene, cell, Future(), time.monotonic())
                if known is None:
                    self._running[cell.key] = item
            if known is None:
                return self._run(item)
            known.future.result()  # another thread computes it, and waits for none

    def _run(self, item: _Waiting) -> Array:
        """Compute a cell that is among the running ones, keep it, and tell who waits."""
        key = item.cell.key
        try:
            values = self._compute(item.scene, item.cell)
        except Exception as error:
            with self._changed:
                del self._running[key]
                self._changed.notify()
            item.future.set_exception(error)
            raise
        with self._changed:
            del self._running[key]
            self.computed += not item.cell.corrected
            self._keep(key, values)
            self._changed.notify()
        item.future.set_result(None)
        return values

    def _keep(self, key: CellKey, values: Array) -> None:
        self._kept[key] = values
        self._bytes += values.nbytes
        while self._bytes > self._room and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def _compute(self, scene: OpenScene, cell: Cell) -> Array:
        name = scene.model_name
        if cell.guide is not None and cell.corrected:
            model = self._models.get(name)
            result = _Computed(self, scene, model, cell.guide)
            return cell.guide.correct(result, cell.core.scaled(model.network.scale))
        engine = (
            self._models.sure_engine(name, scene.unit) if cell.sure else self._models.engine(name)
        )
        grid, network = scene.grid, engine.model.network
        tiling = Tiling.of(engine.model, grid, self._tile, part=cell.core)
        inputs = None if cell.guide is None else cell.guide.inputs
        conditions = SceneConditions(network, grid, self._tile.seed, guide=inputs)
        box = cell.core.scaled(network.scale)
        shape = (engine.channels, box.height, box.width)
        out = np.full(shape, np.nan, np.float32)
        with gdal():
            windows = compute_windows(engine, tiling, conditions, scene.read)
            for at, values, mask in windows:
                np.copyto(out[:, *at.relative_to(box).slices()], values, where=mask)
        return out


def _paste(values: Array, own: Box, out: Array, box: Box) -> None:
    """Put the values [C, h, w] of one box into those of another, where both lie."""
    both = own.intersection(box)
    if min(both.height, both.width) > 0:
        out[:, *both.relative_to(box).slices()] = values[:, *both.relative_to(own).slices()]


class _Computed:
    """The result of a scene as the network computes it, in cells, where it is read."""

    def __init__(
        self, previews: Previews, scene: OpenScene, model: Model, guide: OpenGuide
    ) -> None:
        self._previews, self._scene, self._model, self._guide = previews, scene, model, guide
        self.grid = scene.grid.zoom(model.network.scale)
        self.bands = tuple(model.signature.target)
        self.unit = model.signature.target_unit(scene.unit)

    def read(self, box: Box) -> Window:
        """Read a rectangle, and compute what is not kept of it."""
        values = np.full((len(self.bands), box.height, box.width), np.nan, np.float32)
        cells = cells_of(self._scene, self._model, box, guide=self._guide, corrected=False)
        with suppress(BusyError):  # threads that have nothing else to do help
            self._previews.ask(self._scene, cells)
        for cell in cells:
            made = self._previews.value(self._scene, cell)
            _paste(made, cell.core.scaled(self._model.network.scale), values, box)
        mask = np.asarray(np.isfinite(values).all(axis=0))
        values[:, ~mask] = 0.0
        return Window(values, mask, self.grid.crop(box), self.bands, self.unit)


def cells_of(
    scene: OpenScene,
    model: Model,
    box: Box,
    *,
    sure: bool = False,
    guide: OpenGuide | None = None,
    corrected: bool = True,
) -> list[Cell]:
    """Return the cells under a box of the result, nearest to its middle first.

    The network has a finite margin. Those of `sure` have the further channels of a calibrated
    model. Those with a guide are corrected by it, where it corrects and unless `corrected` is
    false: then they are as the network computes them.
    """
    network, whole = (uncertain_model(model, scene.unit) if sure else model).network, scene.grid.box
    what = (*scene.key, "sure") if sure else scene.key
    corrected = corrected and guide is not None and guide.corrects
    if guide is not None and corrected:
        what = guide.key
    elif guide is not None and guide.inputs is not None:
        what = (*guide.key, "as computed")
    else:
        guide = None
    stride, scale = network.stride, network.scale
    side = -(-max(SIDE // scale, 1) // stride) * stride

    def all_cells() -> Iterator[Cell]:
        for row in range(
            box.row // scale // side * side, -(-(box.row + box.height) // scale), side
        ):
            for col in range(
                box.col // scale // side * side, -(-(box.col + box.width) // scale), side
            ):
                core = Box(row, col, side, side).intersection(whole)
                if min(core.height, core.width) > 0:
                    yield Cell((what, row, col), core, sure, guide, corrected)

    middle = box.row + box.height / 2, box.col + box.width / 2

    def away(cell: Cell) -> float:
        own = cell.core.scaled(scale)
        return abs(own.row + own.height / 2 - middle[0]) + abs(own.col + own.width / 2 - middle[1])

    return sorted(all_cells(), key=away)
