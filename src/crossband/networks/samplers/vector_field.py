"""Fields: the networks of flow matching and diffusion, which predict dx/dt or the noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from crossband.core.registry import Registered
from crossband.networks.base import LARGEST
from crossband.networks.layers.convolution import (
    Interval,
    Norm,
    norm_layers,
    receptive_field,
    uses_image_statistics,
)
from crossband.networks.layout import laid_out_for

#: Most channels of a level.
MAX_CHANNELS = 512


class Field(Registered, nn.Module, family="Field", package="crossband.networks"):
    """(state [B, Ct, H, W], time [B], source [B, Cs, H, W]) -> [B, Ct, H, W].

    State and source are about -1..1. H and W must be multiples of `stride`; the samplers pad.

    Attributes:
        source_channels: source bands.
        target_channels: target bands.
        stride: total downsampling step.
    """

    largest_number = LARGEST
    source_channels: int
    target_channels: int
    stride: int = 1

    def forward(self, x: Tensor, time: Tensor, source: Tensor) -> Tensor:
        """Return the field at a state and a time, fp32."""
        raise NotImplementedError

    def receptive_field(self, interval: Interval) -> Interval | None:
        """Return the pixels along one side that output pixels depend on; None for all pixels."""
        raise NotImplementedError


class TimeEncoding(nn.Module):
    """Sines and cosines of the time (Vaswani et al. 2017, section 3.5), a linear layer, ReLU.

    Computed in fp32, because bfloat16 cannot resolve the difference between two times.

    Args:
        channels: length of the encoding; even, at least 4.
        max_period: the slowest wave has a period of 2 pi max_period, the fastest one of 2 pi.
    """

    waves: Tensor

    def __init__(self, channels: int, max_period: float) -> None:
        super().__init__()
        half = channels // 2
        powers = torch.arange(half, dtype=torch.float64) / (half - 1)
        waves = torch.exp(-math.log(max_period) * powers).float()
        self.register_buffer("waves", waves, persistent=False)
        self.linear = nn.Linear(channels, channels)

    def forward(self, time: Tensor) -> Tensor:
        """[B] -> float32 [B, channels]."""
        with torch.autocast(time.device.type, enabled=False):
            angles = time.float()[:, None] * self.waves
            waves = torch.cat([angles.sin(), angles.cos()], dim=1)
            return torch.relu(self.linear(waves))


class VectorFieldUNet(Field):
    """A small U-Net of the state, the source and the time.

    A convolution 3 x 3; `levels` downsampling blocks and one more at the bottom (convolution 4 x 4
    of stride 2, norm, leaky ReLU 0.2; no norm in the first and at the bottom); as many upsampling
    blocks (transpose convolution 4 x 4, norm, ReLU), each concatenated with its skip; a transpose
    convolution 4 x 4. Before each block, a linear layer of the time encoding is added to the
    channels. Channels: width, doubled at each level, at most 512. Only the first and the last
    convolution have a bias; in the others the time layers shift the channels.

    With instance norm every pixel depends on the whole image; with batch norm (fixed statistics
    after training) or none the receptive field is finite.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        width: channels of the first level.
        levels: downsampling blocks, without the one at the bottom.
        time_channels: length of the time encoding; even, at least 4.
        max_period: slowest wave of the time encoding, see `TimeEncoding`.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
    """

    examples = ({"width": 6, "levels": 1, "time_channels": 8}, {"norm": "none"})

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        width: int = 64,
        levels: int = 4,
        time_channels: int = 256,
        max_period: float = 1000.0,
        norm: Norm = "instance",
    ) -> None:
        if min(source_channels, target_channels, width, levels) < 1:
            raise ValueError("channels, width and levels must be at least 1")
        if time_channels < 4 or time_channels % 2 or max_period <= 1:
            raise ValueError("time_channels must be even and at least 4, max_period above 1")
        super().__init__()
        self.source_channels, self.target_channels = source_channels, target_channels
        self.norm, self.stride = norm, 2 ** (levels + 1)
        channels = [width, *(min(width * 2**level, MAX_CHANNELS) for level in range(levels))]
        self.time = TimeEncoding(time_channels, max_period)
        # One convolution over both inputs in two parts, so that each weight belongs to one of them.
        self.first = nn.Conv2d(target_channels, width, 3, padding=1)
        self.first_source = nn.Conv2d(source_channels, width, 3, padding=1, bias=False)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.down_times, self.up_times = nn.ModuleList(), nn.ModuleList()
        for level in range(levels + 1):
            bottom = level == levels
            before, after = channels[level], channels[min(level + 1, levels)]
            self.down_times.append(nn.Linear(time_channels, before))
            self.down.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 4, 2, 1, bias=False),
                    *norm_layers("none" if level == 0 or bottom else norm, after),
                    nn.LeakyReLU(0.2),
                )
            )
        before = channels[levels]
        for level in reversed(range(levels)):
            after = channels[level + 1]
            self.up_times.append(nn.Linear(time_channels, before))
            self.up.append(
                nn.Sequential(
                    nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                    *norm_layers(norm, after),
                    nn.ReLU(),
                )
            )
            before = 2 * after  # concatenated with its skip
        self.last = nn.ConvTranspose2d(before, target_channels, 4, 2, 1)

    def forward(self, x: Tensor, time: Tensor, source: Tensor) -> Tensor:
        """Return the field, float32 [B, Ct, H, W]; see `Field`."""
        encoded = self.time(time)
        x = self.first(laid_out_for(self, x)) + self.first_source(laid_out_for(self, source))
        skips = []
        for shift, block in zip(self.down_times, self.down, strict=True):
            x = block(x + shift(encoded)[:, :, None, None])
            skips.append(x)
        skips.pop()  # the bottom itself
        for shift, block in zip(self.up_times, self.up, strict=True):
            x = block(x + shift(encoded)[:, :, None, None])
            x = torch.cat([x, skips.pop()], dim=1)
        if self.training:
            out: Tensor = self.last(x).float()
            return out
        # A sampler sums many outputs: the rounding of bfloat16 would be visible.
        with torch.autocast(x.device.type, enabled=False):
            out = self.last(x.float())
        return out

    def receptive_field(self, interval: Interval) -> Interval | None:
        """Return the pixels that output pixels depend on; None with instance norm."""
        if uses_image_statistics(self.norm):
            return None
        interval = receptive_field(self.last, interval)
        asked = []  # the interval of each level's map that the skip needs
        for block in reversed(self.up):
            asked.append(interval)
            interval = receptive_field(block, interval)
        for level, block in enumerate(reversed(self.down)):
            if level:
                low, high = asked[-level]
                interval = min(low, interval[0]), max(high, interval[1])
            interval = receptive_field(block, interval)
        return receptive_field(self.first, interval)
