"""Warn of what a result may suffer from, and collect these warnings where several threads compute.

The filters of `warnings` belong to the whole process: `catch_warnings` in one thread hides or shows
the warnings of all others. What is collected here is that of one thread, whatever the filters say.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from crossband.core.python_words import to_caller
from crossband.errors import CrossbandWarning

_collected: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(text: str) -> None:
    """Raise a CrossbandWarning that names the line which called the package.

    Args:
        text: one line.
    """
    text = to_caller(text)
    collected = _collected.get()
    if collected is not None:
        collected.append(text)
    warnings.warn(text, CrossbandWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return the `stacklevel` of the first frame outside the package, seen from `warn`.

    Modules of torch call those of the package in turn.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("crossband", "torch"):
            break
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what is warned of in this thread."""
    found: list[str] = []
    before = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(before)
