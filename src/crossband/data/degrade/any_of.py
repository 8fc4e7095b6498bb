"""AnyOf: one of several degradations, drawn anew for each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from crossband.data.degrade.base import Degradation, parse_degradation
from crossband.errors import RecipeError


class AnyOf(Degradation):
    """One of several degradations, drawn for each image with the same probability.

    A network that is trained with it must find out from the source how the source was made. So it
    serves sensors of several sharpnesses.

    Args:
        choices: the degradations, as in `Bicubic` or `SensorMTF(mtf=0.2, noise=0.001)`.
    """

    random = True
    examples = ({"choices": ["Bicubic", "Blind"]},)

    def __init__(self, choices: Sequence[str]) -> None:
        if not choices:
            raise RecipeError("AnyOf: choices must name at least one degradation")
        self.choices = [parse_degradation(choice) for choice in choices]
        self.margin = max(choice.margin for choice in self.choices)

    def __call__(self, x: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
        """Degrade with the one that is drawn."""
        return self.choices[int(rng.integers(len(self.choices)))](x, scale, rng)
