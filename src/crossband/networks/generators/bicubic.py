"""Bicubic: bicubic upsampling without weights, the baseline of super-resolution."""

from __future__ import annotations

from torch import Tensor

from crossband.networks.base import Generator
from crossband.networks.layers.convolution import Resize, margin_of, receptive_field


class Bicubic(Generator):
    """Each band resized as MATLAB's `imresize(x, scale, 'bicubic')` does; no weights.

    The kernel is that of Keys 1981 with a = -0.5; see `crossband.core.resample.bicubic`.

    Args:
        in_channels: source bands.
        out_channels: target bands; equal to the source bands.
        scale: output pixels per source pixel along one side.
    """

    examples = ({}, {"scale": 3}, {"in_channels": 2, "out_channels": 2, "scale": 4})

    def __init__(self, in_channels: int = 3, out_channels: int = 3, scale: int = 2) -> None:
        if in_channels != out_channels or in_channels < 1:
            raise ValueError(
                f"Bicubic gives back its bands: {in_channels} cannot become {out_channels}"
            )
        if scale < 1:
            raise ValueError(f"scale must be at least 1, not {scale}")
        super().__init__()
        self.in_channels, self.out_channels, self.scale = in_channels, out_channels, scale
        self.resize = Resize(scale)
        self.margin = margin_of(lambda interval: receptive_field(self.resize, interval), 1, scale)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 [B, C, H * scale, W * scale]."""
        out: Tensor = self.resize(x)
        return out
