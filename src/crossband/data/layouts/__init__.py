"""Layouts: how the files of known datasets are arranged. Adding one adds one file."""

from __future__ import annotations

from crossband.core.registry import available
from crossband.data.layouts.base import FileSearch, Layout, LayoutResult, Row, build_manifest
from crossband.errors import ManifestError, nearest

__all__ = ["FileSearch", "Layout", "LayoutResult", "Row", "build_manifest", "get", "names"]


def names() -> list[str]:
    """Return the names of all layouts, those of other installed packages too."""
    return sorted(available(Layout))


def get(name: str) -> type[Layout]:
    """Return a layout by name; ManifestError with the nearest name where there is none."""
    known = available(Layout)
    if name not in known:
        raise ManifestError(f"unknown layout {name!r}: {nearest(name, known)}")
    return known[name]
