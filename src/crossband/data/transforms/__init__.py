"""Augmentations in physical units. Each is one file; adding one touches no other file."""

from crossband.data.transforms.base import SPATIAL, Sample, Transform
from crossband.data.transforms.flip import Flip
from crossband.data.transforms.radiometric_jitter import RadiometricJitter

#: Older recipes name `crossband.data.transforms.Flip` and `.RadiometricJitter`.
__all__ = ["SPATIAL", "Flip", "RadiometricJitter", "Sample", "Transform"]
