"""ThermalGAN's networks. Kniaz et al. 2018, ThermalGAN: multimodal color-to-thermal translation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.core.registry import Registered
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions
from crossband.networks.generators.unet import UNet
from crossband.networks.layers.convolution import Interval, Norm, initialise, margin_of, norm_layers


class TwoStepThermal(Generator):
    """Colour image and style -> mean temperature of each region -> contrasts within regions.

    The input of the first U-Net is the colour image and the style, repeated over all pixels; its
    output is S, one temperature for each region. The input of the second U-Net is the colour image
    and S; its output is R, the difference of each pixel from its region. The target is S + R.
    Different styles give different plausible thermal images of one colour image.

    With batch norm (fixed after training) the margin is finite, that of two U-Nets.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels of the first level of each U-Net.
        levels: levels of the first U-Net; 8 reduce the paper's 512 pixels to 2.
        contrast_levels: levels of the second U-Net; the paper's U-Net-512 has 9.
        style: length of the style; BicycleGAN has 8.
        norm: `batch`, `instance`, `affine` (instance with weights) or `none`.
        dropout: probability of dropping a value in the second decoder.
    """

    examples = (
        {"width": 12, "levels": 2, "contrast_levels": 3},
        {"width": 4, "levels": 1, "contrast_levels": 2, "norm": "none"},
        {"width": 4, "contrast_levels": 1, "style": 2, "out_channels": 2},
        {"width": 4, "contrast_levels": 2, "norm": "instance"},
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        levels: int = 8,
        contrast_levels: int = 9,
        style: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
    ) -> None:
        if style < 1:
            raise ValueError("style must be at least 1")
        super().__init__()
        self.in_channels, self.out_channels, self.style = in_channels, out_channels, style
        # The first step varies by its style, so only the second one has dropout.
        self.first = UNet(in_channels + style, out_channels, width, levels, norm, 0.0)
        self.second = UNet(
            in_channels + out_channels, out_channels, width, contrast_levels, norm, dropout
        )
        self.stride = max(self.first.stride, self.second.stride)
        finite = self.first.margin is not None
        self.margin = margin_of(self._receptive_field, self.stride) if finite else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised, with the style 0."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate with the style of each sample, [B, style]."""
        z = conditions.style
        regions = self.regions(x, x.new_zeros((len(x), self.style)) if z is None else z)
        return regions + self.contrasts(x, regions)

    def regions(self, x: Tensor, z: Tensor) -> Tensor:
        """Return S for a style, [B, Ct, H, W]."""
        # UNet computes 2 x - 1 of its input, which gives z.
        laid = (0.5 + 0.5 * z).to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[-2:])
        out: Tensor = self.first(torch.cat([x, laid], dim=1))
        return out

    def contrasts(self, x: Tensor, regions: Tensor) -> Tensor:
        """Return R, -1..1, [B, Ct, H, W]."""
        out: Tensor = self.second(torch.cat([x, regions.to(x.dtype)], dim=1))
        return 2.0 * out - 1.0

    def several(self, x: Tensor, styles: Tensor) -> Tensor:
        """Translate each sample with every one of N styles, [N, style]: [B, N, Ct, H, W]."""
        outputs = [
            self.forward_conditioned(x, Conditions(style=z.expand(len(x), -1))) for z in styles
        ]
        return torch.stack(outputs, dim=1)

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on, via S or directly."""
        return self.first._receptive_field(self.second._receptive_field(interval))


class Encoder(Registered, nn.Module, family="Encoder", package="crossband.networks"):
    """Target -> mean and log variance of its style, [B, style] each.

    Attributes:
        style: length of the style.
    """

    style: int

    def forward(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """[B, Ct, H, W] normalised -> mean, log variance."""
        raise NotImplementedError


class StyleEncoder(Encoder):
    """Convolutions 4 x 4 of stride 2, global average pooling, two linear layers.

    A simple form of the encoder of BicycleGAN (Zhu et al. 2017, Toward multimodal image-to-image
    translation).

    Args:
        target_channels: target bands.
        style: length of the style, the same as the generator's.
        width: channels of the first layer; doubled at each layer, at most 8 x width.
        layers: number of convolutions.
    """

    examples = ({"width": 8, "layers": 2},)

    def __init__(
        self, target_channels: int = 1, *, style: int = 8, width: int = 64, layers: int = 5
    ) -> None:
        if min(target_channels, style, width, layers) < 1:
            raise ValueError("channels, style, width and layers must be at least 1")
        super().__init__()
        self.style = style
        parts: list[nn.Module] = []
        before = target_channels
        for n in range(layers):
            after = width * min(2**n, 8)
            parts += [
                nn.Conv2d(before, after, 4, 2, 1),
                # No norm before the average pooling: instance norm would make the mean 0.
                *norm_layers("instance" if 0 < n < layers - 1 else "none", after),
                nn.LeakyReLU(0.2, True),
            ]
            before = after
        self.layers = nn.Sequential(*parts)
        self.mean, self.log_variance = (nn.Linear(before, style) for _ in range(2))
        initialise(self)

    def forward(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """See `Encoder`."""
        seen = self.layers(2.0 * target - 1.0).mean(dim=(2, 3))
        return self.mean(seen), self.log_variance(seen)
