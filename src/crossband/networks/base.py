"""The base classes of generators and discriminators."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.registry import Registered
from crossband.core.resample import resize_to
from crossband.errors import RecipeError
from crossband.networks.conditions import Conditions
from crossband.networks.layout import laid_out_for
from crossband.networks.tracing import is_traced, largest

#: Largest integer among a network's arguments, which are numbers of channels, layers and pixels.
#: Loops over more would hardly end, or compute numbers with thousands of digits.
LARGEST = 2**14
#: Largest stride and scale of a generator: a tile is several strides wide, and the result of one is
#: `scale` times as wide.
LARGEST_STRIDE, LARGEST_SCALE = 2**12, 64


class Generator(Registered, nn.Module, family="Generator", package="crossband.networks"):
    """Source -> target in normalised values: [B, Cs, H, W] -> [B, Ct, H * scale, W * scale].

    Subclasses are found by class name and rebuilt from their constructor arguments. A subclass
    accepts any H, W >= 1: it pads at the bottom and the right to a multiple of its stride and crops
    the output. A window whose origin is a multiple of the stride then gives the same output as the
    whole scene.

    Attributes:
        in_channels: source bands.
        out_channels: target bands.
        margin: radius of the receptive field in source pixels, the largest over all phases; None
            where an output pixel depends on the whole image.
        stride: total downsampling factor; tile origins are multiples of it.
        scale: output pixels per source pixel along one side.
        noise: channels of noise that the network takes for each source pixel.
        style: length of the noise vector that it takes for each sample.
        located: whether it takes the location on Earth.
        guide: bands of a measurement that it takes beside its source.
        parallel_tiles: whether several tiles at once, each in one thread, are computed faster on a
            CPU than one tile in all threads. That is so for many small operations, and not for
            large convolutions, which would only take more memory.
        whole_pictures: whether where a pixel lies in the picture matters, so that a picture should
            not be cut.
        runtime: the program that computes it, on the CPU in fp32; None for torch.
        origin: class and number of parameters of the network that a graph was made of; None for a
            network of torch.

    A network that takes noise, style, a location or a guide overrides `forward_conditioned`; its
    `forward` then works as if the noise were 0, the place unknown and the guide invalid.
    """

    largest_number = LARGEST
    in_channels: int
    out_channels: int
    margin: int | None = 0
    stride: int = 1
    scale: int = 1
    noise: int = 0
    style: int = 0
    located: bool = False
    guide: int = 0
    parallel_tiles: bool = False
    whole_pictures: bool = False
    runtime: str | None = None
    origin: tuple[str, int] | None = None

    def fault(self, source: int, target: int, guide: int = 0) -> str | None:
        """Return why this cannot translate so many source to so many target bands, if it cannot."""
        if (self.in_channels, self.out_channels) != (source, target):
            return (
                f"takes {self.in_channels} bands and gives {self.out_channels}, the signature says "
                f"{source} and {target}"
            )
        if self.guide != guide:
            return f"takes a guide of {self.guide} bands, the signature says {guide}"
        for name, most in (("stride", LARGEST_STRIDE), ("scale", LARGEST_SCALE)):
            if not 1 <= getattr(self, name) <= most:
                return f"has a {name} of {getattr(self, name)}, and 1 to {most} are possible"
        return None

    @property
    def conditioned(self) -> bool:
        """Whether the network takes more than its source."""
        return bool(self.noise or self.style or self.located or self.guide)

    def forward(self, x: Tensor) -> Tensor:
        """Translate normalised sources [B, Cs, H, W] to targets [B, Ct, H * scale, W * scale]."""
        raise NotImplementedError

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate sources [B, Cs, H, W] with noise, style, location or guide, if taken."""
        out: Tensor = self(x)
        return out

    def forward_cropped(self, x: Tensor, context: int, wanted: Tensor | None = None) -> Tensor:
        """Translate without the outer `context` source pixels, which are input only.

        Args:
            x: [B, Cs, H, W], H and W above 2 * context.
            context: pixels on each side.
            wanted: bool [B, 1, h, w] of the result's size; a network that works pixel by pixel may
                skip all other pixels and return 0 there.

        Returns:
            [B, Ct, (H - 2 * context) * scale, (W - 2 * context) * scale].
        """
        return crop_border(self(x), context * self.scale)


class Discriminator(Registered, nn.Module, family="Discriminator", package="crossband.networks"):
    """(source, target) -> scores: [B, Cs, H, W], [B, Ct, H, W] -> [B, 1, h, w], no sigmoid.

    A discriminator may consist of several sub-discriminators, for instance at several resolutions,
    and may return the features of its layers for feature matching. It then overrides `features`,
    which the methods call. `stacked_input` returns its input.

    Attributes:
        conditional: whether it sees the target together with its source.
        smallest: smallest side of the target in pixels that gives a score.
    """

    largest_number = LARGEST
    conditional: bool = True
    smallest: int = 1

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score pairs [B, C, H, W], as [B, 1, h, w]; higher means more like a true target."""
        raise NotImplementedError

    def features(self, source: Tensor, target: Tensor) -> list[list[Tensor]]:
        """Return the features [B, C, h, w] of each sub-discriminator's layers, scores last."""
        return [[self(source, target)]]

    def stacked_input(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the input of the layers: the target, with the source before it if conditional.

        Args:
            source: [B, Cs, h, w]; resized to the target if the sizes differ.
            target: [B, Ct, H, W].

        Returns:
            [B, Cs + Ct, H, W], or the target.

        Raises:
            RecipeError: too few pixels for a score.
        """
        size = target.shape[-2:]
        if min(size) < self.smallest:
            raise RecipeError(
                f"the discriminator needs {self.smallest} x {self.smallest} pixels for a score, "
                f"not {size[0]} x {size[1]}: take a larger data.crop, or fewer layers, levels or "
                "scales"
            )
        if self.conditional:
            target = torch.cat([resize_to(source, size), target], dim=1)
        return laid_out_for(self, target)


def pad_to_stride(x: Tensor, stride: int, least: int = 1) -> Tensor:
    """Repeat the last row and column until both sides are multiples of a stride.

    Only the bottom and the right are padded, so that all pixels keep their phase.

    Args:
        x: [B, C, H, W], H and W at least 1.
        stride: stride of the network.
        least: smallest side that the network accepts; a multiple of the stride.
    """
    height, width = x.shape[-2:]
    right, bottom = (largest(-side % stride, least - side) for side in (width, height))
    padded = is_traced() or right or bottom
    return functional.pad(x, (0, right, 0, bottom), mode="replicate") if padded else x


def crop_border(x: Tensor, edge: int) -> Tensor:
    """Crop `edge` pixels from each side of [..., H, W]."""
    return x[..., edge : x.shape[-2] - edge, edge : x.shape[-1] - edge] if edge else x


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters, trainable and frozen."""
    return sum(p.numel() for p in network.parameters())
