"""Who does the scenes of a list: this process, one after the other, or a cluster."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from crossband.core.version import __version__
from crossband.errors import ChangedError, CrossbandError, Interrupted
from crossband.jobs.summary import DONE, FAILED, SKIPPED, Line
from crossband.jobs.task import Task, Watcher
from crossband.model import Model
from crossband.raster.journal import folder_of
from crossband.translate.executor import Executor, LocalExecutor
from crossband.translate.options import TranslateOptions
from crossband.translate.scene import translate
from crossband.translate.stream import Progress
from crossband.translate.threads import Statistics


class FleetExecutor(Executor, Protocol):
    """Does many scenes."""

    def scenes(
        self, model: Model, tasks: Sequence[Task], options: TranslateOptions, watcher: Watcher
    ) -> Generator[Line, None, None]:
        """Translate scenes, and yield the line of each as it ends."""


class LocalFleet(LocalExecutor):
    """This process: one scene after the other."""

    def scenes(
        self, model: Model, tasks: Sequence[Task], options: TranslateOptions, watcher: Watcher
    ) -> Generator[Line, None, None]:
        """See `FleetExecutor.scenes`."""
        self.ready(model, options.tile)
        return (attempt(model, task, options, self, watcher.began(task)) for task in tasks)


def attempt(
    model: Model,
    task: Task,
    options: TranslateOptions,
    executor: Executor,
    progress: Progress | None = None,
) -> Line:
    """Translate a scene and say how it went, whatever happens.

    Raises:
        Interrupted, KeyboardInterrupt: nothing else.
    """
    start, found = time.perf_counter(), Statistics()
    error: Exception | None = None
    try:
        _translate(model, task, options, executor, progress, found)
    except Interrupted:
        raise
    except Exception as caught:  # noqa: BLE001 - a fleet of days must not end with one scene
        error = caught
    return line_of(model, task, found, time.perf_counter() - start, error)


def line_of(
    model: Model, task: Task, found: Statistics, seconds: float, error: Exception | None
) -> Line:
    """Return the line of the summary for a scene that ended, with an error where it failed."""
    reason = None
    if error is not None:
        reason = str(error)
        if not isinstance(error, CrossbandError):  # it names no file, and may have many lines
            words = " ".join(reason.split()) or type(error).__name__
            reason = f"{task.source.said}: {words}"
    status = FAILED if error is not None else SKIPPED if found.skipped else DONE
    return Line(
        output=task.name,
        input=task.source.path,
        status=status,
        reason=reason,
        error=None if error is None else type(error).__name__,
        pixels=found.pixels if status == DONE else 0,
        seconds=round(seconds, 3),
        model=model.name,
        version=__version__,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _translate(
    model: Model,
    task: Task,
    options: TranslateOptions,
    executor: Executor,
    progress: Progress | None,
    found: Statistics,
) -> None:
    """Translate a scene, unless it is there; what was begun of it goes on."""
    read = task.source.read_options(options.read, model.signature.source)
    every = replace(options, read=read)
    task.output.parent.mkdir(parents=True, exist_ok=True)
    begun = folder_of(task.output).is_dir()

    def run(resume: bool) -> None:
        translate(
            model,
            task.source.path,
            task.output,
            replace(every, write=replace(every.write, resume=resume)),
            skip=True,
            executor=executor,
            progress=progress,
            statistics=found,
        )

    try:
        run(every.write.resume or begun)
    except ChangedError:
        if every.write.resume or not begun:
            raise
        run(False)
