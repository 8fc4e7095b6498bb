"""Import packages that only an extra of Crossband installs."""

from __future__ import annotations

import importlib
from types import ModuleType

from crossband.errors import CrossbandError


def import_extra(package: str, extra: str, what: str) -> ModuleType:
    """Import an optional package.

    Raises:
        CrossbandError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        other = error.name not in (None, top)  # it is installed, but one of its dependencies is not
        why = f"cannot be imported without {error.name}" if other else "is not installed"
        raise CrossbandError(
            f"{what} needs the package {top.replace('_', '-')}, which {why}: pip install "
            f"'crossband[{extra}]'"
        ) from error
