"""Errors of the worker processes of a data loader, unwrapped."""

from __future__ import annotations

import re

from crossband.errors import CrossbandError


def is_lost_worker(error: BaseException) -> bool:
    """Return whether a loading process has ended without saying why, as one that was killed.

    >>> is_lost_worker(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
    True
    """
    text = str(error)
    return "DataLoader worker (pid" in text and (
        "killed by signal" in text or "exited unexpectedly" in text
    )


def original(error: CrossbandError) -> CrossbandError:
    """Return the error as the loading process raised it: torch adds a traceback to its message.

    >>> from crossband.errors import ManifestError
    >>> text = "Caught ManifestError in DataLoader worker process 0. Original Traceback (most "
    >>> text += "recent call last): ... crossband.errors.ManifestError: row 3: no such file"
    >>> original(ManifestError(text))
    ManifestError('row 3: no such file')
    """
    if "in DataLoader worker process" not in str(error):
        return error
    *_, last = re.split(rf"\b{type(error).__name__}: ", str(error))
    return type(error)(last)
