"""Networks: one file is one family; every module in this folder joins the registry by itself."""

from __future__ import annotations

import importlib
import pkgutil

from crossband.networks.base import Discriminator, Generator, parameter_count

__all__ = ["Discriminator", "Generator", "parameter_count"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
