"""A connection to a cluster, and the windows of one scene on its workers.

The client opens a scene, cuts it, and hands out parts of several windows. Workers read the source
themselves, under the same path, and return stored numbers. The client writes them into the scene's
store and makes the file. A lost worker costs the windows that it was computing. A lost client can
be resumed from its journal.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from crossband.core.version import __version__
from crossband.errors import ClusterError, CrossbandError, ModelError
from crossband.jobs.dask.worker import (
    ModelReference,
    PartResult,
    ScenePart,
    compute_part,
    probe_model,
)
from crossband.model import Model, identity
from crossband.model.uncertain import Asked, asked_of
from crossband.raster.journal import Store
from crossband.raster.output import OutputFile, write_error
from crossband.raster.remote import address, is_remote
from crossband.translate.blend import needed_batches
from crossband.translate.engine import EngineKey
from crossband.translate.executor import SceneJob
from crossband.translate.options import TileOptions
from crossband.translate.statistics import Statistics
from crossband.translate.stream import Progress, count_batches
from crossband.translate.threads import DeferredInterrupt

#: Windows of a part: the most that a lost worker costs, and the size of a result (about 20 MiB of
#: uint16 at the default tile).
PART_WINDOWS = 16
#: Tasks that are submitted at a time for each thread of the workers.
TASKS_PER_THREAD = 2
#: Seconds to wait for the scheduler and for a first worker, and between two checks for results.
CONNECT_SECONDS, JOIN_SECONDS, POLL_SECONDS = 15.0, 300.0, 0.2
_GONE = "the scheduler went away, or cancelled the work; what came back is kept for --resume"


class Connection:
    """A connection to a scheduler of dask.distributed; use as a context manager.

    Args:
        address: of the scheduler, as tcp://host:8786, or path of its file, as scheduler.json.

    Raises:
        CrossbandError: dask is not installed.
        ClusterError: no scheduler answers there.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise CrossbandError(
                "--engine dask needs dask.distributed: pip install crossband[dask]"
            ) from error
        where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
        try:
            if address.endswith(".json") and not Path(address).is_file():
                raise FileNotFoundError("no such file")
            self.client = Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"--scheduler {address}: no scheduler answers there ({_words(error)})"
            ) from error
        self.address = address
        self.stopping = threading.Event()
        self._ready: dict[tuple[str, ...], ModelReference] = {}

    def ready(self, model: Model, options: TileOptions) -> ClusterComputer:
        """Let a worker load the model, and report device and precision.

        Raises:
            ClusterError: no worker takes up the task.
            CrossbandError: the worker cannot load the model, finds another one, or has another
                version of Crossband.
        """
        model.check_unguided("--engine dask gives it")
        key = (_model_address(model), identity(model), options.device, options.precision)
        if key not in self._ready:
            self._ready[key] = self._probed(*key, asked_of(model))
        return ClusterComputer(self, model, self._ready[key])

    def _probed(
        self, address: str, own: str, device: str, precision: str, asked: Asked | None
    ) -> ModelReference:
        task = self.client.submit(probe_model, address, device, precision, asked, pure=False)
        end = time.monotonic() + JOIN_SECONDS
        while not task.done():
            if time.monotonic() > end:
                task.cancel()
                raise ClusterError(
                    f"--scheduler {self.address}: no worker took up any work in "
                    f"{JOIN_SECONDS:.0f} s"
                )
            time.sleep(POLL_SECONDS)
        found: ModelReference = task_result(task)
        if found.version != __version__:
            raise ModelError(
                f"the workers have Crossband {found.version}, this is {__version__}: install one "
                f"version everywhere"
            )
        if found.key.identity != own:
            raise ModelError(f"{address}: the workers find another model there than this one")
        return found

    def threads(self) -> int:
        """Return how many tasks the workers can run at once."""
        try:
            found: dict[str, int] = self.client.nthreads()
        except OSError as error:
            raise ClusterError(_GONE) from error
        return max(sum(found.values()), 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError, TimeoutError):
            self.client.close()


