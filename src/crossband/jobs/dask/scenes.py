"""Many scenes on a cluster: each on one worker, or over all workers where it is huge."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossband.jobs.dask.client import (
    PART_WINDOWS,
    POLL_SECONDS,
    TASKS_PER_THREAD,
    Connection,
    absolute,
    task_result,
)
from crossband.jobs.dask.worker import ModelReference, stop_event, translate_on_worker
from crossband.jobs.fleet_executor import summary_line, translate_task
from crossband.jobs.summary import SummaryLine
from crossband.jobs.task import FleetObserver, Task
from crossband.model import Model
from crossband.translate.options import GuideOptions, TranslateOptions
from crossband.translate.statistics import Statistics

#: A scene with more windows is computed by all workers, even where there are scenes for all of
#: them, so that it does not run alone at the end.
HUGE_WINDOWS = 1024
#: Scenes that are spread at once: one is being computed while another is being finished.
SPREAD_AT_ONCE = 2


class ClusterFleet:
    """Translates many scenes on a cluster.

    Args:
        cluster: connection to the workers.
        model: as loaded in this process.
        reference: to the model, as the workers load it.
        options: how scenes are translated.
        observer: is notified of scenes that start.
    """

    def __init__(
        self,
        cluster: Connection,
        model: Model,
        reference: ModelReference,
        options: TranslateOptions,
        observer: FleetObserver,
    ) -> None:
        self._cluster, self._model, self._reference = cluster, model, reference
        self._observer = observer
        self._options = replace(options, guide=_absolute(options.guide))
        self._whole: dict[Any, tuple[Task, float]] = {}
        self._spread: dict[Future[SummaryLine], Task] = {}
        self._run = uuid.uuid4().hex

    def run(self, tasks: list[Task]) -> Generator[SummaryLine, None, None]:
        """Yield the summary line of each scene when it ends; closing it early stops the workers."""
        tasks = tasks[::-1]
        try:
            with ThreadPoolExecutor(SPREAD_AT_ONCE, "crossband-spread") as pool:
                try:
                    while tasks or self._whole or self._spread:
                        threads = self._cluster.threads()
                        while tasks and len(self._whole) < TASKS_PER_THREAD * threads:
                            largest = PART_WINDOWS if len(tasks) < threads else HUGE_WINDOWS
                            self._submit(tasks.pop(), largest)
                        yield from self._finished_lines(pool)
                        time.sleep(POLL_SECONDS)
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

    def _submit(self, task: Task, largest: int) -> None:
        """Submit a scene to one worker, which declines it if it has more than `largest` windows."""
        own = task.source
        source = replace(own, path=absolute(own.path), guide=_absolute(own.guide))
        there = replace(task, source=source, output=Path(absolute(task.output)))
        future = self._cluster.client.submit(
            translate_on_worker,
            self._reference,
            there,
            self._options,
            largest,
            self._run,
            pure=False,
        )
        self._whole[future] = task, time.perf_counter()

    def _finished_lines(self, pool: ThreadPoolExecutor) -> Iterator[SummaryLine]:
        for future in [f for f in self._whole if f.done()]:
            task, start = self._whole.pop(future)
            try:
                line: SummaryLine | None = task_result(future)
            except Exception as error:  # noqa: BLE001 - a fleet must not end with one scene
                seconds = time.perf_counter() - start
                yield summary_line(self._model, task, Statistics(), seconds, error)
                continue
            if line is None:
                self._begin(task, pool)
            else:
                yield replace(line, input=task.source.path)
            future.release()
        for future in [f for f in self._spread if f.done()]:
            del self._spread[future]
            yield future.result()

    def _begin(self, task: Task, pool: ThreadPoolExecutor) -> None:
        """Start a scene whose windows all workers compute."""
        progress = self._observer.on_scene_start(task)
        args = (self._model, task, self._options, self._cluster, progress)
        self._spread[pool.submit(translate_task, *args)] = task


def _absolute(options: GuideOptions) -> GuideOptions:
    """Return the same guide under a path by which workers find it, too."""
    if options.guide is None:
        return options
    beside = options.beside and (absolute(options.beside[0]), options.beside[1])
    return replace(options, guide=absolute(options.guide), beside=beside)
