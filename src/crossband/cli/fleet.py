"""`crossband translate` of many scenes: progress, messages and exit code."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from crossband.cli.computing import connected, load_model
from crossband.cli.progress import Bar, mpix
from crossband.core.messages import duration, printable_line, say, say_warning, tell
from crossband.errors import SomeFailed
from crossband.jobs.names import PATTERN
from crossband.jobs.run import translate_tasks
from crossband.jobs.summary import DONE, FAILED, SKIPPED, SummaryLine
from crossband.jobs.task import FleetObserver, FleetStatus, Task, plan_tasks
from crossband.raster.remote import name_of
from crossband.translate.options import TranslateOptions
from crossband.translate.stream import Progress


def translate_fleet(a: argparse.Namespace, options: TranslateOptions) -> int:
    """Translate many scenes.

    Args:
        a: the command's arguments.
        options: how scenes are translated.

    Raises:
        SomeFailed: some scenes failed; the others are finished.
    """
    with connected(a) as cluster:
        model, folder = load_model(a), Path(a.output)
        names = list(options.write.indices)
        tasks = plan_tasks(
            model,
            a.inputs,
            folder,
            name=a.name or PATTERN,
            indices=names,
            sure=options.interval,
        )
        printer = Printer(quiet=a.quiet)
        status = translate_tasks(
            model,
            tasks,
            folder,
            options,
            shard=a.shard,
            observer=printer,
            executor=cluster,
        )
    counts = status.counts
    if not a.quiet:
        words = ", ".join(f"{counts[name]} {name}" for name in (DONE, SKIPPED, FAILED))
        say(f"{words}; {status.summary}")
    if printer.unfamiliar:
        of = f"{printer.unfamiliar} of {counts[DONE]} scenes"
        say_warning(f"{of} are unlike what the model was trained on")
    if counts[FAILED]:
        raise SomeFailed(
            f"{counts[FAILED]} of {status.total} scenes failed; {status.summary} says which and why"
        )
    return 0


class Printer(FleetObserver):
    """Prints a line for each scene, and a progress bar while it is translated.

    Attributes:
        unfamiliar: number of scenes of which more than a tenth is unlike the training places.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self.unfamiliar = quiet, 0
        self._start = time.monotonic()
        self._bars: dict[str, Bar] = {}

    def on_scene_start(self, task: Task) -> Progress:
        """Return the progress bar of the scene."""
        bar = self._bars[task.name] = Bar(task.source.path, quiet=self._quiet)
        return bar

    def gap(self, line: SummaryLine, status: FleetStatus) -> None:
        """Print that a scene is masked as a whole, which is no failure in a series."""
        self._close(line)
        if not self._quiet and not _tell(line, status, "masked"):
            say(f"[{status.finished}/{status.total}] {printable_line(line.output)}  masked")

    def _close(self, line: SummaryLine) -> None:
        bar = self._bars.pop(line.output, None)
        if bar is not None:
            bar.close()

    def on_scene_end(self, line: SummaryLine, status: FleetStatus) -> None:
        """Print the outcome of a scene, how many are finished, and the time left."""
        self._close(line)
        if _tell(line, status, line.status):
            return
        where, name = f"[{status.finished}/{status.total}]", printable_line(line.output)
        if line.status == FAILED:
            say(f"crossband: {where} {name}: {printable_line(line.reason)}", error=True)
            return
        if not self._quiet:
            self._say_outcome(line, status, f"{where} {name}  {line.status}")
        if line.unfamiliar_line:
            self.unfamiliar += 1
            say_warning(f"{where} {name}: {line.unfamiliar_line}")

    def _say_outcome(self, line: SummaryLine, status: FleetStatus, words: str) -> None:
        if line.status == DONE:
            words += f", {mpix(line.pixels)} in {duration(line.seconds)}"
            words += "" if line.guide is None else f", guide {printable_line(name_of(line.guide))}"
        # Skipped scenes do not count for the estimate of the time left.
        worked, rest = status.finished - status.counts[SKIPPED], status.total - status.finished
        if worked and rest:
            words += f"; about {duration((time.monotonic() - self._start) / worked * rest)} left"
        say(words)


def _tell(line: SummaryLine, status: FleetStatus, how: str) -> bool:
    """Tell a program the outcome of a scene; False where none listens."""
    known = {"output": line.output, "input": line.input, "status": how, "reason": line.reason}
    return tell("scene", **known, finished=status.finished, total=status.total)
