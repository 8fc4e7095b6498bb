"""Warn of what a result may suffer from, and collect these warnings where several threads compute.

The filters of `warnings` belong to the whole process: `catch_warnings` in one thread hides or shows
the warnings of all others. What is collected here is that of one thread, whatever the filters say.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from crossband.core.python_words import to_caller
from crossband.errors import CrossbandWarning

_collected: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(text: str, stacklevel: int = 1) -> None:
    """Raise a CrossbandWarning.

    Args:
        text: one line.
        stacklevel: whose line is named; 1 is the caller.
    """
    text = to_caller(text)
    collected = _collected.get()
    if collected is not None:
        collected.append(text)
    warnings.warn(text, CrossbandWarning, stacklevel=stacklevel + 1)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what is warned of in this thread."""
    found: list[str] = []
    before = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(before)
