"""PatchGAN: a discriminator that judges patches, not pictures."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from crossband.errors import RecipeError
from crossband.networks.base import Discriminator


class PatchGAN(Discriminator):
    """Convolutional discriminator of pix2pix; each score sees 70 x 70 pixels at `layers=3`.

    C64-C128-C256-C512 and a last convolution to one score, kernel 4, `layers` strides of 2, leaky
    ReLU 0.2, no norm after the first layer. Isola et al. 2017, appendix 6.1.2. Unlike the original
    the default norm is per picture (instance, without affine weights), so that a small batch does
    not matter and batches may be accumulated; convolutions before it keep their bias.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        width: channels of the first layer.
        layers: strided layers.
        conditional: judge the target together with its source.
        norm: `instance`, `batch` or `none`.
    """

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        width: int = 64,
        layers: int = 3,
        conditional: bool = True,
        norm: Literal["instance", "batch", "none"] = "instance",
    ) -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise RecipeError("PatchGAN needs layers and width of at least 1")
        self.conditional = conditional
        channels = target_channels + (source_channels if conditional else 0)
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        before = width
        for n in range(1, layers + 1):
            after, stride = width * min(2**n, 8), 2 if n < layers else 1
            parts.append(nn.Conv2d(before, after, 4, stride, 1, bias=norm != "batch"))
            if norm != "none":
                kind = nn.InstanceNorm2d if norm == "instance" else nn.BatchNorm2d
                parts.append(kind(after))
            parts.append(nn.LeakyReLU(0.2, True))
            before = after
        parts.append(nn.Conv2d(before, 1, 4, 1, 1))
        self.layers = nn.Sequential(*parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the original's initialisation
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, Ct, H, W] -> scores [B, 1, h, w]; source and target share a grid."""
        seen = torch.cat([source, target], dim=1) if self.conditional else target
        scores: Tensor = self.layers(seen)
        return scores
