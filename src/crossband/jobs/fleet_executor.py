"""Where the scenes of a list are translated: in this process, or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from crossband.core.hidden_folder import folder_of
from crossband.core.version import __version__
from crossband.errors import ChangedError, CrossbandError, Interrupted
from crossband.jobs.summary import DONE, FAILED, SKIPPED, SummaryLine
from crossband.jobs.task import FleetObserver, Task
from crossband.model import Model
from crossband.translate.executor import Executor, LocalExecutor
from crossband.translate.options import TranslateOptions
from crossband.translate.scene import translate_scene
from crossband.translate.statistics import Statistics
from crossband.translate.stream import Progress


class FleetExecutor(Executor, Protocol):
    """Translates many scenes."""

    def scenes(
        self,
        model: Model,
        tasks: Sequence[Task],
        options: TranslateOptions,
        observer: FleetObserver,
    ) -> Generator[SummaryLine, None, None]:
        """Translate scenes, and yield the summary line of each when it ends.

        Args:
            model: loaded model.
            tasks: the scenes and their outputs.
            options: how they are translated.
            observer: is notified when a scene starts.
        """


class LocalFleet(LocalExecutor):
    """Translates one scene after the other in this process."""

    def scenes(
        self,
        model: Model,
        tasks: Sequence[Task],
        options: TranslateOptions,
        observer: FleetObserver,
    ) -> Generator[SummaryLine, None, None]:
        """See `FleetExecutor.scenes`."""
        self.ready(model, options.tile)
        return (
            translate_task(model, task, options, self, observer.on_scene_start(task))
            for task in tasks
        )


def translate_task(
    model: Model,
    task: Task,
    options: TranslateOptions,
    executor: Executor,
    progress: Progress | None = None,
) -> SummaryLine:
    """Translate a scene and return its summary line, also where it fails.

    Raises:
        Interrupted, KeyboardInterrupt: Ctrl-C; other errors go into the summary line.
    """
    start, statistics = time.perf_counter(), Statistics()
    error: Exception | None = None
    try:
        _translate(model, task, options, executor, progress, statistics)
    except Interrupted:
        raise
    except Exception as caught:  # noqa: BLE001 - one scene must not end a fleet that runs for days
        error = caught
    return summary_line(model, task, statistics, time.perf_counter() - start, error)


def summary_line(
    model: Model, task: Task, statistics: Statistics, seconds: float, error: Exception | None
) -> SummaryLine:
    """Return the summary line of a scene.

    Args:
        model: that translated it.
        task: the scene.
        statistics: of its translation.
        seconds: that it took.
        error: why it failed; None where it did not.
    """
    reason = None
    if error is not None:
        reason = str(error)
        if not isinstance(error, CrossbandError):  # it may have several lines, and names no file
            words = " ".join(reason.split()) or type(error).__name__
            reason = f"{task.source.label}: {words}"
    status = FAILED if error is not None else SKIPPED if statistics.skipped else DONE
    return SummaryLine(
        output=task.name,
        input=task.source.path,
        status=status,
        reason=reason,
        error=None if error is None else type(error).__name__,
        pixels=statistics.pixels if status == DONE else 0,
        seconds=round(seconds, 3),
        model=model.name,
        version=__version__,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        guide=statistics.guide,
        guide_datetime=statistics.guide_datetime,
        unfamiliar=statistics.unfamiliar,
        unfamiliar_line=statistics.unfamiliar_line,
    )


def _translate(
    model: Model,
    task: Task,
    options: TranslateOptions,
    executor: Executor,
    progress: Progress | None,
    statistics: Statistics,
) -> None:
    """Translate a scene unless it is up to date; continue an interrupted translation of it."""
    bands = model.signature
    every = replace(
        options,
        read=task.source.read_options(options.read, bands.source),
        guide=task.source.guide_options(options.guide, {*bands.source, *bands.target}),
    )
    task.output.parent.mkdir(parents=True, exist_ok=True)
    interrupted = folder_of(task.output).is_dir()

    def run(resume: bool) -> None:
        translate_scene(
            model,
            task.source.path,
            task.output,
            replace(every, write=replace(every.write, resume=resume)),
            skip=True,
            executor=executor,
            progress=progress,
            statistics=statistics,
        )

    try:
        run(every.write.resume or interrupted)
    except ChangedError:
        if every.write.resume or not interrupted:
            raise
        run(False)
