"""The option `--progress json`: a command prints everything as lines of JSON.

Each line on stdout is one object with the key `event`. docs/progress.md has the kinds of events.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from crossband.core.messages import printable, tell, telling
from crossband.core.version import __version__

#: Rises when an event or a field is removed or changes its meaning; new ones may be added to it.
PROTOCOL = 1
#: Seconds between two lines of progress of one name; the last one is always written.
PROGRESS_SECONDS = 0.1
FLAG, TEXT, JSON = "--progress", "text", "json"


def add_progress_option(parser: Any) -> None:
    """Add the option to a command; `with_events` acts on it."""
    parser.add_argument(
        FLAG,
        choices=(TEXT, JSON),
        default=TEXT,
        help="text (default): a bar on a terminal, lines elsewhere; json: progress, messages, "
        "errors and files as lines of JSON on stdout, for programs (docs/progress.md)",
    )


class JsonLines:
    """Writes events as lines of JSON.

    Args:
        stream: text; each line is flushed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()  # messages may come from any thread
        self._next: dict[Any, float] = {}

    def __call__(self, event: str, **fields: object) -> None:
        """Write an event; None in its fields becomes null."""
        with self._lock:
            if event == "progress" and self._is_too_soon(fields):
                return
            self._stream.write(json.dumps({"event": event, **fields}) + "\n")
            self._stream.flush()

    def _is_too_soon(self, fields: dict[str, object]) -> bool:
        now, name = time.monotonic(), fields["name"]
        if fields["done"] != fields["total"] and now < self._next.get(name, now):
            return True
        self._next[name] = now + PROGRESS_SECONDS
        return False


def tell_files(paths: Iterable[str | Path]) -> None:
    """Tell a program which files a command has finished."""
    for path in paths:
        tell("file", path=os.path.abspath(path))


def wants_events(argv: Sequence[str]) -> bool:
    """Return whether a command line asks for JSON; before it is parsed, as it may be wrong.

    >>> wants_events(["translate", "--progress", "json"]), wants_events(["models", "json"])
    (True, False)
    """
    return f"{FLAG}={JSON}" in argv or (FLAG, JSON) in pairwise(argv)


def with_events(run: Callable[[list[str]], int], argv: list[str], stream: TextIO) -> int:
    """Run a command that writes events, from `start` to `end`; returns its exit code.

    Args:
        run: takes the arguments, returns the exit code; an exception is a fault of ours.
        argv: of the command.
        stream: to write to.
    """
    with telling(JsonLines(stream)):
        tell("start", protocol=PROTOCOL, crossband=__version__)
        try:
            code = run(argv)
        except Exception as error:
            tell("error", kind=type(error).__name__, text=printable(error))
            tell("end", exit_code=1)
            raise
        tell("end", exit_code=code)
        return code
