"""Read, compute and write the tiles of a scene at once, in threads of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crossband.metrics.families.index import written_index
from crossband.raster.blocks import BlockReader
from crossband.raster.output import OutputFile, write_error
from crossband.raster.scene import Scene
from crossband.translate.blend import needed_batches
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine, PreparedBatch
from crossband.translate.statistics import Statistics
from crossband.translate.threads import BackgroundWriter, DeferredInterrupt, Prefetcher
from crossband.translate.tile_pool import TilePool
from crossband.translate.tiling import Postprocessor, Tiling

Progress = Callable[[int, int], None]


class Journal(Protocol):
    """Records which batches are finished; see `raster.journal.Store`."""

    @property
    def done(self) -> Mapping[int, Sequence[int]]:
        """Return batch number -> valid pixels of each output, for batches that need no work."""

    def mark_done(self, batch: int, valid: Sequence[int]) -> None:
        """Record that the pixels of a batch are written."""

    def flush(self) -> None:
        """Make the record durable."""


def count_batches(
    tiling: Tiling,
    pixels: int,
    outputs: Sequence[OutputFile],
    store: Journal,
    statistics: Statistics,
) -> dict[int, int]:
    """Fill in the statistics of what is to be done and what an earlier run has done.

    Args:
        tiling: how the scene is cut.
        pixels: of the result.
        outputs: whose counts of valid pixels are increased by those of finished batches.
        store: says which batches are finished.
        statistics: receives what was done, and the time of each step.

    Returns:
        Batch number -> source pixels in the cores of its tiles.
    """
    batches = tiling.batches
    statistics.pixels = pixels
    statistics.tiles = sum(len(batch.tiles) for batch in batches)
    statistics.resumed = sum(len(batch.tiles) for batch in batches if batch.number in store.done)
    for valid in store.done.values():
        for output, count in zip(outputs, valid, strict=True):
            output.valid += count
    return {
        batch.number: sum(t.core.height * t.core.width for t in batch.tiles) for batch in batches
    }


class SceneStream:
    """Computes the missing batches of a scene, and writes them into its outputs.

    Args:
        engine: the model.
        tiling: how the scene is cut.
        conditions: noise, style and places.
        scene: the source; from now on only the reading thread uses it.
        outputs: the result, followed by the indices, intervals and familiarity.
        store: says which batches are finished.
        statistics: receives what was done, and the time of each step.
    """

    def __init__(
        self,
        engine: Engine,
        tiling: Tiling,
        conditions: SceneConditions,
        scene: Scene,
        outputs: Sequence[OutputFile],
        store: Journal,
        statistics: Statistics,
    ) -> None:
        self._engine, self._tiling, self._scene = engine, tiling, scene
        self._conditions = conditions
        self._outputs, self._store, self._statistics = outputs, store, statistics
        pixels = scene.grid.height * scene.grid.width * engine.model.network.scale**2
        self._pixels = count_batches(tiling, pixels, outputs, store, statistics)
        batches = tiling.batches
        self._missing = {batch.number for batch in batches} - set(store.done)
        self._needed = self._missing
        if tiling.overlap is not None:
            self._needed = needed_batches(batches, self._missing)
        self._postprocess = Postprocessor(engine, tiling, self._missing)

    def run(self, progress: Progress | None = None) -> None:
        """Compute and write all missing batches.

        Args:
            progress: called with (pixels done, pixels in all) at the start and after each batch.

        Raises:
            KeyboardInterrupt: between two batches; what was computed is written and flushed.
        """
        statistics, start = self._statistics, time.perf_counter()
        try:
            with DeferredInterrupt() as interrupts, BackgroundWriter(self._write) as writer:
                with Prefetcher(self._prepared(), interrupts.check) as ready:
                    self._compute(ready, writer, progress)
                statistics.windows = time.perf_counter() - start
        finally:
            try:
                self._store.flush()
            except OSError as error:
                raise write_error(self._outputs[0].path, error) from error

    def _prepared(self) -> Generator[PreparedBatch, None, None]:
        reader = BlockReader(self._scene, self._statistics.reads)
        for group in self._tiling.groups:
            own = [batch for batch in group if batch.number in self._needed]
            windows = reader.windows([tile.source for batch in own for tile in batch.tiles])
            for batch in own:
                yield self._engine.prepare(
                    batch, [next(windows) for _ in batch.tiles], self._conditions
                )

    def _compute(
        self,
        ready: Prefetcher[PreparedBatch],
        writer: BackgroundWriter[tuple[PreparedBatch, Tensor | None]],
        progress: Progress | None,
    ) -> None:
        statistics, finer = self._statistics, self._engine.model.network.scale**2
        done = sum(self._pixels[number] for number in self._store.done)
        if progress is not None:
            progress(done * finer, statistics.pixels)
        clock = _Clock()

        def waited() -> None:
            statistics.waiting_for_reading += clock.lap()

        with TilePool(self._engine, len(self._tiling.batches)) as pool:
            for item, predictions in pool.compute(ready, waited):
                statistics.computing += clock.lap()
                self._count(item, predictions)
                writer.put((item, predictions))
                del predictions
                statistics.waiting_for_writing += clock.lap()
                if item.batch.number in self._missing:
                    done += self._pixels[item.batch.number]
                if progress is not None:
                    progress(done * finer, statistics.pixels)

    def _count(self, item: PreparedBatch, predictions: Tensor | None) -> None:
        statistics, tiles = self._statistics, item.batch.tiles
        if predictions is None:
            statistics.empty += len(tiles)
            return
        statistics.computed += len(tiles)
        statistics.seen += sum(t.source.height * t.source.width for t in tiles)
        statistics.kept += self._pixels[item.batch.number]

    def _write(self, item: tuple[PreparedBatch, Tensor | None]) -> None:
        outputs, target = self._outputs, self._engine.model.signature.target
        finer, valid = self._engine.model.network.scale > 1, [0] * len(outputs)
        for box, every, mask, core in self._postprocess(*item):
            values, further = every[: len(target)], every[len(target) :]
            valid[0] += outputs[0].write(box, values, mask)
            known = {} if finer else dict(zip(core.bands, core.values, strict=True))
            known |= dict(zip(target, values, strict=True))
            for i, output in enumerate(outputs[1:], start=1):
                if output.content is None:
                    computed = compute_index_values(output.bands[0], known, mask, outputs[0].unit)
                else:
                    computed = output.content(known, further, mask)
                valid[i] += output.write(box, *computed)
        if item[0].batch.number in self._missing:
            try:
                self._store.mark_done(item[0].batch.number, valid)
            except OSError as error:
                raise write_error(outputs[0].path, error) from error


class _Clock:
    """Measures the seconds since its last reading."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed


def compute_index_values(
    name: str, bands: dict[str, NDArray[np.float32]], mask: NDArray[np.bool_], unit: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Compute a spectral index; see `written_index`.

    Args:
        name: of the index.
        bands: band name -> values [H, W] in physical units.
        mask: where all bands are valid, [H, W].
        unit: of the bands of the index.

    Returns:
        Values [1, H, W], 0 where undefined; and where they are defined, [H, W].
    """
    values, defined = written_index(name, bands, unit)
    defined &= mask
    return np.where(defined, values, np.float32(0))[None], defined
