"""Read files that others made: regular files only, and no more of them than is stated.

A named pipe would be waited for without end, and a device may never end. So a path is looked at
before it is opened, and what was opened is looked at again.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from crossband.errors import CrossbandError, InputError

#: Largest file of JSON, YAML or text that is read whole, in bytes.
MOST_TEXT = 16 * 2**20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: Opening does not wait for the other end of a pipe that took the file's place meanwhile.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check_regular(path: str | Path, error: type[CrossbandError] = InputError) -> int:
    """Return the size of a regular file in bytes; links are followed.

    Args:
        path: the file.
        error: what is raised, in one line that begins with the path.

    Raises:
        CrossbandError: there is no such file, or it is a folder, pipe, socket or device.
    """
    try:
        return _size(path, os.stat(path), error)
    except (OSError, ValueError) as problem:
        raise error(f"{path}: {_reason(problem)}") from problem


def open_regular(path: str | Path, error: type[CrossbandError] = InputError) -> BinaryIO:
    """Open a regular file for reading; see `check_regular`."""
    check_regular(path, error)
    try:
        file = os.fdopen(os.open(path, _FLAGS), "rb")
    except OSError as problem:
        raise error(f"{path}: {_reason(problem)}") from problem
    try:
        _size(path, os.fstat(file.fileno()), error)
    except CrossbandError:
        file.close()
        raise
    return file


def read_bytes(
    path: str | Path, error: type[CrossbandError] = InputError, most: int = MOST_TEXT
) -> bytes:
    """Return the content of a regular file of at most `most` bytes; see `check_regular`."""
    with open_regular(path, error) as file:
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


def _size(path: str | Path, about: os.stat_result, error: type[CrossbandError]) -> int:
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "something else")
        raise error(f"{path}: {kind}, and not a regular file")
    return about.st_size


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, FileNotFoundError | NotADirectoryError):
        return "no such file"
    if isinstance(problem, OSError):
        return f"cannot be read: {problem.strerror or problem}"
    return "no name of a file: it holds a NUL byte or a character that cannot be encoded"
