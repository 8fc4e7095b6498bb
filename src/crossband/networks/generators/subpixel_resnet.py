"""SubpixelResNet: a light network for super-resolution, equivariant to gain and offset."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.base import Generator
from crossband.networks.generators.edsr import PlainResidual
from crossband.networks.layers.convolution import (
    Interval,
    Resize,
    WithReceptiveField,
    margin_of,
    receptive_field,
)

#: Binomial weights of the local mean, whose standard deviation is 1.4 pixels.
WEIGHTS = tuple(n / 256 for n in (1, 8, 28, 56, 70, 56, 28, 8, 1))
#: Smallest weight of the valid pixels that is used as a divisor.
FEWEST = 1e-3


class Detail(WithReceptiveField):
    """x minus its local mean, of each band; pixels that are 0 in all bands do not count."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 [B, C, H, W]."""
        x = x.float()
        valid = (x != 0).any(dim=1, keepdim=True).to(x.dtype)
        sums = _smooth(torch.cat([x * valid, valid], dim=1))
        return (x - sums[:, :-1] / sums[:, -1:].clamp_min(FEWEST)) * valid

    def receptive_field(self, interval: Interval) -> Interval:
        """Return the pixels that count in the local means."""
        reach = len(WEIGHTS) // 2
        return interval[0] - reach, interval[1] + reach


class SubpixelResNet(Generator):
    """Residual blocks on the source's grid, which add detail to the bicubic image.

    The blocks are those of EDSR (Lim et al. 2017), and one convolution with a pixel shuffle makes
    the fine pixels, as in ESPCN (Shi et al. 2016, "Real-Time Single Image and Video
    Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR). So nearly
    all is computed on coarse pixels: at scale 4 EDSR with as many blocks needs twice as long.

    The input is the detail of the source: its difference from a local mean. There are no biases
    (Mohan et al. 2020, "Robust and interpretable blind image denoising via bias-free convolutional
    neural networks", ICLR). So a gain or an offset of the source, the same for all bands, changes
    the output in the same way, and dark scenes, bright scenes and other units are learned at once.

    Args:
        in_channels: source bands.
        out_channels: target bands; equal to the source bands.
        width: channels.
        blocks: residual blocks.
        scale: target pixels per source pixel along one side.
    """

    examples = (
        {"width": 12, "blocks": 2},
        {"width": 4, "blocks": 1, "scale": 3},
        {"width": 4, "blocks": 0, "scale": 4, "in_channels": 1, "out_channels": 1},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 48,
        blocks: int = 8,
        scale: int = 2,
    ) -> None:
        if in_channels != out_channels or min(in_channels, width, scale) < 1 or blocks < 0:
            raise ValueError(
                "SubpixelResNet gives back its bands; bands, width and scale are at least 1, "
                "blocks at least 0"
            )
        super().__init__()
        self.in_channels, self.out_channels, self.scale = in_channels, out_channels, scale
        self.resize, self.detail = Resize(scale), Detail()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(PlainResidual(width, 1.0, bias=False) for _ in range(blocks)))
        self.last = nn.Conv2d(width, out_channels * scale**2, 3, padding=1, bias=False)
        nn.init.zeros_(self.last.weight)  # an untrained network returns the bicubic image
        self.shuffle = nn.PixelShuffle(scale)
        self.margin = margin_of(self._receptive_field, 1, scale)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] normalised -> float32 [B, C, H * scale, W * scale] normalised."""
        with torch.autocast(x.device.type, enabled=False):
            bicubic: Tensor = self.resize(x)
            detail = self.detail(x)
        features = self.body(self.first(detail))
        # In fp32: bfloat16 outputs have steps of 1/256 of their value.
        with torch.autocast(x.device.type, enabled=False):
            fine: Tensor = self.shuffle(self.last(features.float()))
        return bicubic + fine

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        inner = receptive_field(self.last, receptive_field(self.shuffle, interval))
        for layer in (self.body, self.first, self.detail):
            inner = receptive_field(layer, inner)
        low, high = receptive_field(self.resize, interval)
        return min(low, inner[0]), max(high, inner[1])


def _smooth(x: Tensor) -> Tensor:
    """Smooth each band with `WEIGHTS` along both axes; beyond the edge are zeros."""
    channels, reach, weights = int(x.shape[1]), len(WEIGHTS) // 2, x.new_tensor(WEIGHTS)
    for shape, padding in (((1, 1, -1, 1), (reach, 0)), ((1, 1, 1, -1), (0, reach))):
        kernel = weights.view(shape).expand(channels, -1, -1, -1).contiguous()
        x = functional.conv2d(x, kernel, padding=padding, groups=channels)
    return x
