"""The base of augmentations in physical units: (sample, random generator) -> sample.

A transform draws random numbers only from the generator that it is given, so a sample stays a pure
function of (seed, position).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossband.core.registry import Registered

Sample = dict[str, Any]
#: Keys of a sample whose last two axes are rows and columns.
SPATIAL = ("source", "target", "mask", "source_mask", "then", "then_mask")


class Transform(Registered, family="Transform", package="crossband.data.transforms"):
    """Base of all augmentations.

    A sample has `source` float32 [Cs, h, w], `target` float32 [Ct, h * s, w * s], `mask` bool
    [1, h * s, w * s], `source_mask` bool [1, h, w] (True where the source is valid), `lonlat`,
    `gsd`, `unit`, `position` (which sample of the training it is). Values are physical. Masked
    pixels are filled after all transforms. `then` [G, h, w] and `then_mask` are there where a guide
    is made from another date: its bands on the pixels of the source.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a changed copy of the sample; its tensors are not changed in place."""
        raise NotImplementedError
