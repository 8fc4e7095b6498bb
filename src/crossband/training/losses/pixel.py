"""Pixel-wise losses."""

from __future__ import annotations

from torch import Tensor

from crossband.training.losses.base import Loss, Prediction, masked_mean


class L1(Loss):
    """Mean absolute error of the normalised output.

    Args:
        weight: weight of this loss.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Prediction) -> Tensor:
        """Return mean |output - target| of each sample, [B]."""
        return masked_mean((prediction.output - prediction.target).abs(), prediction.mask)


class MSE(Loss):
    """Mean squared error of the normalised output.

    Args:
        weight: weight of this loss.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Prediction) -> Tensor:
        """Return mean (output - target)^2 of each sample, [B]."""
        return masked_mean((prediction.output - prediction.target) ** 2, prediction.mask)


class Charbonnier(Loss):
    """Mean of sqrt(d^2 + epsilon^2), a smooth L1 loss. Charbonnier et al. 1994.

    Args:
        weight: weight of this loss.
        epsilon: half-width of the smooth part, in normalised values.
    """

    examples = ({}, {"epsilon": 0.3})

    def __init__(self, weight: float = 1.0, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, prediction: Prediction) -> Tensor:
        """Return mean sqrt((output - target)^2 + epsilon^2) of each sample, [B]."""
        squared = (prediction.output - prediction.target) ** 2
        return masked_mean((squared + self.epsilon**2).sqrt(), prediction.mask)
