"""StyleResNet: a generator with several outputs, controlled by a style code. Karras et al. 2019/20.

A mapping network maps the code z to w, which sets the scale (and offset) of every channel: of the
normalised activations (adaptive instance norm, Huang and Belongie 2017; StyleGAN), or of the
weights (StyleGAN2), which needs no statistics of the image, so that the receptive field is finite.
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
    ReflectionPad,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
)
from crossband.networks.layers.equalised import EqualLinear, PixelNorm

Modulation = Literal["instance", "weights"]
STRIDE = 4
#: Weight of the newest codes in the running mean of w.
NEWEST = 0.005


class MappingNetwork(nn.Module):
    """z -> w: pixel norm, then linear layers with leaky ReLU 0.2 and 1/100 of the learning rate.

    Args:
        style: length of z.
        width: length of w.
        depth: number of layers; StyleGAN has 8.
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
        """[B, style] -> [B, width]; in training, update the running mean of w."""
        with torch.autocast(z.device.type, enabled=False):  # small, and everything depends on it
            w: Tensor = self.layers(z.float())
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(w.mean(dim=0), NEWEST)
        return w


class AdaptiveInstanceNorm(nn.Module):
    """s(w) (x - mean) / deviation + b(w), with mean and deviation of each channel over its pixels.

    Args:
        channels: input and output channels.
        width: length of w.
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
    """A 3 x 3 convolution with modulated and demodulated weights, and reflection padding.

    W'_oik = s_i(w) W_oik / sqrt(sum over i, k of (s_i(w) W_oik)^2 + 1e-8): Karras et al. 2020,
    Analyzing and improving the image quality of StyleGAN, eq. 1 and 3.

    Args:
        before: input channels.
        after: output channels.
        width: length of w.
    """

    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, 3, 3) / math.sqrt(before * 9))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scale = EqualLinear(width, before, bias=1.0)
        self.pad = ReflectionPad(1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, before, H, W], [B, width] -> [B, after, H, W]."""
        # Scale input and output instead of the weights, which is equivalent.
        with torch.autocast(x.device.type, enabled=False):
            s = self.scale(w)
            lengths = torch.einsum("oik,bi->bo", self.weight.flatten(2).square(), s.square())
        out = functional.conv2d(self.pad(x * s[:, :, None, None].to(x.dtype)), self.weight)
        out = out * (lengths + 1e-8).rsqrt()[:, :, None, None].to(out.dtype)
        return out + self.bias[:, None, None].to(out.dtype)


class _StyledConvolution(nn.Module):
    """A 3 x 3 convolution with style modulation, without activation."""

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
    """A ResNet generator whose residual blocks and upsampling layers depend on a style code.

    Convolution 7 x 7, two downsampling layers, `blocks` residual blocks of two styled convolutions,
    two upsampling layers (nearest, styled convolution), convolution 7 x 7. Each code gives one
    plausible target for a scene; `between` interpolates between two codes.

    With `instance` every pixel depends on the whole image; with `weights` there is no norm and the
    margin is finite.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        blocks: residual blocks.
        style: length of the code z.
        codes: length of w.
        depth: layers of the mapping network.
        modulation: `instance` (adaptive instance norm) or `weights`.
        truncation: truncation trick at inference: w is interpolated towards its mean (StyleGAN,
            appendix B); 1 does not truncate, 0 always uses the mean.
        limit: at inference z follows a normal distribution that is truncated here (BigGAN, Brock
            et al. 2019, section 3.1); 0 does not truncate.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
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
            ReflectionPad(3),
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
        self.head = Head([ReflectionPad(3), nn.Conv2d(width, out_channels, 7)], activation)
        initialise(self)
        if modulation == "weights":
            # Without norms, the initialisation must keep the variance of the activations.
            for module in self.encoder:
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, 0.2)
        self.margin = (
            margin_of(self._receptive_field, self.stride) if modulation == "weights" else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised, with the code 0."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate with the style of each sample, [B, style]."""
        z = conditions.style
        if z is None:
            z = x.new_zeros((len(x), self.style))
        return self._translate(x, self.codes_of(z))

    def between(self, x: Tensor, first: Tensor, second: Tensor, share: float) -> Tensor:
        """Translate with a style between two codes, [B, style] each, interpolated in w."""
        return self._translate(x, torch.lerp(self.codes_of(first), self.codes_of(second), share))

    def codes_of(self, z: Tensor) -> Tensor:
        """Return w for z, [B, codes], truncated at inference."""
        shorter = self.limit > 0 and not self.training
        w: Tensor = self.mapping(truncate_normal(z, self.limit) if shorter else z)
        if not self.training:
            w = torch.lerp(self.mapping.mean, w, self.truncation)
        return w

    def _translate(self, x: Tensor, w: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        least = 2 * STRIDE  # reflection padding needs at least two pixels
        x = pad_to_stride(x, STRIDE, least)
        h = self.encoder(2.0 * x - 1.0)
        for block in self.blocks:
            first, second = block.children()
            # Division by sqrt(2) keeps the variance of the sum.
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
    """Map standard normal numbers to a normal distribution truncated at +-limit.

    Brock et al. draw values outside the limit again. Mapping the distribution functions gives the
    same distribution and keeps the result a function of the draw.

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
