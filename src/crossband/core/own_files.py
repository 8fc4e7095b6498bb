"""Files and folders that are written in place: those of other users are refused.

Whoever can write into the folder of an output can plant a link there: to a file that we would
write to, or to a folder that we would empty. A FIFO would keep us waiting. So a file or folder that
has its name already is used only where it is what we would have made: no link, of our user, and a
file has no second name (a hard link).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from crossband.errors import OutputError

#: A link fails with ELOOP; opening a FIFO does not wait for its other end.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path: Path, flags: int) -> int:
    """Open a file for writing, and return its descriptor.

    Args:
        path: of the file.
        flags: as of `os.open`.

    Raises:
        OutputError: the name is that of a link, a FIFO, another user's file, ...
        OSError: the system refuses.
    """
    _check_file(path)  # says more than ELOOP
    handle = os.open(path, flags | _FLAGS, 0o644)
    try:
        _check_state(path, os.fstat(handle))  # another one may have its name since
    except BaseException:
        os.close(handle)
        raise
    return handle


def replace_own(path: Path, text: str) -> None:
    """Write a file of text atomically, and flush it to disk; OSError if the system refuses.

    The name of the temporary file is always the same, so that a kill leaves one at most.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # of a run that was killed; a link goes, not what it leads to
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def flush(path: Path) -> None:
    """Flush a file or folder to disk."""
    if path.is_dir() and os.name != "posix":  # where a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_own_folder(path: Path) -> None:
    """Raise OutputError for what exists and is no folder, or a link to one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise OutputError(f"{path}: a link; nothing is written through it. Give what it leads to")
    if not stat.S_ISDIR(mode):
        raise OutputError(f"{path}: it is to be a folder, and is something else")


def check_own_files(paths: Iterable[Path]) -> None:
    """Raise OutputError for a path that `open_own` would refuse; folders and missing ones pass."""
    for path in paths:
        if path.is_symlink() or not path.is_dir():
            _check_file(path)


def is_own(path: Path, state: os.stat_result) -> bool:
    """Return whether a file or folder, whose `lstat` this is, is of our user."""
    if not hasattr(os, "geteuid") or state.st_uid == os.geteuid():
        return True
    # A disk of the network may give all files another owner: what we make there now has it, too.
    with tempfile.TemporaryFile(dir=path.parent) as file:
        return os.fstat(file.fileno()).st_uid == state.st_uid


def _check_file(path: Path) -> None:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return
    _check_state(path, state)


def _check_state(path: Path, state: os.stat_result) -> None:
    if stat.S_ISLNK(state.st_mode):
        raise OutputError(f"{path}: a link; nothing is written through it. Remove it")
    if not stat.S_ISREG(state.st_mode):
        raise OutputError(f"{path}: it is to be a file, and is something else. Remove it")
    if state.st_nlink > 1:
        raise OutputError(f"{path}: this file has a second name (a hard link). Remove it")
    if not is_own(path, state):
        raise OutputError(f"{path}: it belongs to another user")
