"""Who computes the windows of a scene: this process, or the workers of a cluster.

`translate.scene` opens and cuts a scene and hands it to an executor; it names no cluster. This
process is one executor, `crossband.jobs.dask` has another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from crossband.model import Model
from crossband.raster.journal import Store
from crossband.raster.options import ReadOptions
from crossband.raster.scene import Scene
from crossband.raster.write import Output
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine
from crossband.translate.options import TileOptions
from crossband.translate.stream import Progress, Stream
from crossband.translate.threads import Statistics
from crossband.translate.tiling import Tiling


@dataclass(frozen=True)
class SceneJob:
    """A scene that is to be computed, for this process and for others.

    Attributes:
        source: path of the scene, as `open_scene` takes it.
        read: how it is read.
        scene: the same, opened in this process.
        tiling: how it is cut.
        conditions: noise, style and places.
        tile: the options it is cut by, with the seed.
        facts: what the pixels depend on, see `translate.provenance.facts`.
    """

    source: str | Path
    read: ReadOptions
    scene: Scene
    tiling: Tiling
    conditions: SceneConditions
    tile: TileOptions
    facts: Mapping[str, str]


class Computer(Protocol):
    """A model made ready to compute, here or on the workers of a cluster."""

    @property
    def device(self) -> torch.device:
        """Return what it computes on."""

    @property
    def precision(self) -> str:
        """Return in which precision: fp32 or bf16."""

    @property
    def identity(self) -> str:
        """Return what tells the model from another."""

    def run(
        self,
        job: SceneJob,
        outputs: Sequence[Output],
        store: Store,
        statistics: Statistics,
        progress: Progress | None = None,
    ) -> None:
        """Compute what is missing of a scene, and write it into its store.

        Raises:
            KeyboardInterrupt: what was computed is written and flushed.
            CrossbandError: a window failed, or the workers went away.
        """


class Executor(Protocol):
    """What makes models ready to compute."""

    def ready(self, model: Model, options: TileOptions) -> Computer:
        """Make a model ready on a device and in a precision; what is ready is made once."""


@dataclass(frozen=True)
class LocalComputer:
    """A model made ready in this process."""

    engine: Engine

    @property
    def device(self) -> torch.device:
        """What it computes on."""
        return self.engine.device

    @property
    def precision(self) -> str:
        """In which precision."""
        return self.engine.precision

    @property
    def identity(self) -> str:
        """What tells the model from another."""
        return self.engine.identity

    def run(
        self,
        job: SceneJob,
        outputs: Sequence[Output],
        store: Store,
        statistics: Statistics,
        progress: Progress | None = None,
    ) -> None:
        """See `Computer.run`."""
        Stream(self.engine, job.tiling, job.conditions, job.scene, outputs, store, statistics).run(
            progress
        )


class LocalExecutor:
    """This process; keeps the models that it made ready, for the next scene."""

    def __init__(self) -> None:
        self._ready: dict[tuple[int, str, str], LocalComputer] = {}

    def ready(self, model: Model, options: TileOptions) -> LocalComputer:
        """See `Executor.ready`."""
        key = id(model), options.device, options.precision
        if key not in self._ready:
            engine = Engine(model, options.device, options.precision)
            self._ready[key] = LocalComputer(engine)
        return self._ready[key]
