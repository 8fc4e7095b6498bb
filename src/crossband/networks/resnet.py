"""ResNet: the generator of CycleGAN (Zhu et al. 2017, appendix 7.2), also used by pix2pix."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from crossband.networks.attention import SelfAttention
from crossband.networks.base import Generator
from crossband.networks.layers import (
    Activation,
    Head,
    Initial,
    Interval,
    Norm,
    Upsample,
    initialise,
    margin_of,
    norm_layers,
    seen_by,
    upsample_layers,
)

#: Total downsampling step: two halvings.
STRIDE = 4
_CONVOLUTIONS = nn.Conv2d | nn.ConvTranspose2d


class Residual(nn.Module):
    """x + norm(conv3x3(ReLU(norm(conv3x3(x))))), with reflected borders.

    Args:
        channels: channels in and out.
        norm: `instance`, `batch` or `none`.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm != "batch"
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            *norm_layers(norm, channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            *norm_layers(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]; H, W >= 2."""
        y: Tensor = self.body(x)
        return x + y


class ResNet(Generator):
    """Two halvings, residual blocks, two doublings: c7s1-64, d128, d256, R256..., u128, u64, c7s1.

    Convolutions of 7 x 7 and those of the blocks have reflected borders, the others zeros.

    Inside, values are -1..1, as in pix2pix: the source goes in as 2 x - 1. The output is 0..1.

    Sides are padded to multiples of 4, at least 8 (a border is reflected from two pixels or more).
    With instance norm every pixel sees all; with batch norm (its statistics are fixed after
    training) or none the margin is finite: 84 pixels with 9 blocks (87 with `resize`).

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        blocks: residual blocks; the originals have 6 for 128 pixels, 9 for 256.
        norm: `instance`, `batch` or `none`.
        upsample: `transpose` (3 x 3) or `resize` (repeated pixels, 3 x 3: no checkerboard).
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which can answer beyond 0..1.
        attention: self-attention after the first half of the blocks (Zhang et al. 2019); every
            pixel then sees all.
        spectral: spectral norm of all convolutions but the first and the last, which bands enter
            (Miyato et al. 2018; in a generator, Zhang et al. 2019).
        initial: how weights are drawn; see `initialise`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        upsample: Upsample = "transpose",
        activation: Activation = "tanh",
        attention: bool = False,
        spectral: bool = False,
        initial: Initial = "dcgan",
    ) -> None:
        if min(in_channels, out_channels, width) < 1 or blocks < (1 if attention else 0):
            raise ValueError(
                "channels and width must be at least 1, blocks at least 0, with attention 1"
            )
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = STRIDE
        # As in the originals: an instance norm takes a bias away again, but they have both.
        bias = norm != "batch"
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7, bias=bias),
            *norm_layers(norm, width),
            nn.ReLU(inplace=True),
        ]
        for channels in (width, 2 * width):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=bias),
                *norm_layers(norm, 2 * channels),
                nn.ReLU(inplace=True),
            ]
        for number in range(blocks):
            if attention and number == blocks // 2:
                layers.append(SelfAttention(4 * width))
            layers.append(Residual(4 * width, norm))
        for channels in (2 * width, width):
            layers += [
                *upsample_layers(upsample, 2 * channels, channels, kernel=3, bias=bias),
                *norm_layers(norm, channels),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = Head([nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7)], activation)
        initialise(self, initial)
        if spectral:
            for module in [m for m in self.body[2:].modules() if isinstance(m, _CONVOLUTIONS)]:
                spectral_norm(module)
        everywhere = norm == "instance" or attention
        self.margin = None if everywhere else margin_of(self._trace, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        height, width = x.shape[-2:]
        least = 2 * STRIDE  # a narrower tile is a narrower scene: tiles still equal the whole
        right = max(-width % STRIDE, least - width)
        bottom = max(-height % STRIDE, least - height)
        if right or bottom:
            x = functional.pad(x, (0, right, 0, bottom), mode="replicate")
        out: Tensor = self.head(self.body(2.0 * x - 1.0))
        return out[..., :height, :width]

    def _trace(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        interval = seen_by(self.head.layers, interval)
        for layer in reversed(self.body):
            inner = layer.body if isinstance(layer, Residual) else layer  # it sees its own pixel
            interval = seen_by(inner, interval)
        return interval
