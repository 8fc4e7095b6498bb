"""The base of networks that take a guide: how they are called, and logarithms of values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.conditions import FACTS, Conditions

#: Added to normalised values before their logarithm: dark water is below it.
LEVEL = 0.06
#: The largest logarithm of a gain.
LARGEST = 4.0


class _GuidedGenerator(Generator):
    """A generator that takes a guide; a subclass defines `forward_guided`."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> float32 [B, Ct, H, W], as without a guide."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate; a guide that is missing is invalid everywhere."""
        guide = conditions.guide
        if guide is None:
            guide = x.new_zeros(len(x), self.guide + FACTS, *x.shape[-2:])
        return self.forward_guided(x, guide, conditions)

    def forward_guided(self, x: Tensor, guide: Tensor, conditions: Conditions) -> Tensor:
        """Translate with a guide; see `Conditions.guide`.

        Args:
            x: [B, Cs, H, W].
            guide: [B, guide + FACTS, H, W].
            conditions: all that is known.

        Returns:
            float32 [B, Ct, H, W].
        """
        raise NotImplementedError


def check_numbers(what: str, numbers: Sequence[int], count: int, guide: int, least: int) -> None:
    """Raise RecipeError unless there are `count` numbers of bands of a guide, from `least`."""
    if guide < 1 or len(numbers) != count:
        raise RecipeError(
            f"a network with a guide needs at least 1 band of it, and {count} numbers in {what}, "
            "one for each band"
        )
    if not all(least <= number < guide for number in numbers):
        raise RecipeError(f"{what} must be {least} to {guide - 1}, not {list(numbers)}")


def logarithm(x: Tensor) -> Tensor:
    """Return the logarithm of normalised values, finite for dark and negative ones, too."""
    return torch.log(x.clamp(-LEVEL / 2, 1e3) + LEVEL)
