"""StridedUNet: a small U-Net of strided convolutions, the generator of conditional WGAN-GPs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    Norm,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
    uses_image_statistics,
)

#: Encoder levels with dropout, from the bottom.
DROPOUT_LEVELS = 2


class StridedUNet(Generator):
    """A U-Net with `levels` downsampling blocks and one more at the bottom.

    Encoder: convolution 4 x 4 of stride 2, norm, leaky ReLU 0.2; no norm after the first; dropout
    in the last two blocks. Bottom: one more strided convolution, ReLU, dropout, no norm. Decoder:
    transpose convolution 4 x 4 of stride 2, norm, dropout in the first levels // 2 + 1 blocks,
    ReLU, concatenation with the skip. Head: a transpose convolution. Only the head has a bias.
    Channels: width, doubled at each level, at most `largest` times width.

    It differs from `UNet` (pix2pix) in its head and its bottom, and has about a third of the
    weights at its defaults, which are those of the WGAN-GP for RGB to near infrared that the recipe
    `rgb2nir/wgan-gp` trains.

    Inside, values are -1..1: the input is 2 x - 1. The output is 0..1. Sides are padded to
    multiples of 2^(levels + 1). With instance norm every pixel depends on the whole image; with
    batch norm or none the margin is finite but large. Dropout is active in training only.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the first level.
        levels: downsampling blocks above the bottom; 5 reduce 64 pixels to one.
        largest: most channels of a level, as a multiple of width.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        dropout: probability of dropping a value.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
    """

    examples = (
        {"width": 12, "levels": 2},
        {"width": 6, "norm": "none", "activation": "none", "out_channels": 2},
        {"width": 6, "levels": 1, "norm": "batch", "activation": "sigmoid"},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 32,
        levels: int = 5,
        largest: int = 16,
        norm: Norm = "instance",
        dropout: float = 0.5,
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, width, levels, largest) < 1:
            raise ValueError("channels, width, levels and largest must be at least 1")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout must be in 0..1, below 1")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.norm, self.stride = norm, 2 ** (levels + 1)
        drop = [nn.Dropout(dropout)] if dropout else []
        channels = [in_channels, *(width * min(2**n, largest) for n in range(levels))]
        deepest = channels[-1]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            normed: Norm = norm if level else "none"
            self.encoder.append(
                nn.Sequential(
                    nn.Conv2d(channels[level], channels[level + 1], 4, 2, 1, bias=False),
                    *norm_layers(normed, channels[level + 1]),
                    nn.LeakyReLU(0.2, inplace=True),
                    *(drop if level >= levels - DROPOUT_LEVELS else []),
                )
            )
        self.bottom = nn.Sequential(
            nn.Conv2d(deepest, deepest, 4, 2, 1, bias=False), nn.ReLU(inplace=True), *drop
        )
        before = deepest
        for number, after in enumerate(reversed(channels[1:])):
            self.decoder.append(
                nn.Sequential(
                    nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                    *norm_layers(norm, after),
                    *(drop if number < levels // 2 + 1 else []),
                    nn.ReLU(inplace=True),
                )
            )
            before = 2 * after  # concatenated with its skip
        self.head = Head([nn.ConvTranspose2d(before, out_channels, 4, 2, 1)], activation)
        initialise(self)
        self.margin = (
            None if uses_image_statistics(norm) else margin_of(self._receptive_field, self.stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        x = 2.0 * x - 1.0
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x = self.bottom(x)
        for block in self.decoder:
            x = torch.cat([block(x), skips.pop()], dim=1)
        out: Tensor = self.head(x)
        return out[..., :height, :width]

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        interval = receptive_field(self.head.layers, interval)
        asked = []  # the interval of each level's map that the next layer needs
        for block in reversed(self.decoder):
            asked.append(interval)
            interval = receptive_field(block, interval)
        interval = receptive_field(self.bottom, interval)
        for block, (low, high) in zip(reversed(self.encoder), reversed(asked), strict=True):
            interval = receptive_field(block, (min(low, interval[0]), max(high, interval[1])))
        return interval
