"""UNet: the generator of pix2pix (Isola et al. 2017, appendix 6.1.1)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.errors import RecipeError
from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    Norm,
    Upsample,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
    upsample_layers,
    uses_image_statistics,
)

UNetPlan = Literal["paper", "code"]
#: Decoder blocks with dropout, from the bottom.
DROPOUT_BLOCKS = 3
#: Upsampling blocks of the plan `code` without dropout: the first and the last four.
PLAIN_BLOCKS = 5


class UNet(Generator):
    """A U-Net with `levels` downsampling and upsampling blocks and a skip at every resolution.

    Encoder: convolution 4 x 4 of stride 2, norm, leaky ReLU 0.2; no norm after the first. Decoder:
    upsampling, norm, dropout in the first three blocks (never in the last), ReLU. Head: a
    convolution 3 x 3, as described in the paper. Channels: width, doubled at each level, at most
    8 x width. Convolutions before a norm have no bias.

    The code of the paper's authors (junyanz/pytorch-CycleGAN-and-pix2pix) differs, and is available
    as plan `code`: the last upsampling returns the bands, without a head; the bottom has no norm
    and a plain ReLU; skips pass through a ReLU; the first decoder block has no dropout; with
    instance norm all convolutions have a bias, otherwise only the last one. It has 54,413,955
    parameters from three bands to three, the paper's version 54,541,827.

    Inside, values are -1..1, as in pix2pix: the input is 2 x - 1. The output is 0..1.

    Sides are padded to multiples of 2^levels, so that at 8 levels an image of 257 pixels costs as
    much as one of 512. With batch norm (fixed statistics after training) or none the margin is
    finite but large: 3 x 2^levels - 2, 766 pixels at 8 levels (765 for the plan `code`). With
    instance norm every pixel depends on the whole image. Dropout is active in training only.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the first level.
        levels: downsampling blocks; 8 reduce 256 pixels to one.
        norm: `batch`, `instance`, `affine` (instance with weights) or `none`. Instance norm is left
            out at the bottom: it would set a map of one pixel to 0.
        dropout: probability of dropping a value in the first three decoder blocks.
        upsample: `transpose` (4 x 4), or, without checkerboard artefacts, a 3 x 3 convolution after
            `resize` (nearest), `bilinear` or `bicubic` upsampling.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
        plan: `paper` or `code`; see above.
    """

    examples = (
        {"width": 12, "levels": 3},
        {"width": 4, "norm": "instance"},
        {"width": 6, "activation": "none", "out_channels": 2},
        {"width": 6, "levels": 2, "norm": "none", "upsample": "resize", "activation": "sigmoid"},
        {"width": 6, "levels": 2, "upsample": "bicubic"},
        {"width": 6, "plan": "code", "out_channels": 2},
        {"width": 6, "levels": 2, "plan": "code", "norm": "none", "upsample": "bilinear"},
        {"width": 6, "levels": 1, "plan": "code", "norm": "none"},
        {"width": 4, "plan": "code", "norm": "instance"},
        {"width": 4, "norm": "affine"},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        levels: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
        upsample: Upsample = "transpose",
        activation: Activation = "tanh",
        plan: UNetPlan = "paper",
    ) -> None:
        if min(in_channels, out_channels, width, levels) < 1:
            raise ValueError("channels, width and levels must be at least 1")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout must be in 0..1, below 1")
        if plan not in get_args(UNetPlan):
            raise ValueError(f"plan must be one of {', '.join(get_args(UNetPlan))}")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.norm, self.plan, self.stride = norm, plan, 2**levels
        paper, bias = plan == "paper", norm == "instance"
        channels = [in_channels, *(width * min(2**n, 8) for n in range(levels))]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            last = level == levels - 1
            bare = level == 0 or (last and (uses_image_statistics(norm) or not paper))
            normed: Norm = "none" if bare else norm
            before, after = channels[level : level + 2]
            plain = last and not paper
            self.encoder.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 4, 2, 1, bias=normed == "none" if paper else bias),
                    *norm_layers(normed, after),
                    nn.ReLU(inplace=True) if plain else nn.LeakyReLU(0.2, inplace=True),
                )
            )
        drop = range(DROPOUT_BLOCKS) if paper else range(1, levels - PLAIN_BLOCKS + 1)
        before = channels[levels]
        for number, level in enumerate(reversed(range(0 if paper else 1, levels))):
            after = channels[level] if level else width
            drops = dropout > 0 and number in drop and level > 0
            own_bias = norm == "none" if paper else bias
            self.decoder.append(
                nn.Sequential(
                    *upsample_layers(upsample, before, after, kernel=4, bias=own_bias),
                    *norm_layers(norm, after),
                    *([nn.Dropout(dropout)] if drops else []),
                    nn.ReLU(inplace=True),
                )
            )
            before = 2 * after  # concatenated with its skip
        if paper:
            last_layers: list[nn.Module] = [nn.Conv2d(width, out_channels, 3, padding=1)]
        else:
            last_layers = upsample_layers(upsample, before, out_channels, kernel=4, bias=True)
        self.head = Head(last_layers, activation)
        initialise(self)
        self.margin = (
            None if uses_image_statistics(norm) else margin_of(self._receptive_field, self.stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1.

        Raises:
            RecipeError: training with batch norm on a single pixel at the bottom.
        """
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        if self.training and self.norm == "batch" and self.plan == "paper":
            self._check_batch(x)
        x = 2.0 * x - 1.0
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.decoder:
            x = block(x)
            if skips:
                skip = skips.pop()
                skip = functional.relu(skip) if self.plan == "code" else skip
                x = torch.cat([skip, x], dim=1)
        out: Tensor = self.head(x)
        return out[..., :height, :width]

    def _check_batch(self, x: Tensor) -> None:
        if x.shape[0] * x.shape[2] * x.shape[3] == self.stride**2:
            raise RecipeError(
                f"UNet cannot train batch norm on one crop of {self.stride} pixels, which leaves "
                "one pixel at the bottom: take a larger data.batch or data.crop, fewer levels, or "
                "norm instance"
            )

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        interval = receptive_field(self.head.layers, interval)
        # The interval of each level's map that the skip needs.
        asked = [interval] if self.plan == "code" else []
        for block in reversed(self.decoder):
            interval = receptive_field(block, interval)
            asked.append(interval)
        for block, (low, high) in zip(reversed(self.encoder), reversed(asked), strict=True):
            interval = receptive_field(block, (min(low, interval[0]), max(high, interval[1])))
        return interval
