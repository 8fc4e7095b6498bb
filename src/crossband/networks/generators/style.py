"""Style: a generator with many answers, chosen by a code. Karras et al. 2019 and 2020.

The code z goes through a mapping network to w, and w sets the scale (and offset) of every channel:
of normalised activations (adaptive instance norm, Huang and Belongie 2017; StyleGAN), or of the
weights (StyleGAN2), which needs no statistics of the picture and so is strictly local.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.errors import RecipeError
from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.conditions import Conditions
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
)
from crossband.networks.layers.equalised import EqualLinear, PixelNorm

Modulation = Literal["instance", "weights"]
STRIDE = 4
#: Share of the newest codes in the running mean of w.
NEWEST = 0.005


class MappingNetwork(nn.Module):
    """z -> w: pixel norm, then linear layers with leaky ReLU 0.2 that learn 100 times slower.

    Args:
        style: numbers of z.
        width: numbers of w.
        depth: layers; StyleGAN has 8.
    """

    def __init__(self, style: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [PixelNorm()]
        for n in range(depth):
            layers.append(EqualLinear(width if n else style, width, math.sqrt(2), rate=0.01))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, z: Tensor) -> Tensor:
        """[B, style] -> [B, width]; while training, follow the mean of w."""
        with torch.autocast(z.device.type, enabled=False):  # small, and all else hangs on it
            w: Tensor = self.layers(z.float())
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(w.mean(dim=0), NEWEST)
        return w


class AdaptiveInstanceNorm(nn.Module):
    """s(w) (x - mean) / deviation + b(w), with the mean and deviation of each channel's pixels.

    Args:
        channels: in and out.
        width: numbers of w.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.scale = EqualLinear(width, channels, bias=1.0)
        self.offset = EqualLinear(width, channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, C, H, W], [B, width] -> [B, C, H, W]."""
        with torch.autocast(x.device.type, enabled=False):
            scale, offset = (layer(w)[:, :, None, None] for layer in (self.scale, self.offset))
        out: Tensor = functional.instance_norm(x) * scale.to(x.dtype) + offset.to(x.dtype)
        return out


class ModulatedConv2d(nn.Module):
    """A convolution 3 x 3 whose weights are scaled by w, and then to length 1 for each output.

    W'_oik = s_i(w) W_oik / sqrt(sum over i, k of (s_i(w) W_oik)^2 + 1e-8): Karras et al. 2020,
    Analyzing and improving the image quality of StyleGAN, eq. 1 and 3. Borders are reflected.

    Args:
        before: channels in.
        after: channels out.
        width: numbers of w.
    """

    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, 3, 3) / math.sqrt(before * 9))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scale = EqualLinear(width, before, bias=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, before, H, W], [B, width] -> [B, after, H, W]."""
        # The scaled weights are never made: the convolution is linear in both.
        with torch.autocast(x.device.type, enabled=False):
            s = self.scale(w)
            lengths = torch.einsum("oik,bi->bo", self.weight.flatten(2).square(), s.square())
        x = functional.pad(x * s[:, :, None, None].to(x.dtype), (1, 1, 1, 1), mode="reflect")
        out = functional.conv2d(x, self.weight)
        out = out * (lengths + 1e-8).rsqrt()[:, :, None, None].to(out.dtype)
        return out + self.bias[:, None, None].to(out.dtype)


class _StyledConvolution(nn.Module):
    """A convolution 3 x 3 that w has a say in; leaky ReLU is left to the caller."""

    def __init__(self, before: int, after: int, width: int, modulation: Modulation) -> None:
        super().__init__()
        self.convolution: nn.Module
        self.norm = None
        if modulation == "weights":
            self.convolution = ModulatedConv2d(before, after, width)
        else:
            self.convolution = nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")
            self.norm = AdaptiveInstanceNorm(after, width)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if self.norm is None:
            modulated: Tensor = self.convolution(x, w)
            return modulated
        normal: Tensor = self.norm(self.convolution(x), w)
        return normal


