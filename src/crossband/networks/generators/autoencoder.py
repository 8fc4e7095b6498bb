"""UNetAutoencoder: a U-Net with max-pooling and transpose convolutions, for super-resolution."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    Resize,
    margin_of,
    receptive_field,
)


class UNetAutoencoder(Generator):
    """A U-Net (Ronneberger et al. 2015) on the source resized to the target's grid.

    Encoder: two convolutions 3 x 3 with leaky ReLU 0.2, then max-pool, `levels` times; two
    convolutions at the bottom. Decoder: transpose convolution 2 x 2, dropout, concatenation with
    the skip, two convolutions. Head: a convolution 3 x 3. Channels: width, doubled at each level.
    With bias, without norm. 7,699,011 parameters at its defaults.

    The source is first resized with the bicubic kernel, so that the network supports every scale
    and image size. The receptive field is finite; sides are padded to multiples of the stride.
    Inside, values are -1..1: the input is 2 x - 1. The output is 0..1. Dropout is active in
    training only.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        levels: number of max-poolings.
        scale: output pixels per source pixel along one side.
        dropout: probability of dropping a value, in each block of the decoder.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
    """

    examples = (
        {"width": 12, "levels": 2},
        {"width": 5, "levels": 1, "scale": 3, "activation": "none"},
        {"width": 5, "scale": 4, "out_channels": 1},
        {"width": 5, "levels": 1, "scale": 1},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        levels: int = 3,
        scale: int = 2,
        dropout: float = 0.5,
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, width, levels, scale) < 1:
            raise ValueError("channels, width, levels and scale must be at least 1")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout must be in 0..1, below 1")
        super().__init__()
        self.in_channels, self.out_channels, self.scale = in_channels, out_channels, scale
        # Tile origins must be multiples of 2^levels on the target's grid.
        self.stride = 2**levels // math.gcd(2**levels, scale)
        self.resize = Resize(scale)
        self.pool = nn.MaxPool2d(2)
        channels = [in_channels, *(width * 2**n for n in range(levels + 1))]
        self.encoder = nn.ModuleList(
            _twice(before, after) for before, after in itertools.pairwise(channels)
        )
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for after in reversed(channels[1:-1]):
            up = [nn.ConvTranspose2d(2 * after, after, 2, 2)]
            self.up.append(nn.Sequential(*up, *([nn.Dropout(dropout)] if dropout else [])))
            self.decoder.append(_twice(2 * after, after))
        self.head = Head([nn.Conv2d(width, out_channels, 3, padding=1)], activation)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # Glorot and Bengio 2010
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.margin = margin_of(self._receptive_field, self.stride, scale)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H * scale, W * scale] normalised."""
        height, width = x.shape[-2] * self.scale, x.shape[-1] * self.scale
        x = pad_to_stride(x, self.stride)
        x = 2.0 * self.resize(x) - 1.0
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(self.pool(x) if skips else x)
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        out: Tensor = self.head(x)
        return out[..., :height, :width]

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        interval = receptive_field(self.head.layers, interval)
        asked = []  # the interval of each level's map that the skip needs
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            interval = receptive_field(block, interval)
            asked.append(interval)
            interval = receptive_field(up, interval)
        interval = receptive_field(self.encoder[-1], interval)
        for block, (low, high) in zip(reversed(self.encoder[:-1]), reversed(asked), strict=True):
            interval = receptive_field(self.pool, interval)
            interval = receptive_field(block, (min(low, interval[0]), max(high, interval[1])))
        return receptive_field(self.resize, interval)


def _twice(before: int, after: int) -> nn.Sequential:
    """Return two convolutions 3 x 3, each with leaky ReLU 0.2."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    )
