"""SharpenedBicubic: an unsharp mask before bicubic upsampling, a baseline of super-resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.networks.base import Generator
from crossband.networks.generators.subpixel_resnet import Detail
from crossband.networks.layers.convolution import (
    Interval,
    Resize,
    margin_of,
    receptive_field,
)


class SharpenedBicubic(Generator):
    """Bicubic upsampling of x + amount (x - local mean of x); the amount is learned.

    The amount is the only weight. It shows how much of an error is blur, which simple sharpening
    removes.

    Args:
        in_channels: source bands.
        out_channels: target bands; equal to the source bands.
        scale: output pixels per source pixel along one side.
    """

    examples = ({}, {"scale": 3}, {"in_channels": 2, "out_channels": 2, "scale": 4})

    def __init__(self, in_channels: int = 3, out_channels: int = 3, scale: int = 2) -> None:
        if in_channels != out_channels or min(in_channels, scale) < 1:
            raise ValueError(
                f"SharpenedBicubic gives back its bands: {in_channels} cannot become "
                f"{out_channels}, at a scale of at least 1"
            )
        super().__init__()
        self.in_channels, self.out_channels, self.scale = in_channels, out_channels, scale
        self.detail, self.resize = Detail(), Resize(scale)
        self.amount = nn.Parameter(torch.zeros(()))
        self.margin = margin_of(self._receptive_field, 1, scale)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 [B, C, H * scale, W * scale]."""
        out: Tensor = self.resize(x.float() + self.amount * self.detail(x))
        return out

    def _receptive_field(self, interval: Interval) -> Interval:
        return receptive_field(self.detail, receptive_field(self.resize, interval))
