"""Augmentation in physical units; one file each, adding one touches no other file."""

from crossband.data.transforms.base import SPATIAL, Sample, Transform
from crossband.data.transforms.flip import Flip
from crossband.data.transforms.radiometric_jitter import RadiometricJitter

#: `Flip` and `RadiometricJitter` are here for the names that older recipes have of them.
__all__ = ["SPATIAL", "Flip", "RadiometricJitter", "Sample", "Transform"]
