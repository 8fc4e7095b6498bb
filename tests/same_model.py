"""A model that gives back what it is given."""

from __future__ import annotations

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.networks.generators.identity import Identity


def model(*bands, unit="reflectance", low=-0.2, high=1.6):
    """A model that gives back what it is given."""
    ranges = UnitRange([(low, high)] * len(bands), [(low, high)] * len(bands))
    signature = Signature(list(bands), list(bands), {unit: ranges})
    return Model(Identity(len(bands)), signature, name="same", task="same")
