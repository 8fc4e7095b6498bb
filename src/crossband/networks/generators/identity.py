"""Identity: a network that returns its input, for tests of tiling and for benchmarks of I/O."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from crossband.networks.base import Generator


class Identity(Generator):
    """Return the first `channels` source bands, each pixel repeated `scale` x `scale` times.

    Args:
        channels: source and target bands.
        scale: output pixels per source pixel along one side.
    """

    def __init__(self, channels: int = 1, scale: int = 1) -> None:
        super().__init__()
        self.in_channels = self.out_channels = channels
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H * scale, W * scale]."""
        if self.scale == 1:
            return x
        return functional.interpolate(x, scale_factor=self.scale, mode="nearest")
