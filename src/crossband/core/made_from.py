"""Recognise a result that the same command made before, by the record of its inputs.

A command that was killed at its very end, or is given twice, finds its result in place. Where the
result holds the fingerprint of what would be made, there is nothing left to do.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from crossband.core.version import __version__

#: Bytes at the beginning of a file of text in which its fingerprint must stand.
_HEAD = 2**20


def make_fingerprint(options: Mapping[str, Any], files: Iterable[str | Path] = ()) -> str:
    """Return what a result is made from, as 32 digits: a version, options, and the state of files.

    Args:
        options: values whose `repr` tells them apart.
        files: they count by name, size and time of change, a folder by all files in it. What is
            not on this machine counts by its name.
    """
    digest = hashlib.blake2b(repr((__version__, dict(options))).encode(), digest_size=16)
    for name in files:
        for state in _states(name):
            digest.update(repr(state).encode())
    return digest.hexdigest()


def is_made_from(path: Path, made_from: str) -> bool:
    """Return whether the fingerprint stands at the beginning of a regular file of text."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return made_from.encode() in file.read(_HEAD)
    except OSError:
        return False


def _states(name: str | Path) -> Iterator[tuple[str, int, int]]:
    paths = [str(name)]
    if os.path.isdir(name):
        inner = (os.path.join(at, file) for at, _, files in os.walk(name) for file in files)
        paths += sorted(inner)
    for path in paths:
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            yield path, -1, -1
            continue
        # Of a folder the files count, and not when a lock came and went in it.
        known = (-1, -1) if stat.S_ISDIR(state.st_mode) else (state.st_size, state.st_mtime_ns)
        yield path, *known
