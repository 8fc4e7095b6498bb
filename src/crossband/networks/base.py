"""What every network says of itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.registry import Registered
from crossband.core.resample import resize_to
from crossband.errors import RecipeError
from crossband.networks.conditions import Conditions


class Generator(Registered, nn.Module, family="Generator", package="crossband.networks"):
    """Source -> target in normalised values: [B, Cs, H, W] -> [B, Ct, H * scale, W * scale].

    Subclasses are found by class name and rebuilt from their constructor's arguments. A subclass
    accepts any H, W >= 1: it pads on the bottom and the right to its stride and crops again, so
    that a window whose origin lies on the stride sees what the whole scene would have shown it.

    Attributes:
        in_channels: source bands.
        out_channels: target bands.
        margin: how far, in source pixels, an output pixel can see, at most over all phases; None
            where it sees everything.
        stride: total downsampling step; tile origins are multiples of it.
        scale: output pixels per source pixel along one side.
        noise: channels of noise that it takes for each source pixel.
        style: numbers of noise that it takes for each sample.
        located: it takes the place on Earth.

    A network with one of the last three overrides `forward_conditioned`; its `forward` then works
    as if the noise were 0 and the place unknown.
    """

    in_channels: int
    out_channels: int
    margin: int | None = 0
    stride: int = 1
    scale: int = 1
    noise: int = 0
    style: int = 0
    located: bool = False

    @property
    def conditioned(self) -> bool:
        """It takes more than its source."""
        return bool(self.noise or self.style or self.located)

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch of normalised sources."""
        raise NotImplementedError

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate with what it takes beside the source; most networks take nothing."""
        out: Tensor = self(x)
        return out

    def forward_cropped(self, x: Tensor, context: int, wanted: Tensor | None = None) -> Tensor:
        """Translate without the outer `context` source pixels, which are looked at only.

        Args:
            x: [B, Cs, H, W], H and W above 2 * context.
            context: pixels on each side.
            wanted: bool [B, 1, h, w] of the result's size: a network that works pixel by pixel may
                leave out the others, and answer 0 there.

        Returns:
            [B, Ct, (H - 2 * context) * scale, (W - 2 * context) * scale].
        """
        return crop_border(self(x), context * self.scale)


class Discriminator(Registered, nn.Module, family="Discriminator", package="crossband.networks"):
    """(source, target) -> scores: [B, Cs, H, W], [B, Ct, H, W] -> [B, 1, h, w], no sigmoid.

    A discriminator may consist of several judges, each with scores of its own (at several
    resolutions, say), and may show what its layers found, for feature matching. It then overrides
    `features`, which is what methods play with. What it looks at it takes from `stacked_input`.

    Attributes:
        conditional: it judges the target together with its source.
        smallest: side in pixels of the target that is needed for a score.
    """

    conditional: bool = True
    smallest: int = 1

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score a batch of pairs; higher means more like a true target."""
        raise NotImplementedError

    def features(self, source: Tensor, target: Tensor) -> list[list[Tensor]]:
        """Return for each judge what its layers gave, [B, C, h, w], the last of it the scores."""
        return [[self(source, target)]]

    def stacked_input(self, source: Tensor, target: Tensor) -> Tensor:
        """Return what is looked at: the target, after its source where it is conditional.

        Args:
            source: [B, Cs, h, w]; where a scale lies between the two, it is brought to the
                target's pixels.
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
        return torch.cat([resize_to(source, size), target], dim=1) if self.conditional else target


def pad_to_stride(x: Tensor, stride: int, least: int = 1) -> Tensor:
    """Repeat the last row and column until both sides are multiples of a stride.

    On the bottom and the right only: what lies in the picture keeps its phase.

    Args:
        x: [B, C, H, W], H and W at least 1.
        stride: of the network.
        least: smallest side that the network can work on; a multiple of the stride.
    """
    height, width = x.shape[-2:]
    right, bottom = max(-width % stride, least - width), max(-height % stride, least - height)
    return functional.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def crop_border(x: Tensor, edge: int) -> Tensor:
    """Cut `edge` pixels off each side."""
    return x[..., edge : x.shape[-2] - edge, edge : x.shape[-1] - edge] if edge else x


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable and frozen parameters."""
    return sum(p.numel() for p in network.parameters())
