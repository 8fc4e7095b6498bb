"""The functions that run on the workers of a cluster: compute a part of a scene, or a whole scene.

Each process loads a model once. The stored numbers of a part are returned to the client, and only
the client writes them. So a lost worker leaves no partial output.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core.version import __version__
from crossband.errors import CrossbandError, InputError, ModelError
from crossband.jobs.fleet_executor import translate_task
from crossband.jobs.summary import SummaryLine
from crossband.jobs.task import Task
from crossband.model import Model, identity, load
from crossband.model.uncertain import Asked, uncertain_model
from crossband.raster.grid import Box
from crossband.raster.journal import changed_fact
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.output import OutputFile
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine, EngineKey
from crossband.translate.engine_cache import shared_engine
from crossband.translate.executor import LocalComputer
from crossband.translate.options import TileOptions, TranslateOptions
from crossband.translate.provenance import scene_facts
from crossband.translate.statistics import Statistics
from crossband.translate.stream import SceneStream
from crossband.translate.tiling import Tiling

#: Seconds between two checks whether the client asked to stop.
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class ModelReference:
    """How workers load and compute a model; the same on all of them.

    Attributes:
        address: name or path for `load`.
        version: of Crossband.
        key: identity of the model, device and precision.
        asked: what an uncertain model is made for, see `uncertain_model`; None for a plain one.
    """

    address: str
    version: str
    key: EngineKey
    asked: Asked | None = None


@dataclass(frozen=True)
class ScenePart:
    """Several windows of one scene.

    Attributes:
        model: that computes them.
        source: path of the scene.
        read: how it is read.
        source_facts: those of `translate.provenance.scene_facts` that the client found for the
            source.
        tiling: the batches of the part, and those that they are blended with.
        blended: numbers of the latter.
        seed: of noise and style.
        outputs: the result, followed by indices, intervals, familiarity; without raw files.
    """

    model: ModelReference
    source: str
    read: ReadOptions
    source_facts: Mapping[str, str]
    tiling: Tiling
    blended: frozenset[int]
    seed: int | None
    outputs: tuple[OutputFile, ...]


@dataclass
class PartResult:
    """The result of a part.

    Attributes:
        batches: batch number -> valid pixels of each output, and its pieces: number of the output,
            box, stored numbers, and the mask where the output has a mask band.
        statistics: of this part.
    """

    batches: dict[int, tuple[tuple[int, ...], list[tuple[int, Box, NDArray[Any], Any]]]]
    statistics: Statistics


def probe_model(
    address: str, device: str, precision: str, asked: Asked | None = None
) -> ModelReference:
    """Load a model, and report its identity, device and precision on this worker."""
    engine = Engine(_loaded(address, asked), device, precision)
    return ModelReference(address, __version__, engine.key, asked)


def _loaded(address: str, asked: Asked | None) -> Model:
    """Load a model, and make it uncertain where that is asked for."""
    model = load(address)
    return model if asked is None else uncertain_model(model, *asked)


def engine_of(reference: ModelReference) -> Engine:
    """Return this process's engine for a model; load the model where there is none yet.

    Raises:
        ModelError: this worker has another version of Crossband, or finds another model there.
    """

    def checked() -> Model:
        if reference.version != __version__:
            raise ModelError(
                f"a worker has Crossband {__version__}, not {reference.version}: install one "
                f"version everywhere"
            )
        model = _loaded(reference.address, reference.asked)
        if identity(model) != reference.key.identity:
            raise ModelError(f"{reference.address}: a worker finds another model there")
        return model

    return shared_engine(reference.key, checked)


@dataclass
class _Collected(OutputFile):
    """An output that collects its numbers for the client instead of writing them."""

    pieces: list[tuple[Box, NDArray[Any], NDArray[np.bool_]]] = field(default_factory=list)

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Collect the stored numbers; return the number of valid pixels."""
        self.pieces += self.encoded(box, values, mask)
        return int(np.count_nonzero(mask))


class _PartJournal:
    """Moves the numbers of each finished batch from the outputs into the result."""

    def __init__(self, blended: frozenset[int], outputs: Sequence[_Collected]) -> None:
        self.done = {number: (0,) * len(outputs) for number in blended}
        self.result = PartResult({}, Statistics())
        self._outputs = outputs

    def mark_done(self, batch: int, valid: Sequence[int]) -> None:
        pieces = []
        for i, output in enumerate(self._outputs):
            masked = output.encoding.mask_band
            pieces += [(i, box, n, mask if masked else None) for box, n, mask in output.pieces]
            output.pieces = []
        self.result.batches[batch] = tuple(valid), pieces

    def flush(self) -> None:
        """Do nothing: a worker writes no file."""


def compute_part(part: ScenePart) -> PartResult:
    """Compute the windows of a part.

    Raises:
        InputError: the worker finds another file than the client under the source's path.
    """
    engine = engine_of(part.model)
    outputs = [
        _Collected(o.path, o.grid, o.bands, o.unit, o.encoding, o.tags, content=o.content)
        for o in part.outputs
    ]
    journal = _PartJournal(part.blended, outputs)
    needed = engine.model.signature.source
    with open_scene(part.source, part.read, needed=needed) as scene:
        here = scene_facts(part.model.key.identity, scene, {})
        changed = changed_fact(part.source_facts, {name: here[name] for name in part.source_facts})
        if changed is not None:
            raise InputError(f"{part.source}: a worker sees another file: {changed}")
        conditions = SceneConditions(engine.model.network, scene.grid, part.seed)
        statistics = journal.result.statistics
        SceneStream(engine, part.tiling, conditions, scene, outputs, journal, statistics).run()
    return journal.result


def stop_event(run: str, client: Any = None) -> Any:
    """Return the event that the client of a run sets to stop the workers."""
    from distributed import Event

    return Event(f"crossband-stop-{run}", client)


class _StopCheck:
    """Interrupts the translation of a scene when the client asks for it."""

    def __init__(self, run: str) -> None:
        self._event, self._checked = stop_event(run), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._checked >= POLL_SECONDS:
            self._checked = time.monotonic()
            if self._event.is_set():
                raise KeyboardInterrupt


def translate_on_worker(
    reference: ModelReference, task: Task, options: TranslateOptions, largest: int, run: str
) -> SummaryLine | None:
    """Translate a whole scene on this worker.

    Args:
        reference: to the model.
        task: the scene, with absolute paths.
        options: how it is translated.
        largest: windows that one worker computes at most.
        run: identifies the event that stops it.

    Returns:
        The summary line; None for a scene with more windows, which was not started.

    Raises:
        Interrupted: the client asked to stop.
    """
    engine = engine_of(reference)
    if _window_count(engine, task, options) > largest:
        return None
    return translate_task(engine.model, task, options, _EngineExecutor(engine), _StopCheck(run))


@dataclass(frozen=True)
class _EngineExecutor:
    """An executor with one engine that is ready already; the others are as its own."""

    engine: Engine

    def ready(self, model: Model, options: TileOptions) -> LocalComputer:
        if model is self.engine.model:
            return LocalComputer(self.engine)
        key = replace(self.engine.key, identity=identity(model))
        return LocalComputer(shared_engine(key, lambda: model))


def _window_count(engine: Engine, task: Task, options: TranslateOptions) -> int:
    """Return the number of batches of a scene; 0 if opening fails, as translating reports it."""
    if options.tile.whole:
        return 1
    model = engine.model
    read = task.source.read_options(options.read, model.signature.source)
    try:
        with open_scene(task.source.path, read, needed=model.signature.source) as opened:
            return len(Tiling.of(model, opened.grid, options.tile).batches)
    except CrossbandError:
        return 0
