"""The moments at which a command changes a folder, and what may happen at one of them.

A moment is what Python asks of the system where something below a folder changes: a file opened for
writing, a name given, replaced or removed, a folder made, data flushed to disk. What libraries
write by themselves lies between two moments.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: What a full disk refuses; a name can be given and removed there.
_NEEDS_ROOM = ("open", "mkdir", "fsync", "link")
_watched: list = []


class _Folder:
    """A watched folder: its moments so far, and what happens at each."""

    def __init__(self, path, act):
        self.path, self.act, self.seen, self._busy = str(path), act, [], False

    def note(self, what, path):
        if self._busy or not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(self.path + os.sep) or f"{os.sep}logs{os.sep}" in path:
            return  # elsewhere, or what loggers append
        there = os.path.lexists(path)
        if there if what == "mkdir" else what in ("remove", "rmdir") and not there:
            return  # this changes nothing
        if what == "open" and os.path.isdir(path):
            return  # a file without a name
        self.seen.append(f"{what} {os.path.relpath(path, self.path)}")
        self._busy = True
        try:
            self.act(len(self.seen), self.seen[-1])
        finally:
            self._busy = False


def _hook(event, arguments):
    if not _watched:
        return
    if event == "open":
        if (arguments[2] or 0) & _WRITES:
            _watched[0].note("open", arguments[0])
    elif event in ("os.rename", "os.link"):
        _watched[0].note(event[3:], arguments[1])
    elif event in ("os.remove", "os.rmdir", "os.mkdir"):
        _watched[0].note(event[3:], arguments[0])


@contextlib.contextmanager
def watched(folder, act=lambda number, moment: None):
    """Call `act` before each moment, with its number from 1 and its words; yield all of them.

    Python can add such a hook, and never remove it: one stays, and does nothing.
    """
    if not hasattr(sys, "_crossband_moments"):
        sys._crossband_moments = True
        sys.addaudithook(_hook)
    fsync = os.fsync

    def flushed(handle):
        _watched[0].note("fsync", os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    watch = _Folder(folder, act)
    os.fsync = flushed
    _watched.append(watch)
    try:
        yield watch.seen
    finally:
        os.fsync = fsync
        _watched.clear()


def full_from(at):
    """Return an act: no room on the disk from the nth moment on."""

    def act(number, moment):
        if number >= at and moment.split()[0] in _NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), moment.split(maxsplit=1)[1])

    return act


def killed_at(at):
    """Return an act: this process ends as by a kill before this moment."""

    def act(number, moment):
        if moment == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


#: The real command, killed before a moment: folder of this file, watched folder, moment, arguments.
KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import moments
from crossband.cli.main import main
with moments.watched(sys.argv[2], moments.killed_at(sys.argv[3])):
    sys.exit(main(sys.argv[4:]))
"""
