"""A scene through a model: read, computed and written side by side, a few tiles at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossband.core import indices
from crossband.raster.blocks import BlockReader
from crossband.raster.scene import Scene
from crossband.raster.write import Output, failed
from crossband.translate.blend import neighbours
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine, Prepared
from crossband.translate.threads import BackgroundWriter, Interrupts, Prefetcher, Statistics
from crossband.translate.tiling import Results, Tiling

Progress = Callable[[int, int], None]


class Journal(Protocol):
    """What remembers the jobs that are finished; see `raster.journal.Store`."""

    @property
    def done(self) -> Mapping[int, Sequence[int]]:
        """Return job -> valid pixels of each output, of the jobs that need no work."""

    def note(self, job: int, valid: Sequence[int]) -> None:
        """Remember that the pixels of a job are written."""

    def flush(self) -> None:
        """See that what was noted stays."""


def count_jobs(
    tiling: Tiling, pixels: int, outputs: Sequence[Output], store: Journal, statistics: Statistics
) -> dict[int, int]:
    """Count what there is to do, and what is done already; returns job -> source pixels."""
    jobs = tiling.jobs
    statistics.pixels = pixels
    statistics.tiles = sum(len(job.tiles) for job in jobs)
    statistics.resumed = sum(len(job.tiles) for job in jobs if job.number in store.done)
    for valid in store.done.values():
        for made, count in zip(outputs, valid, strict=True):
            made.valid += count
    return {job.number: sum(t.core.height * t.core.width for t in job.tiles) for job in jobs}


class Stream:
    """Computes what is missing of a scene, and writes it into a store.

    Args:
        engine: the model.
        tiling: how the scene is cut.
        conditions: noise, style and places.
        scene: read in a thread of its own from here on.
        outputs: the result, and the indices after it.
        store: says what is there already.
        statistics: is filled in.
    """

    def __init__(
        self,
        engine: Engine,
        tiling: Tiling,
        conditions: SceneConditions,
        scene: Scene,
        outputs: Sequence[Output],
        store: Journal,
        statistics: Statistics,
    ) -> None:
        self._engine, self._tiling, self._scene = engine, tiling, scene
        self._conditions = conditions
        self._outputs, self._store, self._found = outputs, store, statistics
        pixels = scene.grid.height * scene.grid.width * engine.model.network.scale**2
        self._pixels = count_jobs(tiling, pixels, outputs, store, statistics)
        jobs = tiling.jobs
        self._missing = {job.number for job in jobs} - set(store.done)
        self._needed = self._missing
        if tiling.overlap is not None:
            self._needed = neighbours(jobs, self._missing)
        self._results = Results(engine, tiling, self._missing)

    def run(self, progress: Progress | None = None) -> None:
        """Do all of it.

        Raises:
            KeyboardInterrupt: between two jobs; what was computed is written and flushed.
        """
        found, start = self._found, time.perf_counter()
        try:
            with Interrupts() as interrupts, BackgroundWriter(self._write) as writer:
                with Prefetcher(self._prepared(), interrupts.check) as ready:
                    self._compute(ready, writer, progress)
                found.windows = time.perf_counter() - start
        finally:
            try:
                self._store.flush()
            except OSError as error:
                raise failed(self._outputs[0].path, error) from error
        found.draining = time.perf_counter() - start - found.windows

    def _prepared(self) -> Generator[Prepared, None, None]:
        reader = BlockReader(self._scene, self._found.reads)
        for group in self._tiling.groups:
            own = [job for job in group if job.number in self._needed]
            windows = reader.windows([tile.source for job in own for tile in job.tiles])
            for job in own:
                yield self._engine.prepare(
                    job, [next(windows) for _ in job.tiles], self._conditions
                )

    def _compute(
        self,
        ready: Prefetcher[Prepared],
        writer: BackgroundWriter[tuple[Prepared, Tensor | None]],
        progress: Progress | None,
    ) -> None:
        found, finer = self._found, self._engine.model.network.scale**2
        done = sum(self._pixels[number] for number in self._store.done)
        if progress is not None:
            progress(done * finer, found.pixels)
        clock = _Clock()
        for item in ready:
            found.waiting_for_reading += clock.lap()
            answers = self._engine.compute(item)
            found.computing += clock.lap()
            self._count(item, answers)
            writer.put((item, answers))
            del answers
            found.waiting_for_writing += clock.lap()
            if item.job.number in self._missing:
                done += self._pixels[item.job.number]
            if progress is not None:
                progress(done * finer, found.pixels)

    def _count(self, item: Prepared, answers: Tensor | None) -> None:
        found, tiles = self._found, item.job.tiles
        if answers is None:
            found.empty += len(tiles)
            return
        found.computed += len(tiles)
        found.seen += sum(t.source.height * t.source.width for t in tiles)
        found.kept += self._pixels[item.job.number]

    def _write(self, item: tuple[Prepared, Tensor | None]) -> None:
        outputs, target = self._outputs, self._engine.model.signature.target
        valid = [0] * len(outputs)
        for box, values, mask, core in self._results(*item):
            valid[0] += outputs[0].write(box, values, mask)
            known = dict(zip(core.bands, core.values, strict=True))
            known |= dict(zip(target, values, strict=True))
            for i, made in enumerate(outputs[1:], start=1):
                valid[i] += made.write(box, *index_values(made.bands[0], known, mask))
        if item[0].job.number in self._missing:
            try:
                self._store.note(item[0].job.number, valid)
            except OSError as error:
                raise failed(outputs[0].path, error) from error


class _Clock:
    """Counts the seconds between two looks at it."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed


def index_values(
    name: str, bands: dict[str, NDArray[np.float32]], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return index values [1, H, W] and where they are defined."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = np.asarray(indices.compute(name, bands), np.float32)
    defined = mask & np.isfinite(values)
    return np.where(defined, values, 0.0)[None], defined