class StyleResNet(Generator):
    """A ResNet generator whose blocks and doublings are set by a style code.

    Convolution 7 x 7, two halvings, `blocks` residual blocks of two styled convolutions, two
    doublings (repeated pixels, styled convolution), convolution 7 x 7. One code for a scene gives
    one plausible target; other codes give others, and `between` what lies between two of them.

    With `instance` every pixel sees all; with `weights` there is no norm anywhere and the margin is
    finite.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        blocks: residual blocks.
        style: numbers of the code z.
        codes: numbers of w.
        depth: layers of the mapping network.
        modulation: `instance` (adaptive instance norm) or `weights`.
        truncation: after training w is moved towards its mean, to this share of its way from it
            (StyleGAN, appendix B): 1 leaves it, 0 answers with the mean style.
        limit: after training z is drawn from a normal distribution that is cut off here (BigGAN,
            Brock et al. 2019, section 3.1); 0 does not cut.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which can answer beyond 0..1.
    """

    examples = (
        {"width": 8, "blocks": 1, "codes": 8, "depth": 2},
        {"width": 4, "style": 3, "codes": 5, "limit": 1.5},
        {"width": 4, "codes": 4, "depth": 1, "modulation": "instance"},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 6,
        style: int = 16,
        codes: int = 128,
        depth: int = 8,
        modulation: Modulation = "weights",
        truncation: float = 1.0,
        limit: float = 0.0,
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, width, style, codes, depth) < 1 or blocks < 0:
            raise ValueError("channels, width, style, codes and depth must be at least 1")
        if not 0.0 <= truncation <= 1.0 or limit < 0.0:
            raise ValueError("truncation must be 0 to 1, and limit at least 0")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.style = STRIDE, style
        self.truncation, self.limit = truncation, limit
        norm: Literal["instance", "none"] = "instance" if modulation == "instance" else "none"
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7),
            *norm_layers(norm, width),
            nn.LeakyReLU(0.2),
        ]
        for channels in (width, 2 * width):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, 2, 1),
                *norm_layers(norm, 2 * channels),
                nn.LeakyReLU(0.2),
            ]
        self.encoder = nn.Sequential(*layers)
        self.mapping = MappingNetwork(style, codes, depth)
        wide = 4 * width
        self.blocks = nn.ModuleList(
            nn.ModuleList(_StyledConvolution(wide, wide, codes, modulation) for _ in range(2))
            for _ in range(blocks)
        )
        self.doublings = nn.ModuleList(
            _StyledConvolution(2 * n, n, codes, modulation) for n in (2 * width, width)
        )
        self.head = Head([nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7)], activation)
        initialise(self)
        if modulation == "weights":
            # Nothing brings values back to a size of 1: each layer must keep it.
            for module in self.encoder:
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, 0.2)
        self.margin = (
            margin_of(self._receptive_field, self.stride) if modulation == "weights" else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised, of the code 0."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate with the style of each sample, [B, style]."""
        z = conditions.style
        if z is None:
            z = x.new_zeros((len(x), self.style))
        return self._answer(x, self.codes_of(z))

    def between(self, x: Tensor, first: Tensor, second: Tensor, share: float) -> Tensor:
        """Translate with a style between two, [B, style] each: w moves on a straight line."""
        return self._answer(x, torch.lerp(self.codes_of(first), self.codes_of(second), share))

    def codes_of(self, z: Tensor) -> Tensor:
        """Return w of z, [B, codes], truncated where it is not being trained."""
        shorter = self.limit > 0 and not self.training
        w: Tensor = self.mapping(truncate_normal(z, self.limit) if shorter else z)
        if not self.training:
            w = torch.lerp(self.mapping.mean, w, self.truncation)
        return w

    def _answer(self, x: Tensor, w: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        least = 2 * STRIDE  # a border is reflected from two pixels or more
        x = pad_to_stride(x, STRIDE, least)
        h = self.encoder(2.0 * x - 1.0)
        for block in self.blocks:
            first, second = block.children()
            # Two things of size 1 are added: the root keeps their sum of that size.
            inner = second(functional.leaky_relu(first(h, w), 0.2), w)
            h = (h + inner) / math.sqrt(2)
        for layer in self.doublings:
            h = functional.interpolate(h, scale_factor=2.0, mode="nearest")
            h = functional.leaky_relu(layer(h, w), 0.2)
        out: Tensor = self.head(h)
        return out[..., :height, :width]

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        low, high = receptive_field(self.head.layers, interval)
        for _ in self.doublings:
            low, high = (low - 1) // 2, (high + 1) // 2
        reach = 2 * len(self.blocks)
        return receptive_field(self.encoder, (low - reach, high + reach))


def truncate_normal(z: Tensor, limit: float) -> Tensor:
    """Turn standard normal numbers into ones that are cut off at +-limit, each by itself.

    Brock et al. draw again what lies outside; mapping the distribution functions onto each other
    gives the same distribution, and stays a function of the draw.

    >>> truncate_normal(torch.tensor([0.0, 9.0]), 2.0)
    tensor([0., 2.])
    """
    if limit <= 0:
        raise RecipeError(f"limit must be above 0, not {limit}")
    wide = z.double()
    least = torch.special.ndtr(torch.tensor(-limit, dtype=torch.float64, device=z.device))
    share = least + torch.special.ndtr(wide) * (1.0 - 2.0 * least)
    out: Tensor = torch.special.ndtri(share).clamp(-limit, limit).to(z.dtype)
    return out
