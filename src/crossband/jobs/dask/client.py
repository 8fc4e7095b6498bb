"""A connection to a cluster, and the windows of one scene on its workers.

The client opens a scene, cuts it, and hands out parts of some windows each. Workers read the source
themselves, which they must find under the same path, and send stored numbers back. The client
writes them into the scene's store, keeps its journal and makes the file: a worker that is lost
costs the windows that it was at, and a client that is lost goes on where its journal ends.
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
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from crossband.core.version import __version__
from crossband.errors import ClusterError, CrossbandError, ModelError
from crossband.jobs.dask.worker import Answer, Part, Wanted, compute, probe
from crossband.model import Model, identity
from crossband.raster.journal import Store
from crossband.raster.remote import address, is_remote
from crossband.raster.write import Output, failed
from crossband.translate.blend import neighbours
from crossband.translate.executor import SceneJob
from crossband.translate.options import TileOptions
from crossband.translate.stream import Progress, count_jobs
from crossband.translate.threads import Interrupts, Statistics

#: Windows of a part: what a lost worker costs at most, and what goes back at once (about 20 MiB of
#: uint16 at the default tile).
PART = 16
#: Parts for each thread of the workers that are handed out before they are asked for.
AHEAD = 2
#: Seconds to wait for the scheduler, for a first worker, and between two looks at what is ready.
CONNECT, JOIN, LOOK = 15.0, 300.0, 0.2
_GONE = "the scheduler went away, or cancelled the work; what came back is kept for --resume"


class Connection:
    """A connection to a scheduler of dask.distributed; use as a context manager.

    Args:
        address: of the scheduler, as tcp://host:8786, or its file, as scheduler.json.

    Raises:
        CrossbandError: dask is not installed.
        ClusterError: nobody answers there.
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
            self.client = Client(**where, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"--scheduler {address}: no scheduler answers there ({_words(error)})"
            ) from error
        self.address = address
        self.stopping = threading.Event()
        self._ready: dict[tuple[str, ...], Wanted] = {}

    def ready(self, model: Model, options: TileOptions) -> Workers:
        """See that the workers can load a model, and what they compute it on.

        Raises:
            ClusterError: no worker joins.
            CrossbandError: it cannot load the model, or finds another one; it has another version
                of Crossband.
        """
        key = (_address(model), identity(model), options.device, options.precision)
        if key not in self._ready:
            self._ready[key] = self._probed(*key)
        return Workers(self, model, self._ready[key])

    def _probed(self, address: str, own: str, device: str, precision: str) -> Wanted:
        task = self.client.submit(probe, address, device, precision, pure=False)
        end = time.monotonic() + JOIN
        while not task.done():
            if time.monotonic() > end:
                task.cancel()
                raise ClusterError(
                    f"--scheduler {self.address}: no worker took up any work in {JOIN:.0f} s"
                )
            time.sleep(LOOK)
        wanted: Wanted = result_of(task)
        if wanted.version != __version__:
            raise ModelError(
                f"the workers have Crossband {wanted.version}, this is {__version__}: install one "
                f"version everywhere"
            )
        if wanted.identity != own:
            raise ModelError(f"{address}: the workers find another model there than this one")
        return wanted

    def threads(self) -> int:
        """Return how many tasks the workers do at once, now."""
        try:
            found: dict[str, int] = self.client.nthreads()
        except OSError as error:
            raise ClusterError(_GONE) from error
        return max(sum(found.values()), 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError, TimeoutError):
            self.client.close()


