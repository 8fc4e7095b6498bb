"""Pix2PixHD: a coarse-to-fine generator (Wang et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.generators.resnet import Residual, resnet_body
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    Norm,
    ReflectionPad,
    Upsample,
    has_affine_weights,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
    upsample_layers,
    uses_image_statistics,
)


class Enhancer(nn.Module):
    """The local enhancer: downsample, add the features of the coarser network, upsample.

    Args:
        in_channels: source bands.
        width: channels at full resolution; twice as many at half resolution.
        blocks: residual blocks.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        upsample: `transpose`, or `resize`, `bilinear`, `bicubic`; see `upsample_layers`.
    """

    def __init__(
        self, in_channels: int, width: int, blocks: int, norm: Norm, upsample: Upsample
    ) -> None:
        super().__init__()
        bias = not has_affine_weights(norm)
        self.down = nn.Sequential(
            ReflectionPad(3),
            nn.Conv2d(in_channels, width, 7, bias=bias),
            *norm_layers(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, 2, 1, bias=bias),
            *norm_layers(norm, 2 * width),
            nn.ReLU(inplace=True),
        )
        self.up = nn.Sequential(
            *(Residual(2 * width, norm) for _ in range(blocks)),
            *upsample_layers(upsample, 2 * width, width, kernel=3, bias=bias),
            *norm_layers(norm, width),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, coarser: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, 2 * width, H / 2, W / 2] -> [B, width, H, W]."""
        y: Tensor = self.up(self.down(x) + coarser)
        return y


class Pix2PixHD(Generator):
    """A global generator at a coarser resolution, and local enhancers that each double it.

    Wang, Liu, Zhu, Tao, Kautz, Catanzaro 2018 ("High-Resolution Image Synthesis and Semantic
    Manipulation with Conditional GANs", CVPR), section 3.2 and appendix: the global network is
    c7s1-64, d128, d256, d512, d1024, R1024 x 9, u512, u256, u128, u64; each enhancer c7s1-w, d2w,
    R2w x 3, uw with half the width of the previous one; then c7s1 to the bands. The source of the
    coarser networks is downsampled by average pooling over 3 x 3 pixels with stride 2. 182,701,827
    parameters from three bands to three with one enhancer (the defaults), 182,443,267 without.

    The paper trains the global network first, then the enhancer, then both. Here both are trained
    together from the start; `enhancers` 0 is the global network alone.

    The 7 x 7 convolutions and the residual blocks use reflection padding, the others zero padding.
    Inside, values are -1..1: the input is 2 x - 1. The output is 0..1. Sides are padded to
    multiples of the stride (32 at the defaults), at least to twice the stride. With instance norm
    every pixel depends on the whole image; with batch norm or none the margin is finite.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the global network at its full resolution.
        levels: downsampling layers of the global network.
        blocks: residual blocks of the global network.
        enhancers: number of local enhancers.
        local_blocks: residual blocks of each enhancer.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        upsample: `transpose` (3 x 3), or, without checkerboard artefacts, a 3 x 3 convolution after
            `resize` (nearest), `bilinear` or `bicubic` upsampling.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
    """

    examples = (
        {"width": 12, "levels": 1, "blocks": 1, "local_blocks": 1},
        {"width": 4, "levels": 2},
        {"width": 4, "norm": "batch"},
        {"width": 8, "blocks": 0, "enhancers": 2, "norm": "none", "upsample": "resize"},
        {"width": 4, "enhancers": 0, "norm": "none", "out_channels": 1},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        levels: int = 4,
        blocks: int = 9,
        enhancers: int = 1,
        local_blocks: int = 3,
        norm: Norm = "instance",
        upsample: Upsample = "transpose",
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, levels) < 1 or min(blocks, enhancers, local_blocks) < 0:
            raise ValueError("channels and levels must be at least 1, blocks and enhancers 0")
        if width < 2**enhancers:
            raise ValueError(f"width must be at least {2**enhancers} for {enhancers} enhancers")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = 2 ** (levels + enhancers)
        self.coarsen = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.whole = resnet_body(in_channels, width, levels, blocks, norm, upsample)
        self.enhancers = nn.ModuleList()
        for _ in range(enhancers):
            width //= 2
            self.enhancers.append(Enhancer(in_channels, width, local_blocks, norm, upsample))
        self.head = Head([ReflectionPad(3), nn.Conv2d(width, out_channels, 7)], activation)
        initialise(self)
        self.margin = (
            None if uses_image_statistics(norm) else margin_of(self._receptive_field, self.stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        height, width = x.shape[-2:]
        least = 2 * self.stride  # reflection padding needs at least two pixels
        x = pad_to_stride(x, self.stride, least)
        pyramid = [2.0 * x - 1.0]
        for _ in self.enhancers:
            pyramid.append(self.coarsen(pyramid[-1]))
        y = self.whole(pyramid.pop())
        for enhancer in self.enhancers:
            y = enhancer(pyramid.pop(), y)
        out: Tensor = self.head(y)
        return out[..., :height, :width]

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on, finest first."""
        interval = receptive_field(self.head.layers, interval)
        asked = []  # intervals of the source at each resolution
        for enhancer in reversed(self.enhancers):
            assert isinstance(enhancer, Enhancer)
            interval = receptive_field(enhancer.up, interval)
            asked.append(receptive_field(enhancer.down, interval))
        interval = receptive_field(self.whole, interval)
        for low, high in reversed(asked):
            interval = receptive_field(self.coarsen, interval)
            interval = min(low, interval[0]), max(high, interval[1])
        return interval
