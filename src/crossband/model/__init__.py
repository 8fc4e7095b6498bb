"""Models: a network with its signature, stored in a folder. A model translates tensors."""

from __future__ import annotations

from crossband.model.folder import bundled, load
from crossband.model.identity import identity
from crossband.model.model import Model

__all__ = ["Model", "bundled", "identity", "load"]
