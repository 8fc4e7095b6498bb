"""The command's standard streams: the work continues if one is closed, full or not UTF-8."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

from crossband.core.messages import say

#: The exit code of a program whose reader has exited, as in `crossband models | head`.
BROKEN_PIPE = 141


class LastingWriter(io.RawIOBase):
    """Writes to a raw stream until a write fails; what follows is dropped.

    Args:
        raw: the stream; None drops all.

    Attributes:
        error: of the write that failed.
    """

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self.error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write some bytes; returns how many need not be written again."""
        while self._raw is not None and self.error is None:
            try:
                count = self._raw.write(data)
                if count is not None:
                    return int(count)
                select.select([], [self._raw], [])  # a pipe that does not block is full
            except OSError as error:
                self.error = error
        return len(data)

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._raw is not None and bool(self._raw.isatty())

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        if self._raw is None:
            raise io.UnsupportedOperation("the stream is closed")
        return int(self._raw.fileno())


@contextlib.contextmanager
def lasting_streams() -> Iterator[LastingWriter | None]:
    """Replace `sys.stdout` and `sys.stderr` by streams that last; yield the writer of stdout.

    Streams that a program has put there, as pytest's, are left alone; None is yielded for such a
    stdout.
    """
    _occupy_closed_descriptors()
    with contextlib.ExitStack() as stack:
        out, _ = [stack.enter_context(_lasting(name)) for name in ("stdout", "stderr")]
        yield out


def exit_code(code: int, out: LastingWriter | None) -> int:
    """Return the exit code of a command: another one if its stdout could not be written.

    A line says why, but for a reader that has exited.
    """
    with contextlib.suppress(ValueError):  # it was closed
        sys.stdout.flush()
    if code or out is None or out.error is None:
        return code
    if out.error.errno == errno.EPIPE:
        return BROKEN_PIPE
    say(f"crossband: the work is done; stdout: {out.error.strerror}", error=True)
    return 2


def _is_original(name: str) -> bool:
    """Return whether a stream is the one that the interpreter started with."""
    stream = getattr(sys, name)
    if stream is not getattr(sys, f"__{name}__"):
        return False
    try:
        return stream is None or stream.fileno() == ("stdin", "stdout", "stderr").index(name)
    except (OSError, ValueError):
        return False


def _occupy_closed_descriptors() -> None:
    """Open closed descriptors 0 to 2, as the next file would get them, and what C libraries print.

    They stay open.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest one that is free, so this one
            os.set_inheritable(opened, True)


@contextlib.contextmanager
def _lasting(name: str) -> Iterator[LastingWriter | None]:
    """Replace a standard stream; characters that its encoding lacks are printed as escapes."""
    if not _is_original(name):
        yield None
        return
    old = getattr(sys, name)
    buffer = getattr(old, "buffer", None)
    writer = LastingWriter(getattr(buffer, "raw", buffer))  # PYTHONUNBUFFERED: no buffer before it
    stream = io.TextIOWrapper(
        io.BufferedWriter(writer),
        encoding=getattr(old, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=old is not None and (old.line_buffering or old.write_through),
    )
    setattr(sys, name, stream)
    try:
        yield writer
    finally:
        setattr(sys, name, old)
        stream.close()  # writes what it holds; the original stream stays open
