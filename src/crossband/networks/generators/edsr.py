"""EDSR: residual blocks without norm, then pixel shuffle (Lim et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from crossband.networks.base import Generator
from crossband.networks.layers.convolution import (
    Head,
    Interval,
    Resize,
    WithReceptiveField,
    margin_of,
    receptive_field,
)


class PlainResidual(WithReceptiveField):
    """x + factor * conv3x3(ReLU(conv3x3(x))): the block of EDSR, without batch norm.

    Args:
        channels: input and output channels.
        factor: residual scaling; 0.1 for the paper's large model, 1 for the baseline.
        bias: whether the convolutions have biases.
    """

    def __init__(self, channels: int, factor: float, *, bias: bool = True) -> None:
        super().__init__()
        self.factor = factor
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y: Tensor = self.body(x)
        return x + y * self.factor

    def receptive_field(self, interval: Interval) -> Interval:
        """Return the receptive field of the convolutions, which includes the skip's pixel."""
        return receptive_field(self.body, interval)


class EDSR(Generator):
    """Enhanced deep super-resolution; its defaults are the paper's baseline model.

    Lim, Son, Kim, Nah, Lee 2017 ("Enhanced Deep Residual Networks for Single Image
    Super-Resolution", CVPRW), section 3 and figure 3: a convolution, residual blocks, a convolution
    and a skip around them, then convolution and pixel shuffle (x2, x3, x2 twice for 4), and a
    convolution. All 3 x 3, with bias. 1,369,859 parameters at scale 2, 1,554,499 at 3, 1,517,571
    at 4. The paper subtracts the mean colour of its training set and adds it at the end; here the
    bands are arbitrary, so the middle of the range is used: the input is 2 x - 1.

    The margin is 36 pixels at 16 blocks, with stride 1.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels.
        blocks: residual blocks.
        scale: output pixels per source pixel along one side: 1, 2, 3 or 4.
        factor: residual scaling of the blocks.
        bicubic: add the bicubic upsampling to the output, as in VDSR (Kim, Lee, Lee 2016, "Accurate
            Image Super-Resolution Using Very Deep Convolutional Networks", CVPR, section 3.1). An
            untrained network then returns the bicubic image.
    """

    examples = (
        {"width": 12, "blocks": 2},
        {"width": 4, "blocks": 1, "scale": 3, "factor": 0.5},
        {"width": 4, "blocks": 1, "scale": 4, "out_channels": 1},
        {"width": 4, "blocks": 0, "scale": 1},
        {"width": 4, "blocks": 1, "bicubic": True},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 16,
        scale: int = 2,
        factor: float = 1.0,
        bicubic: bool = False,
    ) -> None:
        if min(in_channels, out_channels, width) < 1 or blocks < 0:
            raise ValueError("channels and width must be at least 1, blocks at least 0")
        if scale not in (1, 2, 3, 4):
            raise ValueError(f"EDSR enlarges by 1, 2, 3 or 4, not {scale}")
        if bicubic and in_channels != out_channels:
            raise ValueError(
                f"with bicubic the bands come back: {in_channels} cannot become {out_channels}"
            )
        super().__init__()
        self.in_channels, self.out_channels, self.scale = in_channels, out_channels, scale
        self.resize = Resize(scale) if bicubic else None
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.body = nn.Sequential(
            *(PlainResidual(width, factor) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
        )
        steps = {1: (), 2: (2,), 3: (3,), 4: (2, 2)}[scale]
        layers: list[nn.Module] = []
        for step in steps:
            layers += [nn.Conv2d(width, width * step**2, 3, padding=1), nn.PixelShuffle(step)]
        self.enlarge = nn.Sequential(*layers)
        last = nn.Conv2d(width, out_channels, 3, padding=1)
        if bicubic and last.bias is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.head = Head([last], "none")
        self.margin = margin_of(self._receptive_field, 1, scale)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H * scale, W * scale] normalised."""
        first = self.first(2.0 * x - 1.0)
        out: Tensor = self.head(self.enlarge(first + self.body(first)))
        if self.resize is None:
            return out
        bicubic: Tensor = self.resize(x)
        return bicubic + (out - 0.5)  # the head returns 0.5 for zeros

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        inner = receptive_field(self.enlarge, receptive_field(self.head.layers, interval))
        field = receptive_field(self.first, receptive_field(self.body, inner))
        if self.resize is None:
            return field
        low, high = receptive_field(self.resize, interval)
        return min(low, field[0]), max(high, field[1])
