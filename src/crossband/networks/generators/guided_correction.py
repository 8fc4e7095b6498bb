"""The base of networks that correct an unguided network by its own error at a guide."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from crossband.core.registry import build
from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions
from crossband.networks.generators.guided import (
    LARGEST,
    LEVEL,
    _GuidedGenerator,
    check_numbers,
    logarithm,
)

#: The largest share of the unguided network's error at the guide that is carried over.
MOST_TRUST = 1.5


@dataclass(frozen=True)
class Logs:
    """What is known of source and guide, as logarithms of normalised values.

    Attributes:
        now: [B, Cs, H, W], the source.
        then: [B, guide, H, W], the guide.
        first: [B, Ct, H, W], the unguided translation of the source.
        there: [B, Ct, H, W], that of the guide.
        lacking: [B, Ct, H, W], how far measured is from `there`; 0 where the guide is invalid.
        facts: [B, FACTS, H, W], see `Conditions.guide`; the first says where the guide is valid.
    """

    now: Tensor
    then: Tensor
    first: Tensor
    there: Tensor
    lacking: Tensor
    facts: Tensor


class _CorrectedGenerator(_GuidedGenerator):
    """An unguided network, whose error at a guide a second network carries over.

    The unguided network translates the source, and also the source bands of the guide. The target
    bands of the guide, divided by the second translation, are the gain by which the network is
    wrong there. A subclass defines `carry_over`: which share of that gain holds for the source, and
    a further gain. Where the guide is invalid, the unguided network sees the source instead, and no
    gain is carried over.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        guide: bands of the guide.
        seen: for each source band, the number of the guide's band that the unguided network sees
            in its place, from 0.
        carried: for each target band, the number of the guide's band that measured it.
        unguided: `class` and `arguments` of the unguided network. The key `unguided` of a recipe
            takes it from a model, with its weights, which are not trained further. By default it is
            a `PerPixelLinear` that is trained, too.

    Attributes:
        reach: margin of the unguided network.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        guide: int,
        seen: list[int] | None,
        carried: list[int] | None,
        unguided: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        seen = list(range(in_channels)) if seen is None else seen
        carried = [in_channels + n for n in range(out_channels)] if carried is None else carried
        check_numbers("seen", seen, in_channels, guide, 0)
        check_numbers("carried", carried, out_channels, guide, 0)
        if unguided is None:
            sizes = {"in_channels": in_channels, "out_channels": out_channels}
            unguided = {"class": "PerPixelLinear", "arguments": sizes}
        if unguided.keys() != {"class", "arguments"}:
            raise RecipeError(f"{name}: unguided has a class and arguments")
        self.unguided = build(Generator, unguided["class"], unguided["arguments"])
        fault, reach = self.unguided.fault(in_channels, out_channels), self.unguided.margin
        if fault is None and (self.unguided.scale != 1 or reach is None):
            fault = "must be local and of scale 1"
        if fault is not None or reach is None:
            raise RecipeError(f"{name}: unguided: {unguided['class']} {fault}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.guide, self.seen, self.carried = guide, seen, carried
        self.reach, self.stride = reach, self.unguided.stride
        self.located = self.unguided.located
        self.parallel_tiles = self.unguided.parallel_tiles

    def set_unguided(self, network: nn.Module) -> None:
        """Take the weights of the unguided network, which are not trained from then on."""
        self.unguided.load_state_dict(network.state_dict())
        self.unguided.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; an unguided network that is not trained stays as it is for inference."""
        super().train(mode)
        if not any(p.requires_grad for p in self.unguided.parameters()):
            self.unguided.eval()
        return self

    def forward_guided(self, x: Tensor, guide: Tensor, conditions: Conditions) -> Tensor:
        """Correct the unguided network; see `_GuidedGenerator`."""
        facts = guide[:, self.guide :].float()
        valid = facts[:, :1] > 0
        shown = torch.where(valid, guide[:, self.seen], x)
        plain = dataclasses.replace(conditions, guide=None)
        first, there = (
            logarithm(self.unguided.forward_conditioned(image, plain).float())
            for image in (x, shown)
        )
        with torch.autocast(x.device.type, enabled=False):
            now, then = (logarithm(i.float()) for i in (x, guide[:, : self.guide]))
            measured = then[:, self.carried]
            lacking = torch.where(valid, (measured - there).clamp(-LARGEST, LARGEST), 0.0)
        trust, gain = self.carry_over(Logs(now, then, first, there, lacking, facts))
        with torch.autocast(x.device.type, enabled=False):
            gain = gain.float().clamp(-LARGEST, LARGEST)
            trust = trust.float().clamp(0.0, MOST_TRUST)
            return torch.exp(first + trust * lacking + gain) - LEVEL

    def carry_over(self, of: Logs) -> tuple[Tensor, Tensor]:
        """Return the share of the gain that is carried over, and a further one as a logarithm.

        Args:
            of: what is known.

        Returns:
            [B, Ct, H, W] each: 1 and 0 before training.
        """
        raise NotImplementedError
