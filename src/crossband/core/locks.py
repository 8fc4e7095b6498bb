"""Locks on files: if two processes have one output, the second one stops with one line."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from crossband.core.own_files import open_own
from crossband.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where no lock is taken
    fcntl = None  # type: ignore[assignment]

#: File systems without locks, as Lustre that is mounted without them.
_WITHOUT = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_held: set[int] = set()


@contextlib.contextmanager
def locked(path: Path, output: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock, in a folder that stays; its file is deleted at the end.

    Args:
        path: of the lock's file.
        output: what it protects, for messages.
        wait: until the other process has done its work.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
    """
    try:
        handle = take_lock(path, output, wait=wait)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is empty, and may stay
            path.unlink()
        release_lock(handle)


def take_lock(path: Path, output: Path, *, wait: bool = False) -> int:
    """Lock a file, and return its descriptor; it is created where it does not exist.

    The system releases the lock of a process that dies. Where a system or a file system has no
    locks, none is taken.

    Args:
        path: of the lock's file.
        output: what it protects, for messages.
        wait: until the other process has done its work.

    Raises:
        OutputError: another process holds it, or a link, FIFO or file of others has its name.
        OSError: the system refuses to create the file.
    """
    while True:
        handle = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(handle).st_size:
                raise OutputError(f"{path}: no lock of Crossband: it is not empty. Remove it")
            _lock(handle, output, wait=wait)
            # The process that held it may have deleted the file that is locked now.
            if os.path.samestat(os.fstat(handle), path.stat()):
                _held.add(handle)
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def release_lock(handle: int) -> None:
    """Release a lock; does nothing in a child of the process that took it."""
    if handle in _held:
        _held.remove(handle)
        os.close(handle)


def _lock(handle: int, output: Path, *, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise OutputError(f"{output}: another process is writing it") from error
    except OSError as error:
        if error.errno not in _WITHOUT:
            raise


def _forget() -> None:
    """Close the locks in a forked process, which could outlive the one that took them."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
