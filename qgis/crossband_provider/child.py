"""Run `crossband` as a child process: its events as they come, and an end within two seconds.

Nothing here needs QGIS.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

#: Seconds that a cancelled child has to end by itself; then it is killed.
GRACE_SECONDS = 1.2
#: Seconds between two looks at whether the user has cancelled.
POLL_SECONDS = 0.1
_WINDOWS = os.name == "nt"
#: Variables of QGIS that would have another Python load QGIS' modules and tables.
_OF_QGIS = (
    "PROJ_LIB",
    "PROJ_DATA",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "VIRTUAL_ENV",
    "QT_PLUGIN_PATH",
)


class Cancelled(Exception):
    """The user has cancelled; the child has ended."""


class Failed(Exception):
    """The child has failed; the text says why, in one line."""


def clean_environment() -> dict[str, str]:
    """Return the environment of this process without what belongs to QGIS."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k not in _OF_QGIS}
    return {**kept, "PYTHONIOENCODING": "utf-8"}


class Child:
    """A child process whose output is read line by line.

    Args:
        command: program and arguments.
        is_cancelled: is asked while it runs.
    """

    def __init__(self, command: Sequence[str], is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled
        self.errors: deque[str] = deque(maxlen=20)
        how: dict[str, Any] = {"start_new_session": True}
        if _WINDOWS:
            # A group of its own, so that it can be interrupted, and no black window.
            how = {"creationflags": 0x00000200 | 0x08000000}
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment(),
                encoding="utf-8",
                errors="replace",
                **how,
            )
        except OSError as error:
            raise Failed(f"{command[0]} cannot be started: {error.strerror}") from error

    def lines(self) -> Iterator[str]:
        """Yield the lines of stdout; those of stderr are kept in `errors`.

        Raises:
            Cancelled: the user has cancelled, and the child has ended.
        """
        found: queue.Queue[str | None] = queue.Queue()
        readers = [
            threading.Thread(
                target=_read, args=(self._process.stdout, found.put, found), daemon=True
            ),
            threading.Thread(
                target=_read, args=(self._process.stderr, self.errors.append), daemon=True
            ),
        ]
        for reader in readers:
            reader.start()
        try:
            while True:
                if self._is_cancelled():
                    raise Cancelled
                try:
                    line = found.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if line is None:
                    break
                yield line
            self._process.wait()
            readers[1].join(GRACE_SECONDS)
        finally:
            self._end()

    @property
    def exit_code(self) -> int:
        """The exit code, once the lines have ended."""
        return self._process.wait()

    def _end(self) -> None:
        """End the child and its own children, if they still run."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                if _WINDOWS:
                    self._process.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined]
                else:
                    self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        if _WINDOWS and self._process.poll() is None:
            kill = ["taskkill", "/T", "/F", "/PID", str(self._process.pid)]
            subprocess.run(kill, capture_output=True, check=False)
        elif not _WINDOWS:
            with contextlib.suppress(OSError):  # the group is empty
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _read(stream: IO[str], take: Callable[[str], Any], ended: Any = None) -> None:
    """Pass the lines of a stream on; then None to the queue."""
    with stream:
        for line in stream:
            take(line.rstrip("\n"))
    if ended is not None:
        ended.put(None)


def events(child: Child) -> Iterator[dict[str, Any]]:
    """Yield the events of `--progress json`; what is no event is left out."""
    for line in child.lines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                yield event


class Leftovers:
    """What a run that is cancelled or killed may leave beside its outputs.

    Args:
        outputs: files and folders that the command writes.
    """

    def __init__(self, outputs: Sequence[str]) -> None:
        self._new = [path for path in outputs if not os.path.exists(path)]
        self._outputs = list(outputs)
        self._before = {hidden for path in outputs for hidden in _hidden(path)}

    def remove(self) -> None:
        """Remove hidden folders of Crossband and folders, where they did not exist before."""
        for path in self._outputs:
            for hidden in set(_hidden(path)) - self._before:
                _remove_folder(hidden)
        for path in self._new:
            if os.path.isdir(path):
                _remove_folder(path)


def _hidden(output: str) -> list[str]:
    """Return the hidden folders of an unfinished output, and of unfinished files below it."""
    folder, name = os.path.split(os.path.abspath(output))
    own = os.path.join(folder, f".{name}.crossband")
    inside = glob.escape(output)
    return [own] * os.path.isdir(own) + [
        path
        for below in ("", "*")
        for path in glob.glob(os.path.join(inside, below, ".*.crossband"))
    ]


def _remove_folder(path: str) -> None:
    """Remove a folder; Windows lets go of files a moment after their process has ended."""
    for _ in range(10):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.isdir(path):
            return
        time.sleep(POLL_SECONDS)
