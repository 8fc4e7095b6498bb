"""Errors of the worker processes of a data loader, unwrapped."""

from __future__ import annotations

import re

from crossband.errors import CrossbandError


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
