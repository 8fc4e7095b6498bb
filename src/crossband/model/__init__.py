"""A model: weights, signature and card in a folder. It translates tensors and knows no scene."""

from __future__ import annotations

from crossband.model.folder import bundled, load
from crossband.model.identity import identity
from crossband.model.model import Model

__all__ = ["Model", "bundled", "identity", "load"]