@dataclass(frozen=True)
class Workers:
    """The workers with one model, ready to compute; stands where an `Engine` does.

    Attributes:
        cluster: their connection.
        model: as this process has it.
        wanted: as they load it.
    """

    cluster: Connection
    model: Model
    wanted: Wanted

    @property
    def device(self) -> torch.device:
        """What they compute on."""
        return torch.device(self.wanted.device)

    @property
    def precision(self) -> str:
        """In which precision."""
        return self.wanted.precision

    @property
    def identity(self) -> str:
        """What tells the model from another."""
        return self.wanted.identity

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
            KeyboardInterrupt: what came back is written and flushed.
            CrossbandError: a part failed; `--whole`, which has nothing to spread.
            ClusterError: it took its workers with it, again and again; the scheduler went away.
        """
        if job.tile.whole:
            raise CrossbandError("--whole is one window: --engine dask has nothing to spread")
        start = time.perf_counter()
        finer = self.model.network.scale**2
        grid = outputs[0].grid
        pixels = count_jobs(job.tiling, grid.height * grid.width, outputs, store, statistics)
        done = sum(pixels[number] for number in store.done)
        if progress is not None:
            progress(done * finer, statistics.pixels)
        parts = _parts(self._whole(job, outputs), set(pixels) - set(store.done))
        try:
            with Interrupts() as stop, closing(self._answers(parts, stop.check)) as answers:
                for answer in answers:
                    _write(answer, outputs, store, statistics)
                    done += sum(pixels[number] for number in answer.jobs)
                    if progress is not None:
                        progress(done * finer, statistics.pixels)
        finally:
            try:
                store.flush()
            except OSError as error:
                raise failed(outputs[0].path, error) from error
            statistics.windows = time.perf_counter() - start

    def _whole(self, job: SceneJob, outputs: Sequence[Output]) -> Part:
        """Return the whole of a scene as one part."""
        seen = {name: job.facts[name] for name in ("the source", "how the source is read")}
        plain = tuple(replace(made, raw=None) for made in outputs)
        at = absolute(job.source)
        return Part(self.wanted, at, job.read, seen, job.tiling, frozenset(), job.tile.seed, plain)

    def _answers(
        self, parts: Iterator[Part], check: Callable[[], None]
    ) -> Generator[Answer, None, None]:
        """Hand out parts, a few more than there are threads, and yield answers as they come."""
        client, run = self.cluster.client, uuid.uuid4().hex[:8]
        waiting: set[Any] = set()
        numbered = enumerate(parts)
        more = True
        try:
            while more or waiting:
                limit = AHEAD * self.cluster.threads()
                while more and len(waiting) < limit:
                    number, part = next(numbered, (-1, None))
                    more = part is not None
                    if part is not None:
                        # What is spread goes before scenes that wait to be begun.
                        name = f"crossband-part-{run}-{number}"
                        waiting.add(client.submit(compute, part, key=name, priority=1))
                ready = self._wait(waiting, check)
                waiting -= ready
                for task in ready:
                    yield result_of(task)
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
            time.sleep(LOOK)
        return set()


def absolute(path: str | Path) -> str:
    """Return a path that holds in every folder; an address as it is."""
    return address(path) if is_remote(path) else os.path.abspath(path)


def _address(model: Model) -> str:
    """Return where workers find a model."""
    if model.address is not None and not Path(model.address).is_dir():
        return model.address  # a bundled name, or one on the hub
    if model.folder is None:
        raise ModelError(f"{model.name}: workers load a model from its folder: save it first")
    return os.path.abspath(model.folder)


def _parts(order: Part, missing: set[int]) -> Iterator[Part]:
    """Cut what is missing of a scene into parts of neighbouring windows."""
    jobs = [job for job in order.tiling.jobs if job.number in missing]
    size = max(PART // max(len(job.tiles) for job in jobs), 1) if jobs else 1
    for first in range(0, len(jobs), size):
        own = {job.number for job in jobs[first : first + size]}
        needed = own
        if order.tiling.overlap is not None:
            needed = neighbours(order.tiling.jobs, own)
        those = tuple(job for job in order.tiling.jobs if job.number in needed)
        yield replace(
            order, tiling=replace(order.tiling, groups=(those,)), others=frozenset(needed - own)
        )


def _write(answer: Answer, outputs: Sequence[Output], store: Store, statistics: Statistics) -> None:
    """Write what came back, and note it."""
    nothing = np.zeros((0, 0), bool)
    try:
        for number, (valid, pieces) in answer.jobs.items():
            for i, box, numbers, mask in pieces:
                raw = outputs[i].raw
                assert raw is not None
                raw.write(box, numbers, nothing if mask is None else mask)
            for made, count in zip(outputs, valid, strict=True):
                made.valid += count
            store.note(number, valid)
    except OSError as error:
        raise failed(outputs[0].path, error) from error
    found = answer.statistics
    for name in ("computed", "empty", "seen", "kept", "computing"):
        setattr(statistics, name, getattr(statistics, name) + getattr(found, name))


def result_of(task: Any) -> Any:
    """Return what a task gave; CrossbandError where that, its workers or the scheduler failed."""
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
