"""SmallCNN: three convolutions, a baseline between a per-pixel MLP and a deep network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.networks.base import Generator


class SmallCNN(Generator):
    """Three 3 x 3 convolutions with ReLU: bands, width, 2 x width, bands; margin 3.

    The baseline of Donike et al. 2025 ("Near-Infrared Band Synthesis From Earth Observation Imagery
    With Learned Location Embeddings and Task-Driven Loss Functions", IEEE JSTARS 18) at its
    defaults: 3-32-64-1. Zero padding, linear output.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the first hidden layer.
    """

    examples = ({}, {"width": 4, "in_channels": 2, "out_channels": 2})

    def __init__(self, in_channels: int = 3, out_channels: int = 1, width: int = 32) -> None:
        if min(in_channels, out_channels, width) < 1:
            raise ValueError("channels and width must be at least 1")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.margin = 3
        self.hidden = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.last = nn.Conv2d(2 * width, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> float32 [B, Ct, H, W]."""
        hidden = self.hidden(x)
        # In fp32: bfloat16 outputs have steps of 1/256 of their value, visible in flat areas.
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = self.last(hidden.float())
        return out
