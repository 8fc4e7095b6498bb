"""Flips and quarter turns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossband.data.transforms.base import SPATIAL, Sample, Transform
from crossband.errors import RecipeError


class Flip(Transform):
    """One of the eight flips and quarter turns, the same for source, target and masks.

    Args:
        turns: also quarter turns (crops are square).
        upside: also upside down. Pictures that were taken from the ground need both off.
    """

    examples = ({}, {"turns": False}, {"turns": False, "upside": False})

    def __init__(self, turns: bool = True, upside: bool = True) -> None:
        if turns and not upside:
            raise RecipeError("Flip: turns bring pictures upside down: set turns false too")
        self.turns, self.upside = turns, upside

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Flip and turn."""
        mirror, turns = bool(rng.integers(2)), int(rng.integers(4))
        upside = bool(rng.integers(2))
        out = dict(sample)
        for key in SPATIAL:
            if key not in out:
                continue
            x: Tensor = out[key]
            if mirror:
                x = x.flip(-1)
            if self.turns:
                x = torch.rot90(x, turns, (-2, -1))
            elif upside and self.upside:
                x = x.flip(-2)
            out[key] = x
        return out
