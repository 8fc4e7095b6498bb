"""File names that cannot be used: bytes that are not text, and control characters."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

from crossband.core.messages import printable
from crossband.errors import InputError, OutputError


def check_input_name(path: str | Path) -> None:
    """Raise InputError for a path that is not UTF-8, as GDAL and tables need it, or too long."""
    found = not_text(str(path))
    if found is not None:
        raise InputError(f"{path}: {found}")
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise InputError(f"{str(path)[:80]}...: its name is too long") from error


def check_output_name(path: str | Path) -> None:
    """Raise OutputError for the path of a result that cannot be used, before any work.

    The folders above count, too: GDAL reads the result's numbers by their whole path.
    """
    path = Path(path)
    whole = os.path.join(os.path.realpath(path.parent), path.name)
    found = not_text(whole)
    if found is not None:
        raise OutputError(f"{path}: {found}")
    if printable(whole) != whole or re.search(r"[\t\n]", whole):
        raise OutputError(f"{path}: control characters in a name; choose another one")


def not_text(name: str) -> str | None:
    r"""Return why a name cannot be encoded; None where it can.

    >>> not_text("scène.tif"), not_text("sc\udce8ne.tif")
    (None, 'its name is not UTF-8; rename it')
    """
    encoding = sys.getfilesystemencoding()
    try:
        name.encode()  # a byte that is not of the locale's encoding has become a surrogate
        os.fsencode(name)
    except UnicodeEncodeError:
        if encoding == "utf-8":
            return "its name is not UTF-8; rename it"
        return f"the locale's encoding is {encoding}, which cannot spell it: set LC_ALL=C.UTF-8"
    return None
