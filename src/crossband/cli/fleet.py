"""`crossband translate` of many scenes: what is printed of a fleet, and its exit code."""

from __future__ import annotations

import argparse
import sys
import time

from crossband.cli.computing import connected
from crossband.cli.progress import Bar, left
from crossband.errors import SomeFailed
from crossband.jobs.names import PATTERN
from crossband.jobs.run import translate_many
from crossband.jobs.summary import DONE, FAILED, SKIPPED, Line
from crossband.jobs.task import Tally, Task, Watcher
from crossband.model import load
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
        tally = translate_many(
            load(a.model),
            a.inputs,
            a.output,
            options,
            name=a.name or PATTERN,
            shard=a.shard,
            watcher=Printer(quiet=a.quiet),
            executor=cluster,
        )
    counts = tally.counts
    if not a.quiet:
        words = ", ".join(f"{counts[status]} {status}" for status in (DONE, SKIPPED, FAILED))
        print(f"{words}; {tally.summary}")
    if counts[FAILED]:
        raise SomeFailed(
            f"{counts[FAILED]} of {tally.total} scenes failed; the others are written "
            f"({tally.summary} says which)"
        )
    return 0


class Printer(Watcher):
    """Prints a line for each scene, and a bar while it is worked on."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._start = time.monotonic()
        self._bars: dict[str, Bar] = {}

    def began(self, task: Task) -> Progress:
        """Return the scene's bar."""
        bar = self._bars[task.name] = Bar(task.source.path, quiet=self._quiet)
        return bar

    def gap(self, line: Line, tally: Tally) -> None:
        """Print that nothing of a scene can be seen: in a series that is no failure."""
        self._close(line)
        if not self._quiet:
            print(f"[{tally.ended}/{tally.total}] {line.output}  masked", flush=True)

    def _close(self, line: Line) -> None:
        bar = self._bars.pop(line.output, None)
        if bar is not None:
            bar.close()

    def ended(self, line: Line, tally: Tally) -> None:
        """Print what became of a scene, how many there are, and how long the rest takes."""
        self._close(line)
        where = f"[{tally.ended}/{tally.total}]"
        if line.status == FAILED:
            print(f"crossband: {where} {line.output}: {line.reason}", file=sys.stderr)
            return
        if self._quiet:
            return
        words = f"{where} {line.output}  {line.status}"
        if line.status == DONE:
            words += f", {line.pixels / 1e6:.2f} MPix in {left(line.seconds)}"
        # What was skipped says nothing about how long the others take.
        worked, rest = tally.ended - tally.counts[SKIPPED], tally.total - tally.ended
        if worked and rest:
            words += f"; about {left((time.monotonic() - self._start) / worked * rest)} left"
        print(words, flush=True)
