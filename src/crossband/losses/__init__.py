"""Losses: one file is one idea; every module in this folder joins the registry by itself."""

from __future__ import annotations

import importlib
import pkgutil

from crossband.losses.base import Loss, Prediction, masked_mean

__all__ = ["Loss", "Prediction", "masked_mean"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
