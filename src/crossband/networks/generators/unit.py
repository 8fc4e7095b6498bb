"""UNIT's networks: generators with a shared latent space. Liu, Breuel and Kautz 2017.

Implemented from section 3 of the paper and the tables in its appendix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossband.errors import RecipeError
from crossband.networks.base import Discriminator, Generator, pad_to_stride
from crossband.networks.layers.convolution import (
    Activation,
    Head,
    Interval,
    Norm,
    ReflectionPad,
    initialise,
    margin_of,
    norm_layers,
    receptive_field,
    uses_image_statistics,
)


class _LatentGenerator(Generator):
    """source -> latent map -> target; two generators can share the layers next to the latent map.

    Attributes:
        encoder: source -> features.
        shared_encoder: features -> mean of the latent map, [B, C, h, w].
        shared_decoder: latent map -> features.
        decoder: features -> target, including the head.
        least: smallest side after padding.
    """

    encoder: nn.Module
    shared_encoder: nn.Module
    shared_decoder: nn.Module
    decoder: nn.Module
    least: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised, without latent noise."""
        height, width = x.shape[-2:]
        x = pad_to_stride(x, self.stride, self.least)
        return self.decode(self.encode(x))[..., :height, :width]

    def encode(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W], sides multiples of the stride -> mean of the latent map."""
        mean: Tensor = self.shared_encoder(self.encoder(2.0 * x - 1.0))
        return mean

    def decode(self, latent: Tensor) -> Tensor:
        """Latent map -> [B, Ct, H, W]."""
        out: Tensor = self.decoder(self.shared_decoder(latent))
        return out


def share_latent_layers(one: Generator, other: Generator) -> None:
    """Make two generators share the layers next to their latent maps; see `_LatentGenerator`.

    Raises:
        RecipeError: they have no such layers, or their architectures differ.
    """
    if not (isinstance(one, _LatentGenerator) and isinstance(other, _LatentGenerator)):
        names = type(one).__name__, type(other).__name__
        raise RecipeError(f"UNIT needs generators with a latent picture, not {' and '.join(names)}")
    for name in ("shared_encoder", "shared_decoder"):
        layer, replaced = getattr(one, name), getattr(other, name)
        if [p.shape for p in layer.parameters()] != [p.shape for p in replaced.parameters()]:
            raise RecipeError("method.back must be of the same form as method.generator")
        setattr(other, name, layer)


class _Residual(nn.Module):
    """x + norm(conv3x3(leaky ReLU(norm(conv3x3(x))))), with reflection padding."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3),
            *norm_layers(norm, channels),
            nn.LeakyReLU(0.01),
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3),
            *norm_layers(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y


class UNITResNet(_LatentGenerator):
    """The paper's generators: convolutions and residual blocks, with latent maps of a quarter size.

    Encoder: convolution 7 x 7 to `width` channels, two of 3 x 3 and stride 2 to 2 and 4 x width,
    `blocks` - 1 residual blocks, and a shared one. Decoder: a shared residual block, `blocks` - 1
    more, two transpose convolutions 3 x 3, and a convolution 1 x 1. Leaky ReLU. The paper does not
    specify the norm of its blocks; with instance norm, the default, every pixel depends on the
    whole image.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: channels at full resolution.
        blocks: residual blocks of each half, the shared one included; 4 in the paper.
        norm: `instance` or `affine`; `batch` or `none` for a finite margin.
        activation: `tanh` (moved to 0..1), `sigmoid`, or `none`, which allows values outside 0..1.
    """

    examples = ({"width": 8, "blocks": 2}, {"width": 4, "norm": "none"})

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 4,
        norm: Norm = "instance",
        activation: Activation = "tanh",
    ) -> None:
        if min(in_channels, out_channels, width, blocks) < 1:
            raise ValueError("channels, width and blocks must be at least 1")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride, self.least = 4, 8  # reflection padding needs at least two pixels
        first: list[nn.Module] = [ReflectionPad(3), nn.Conv2d(in_channels, width, 7)]
        last: list[nn.Module] = []
        for n in (width, 2 * width):
            first += [nn.LeakyReLU(0.01), nn.Conv2d(n, 2 * n, 3, 2, 1)]
        for n in (4 * width, 2 * width):
            last += [nn.ConvTranspose2d(n, n // 2, 3, 2, 1, output_padding=1), nn.LeakyReLU(0.01)]
        between = [[_Residual(4 * width, norm) for _ in range(blocks - 1)] for _ in range(2)]
        self.encoder = nn.Sequential(*first, nn.LeakyReLU(0.01), *between[0])
        self.shared_encoder, self.shared_decoder = (_Residual(4 * width, norm) for _ in range(2))
        head = Head([nn.Conv2d(width, out_channels, 1)], activation)
        self.decoder = nn.Sequential(*between[1], *last, head)
        initialise(self)
        self.margin = (
            None if uses_image_statistics(norm) else margin_of(self._receptive_field, self.stride)
        )

    def _receptive_field(self, interval: Interval) -> Interval:
        """Return the source pixels that output pixels depend on."""
        shared = nn.Sequential(self.shared_encoder, self.shared_decoder)
        for part in (self.decoder, shared, self.encoder):
            for layer in reversed([*part.children()]):
                inner = layer.body if isinstance(layer, _Residual) else layer
                interval = receptive_field(
                    inner.layers if isinstance(inner, Head) else inner, interval
                )
        return interval


class _TransformerBlocks(nn.Module):
    """Transformer blocks over the pixels of a map, with sinusoidal position encoding.

    Vaswani et al. 2017; pre-norm blocks, as in ViT (Dosovitskiy et al. 2021).
    """

    def __init__(self, width: int, heads: int, blocks: int, *, places: bool, final: bool) -> None:
        super().__init__()
        self.places = places
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width) if final else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        if self.places:
            tokens = tokens + position_encoding(size[0], size[1], x.shape[1]).to(x)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens).transpose(1, 2).reshape(x.shape)
        return out


