"""Crossband in QGIS: a Processing provider that runs `crossband` in an environment of its own."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; QGIS calls this by name."""
    from .plugin import CrossbandPlugin

    return CrossbandPlugin(iface)
