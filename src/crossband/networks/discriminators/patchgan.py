"""Patch discriminators: PatchGAN, PixelGAN, and PatchGAN at several resolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.errors import RecipeError
from crossband.networks.base import Discriminator
from crossband.networks.layers.convolution import Norm, has_affine_weights, initialise, norm_layers


class PatchGAN(Discriminator):
    """Convolutional discriminator of pix2pix; each score sees 70 x 70 pixels at `layers=3`.

    C64-C128-C256-C512 and a last convolution to one score, kernel 4, `layers` strides of 2, leaky
    ReLU 0.2, no norm after the first layer. Isola et al. 2017, appendix 6.1.2. Unlike in the
    original, the default is instance norm without weights, so that the result does not depend on
    the batch size and batches can be accumulated.

    With width 32, layers 4, largest 16 and without bias it is the critic of `rgb2nir/wgan-gp`.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        width: channels of the first layer.
        layers: strided layers; 1 to 6 see 16, 34, 70, 142, 286, 574 pixels.
        conditional: whether it sees the target together with its source.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
        largest: most channels of a layer, as a multiple of width.
        bias: whether convolutions before a norm have a bias; if None, as in pix2pix, all but
            those before a norm with weights.
    """

    examples = ({"width": 6, "layers": 2}, {"layers": 3})

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        width: int = 64,
        layers: int = 3,
        conditional: bool = True,
        norm: Norm = "instance",
        largest: int = 8,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        if layers < 1 or width < 1 or largest < 1:
            raise RecipeError("PatchGAN needs layers, width and largest of at least 1")
        self.conditional = conditional
        self.smallest = 3 * 2**layers
        before_norm = not has_affine_weights(norm) if bias is None else bias or norm == "none"
        channels = target_channels + (source_channels if conditional else 0)
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        before = width
        for n in range(1, layers + 1):
            after, stride = width * min(2**n, largest), 2 if n < layers else 1
            parts.append(nn.Conv2d(before, after, 4, stride, 1, bias=before_norm))
            parts += [*norm_layers(norm, after), nn.LeakyReLU(0.2, True)]
            before = after
        parts.append(nn.Conv2d(before, 1, 4, 1, 1))
        self.layers = nn.Sequential(*parts)
        initialise(self)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, Ct, H, W] -> scores [B, 1, h, w]; see `stacked_input`."""
        return self.features(source, target)[0][-1]

    def features(self, source: Tensor, target: Tensor) -> list[list[Tensor]]:
        """Return the features after each leaky ReLU, and the scores."""
        return self.features_of(self.stacked_input(source, target))

    def features_of(self, x: Tensor) -> list[list[Tensor]]:
        """Return the features of a stacked input; see `features`."""
        features = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return [[*features, x]]


class PixelGAN(Discriminator):
    """Scores each pixel on its own: 1 x 1 convolutions 64, 128 and a score.

    Isola et al. 2017, section 3.2.2 and appendix 6.1.2: it only sees colours, no structure.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        width: channels of the first layer.
        conditional: whether it sees the target together with its source.
        norm: `batch`, `instance`, `affine` (instance with weights) or `none`, after the second
            convolution.
    """

    examples = ({"width": 6},)

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        width: int = 64,
        conditional: bool = True,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if width < 1:
            raise RecipeError("PixelGAN needs a width of at least 1")
        self.conditional = conditional
        channels = target_channels + (source_channels if conditional else 0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 1, bias=not has_affine_weights(norm)),
            *norm_layers(norm, 2 * width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 1, 1, bias=not has_affine_weights(norm)),
        )
        initialise(self)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, Ct, H, W] -> scores [B, 1, H, W]; see `stacked_input`."""
        scores: Tensor = self.layers(self.stacked_input(source, target))
        return scores


class MultiScalePatchGAN(Discriminator):
    """PatchGANs with separate weights at several resolutions.

    Wang et al. 2018 (pix2pixHD), section 3.2: from scale to scale the images are downsampled by
    average pooling over 3 x 3 pixels with stride 2. The coarsest scale has the largest receptive
    field.

    Args:
        source_channels: source bands.
        target_channels: target bands.
        scales: number of resolutions.
        width: channels of the first layer; see `PatchGAN`.
        layers: strided layers.
        conditional: whether it sees the target together with its source.
        norm: `instance`, `affine` (instance with weights), `batch` or `none`.
    """

    examples = ({"width": 24, "layers": 1, "scales": 2}, {"width": 6, "layers": 3, "scales": 3})

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        scales: int = 3,
        width: int = 64,
        layers: int = 3,
        conditional: bool = True,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        if scales < 1:
            raise RecipeError("MultiScalePatchGAN needs at least 1 scale")
        self.conditional = conditional
        # Each scale has half the pixels of the one before, rounded up.
        self.smallest = (3 * 2**layers - 1) * 2 ** (scales - 1) + 1
        self.coarsen = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.judges = nn.ModuleList(
            PatchGAN(
                source_channels,
                target_channels,
                width=width,
                layers=layers,
                conditional=conditional,
                norm=norm,
            )
            for _ in range(scales)
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the mean score over the scales at the finest resolution, [B, 1, h, w].

        For inspection only: losses use the scores of each scale, from `features`.
        """
        scores = [judge[-1] for judge in self.features(source, target)]
        size = scores[0].shape[-2:]
        return torch.stack([nn.functional.interpolate(s, size) for s in scores]).mean(dim=0)

    def features(self, source: Tensor, target: Tensor) -> list[list[Tensor]]:
        """Return the features and scores of each scale, from the finest to the coarsest."""
        x, features = self.stacked_input(source, target), []
        for number, judge in enumerate(self.judges):
            assert isinstance(judge, PatchGAN)
            if number:
                x = self.coarsen(x)
            features += judge.features_of(x)
        return features