def position_encoding(height: int, width: int, channels: int) -> Tensor:
    """Return the sinusoidal position encoding of all pixels, [height * width, channels].

    Vaswani et al. 2017, section 3.5, with half of the channels for each axis.
    """
    quarter = -(-channels // 4)
    rates = 10_000.0 ** (-torch.arange(quarter) / quarter)
    axes = [torch.arange(n)[:, None] * rates for n in (height, width)]
    rows, cols = (torch.cat([a.sin(), a.cos()], dim=1) for a in axes)
    both = [rows[:, None].expand(-1, width, -1), cols[None].expand(height, -1, -1)]
    return torch.cat(both, dim=2).flatten(0, 1)[:, :channels]


class UNITViT(_LatentGenerator):
    """UNIT with vision transformers: patches of 16 pixels are tokens, in the latent map too.

    The encoder is a patch embedding, `blocks` transformer blocks and a shared one; the decoder a
    shared block, `blocks` more, a norm and a linear layer to the pixels of a patch. Each token
    attends to all others, so the margin is None and the memory grows with the square of the number
    of tokens.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        patch: side of a patch in pixels.
        width: channels of a token.
        heads: attention heads.
        blocks: blocks of each half, without the shared one.
        activation: `none`, `tanh` or `sigmoid`.
    """

    examples = ({"patch": 4, "width": 8, "heads": 2, "blocks": 1}, {"out_channels": 2})

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        patch: int = 16,
        width: int = 768,
        heads: int = 12,
        blocks: int = 6,
        activation: Activation = "none",
    ) -> None:
        if min(in_channels, out_channels, patch, width, heads) < 1 or blocks < 0 or width % heads:
            raise ValueError("width must be a multiple of heads, and blocks at least 0")
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.stride = self.least = patch
        self.margin = None
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, patch, patch),
            _TransformerBlocks(width, heads, blocks, places=True, final=False),
        )
        self.shared_encoder = _TransformerBlocks(width, heads, 1, places=False, final=False)
        self.shared_decoder = _TransformerBlocks(width, heads, 1, places=False, final=False)
        head = Head(
            [nn.Conv2d(width, out_channels * patch**2, 1), nn.PixelShuffle(patch)], activation
        )
        self.decoder = nn.Sequential(
            _TransformerBlocks(width, heads, blocks, places=False, final=True), head
        )


class UNITCritic(Discriminator):
    """The paper's discriminator: convolutions 3 x 3 of stride 2, then one 2 x 2; no norm.

    Channels: width, doubled at each layer (64 to 1024 at 5 layers); leaky ReLU. It is
    unconditional, and needs images of at least 2^layers + 1 pixels a side.

    Args:
        source_channels: source bands; not used.
        target_channels: target bands.
        width: channels of the first layer.
        layers: layers of stride 2.
    """

    examples = ({"width": 6, "layers": 2}, {"layers": 5})

    conditional = False

    def __init__(
        self,
        source_channels: int = 3,
        target_channels: int = 1,
        *,
        width: int = 64,
        layers: int = 5,
    ) -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise RecipeError("UNITCritic needs layers and width of at least 1")
        self.smallest = 2**layers + 1
        parts: list[nn.Module] = []
        before = target_channels
        for n in range(layers):
            parts += [nn.Conv2d(before, width * 2**n, 3, 2, 1), nn.LeakyReLU(0.01, True)]
            before = width * 2**n
        self.layers = nn.Sequential(*parts, nn.Conv2d(before, 1, 2))
        initialise(self)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """[B, Cs, H, W], [B, Ct, H, W] -> scores [B, 1, h, w]."""
        scores: Tensor = self.layers(self.stacked_input(source, target))
        return scores
