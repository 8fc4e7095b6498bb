"""What the workers of a cluster do: a part of a scene, or a scene as a whole.

Each process loads a model once. A part's stored numbers go back to the client, which alone writes
them, so that a worker that is lost halfway leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core.version import __version__
from crossband.errors import CrossbandError, InputError, ModelError
from crossband.jobs.executor import attempt
from crossband.jobs.summary import Line
from crossband.jobs.task import Task
from crossband.model import Model, identity, load
from crossband.raster.grid import Box
from crossband.raster.journal import difference
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.write import Output
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine
from crossband.translate.engines import EngineKey, shared_engine
from crossband.translate.executor import LocalComputer
from crossband.translate.options import TileOptions, TranslateOptions
from crossband.translate.provenance import facts
from crossband.translate.stream import Stream
from crossband.translate.threads import Statistics
from crossband.translate.tiling import Tiling

#: Seconds between two looks whether a scene is still wanted.
LOOK = 1.0


@dataclass(frozen=True)
class Wanted:
    """A model as the workers load it, and how it is computed: the same on every one of them.

    Attributes:
        address: what `load` takes.
        version: of Crossband.
        identity: of the model, see `model.identity`.
        device: cpu, cuda or mps.
        precision: fp32 or bf16.
    """

    address: str
    version: str
    identity: str
    device: str
    precision: str


@dataclass(frozen=True)
class Part:
    """Some windows of one scene.

    Attributes:
        model: what computes them.
        source: path of the scene.
        read: how it is read.
        seen: what `translate.provenance.facts` says of the source where the client opened it.
        tiling: the jobs, and those that they fade into.
        others: numbers of the latter.
        seed: see `translate.scene.translate`.
        outputs: the result, and the indices after it; without their numbers.
    """

    model: Wanted
    source: str
    read: ReadOptions
    seen: Mapping[str, str]
    tiling: Tiling
    others: frozenset[int]
    seed: int | None
    outputs: tuple[Output, ...]


@dataclass
class Answer:
    """What became of a part.

    Attributes:
        jobs: job -> valid pixels of each output, and its pieces: the output's place, where, the
            numbers, and the mask where the output has a band for it.
        statistics: of this part.
    """

    jobs: dict[int, tuple[tuple[int, ...], list[tuple[int, Box, NDArray[Any], Any]]]]
    statistics: Statistics


def probe(address: str, device: str, precision: str) -> Wanted:
    """Load a model and say what it is here, on which device and in which precision it computes."""
    engine = Engine(load(address), device, precision)
    return Wanted(address, __version__, engine.identity, engine.device.type, engine.precision)


def engine_of(wanted: Wanted) -> Engine:
    """Return a model made ready; loaded where this process has not had it yet.

    Raises:
        ModelError: this worker has another version, or finds another model at that address.
    """

    def checked() -> Model:
        if wanted.version != __version__:
            raise ModelError(
                f"a worker has Crossband {__version__}, not {wanted.version}: install one "
                f"version everywhere"
            )
        model = load(wanted.address)
        if identity(model) != wanted.identity:
            raise ModelError(f"{wanted.address}: a worker finds another model there")
        return model

    return shared_engine(EngineKey(wanted.identity, wanted.device, wanted.precision), checked)


@dataclass
class _Collected(Output):
    """An output whose numbers are kept for the client."""

    pieces: list[tuple[Box, NDArray[Any], NDArray[np.bool_]]] = field(default_factory=list)

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Keep the stored numbers; returns the valid pixels."""
        self.pieces += self.encoded(box, values, mask)
        return int(np.count_nonzero(mask))


class _Notes:
    """Takes what a job wrote away from the outputs when it is finished."""

    def __init__(self, others: frozenset[int], outputs: Sequence[_Collected]) -> None:
        self.done = {number: (0,) * len(outputs) for number in others}
        self.answer = Answer({}, Statistics())
        self._outputs = outputs

    def note(self, job: int, valid: Sequence[int]) -> None:
        pieces = []
        for i, made in enumerate(self._outputs):
            masked = made.encoding.mask_band
            pieces += [(i, box, n, mask if masked else None) for box, n, mask in made.pieces]
            made.pieces = []
        self.answer.jobs[job] = tuple(valid), pieces

    def flush(self) -> None:
        """Nothing is written here."""


def compute(part: Part) -> Answer:
    """Compute the windows of a part.

    Raises:
        InputError: the file is not the one that the client opened.
    """
    engine = engine_of(part.model)
    outputs = [
        _Collected(o.path, o.grid, o.bands, o.unit, o.encoding, o.tags) for o in part.outputs
    ]
    notes = _Notes(part.others, outputs)
    needed = engine.model.signature.source
    with open_scene(part.source, part.read, needed=needed) as scene:
        here = facts(part.model.identity, scene, {})
        changed = difference(part.seen, {name: here[name] for name in part.seen})
        if changed is not None:
            raise InputError(f"{part.source}: a worker sees another file: {changed}")
        conditions = SceneConditions(engine.model.network, scene.grid, part.seed)
        statistics = notes.answer.statistics
        Stream(engine, part.tiling, conditions, scene, outputs, notes, statistics).run()
    return notes.answer


def stop_event(run: str, client: Any = None) -> Any:
    """Return the event by which the client of a run tells the workers to stop."""
    from distributed import Event

    return Event(f"crossband-stop-{run}", client)


class _Stop:
    """Looks now and then whether the client wants no more; what is done of a scene is kept then."""

    def __init__(self, run: str) -> None:
        self._event, self._looked = stop_event(run), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            if self._event.is_set():
                raise KeyboardInterrupt


def scene(
    wanted: Wanted, task: Task, options: TranslateOptions, largest: int, run: str
) -> Line | None:
    """Translate a scene as a whole, as a fleet in one process does.

    Args:
        wanted: the model.
        task: with paths that hold everywhere.
        options: how it is translated.
        largest: windows that one worker takes on.
        run: name of the event that stops it.

    Returns:
        What became of it; None for a scene of more windows.

    Raises:
        Interrupted: it was stopped.
    """
    engine = engine_of(wanted)
    if _windows(engine, task, options) > largest:
        return None
    return attempt(engine.model, task, options, _Ready(engine), _Stop(run))


@dataclass(frozen=True)
class _Ready:
    """An executor with one model, which is ready already."""

    engine: Engine

    def ready(self, model: Model, options: TileOptions) -> LocalComputer:
        return LocalComputer(self.engine)


def _windows(engine: Engine, task: Task, options: TranslateOptions) -> int:
    """Return how many jobs a scene is; 0 where it cannot be opened, which `attempt` reports."""
    if options.tile.whole:
        return 1
    model = engine.model
    read = task.source.read_options(options.read, model.signature.source)
    try:
        with open_scene(task.source.path, read, needed=model.signature.source) as opened:
            return len(Tiling.of(model, opened.grid, options.tile).jobs)
    except CrossbandError:
        return 0
