"""Layouts: how datasets lie on a user's disk. One file each; adding one touches no other file.

The file `sen12ms.py` holds the layout `sen12ms`, `flir_adas_v2.py` the layout `flir-adas-v2`.
A file whose name begins with an underscore holds what layouts share.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

from crossband.data.layouts.base import Found, Layout, Row, Search, index
from crossband.errors import ManifestError, nearest

__all__ = ["Found", "Layout", "Row", "Search", "get", "index", "names"]


def names() -> list[str]:
    """Return the names of all layouts, those of other installed packages too."""
    own = {m.replace("_", "-") for m in _modules()}
    return sorted(own | {e.name for e in entry_points(group="crossband.layout")})


def get(name: str) -> type[Layout]:
    """Return a layout by name; ManifestError with the nearest name where there is none."""
    module = name.replace("-", "_")
    if module in _modules():
        importlib.import_module(f"{__name__}.{module}")
    for entry in entry_points(group="crossband.layout"):
        if entry.name == name:
            entry.load()
    for layout in Layout.known.values():
        if layout.name == name:
            found: type[Layout] = layout
            return found
    raise ManifestError(f"unknown layout {name!r}: {nearest(name, names())}")


def _modules() -> set[str]:
    names = {m.name for m in pkgutil.iter_modules(__path__)}
    return {name for name in names if name != "base" and not name.startswith("_")}
