"""Progressive growing. Karras et al. 2018, Progressive growing of GANs, sections 2 to 4.

Both networks start with coarse images and get finer layers one after another. A new layer is faded
in. The current growth is a function of the step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.base import Discriminator, Generator, pad_to_stride
from crossband.networks.layers.batch_layers import MinibatchStd
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    margin_of,
    receptive_field,
)
from crossband.networks.layers.equalised import EqualConv2d, PixelNorm

#: Levels and steps of the growth, at most.
MOST_LEVELS, LARGEST_GROWN = 12, 2**40


class GrowingNetwork(nn.Module):
    """A network that grows in training; a method calls `grow` before each step.

    Attributes:
        levels: number of doublings from the coarsest resolution to the finest.
        grown: steps after which the network has its full size.
        growth: current growth, 0 to levels; 1.25 means that the first doubling is done and the
            second is faded in by a quarter. A new network has its full size, and so has a finished
            model. The growth is part of the state.
    """

    levels: int
    grown: int
    growth: float

    def grow(self, step: int) -> None:
        """Set `growth` for the next step after `step` finished ones.

        There are 2 * levels phases of equal length: constant, fading, constant, fading, ...
        """
        phase = min(step / self.grown, 1.0) * 2 * self.levels
        whole = int(phase)
        fading = phase - whole if whole % 2 else 0.0
        self.growth = min(whole // 2 + fading, float(self.levels))

    def get_extra_state(self) -> Tensor:
        """Return the growth."""
        return torch.tensor(self.growth)

    def set_extra_state(self, state: Any) -> None:
        """See `get_extra_state`."""
        growth = float(state)
        if not 0.0 <= growth <= self.levels:
            raise ValueError(f"its growth is {growth:g}, and 0 to {self.levels} are possible")
        self.growth = growth

    def _stage(self) -> tuple[int, float]:
        """Return the finest active level (0 is full size), and how far it is faded in."""
        whole = math.ceil(self.growth)
        return self.levels - whole, self.growth - whole + 1 if whole else 1.0


def _pool(x: Tensor, level: int) -> Tensor:
    """Average over cells of 2^level x 2^level pixels."""
    return functional.avg_pool2d(x, 2**level) if level else x


def _double(x: Tensor, times: int = 1) -> Tensor:
    """Repeat each pixel 2^times times along both sides."""
    return functional.interpolate(x, scale_factor=float(2**times), mode="nearest") if times else x


def _convolution(before: int, after: int, *, normed: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [EqualConv2d(before, after, 3), nn.LeakyReLU(0.2)]
    return [*layers, PixelNorm()] if normed else layers


class ProgressiveUNet(GrowingNetwork, Generator):
    """A U-Net whose encoder and decoder grow together, from coarse to fine.

    The paper's generator creates images from noise; here an encoder, like the paper's
    discriminator, provides its input. Each level has two equalised convolutions 3 x 3 with leaky
    ReLU 0.2 and pixel norm; 2 x 2 average pooling and nearest upsampling between levels; 1 x 1
    convolutions from and to the bands at each level. Before it is fully grown, the output is coarse
    and repeated to full size.

    The margin is finite, that of the full size.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full size; doubled at each coarser level, at most 8 x width.
        levels: downsampling steps between full size and the coarsest resolution.
        grown: training steps after which the network has its full size.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
    """

    examples = (
        {"width": 8, "levels": 2, "grown": 4},
        {"width": 12, "levels": 1, "out_channels": 2},
    )

    largest_number = LARGEST_GROWN

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 32,
        levels: int = 4,
        grown: int = 10_000,
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, width, levels, grown) < 1 or levels > MOST_LEVELS:
            raise ValueError(
                "channels, width, levels and grown must be at least 1, "
                f"levels at most {MOST_LEVELS}"
            )
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.levels, self.grown, self.growth = levels, grown, float(levels)
        self.stride = 2**levels
        c = [width * min(2**n, 8) for n in range(levels + 1)]
        self.enter = nn.ModuleList(
            nn.Sequential(EqualConv2d(in_channels, n, 1, inputs=3), nn.LeakyReLU(0.2)) for n in c
        )
        self.encoder = nn.ModuleList(
            nn.Sequential(
                *_convolution(c[n], c[n], normed=True),
                *_convolution(c[n], c[n + 1], normed=True),
                nn.AvgPool2d(2),
            )
            for n in range(levels)
        )
        self.bottom = nn.Sequential(*_convolution(c[levels], c[levels], normed=True))
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *_convolution(c[n + 1] + c[n], c[n], normed=True),
                *_convolution(c[n], c[n], normed=True),
            )
            for n in range(levels)
        )
        self.leave = nn.ModuleList(
            Head([EqualConv2d(n, out_channels, 1, gain=1.0)], activation) for n in c
        )
        self.margin = margin_of(self._receptive_field, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        x = 2.0 * x - 1.0
        top, fade = self._stage()
        h = self.enter[top](_pool(x, top))
        skips = []
        for level in range(top, self.levels):
            skips.append(h)
            h = self.encoder[level](h)
            if level == top and fade < 1.0:
                h = torch.lerp(self.enter[top + 1](_pool(x, top + 1)), h, fade)
        before = h = self.bottom(h)
        for level in reversed(range(top, self.levels)):
            before = h
            h = self.decoder[level](torch.cat([_double(h), skips.pop()], dim=1))
        out: Tensor = self.leave[top](h)
        if fade < 1.0:
            out = torch.lerp(_double(self.leave[top + 1](before)), out, fade)
        return _double(out, top)[..., :height, :width]

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        asked = []
        for block in self.decoder:
            interval = receptive_field(block, interval)
            asked.append(interval)  # needed by the skip of this level
            interval = interval[0] // 2, interval[1] // 2
        interval = receptive_field(self.bottom, interval)
        for block, (low, high) in zip(reversed(self.encoder), reversed(asked), strict=True):
            interval = receptive_field(block, interval)
            interval = min(low, interval[0]), max(high, interval[1])
        return interval


class ProgressiveCritic(GrowingNetwork, Discriminator):
    """The discriminator that grows with `ProgressiveUNet` and works at its current resolution.

    Two equalised convolutions without norm at each level; at the coarsest level the standard
    deviation of the batch is one more channel. It differs from the paper in three points. It
    returns a score for each cell of the coarsest level, as PatchGAN, instead of one for the image.
    While a level is faded in, real images have the resolution of that level instead of a blend of
    both, like the targets of the generator's L1. There is no penalty on squared scores.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        width: channels at full size; doubled at each coarser level, at most 8 x width.
        levels: the same as the generator's.
        grown: the same as the generator's.
        conditional: whether it sees the target together with its source.
    """

    examples = ({"width": 8, "levels": 2, "grown": 4},)

    largest_number = LARGEST_GROWN

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        width: int = 32,
        levels: int = 4,
        grown: int = 10_000,
        conditional: bool = True,
    ) -> None:
        if min(width, levels, grown) < 1 or levels > MOST_LEVELS:
            raise ValueError(
                f"width, levels and grown must be at least 1, levels at most {MOST_LEVELS}"
            )
        super().__init__()
        self.conditional = conditional
        self.smallest = 2**levels
        self.levels, self.grown, self.growth = levels, grown, float(levels)
        bands = target_channels + (source_channels if conditional else 0)
        c = [width * min(2**n, 8) for n in range(levels + 1)]
        self.enter = nn.ModuleList(
            nn.Sequential(EqualConv2d(bands, n, 1), nn.LeakyReLU(0.2)) for n in c
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *_convolution(c[n], c[n], normed=False),
                *_convolution(c[n], c[n + 1], normed=False),
                nn.AvgPool2d(2),
            )
            for n in range(levels)
        )
        self.last = nn.Sequential(
            MinibatchStd(),
            *_convolution(c[levels] + 1, c[levels], normed=False),
            EqualConv2d(c[levels], 1, 1, gain=1.0),
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, Ct, H, W] -> scores [B, 1, H / 2^levels, W / 2^levels]."""
        x = self.stacked_input(source, target)
        top, fade = self._stage()
        h = self.enter[top](_pool(x, top))
        for level in range(top, self.levels):
            h = self.blocks[level](h)
            if level == top and fade < 1.0:
                h = torch.lerp(self.enter[top + 1](_pool(x, top + 1)), h, fade)
        scores: Tensor = self.last(h)
        return scores
