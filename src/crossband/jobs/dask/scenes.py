"""Many scenes on a cluster: each as a whole by one worker, or spread where that would take long."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossband.jobs.dask.client import AHEAD, LOOK, PART, Connection, absolute, result_of
from crossband.jobs.dask.worker import Wanted, scene, stop_event
from crossband.jobs.executor import attempt, line_of
from crossband.jobs.summary import Line
from crossband.jobs.task import Task, Watcher
from crossband.model import Model
from crossband.translate.options import TranslateOptions
from crossband.translate.threads import Statistics

#: Windows from which on a scene is spread even where there are scenes enough for all workers, so
#: that one huge one does not keep the others waiting at the end.
HUGE = 1024
#: Scenes that are spread at once: one is being computed while another is being finished.
SPREAD = 2


class Scenes:
    """Many scenes on a cluster, some of them at once.

    Args:
        cluster: whose workers do it.
        model: as this process has it.
        wanted: as they load it.
        options: how they are translated.
        watcher: is told how it goes.
    """

    def __init__(
        self,
        cluster: Connection,
        model: Model,
        wanted: Wanted,
        options: TranslateOptions,
        watcher: Watcher,
    ) -> None:
        self._cluster, self._model, self._wanted = cluster, model, wanted
        self._watcher = watcher
        reference = options.match.reference
        if reference is not None:  # workers must find it, too
            match = replace(options.match, reference=absolute(reference))
            options = replace(options, match=match)
        self._options = options
        self._whole: dict[Any, tuple[Task, float]] = {}
        self._spread: dict[Future[Line], Task] = {}
        self._run = uuid.uuid4().hex

    def run(self, tasks: list[Task]) -> Generator[Line, None, None]:
        """Yield the line of each scene as it ends; left early, workers stop where they are."""
        tasks = tasks[::-1]
        try:
            with ThreadPoolExecutor(SPREAD, "crossband-spread") as pool:
                try:
                    while tasks or self._whole or self._spread:
                        threads = self._cluster.threads()
                        while tasks and len(self._whole) < AHEAD * threads:
                            largest = PART if len(tasks) < threads else HUGE
                            self._hand_out(tasks.pop(), largest)
                        yield from self._ended(pool)
                        time.sleep(LOOK)
                finally:
                    self._stop()
        finally:
            self._cluster.stopping.clear()

    def _stop(self) -> None:
        self._cluster.stopping.set()
        if self._whole:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                stop_event(self._run, self._cluster.client).set()
                self._cluster.client.cancel(list(self._whole))

    def _hand_out(self, task: Task, largest: int) -> None:
        """Ask a worker for a scene, unless it is larger."""
        source = replace(task.source, path=absolute(task.source.path))
        there = replace(task, source=source, output=Path(absolute(task.output)))
        asked = self._cluster.client.submit(
            scene, self._wanted, there, self._options, largest, self._run, pure=False
        )
        self._whole[asked] = task, time.perf_counter()

    def _ended(self, pool: ThreadPoolExecutor) -> Iterator[Line]:
        for asked in [a for a in self._whole if a.done()]:
            task, start = self._whole.pop(asked)
            try:
                line: Line | None = result_of(asked)
            except Exception as error:  # noqa: BLE001 - a fleet must not end with one scene
                seconds = time.perf_counter() - start
                yield line_of(self._model, task, Statistics(), seconds, error)
                continue
            if line is None:
                self._begin(task, pool)
            else:
                yield replace(line, input=task.source.path)
            asked.release()
        for begun in [b for b in self._spread if b.done()]:
            del self._spread[begun]
            yield begun.result()

    def _begin(self, task: Task, pool: ThreadPoolExecutor) -> None:
        """Spread a scene over the workers."""
        begun = self._watcher.began(task)
        args = (self._model, task, self._options, self._cluster, begun)
        self._spread[pool.submit(attempt, *args)] = task
