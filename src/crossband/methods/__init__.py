"""Methods: how networks are trained; every module in this folder is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from crossband.methods.base import Method

__all__ = ["Method"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
