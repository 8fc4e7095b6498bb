"""Refuse what is no regular file: to open a FIFO or a device may wait forever, or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from crossband.errors import CrossbandError, InputError

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


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
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise error(f"{path}: {kind}, and no regular file")
