"""Read regular files only: a FIFO or a device may block forever, or never end."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from crossband.errors import CrossbandError, InputError

#: Largest file of JSON or text that is read whole, in bytes.
MOST_TEXT = 16 * 2**20
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
#: Opening does not wait for the other end of a FIFO that has taken the place of a file.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check_regular_file(path: str | Path, error: type[CrossbandError] = InputError) -> None:
    """Raise an error for a path that exists and is no regular file; links are followed.

    A path that is missing, or cannot be asked for, passes: to open it says why.

    Args:
        path: of a file that will be read.
        error: what is raised.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    _check_mode(path, mode, error)


def open_regular_file(path: str | Path, error: type[CrossbandError] = InputError) -> BufferedReader:
    """Open a regular file for reading.

    Args:
        path: the file; links are followed.
        error: what is raised.

    Raises:
        CrossbandError: there is no such file, it cannot be opened, or it is no regular file; one
            line that begins with the path.
    """
    check_regular_file(path, error)
    try:
        file = os.fdopen(os.open(path, _FLAGS), "rb")
    except (OSError, ValueError) as problem:
        raise error(f"{path}: {_reason(problem)}") from problem
    try:
        _check_mode(path, os.fstat(file.fileno()).st_mode, error)
    except CrossbandError:
        file.close()
        raise
    return file


def read_bytes(
    path: str | Path, error: type[CrossbandError] = InputError, most: int = MOST_TEXT
) -> bytes:
    """Return the content of a regular file of at most `most` bytes; see `open_regular_file`."""
    with open_regular_file(path, error) as file:
        try:
            data = file.read(most + 1)
        except OSError as problem:
            raise error(f"{path}: {_reason(problem)}") from problem
    if len(data) > most:
        raise error(f"{path}: larger than {most / 2**20:g} MiB, the most that is read")
    return data


def read_text(
    path: str | Path, error: type[CrossbandError] = InputError, most: int = MOST_TEXT
) -> str:
    """Return the text of a regular file in UTF-8, without its byte order mark; see `read_bytes`."""
    try:
        return read_bytes(path, error, most).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not text in UTF-8 (byte {problem.start})") from problem


def _check_mode(path: str | Path, mode: int, error: type[CrossbandError]) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise error(f"{path}: {kind}, and no regular file")


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        return "no such file"
    if isinstance(problem, OSError):
        return f"cannot be read: {problem.strerror or problem}"
    return "no name of a file: it holds a NUL byte or what cannot be encoded"
