"""Distances in what a network sees that was trained on photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from crossband.training.losses.base import Loss, Prediction
from crossband.training.losses.vgg import VGG, valid_fraction


class Perceptual(Loss):
    """How differently a VGG sees the output and the target.

    Johnson, Alahi and Fei-Fei 2016, Perceptual losses for real-time style transfer and
    super-resolution, eq. 2: the distance of the features, its mean over a layer's channels and
    pixels, summed over the layers. pix2pixHD takes the absolute distance, SRGAN and the paper its
    square. What is masked is 0 for both pictures, and a pixel of the features counts by how much of
    it is valid.

    A VGG knows photographs in red, green and blue. Near infrared or radar are shown to it as grey
    pictures, three times the mean over the bands.

    Args:
        vgg: file of the weights, see `VGG`.
        layers: where the features are taken.
        distance: `mse` or `l1`.
        weight: factor of this term.
    """

    examples = ()  # it needs a file of weights

    def __init__(
        self,
        vgg: str,
        layers: Sequence[str] = ("relu3_3",),
        distance: Literal["mse", "l1"] = "mse",
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if distance not in ("mse", "l1"):
            raise ValueError("distance must be mse or l1")
        self.vgg, self.distance, self.weight = VGG(vgg, layers), distance, weight

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the distance of the features, [B]."""
        seen = [
            self.vgg(picture.masked_fill(~prediction.mask, 0.0))
            for picture in (prediction.output, prediction.target)
        ]
        total = prediction.output.new_zeros(len(prediction.output))
        for made, true in zip(*seen, strict=True):
            apart = made - true
            each = (apart.square() if self.distance == "mse" else apart.abs()).mean(1, keepdim=True)
            share = valid_fraction(prediction.mask, made)
            sums = [(x * share).sum(dim=(1, 2, 3)) for x in (each, torch.ones_like(each))]
            total = total + sums[0] / sums[1].clamp_min(1e-6)
        return total
