"""Crossband: the band that no camera took.

>>> import crossband
>>> model = crossband.load("rgb2nir")
>>> model.signature.target
['nir']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossband.model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `crossband --help` must not wait for it.
    if name in ("load", "Model"):
        from crossband import model

        return getattr(model, name)
    raise AttributeError(f"module 'crossband' has no attribute {name!r}")
