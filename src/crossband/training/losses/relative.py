"""A logarithmic loss, in which samples with large errors do not dominate."""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.training.losses.base import Loss, Prediction


class Relative(Loss):
    """scale * log(1 + loss / scale) of each sample: linear for small losses, then logarithmic.

    Part of the error of a place cannot be learned (a season or a crop that was never seen), and
    without the logarithm a few such places would dominate the gradient. The logarithm weights each
    sample by about 1 / its error, as a geometric mean over places does.

    Args:
        loss: the loss to transform; its own weight is not used.
        scale: loss above which the logarithm takes effect, in the unit of the loss.
        weight: weight of this loss.
    """

    examples = ({"loss": {"class_path": "L1"}},)

    def __init__(self, loss: Loss, scale: float = 0.05, weight: float = 1.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError("scale must be above 0")
        self.loss, self.scale, self.weight = loss, scale, weight

    @property
    def label(self) -> str:
        """The label of the transformed loss."""
        return self.loss.label

    def forward(self, prediction: Prediction) -> Tensor:
        """Return scale * log(1 + loss / scale) of each sample, [B]."""
        return self.scale * torch.log1p(self.loss(prediction) / self.scale)
