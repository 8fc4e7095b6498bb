"""Where the windows of a scene are computed: in this process, or on the workers of a cluster.

`translate.scene` opens and cuts a scene and gives it to an executor, without knowing any cluster.
`LocalExecutor` computes in this process; `crossband.jobs.dask` has an executor for dask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crossband.model import Model
from crossband.raster.journal import Store
from crossband.raster.options import ReadOptions
from crossband.raster.output import OutputFile
from crossband.raster.scene import Scene
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine, EngineKey
from crossband.translate.options import TileOptions
from crossband.translate.statistics import Statistics
from crossband.translate.stream import Progress, SceneStream
from crossband.translate.tiling import Tiling


@dataclass(frozen=True)
class SceneJob:
    """A scene that is to be computed, in this process or in others.

    Attributes:
        source: path of the scene, as `open_scene` takes it.
        read: how it is read.
        scene: the same, opened in this process.
        tiling: how it is cut.
        conditions: noise, style and places.
        tile: the options from which tiling and conditions were made.
        facts: what the pixels depend on, see `translate.provenance.scene_facts`.
    """

    source: str | Path
    read: ReadOptions
    scene: Scene
    tiling: Tiling
    conditions: SceneConditions
    tile: TileOptions
    facts: Mapping[str, str]


class Computer(Protocol):
    """A model made ready to compute, in this process or on the workers of a cluster."""

    @property
    def key(self) -> EngineKey:
        """Return the model's identity, the device and the precision."""

    def run(
        self,
        job: SceneJob,
        outputs: Sequence[OutputFile],
        store: Store,
        statistics: Statistics,
        progress: Progress | None = None,
    ) -> None:
        """Compute the missing windows of a scene, and write them into its store.

        Args:
            job: the scene.
            outputs: the result, followed by the indices.
            store: says which windows are finished.
            statistics: receives what was done, and the time of each step.
            progress: called with (pixels done, pixels in all).

        Raises:
            KeyboardInterrupt: what was computed is written and flushed.
            CrossbandError: a window failed, or the workers were lost.
        """


class Executor(Protocol):
    """Makes models ready to compute."""

    def ready(self, model: Model, options: TileOptions) -> Computer:
        """Make a model ready on a device and in a precision; the next call returns the same."""


@dataclass(frozen=True)
class LocalComputer:
    """A model made ready in this process."""

    engine: Engine

    @property
    def key(self) -> EngineKey:
        """See `Computer.key`."""
        return self.engine.key

    def run(
        self,
        job: SceneJob,
        outputs: Sequence[OutputFile],
        store: Store,
        statistics: Statistics,
        progress: Progress | None = None,
    ) -> None:
        """See `Computer.run`."""
        stream = SceneStream(
            self.engine, job.tiling, job.conditions, job.scene, outputs, store, statistics
        )
        stream.run(progress)


class LocalExecutor:
    """Computes in this process; keeps the models that it made ready for the next scene."""

    def __init__(self) -> None:
        self._ready: dict[tuple[int, str, str], LocalComputer] = {}

    def ready(self, model: Model, options: TileOptions) -> LocalComputer:
        """See `Executor.ready`."""
        key = id(model), options.device, options.precision
        if key not in self._ready:
            engine = Engine(model, options.device, options.precision)
            self._ready[key] = LocalComputer(engine)
        return self._ready[key]
