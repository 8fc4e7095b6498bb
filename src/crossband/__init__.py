"""Crossband: translate the image of one sensor into the image that another would have taken.

>>> import crossband
>>> model = crossband.load("rgb2nir")
>>> model.signature.target
['nir']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossband.core.version import __version__

if TYPE_CHECKING:
    from crossband.api import Model, load

__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `crossband --help` must not wait for it.
    if name in ("load", "Model"):
        from crossband import api

        return getattr(api, name)
    raise AttributeError(f"module 'crossband' has no attribute {name!r}")
