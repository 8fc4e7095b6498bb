"""Perceptual distances: distances between the features of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from crossband.training.losses.base import Loss, Prediction
from crossband.training.losses.vgg import VGG, valid_fraction


class Perceptual(Loss):
    """Distance between the VGG features of output and target.

    Johnson, Alahi and Fei-Fei 2016, Perceptual losses for real-time style transfer and
    super-resolution, eq. 2: the mean distance over channels and pixels of a layer, summed over the
    layers. pix2pixHD uses the absolute distance; SRGAN and the paper use the squared distance.
    Masked pixels are 0 in both images, and a feature is weighted by the fraction of valid pixels.

    A VGG is trained on photographs in red, green and blue. For other bands, such as near infrared
    or radar, all three channels get the mean over the bands.

    Args:
        vgg: file of the weights, see `VGG`.
        layers: layers whose features are compared.
        distance: `mse` or `l1`.
        weight: weight of this loss.
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
        features = [
            self.vgg(image.masked_fill(~prediction.mask, 0.0))
            for image in (prediction.output, prediction.target)
        ]
        total = prediction.output.new_zeros(len(prediction.output))
        for output, target in zip(*features, strict=True):
            error = output - target
            error = error.square() if self.distance == "mse" else error.abs()
            error = error.mean(1, keepdim=True)
            weight = valid_fraction(prediction.mask, output)
            sums = [(x * weight).sum(dim=(1, 2, 3)) for x in (error, torch.ones_like(error))]
            total = total + sums[0] / sums[1].clamp_min(1e-6)
        return total
