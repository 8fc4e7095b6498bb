"""ResNet: the generator of CycleGAN (Zhu et al. 2017, appendix 7.2), also used by pix2pix."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from crossband.core.registry import Examples
from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.layers.attention import SelfAttention
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Initial,
    Interval,
    Norm,
    ReflectionPad,
    Upsample,
    WithReceptiveField,
    has_affine_weights,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
    upsample_layers,
    uses_image_statistics,
)
from crossband.networks.tracing import largest

#: Total downsampling step: two halvings.
STRIDE = 4
_CONVOLUTIONS = nn.Conv2d | nn.ConvTranspose2d


class Residual(WithReceptiveField):
    """x + norm(conv3x3(ReLU(norm(conv3x3(x))))), with reflection padding.

    Args:
        channels: input and output channels.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        bias = not has_affine_weights(norm)
        self.body = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            *norm_layers(norm, channels),
            nn.ReLU(inplace=True),
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            *norm_layers(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]; H, W >= 2."""
        y: Tensor = self.body(x)
        return x + y

    def receptive_field(self, interval: Interval) -> Interval:
        """Return the receptive field of the convolutions, which includes the skip's pixel."""
        return receptive_field(self.body, interval)


def resnet_body(
    in_channels: int, width: int, halvings: int, blocks: int, norm: Norm, upsample: Upsample
) -> nn.Sequential:
    """Return a ResNet without its head: [B, in_channels, H, W] -> [B, width, H, W].

    Args:
        in_channels: input channels.
        width: channels at full resolution; doubled by each downsampling.
        halvings: number of downsampling layers, and of upsampling layers after the blocks.
        blocks: residual blocks.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        upsample: `transpose`, or `resize`, `bilinear`, `bicubic`; see `upsample_layers`.
    """
    # As in the originals, which have a bias before instance norms although it has no effect.
    bias = not has_affine_weights(norm)
    layers: list[nn.Module] = [
        ReflectionPad(3),
        nn.Conv2d(in_channels, width, 7, bias=bias),
        *norm_layers(norm, width),
        nn.ReLU(inplace=True),
    ]
    channels = width
    for _ in range(halvings):
        layers += [
            nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=bias),
            *norm_layers(norm, 2 * channels),
            nn.ReLU(inplace=True),
        ]
        channels *= 2
    layers += [Residual(channels, norm) for _ in range(blocks)]
    for _ in range(halvings):
        channels //= 2
        layers += [
            *upsample_layers(upsample, 2 * channels, channels, kernel=3, bias=bias),
            *norm_layers(norm, channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class ResNet(Generator):
    """CycleGAN's generator: c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1.

    The 7 x 7 convolutions and the residual blocks use reflection padding, the others zero padding.

    Inside, values are -1..1, as in pix2pix: the input is 2 x - 1. The output is 0..1.

    Sides are padded to multiples of 4, at least 8 (reflection padding needs two pixels or more).
    With instance norm every pixel depends on the whole image; with batch norm (fixed statistics
    after training) or none the margin is finite: 84 pixels with 9 blocks (87 with `resize`).

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        blocks: residual blocks; the originals have 6 for 128 pixels, 9 for 256.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        upsample: `transpose` (3 x 3), or, without checkerboard artefacts, a 3 x 3 convolution after
            `resize` (nearest), `bilinear` or `bicubic` upsampling.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
        attention: self-attention after the first half of the blocks (Zhang et al. 2019); then every
            pixel depends on the whole image.
        spectral: spectral norm of all convolutions except the first and the last, which depend on
            the bands (Miyato et al. 2018; in a generator, Zhang et al. 2019).
        initial: initialisation of the weights; see `initialise`.
        border: width of a reflection padding around the image that is cropped at the end, to move
            the zero padding of the convolutions away from the image.
    """

    examples: ClassVar[Examples] = (
        {"width": 8, "blocks": 2},
        {"attention": True, "initial": "orthogonal"},
        {"blocks": 1, "spectral": True},
        {"width": 6, "blocks": 1, "norm": "batch", "activation": "none", "out_channels": 2},
        {"width": 6, "norm": "none", "upsample": "resize", "activation": "sigmoid"},
        {"width": 4, "blocks": 1, "norm": "none", "border": 6},
        {"width": 4, "blocks": 1, "norm": "batch", "upsample": "bilinear"},
        {"width": 4, "blocks": 1, "norm": "affine"},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        upsample: Upsample = "transpose",
        activation: Activation = "tanh",
        border: int = 0,
        attention: bool = False,
        spectral: bool = False,
        initial: Initial = "dcgan",
    ) -> None:
        if min(in_channels, out_channels, width) < 1 or min(blocks - attention, border) < 0:
            raise ValueError(
                "channels and width must be at least 1, blocks (with attention 1) and border at "
                "least 0"
            )
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.border = STRIDE, border
        self.body = resnet_body(in_channels, width, 2, blocks, norm, upsample)
        if attention:
            first = next(n for n, m in enumerate(self.body) if isinstance(m, Residual))
            self.body.insert(first + blocks // 2, SelfAttention(4 * width))
        self.head = Head([ReflectionPad(3), nn.Conv2d(width, out_channels, 7)], activation)
        initialise(self, initial)
        if spectral:
            for module in [m for m in self.body[2:].modules() if isinstance(m, _CONVOLUTIONS)]:
                spectral_norm(module)
        everywhere = uses_image_statistics(norm) or attention
        self.margin = None if everywhere else margin_of(self._receptive_field, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        top, left, (height, width) = self.border, self.border, x.shape[-2:]
        x = reflected(x, self.border)
        least = 2 * STRIDE  # only a scene, never its tiles, can be narrower
        x = pad_to_stride(x, STRIDE, least)
        out: Tensor = self.head(self.body(2.0 * x - 1.0))
        return out[..., top : top + height, left : left + width]

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        low, high = (at + self.border for at in interval)
        low, high = receptive_field(self.body, receptive_field(self.head.layers, (low, high)))
        return low - self.border, high - self.border


def reflected(x: Tensor, border: int) -> Tensor:
    """Pad an image by reflection, repeatedly if the border is larger than the image.

    The edge pixels are not repeated, except in an image that is one pixel wide.

    >>> reflected(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 3)[0, 0, 0].tolist()
    [2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]
    """
    for axis in (-2, -1):
        last = x.shape[axis] - 1
        at = torch.arange(-border, last + 1 + border, device=x.device)
        at = at.remainder(largest(2 * last, 1))
        x = x.index_select(axis, torch.minimum(at, 2 * last - at))
    return x
