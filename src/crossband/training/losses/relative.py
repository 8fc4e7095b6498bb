"""Losses on the scale of what can be reached: no sample drowns the others."""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.training.losses.base import Loss, Prediction


class Relative(Loss):
    """scale * log(1 + loss / scale) of each sample: the loss where small, its logarithm above.

    The mean error of a place is partly out of reach (one season, one crop that nobody saw), and a
    few such places would decide where the network goes. The logarithm weighs each sample by about
    1 / its error, as a geometric mean over places does.

    Args:
        loss: the term to soften; its own weight is not used.
        scale: error from which a sample counts less than its size, in the loss's own unit.
        weight: factor of this term.
    """

    examples = ({"loss": {"class_path": "L1"}},)

    def __init__(self, loss: Loss, scale: float = 0.05, weight: float = 1.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError("scale must be above 0")
        self.loss, self.scale, self.weight = loss, scale, weight

    @property
    def label(self) -> str:
        """The label of the softened loss."""
        return self.loss.label

    def forward(self, prediction: Prediction) -> Tensor:
        """Return scale * log(1 + loss / scale) of each sample, [B]."""
        return self.scale * torch.log1p(self.loss(prediction) / self.scale)