@dataclass(frozen=True)
class ClusterComputer:
    """Computes the windows of scenes on the workers; a `translate.executor.Computer`.

    Attributes:
        cluster: connection to the workers.
        model: as loaded in this process.
        reference: to the model, as the workers load it.
    """

    cluster: Connection
    model: Model
    reference: ModelReference

    @property
    def key(self) -> EngineKey:
        """See `Computer.key`; of the workers."""
        return self.reference.key

    def run(
        self,
        job: SceneJob,
        outputs: Sequence[OutputFile],
        store: Store,
        statistics: Statistics,
        progress: Progress | None = None,
    ) -> None:
        """See `Computer.run`.

        Raises:
            CrossbandError: a part failed; or `--whole`, which is one window.
            ClusterError: several workers ended at the same part, or the scheduler was lost.
        """
        if job.tile.whole:
            raise CrossbandError("--whole is one window: --engine dask has nothing to spread")
        start = time.perf_counter()
        finer = self.model.network.scale**2
        grid = outputs[0].grid
        pixels = count_batches(job.tiling, grid.height * grid.width, outputs, store, statistics)
        done = sum(pixels[number] for number in store.done)
        if progress is not None:
            progress(done * finer, statistics.pixels)
        parts = _parts(self._all_windows(job, outputs), set(pixels) - set(store.done))
        try:
            with DeferredInterrupt() as stop, closing(self._results(parts, stop.check)) as results:
                for result in results:
                    _write(result, outputs, store, statistics)
                    done += sum(pixels[number] for number in result.batches)
                    if progress is not None:
                        progress(done * finer, statistics.pixels)
        finally:
            try:
                store.flush()
            except OSError as error:
                raise write_error(outputs[0].path, error) from error
            statistics.windows = time.perf_counter() - start

    def _all_windows(self, job: SceneJob, outputs: Sequence[OutputFile]) -> ScenePart:
        """Return a part that holds all windows of a scene."""
        source_facts = {name: job.facts[name] for name in ("the source", "how the source is read")}
        plain = tuple(replace(output, raw=None) for output in outputs)
        at = absolute(job.source)
        return ScenePart(
            self.reference,
            at,
            job.read,
            source_facts,
            job.tiling,
            frozenset(),
            job.tile.seed,
            plain,
        )

    def _results(
        self, parts: Iterator[ScenePart], check: Callable[[], None]
    ) -> Generator[PartResult, None, None]:
        """Submit parts, a few more than there are threads, and yield results as they arrive."""
        client, run = self.cluster.client, uuid.uuid4().hex[:8]
        waiting: set[Any] = set()
        numbered = enumerate(parts)
        more = True
        try:
            while more or waiting:
                limit = TASKS_PER_THREAD * self.cluster.threads()
                while more and len(waiting) < limit:
                    number, part = next(numbered, (-1, None))
                    more = part is not None
                    if part is not None:
                        # Parts of a started scene run before scenes that have not started.
                        name = f"crossband-part-{run}-{number}"
                        waiting.add(client.submit(compute_part, part, key=name, priority=1))
                ready = self._wait(waiting, check)
                waiting -= ready
                for task in ready:
                    yield task_result(task)
                    task.release()
        finally:
            if waiting:
                with contextlib.suppress(Exception):  # the scheduler may be gone
                    client.cancel(list(waiting), force=True)

    def _wait(self, waiting: set[Any], check: Callable[[], None]) -> set[Any]:
        while waiting:
            check()
            if self.cluster.stopping.is_set():
                raise KeyboardInterrupt
            ready = {task for task in waiting if task.done()}
            if ready:
                return ready
            time.sleep(POLL_SECONDS)
        return set()


def absolute(path: str | Path) -> str:
    """Return the absolute path of a file; an address as it is."""
    return address(path) if is_remote(path) else os.path.abspath(path)


def _model_address(model: Model) -> str:
    """Return the name or path by which workers load a model."""
    if model.address is not None and not Path(model.address).is_dir():
        return model.address  # a bundled name, or one on the hub
    if model.folder is None:
        raise ModelError(f"{model.name}: workers load a model from its folder: save it first")
    return os.path.abspath(model.folder)


def _parts(order: ScenePart, missing: set[int]) -> Iterator[ScenePart]:
    """Divide the missing windows of a scene into parts of neighbours.

    Args:
        order: a part that holds all windows.
        missing: numbers of the missing batches.
    """
    batches = [b for b in order.tiling.batches if b.number in missing]
    size = max(PART_WINDOWS // max(len(b.tiles) for b in batches), 1) if batches else 1
    for first in range(0, len(batches), size):
        own = {b.number for b in batches[first : first + size]}
        needed = own
        if order.tiling.overlap is not None:
            needed = needed_batches(order.tiling.batches, own)
        those = tuple(b for b in order.tiling.batches if b.number in needed)
        yield replace(
            order, tiling=replace(order.tiling, groups=(those,)), blended=frozenset(needed - own)
        )


def _write(
    result: PartResult, outputs: Sequence[OutputFile], store: Store, statistics: Statistics
) -> None:
    """Write the numbers of a result into the raw files, and mark its batches as done."""
    nothing = np.zeros((0, 0), bool)
    try:
        for number, (valid, pieces) in result.batches.items():
            for i, box, numbers, mask in pieces:
                raw = outputs[i].raw
                assert raw is not None
                raw.write(box, numbers, nothing if mask is None else mask)
            for output, count in zip(outputs, valid, strict=True):
                output.valid += count
            store.mark_done(number, valid)
    except OSError as error:
        raise write_error(outputs[0].path, error) from error
    found = result.statistics
    for name in ("computed", "empty", "seen", "kept", "computing"):
        setattr(statistics, name, getattr(statistics, name) + getattr(found, name))


def task_result(task: Any) -> Any:
    """Return the result of a task; CrossbandError where it, its workers or the scheduler failed."""
    from distributed import CancelledError, KilledWorker

    try:
        return task.result()
    except CrossbandError:
        raise
    except KilledWorker as error:
        raise ClusterError(
            "the cluster gave it up: several workers ended while they were at it (is their memory "
            "too small?); what came back is kept for --resume"
        ) from error
    except CancelledError as error:
        raise ClusterError(_GONE) from error
    except ImportError as error:
        raise ClusterError(f"the workers cannot run Crossband: {_words(error)}") from error
    except Exception as error:  # as out of memory; its traceback is the worker's
        raise ClusterError(f"a worker failed: {type(error).__name__}: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
