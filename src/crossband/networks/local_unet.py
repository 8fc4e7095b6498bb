"""LocalUNet: our default generator; strictly local, so tiles equal the whole scene.

A U-Net (Ronneberger et al. 2015) of residual blocks in the manner of ConvNeXt (Liu et al. 2022:
channel-wise LayerNorm, GELU, layer scale, stochastic depth), with a per-pixel branch beside it
that learns the spectral answer, so that the convolutions only have to correct it. There is no
instance or batch statistic, no pooling over the picture, no attention: an output pixel depends on
the source pixels within `margin`, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.base import Generator


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel; the permutation is free in channels-last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        last = x.permute(0, 2, 3, 1)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(last, last.shape[-1:], weight, bias).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + scale * conv1x1(GELU(conv3x3(norm(x)))), dropped for whole samples while training.

    Args:
        channels: channels in and out.
        drop_path: probability of skipping the block for a sample (stochastic depth).
    """

    def __init__(self, channels: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((1, channels, 1, 1), 0.1))
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y = self.mix(functional.gelu(self.conv(self.norm(x)))) * self.scale.to(x.dtype)
        if self.training and self.drop_path > 0:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
            y = y * (kept / (1 - self.drop_path)).to(y.dtype)
        return x + y


class LocalUNet(Generator):
    """U-Net of local blocks beside a per-pixel branch; see the module.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        widths: channels at each level; level i works at stride 2**i.
        depths: blocks at each level, in the encoder and again in the decoder (the last level
            once).
        pixel_width: hidden width of the per-pixel branch; 0 leaves it out.
        drop_path: stochastic depth while training.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = (24, 64, 128),
        depths: Sequence[int] = (1, 1, 5),
        pixel_width: int = 32,
        drop_path: float = 0.0,
    ) -> None:
        if len(widths) != len(depths) or not widths:
            raise ValueError("widths and depths must have one entry for each level")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = 2 ** (len(widths) - 1)
        self.margin = _margin(list(depths))
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(Block(w, drop_path) for _ in range(d)))
            for w, d in zip(widths, depths, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(nn.Conv2d(b, a * 4, 1) for a, b in steps)
        self.decoder = nn.ModuleList(
            nn.Sequential(*(Block(w, drop_path) for _ in range(d)))
            for w, d in zip(widths[:-1], depths[:-1], strict=True)
        )
        last = nn.Conv2d(widths[0], out_channels, 1)
        self.head = nn.Sequential(
            ChannelNorm(widths[0]), nn.Conv2d(widths[0], widths[0], 1), nn.GELU(), last
        )
        # Training starts at the per-pixel answer; the convolutions earn their part of it.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.pixel: nn.Sequential | None = None
        if pixel_width:
            self.pixel = nn.Sequential(
                nn.Conv2d(in_channels, pixel_width, 1),
                nn.GELU(),
                nn.Conv2d(pixel_width, pixel_width, 1),
                nn.GELU(),
                nn.Conv2d(pixel_width, out_channels, 1),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        height, width = x.shape[-2:]
        right, bottom = -width % self.stride, -height % self.stride
        if right or bottom:
            x = functional.pad(x, (0, right, 0, bottom), mode="replicate")
        out = self.head(self._features(x)).float()
        if self.pixel is not None:
            # The spectral answer is a sum of few terms whose rounding would show: keep it in fp32.
            with torch.autocast(x.device.type, enabled=False):
                out = out + self.pixel(x.float())
        return out[..., :height, :width]

    def _features(self, x: Tensor) -> Tensor:
        x, skips = self.stem(x), []
        for blocks, down in zip(self.encoder[:-1], self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for blocks, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            x = blocks(functional.pixel_shuffle(up(x), 2) + skips.pop())
        return x


def _margin(depths: list[int]) -> int:
    """Return how far an output pixel sees, at most over all phases of the stride.

    Follows the interval of pixels that one output pixel depends on backwards through the network:
    a block widens it by 1 at its level, going down a level halves the coordinates, coming back
    doubles them.
    """

    def reach(level: int, low: int, high: int) -> tuple[int, int]:
        if level == len(depths) - 1:
            return low - depths[level], high + depths[level]
        low, high = low - depths[level], high + depths[level]  # decoder blocks
        below = reach(level + 1, low // 2, high // 2)
        low, high = min(low, below[0] * 2), max(high, below[1] * 2 + 1)
        return low - depths[level], high + depths[level]  # encoder blocks

    worst = 0
    for phase in range(2 ** (len(depths) - 1)):
        low, high = reach(0, phase, phase)
        worst = max(worst, phase - low, high - phase)
    return worst + 1  # the stem
