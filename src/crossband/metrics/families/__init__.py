"""Families of metrics: one file each; every module in this folder joins by itself."""

from __future__ import annotations

import importlib
import pkgutil

from crossband.metrics import profiles as profiles  # a family, too

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
