"""DiscoUNet: the U-Net of eriklindernoren/PyTorch-GAN, used for DiscoGAN and DualGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.networks.base import Generator, pad_to_stride
from crossband.networks.layers.convolution import Activation, Head, initialise, norm_layers

#: Decoder blocks with dropout, from the bottom.
DROPOUT_BLOCKS = 3


class DiscoUNet(Generator):
    """Like `UNet`, with instance norm, biases in all layers, and nearest upsampling at the end.

    The last upsampling repeats pixels and is followed by a convolution 4 x 4, where pix2pix has a
    transpose convolution. Channels: width, doubled at each level, at most 8 x width. No norm after
    the first and the last convolution of the encoder. Inside, values are -1..1; the output is 0..1.

    With instance norm every pixel depends on the whole image, so the margin is None.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the first level.
        levels: downsampling blocks, at least 2; 8 reduce 256 pixels to one.
        dropout: probability of dropping a value in the first three decoder blocks, in training
            only; it is the noise of DualGAN (Yi et al. 2017, section 3.2).
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
    """

    examples = ({"width": 8, "levels": 3}, {"dropout": 0.5})

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        levels: int = 8,
        dropout: float = 0.0,
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, width) < 1 or levels < 2:
            raise ValueError("channels and width must be at least 1, levels at least 2")
        if not 0.0 <= dropout < 1.0:
            raise ValueError("dropout must be in 0..1, below 1")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.margin = 2**levels, None
        channels = [in_channels, *(width * min(2**n, 8) for n in range(levels))]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            normed = 0 < level < levels - 1
            self.encoder.append(
                nn.Sequential(
                    nn.Conv2d(channels[level], channels[level + 1], 4, 2, 1),
                    *norm_layers("instance" if normed else "none", channels[level + 1]),
                    nn.LeakyReLU(0.2),
                )
            )
        for level in reversed(range(1, levels)):  # from the bottom
            before = channels[level + 1] * (1 if level == levels - 1 else 2)  # with its skip
            drops = dropout > 0 and levels - 1 - level < DROPOUT_BLOCKS
            self.decoder.append(
                nn.Sequential(
                    nn.ConvTranspose2d(before, channels[level], 4, 2, 1),
                    *norm_layers("instance", channels[level]),
                    nn.ReLU(inplace=True),
                    *([nn.Dropout(dropout)] if drops else []),
                )
            )
        last = nn.Conv2d(2 * channels[1], out_channels, 4)
        self.head = Head(
            [nn.Upsample(scale_factor=2), nn.ZeroPad2d((2, 1, 2, 1)), last], activation
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised; any H, W >= 1."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride)
        x = 2.0 * x - 1.0
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.decoder:
            x = torch.cat([skips.pop(), block(x)], dim=1)
        out: Tensor = self.head(x)
        return out[..., :height, :width]
