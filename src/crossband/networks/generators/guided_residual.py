"""GuidedResidual: an unguided network, corrected by its own error at a guide."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from crossband.core.registry import build
from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.conditions import FACTS, Conditions
from crossband.networks.generators.guided import (
    LARGEST,
    LEVEL,
    _GuidedGenerator,
    check_numbers,
    logarithm,
)
from crossband.networks.generators.local_unet import LocalUNet

#: The largest share of the unguided network's error at the guide that is carried over.
MOST_TRUST = 1.5


class GuidedResidual(_GuidedGenerator):
    """The output of an unguided network, corrected by its own error at a guide.

    The unguided network translates the source, and also the source bands of the guide. The target
    bands of the guide, divided by the second translation, are the gain by which the network is
    wrong there. A `LocalUNet` finds the share of that gain that holds for the source (1 at first,
    less if the guide shows another state of the ground). It also finds a further gain (1 at first).
    The output is the first translation times both gains. So before training the network works like
    the method `residual`.

    The `LocalUNet` sees source, guide, both translations and the gain as logarithms. It also sees
    the mask of the guide, the size of its pixels and its age. Where the guide is invalid, the
    unguided network sees the source instead, and no gain is carried over.

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
        width: channels of the residual blocks.
        depth: residual blocks.
        hidden: channels of the per-pixel part.
        members: number of members, trained at the same time.
    """

    examples = (
        {"guide": 4, "width": 6, "depth": 1, "hidden": 4},
        {
            "guide": 5,
            "seen": [2, 1, 0],
            "carried": [4, 3],
            "out_channels": 2,
            "unguided": {"class": "PerPixelMLP", "arguments": {"width": 5, "out_channels": 2}},
            "width": 6,
            "depth": 1,
            "hidden": 4,
            "members": 2,
        },
    )

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        guide: int = 4,
        seen: list[int] | None = None,
        carried: list[int] | None = None,
        unguided: dict[str, Any] | None = None,
        width: int = 48,
        depth: int = 4,
        hidden: int = 32,
        members: int = 1,
    ) -> None:
        super().__init__()
        seen = list(range(in_channels)) if seen is None else seen
        carried = [in_channels + n for n in range(out_channels)] if carried is None else carried
        check_numbers("seen", seen, in_channels, guide, 0)
        check_numbers("carried", carried, out_channels, guide, 0)
        if unguided is None:
            sizes = {"in_channels": in_channels, "out_channels": out_channels}
            unguided = {"class": "PerPixelLinear", "arguments": sizes}
        if unguided.keys() != {"class", "arguments"}:
            raise RecipeError("GuidedResidual: unguided has a class and arguments")
        self.unguided = build(Generator, unguided["class"], unguided["arguments"])
        fault, reach = self.unguided.fault(in_channels, out_channels), self.unguided.margin
        if fault is None and (self.unguided.scale != 1 or reach is None):
            fault = "must be local and of scale 1"
        if fault is not None or reach is None:
            raise RecipeError(f"GuidedResidual: unguided: {unguided['class']} {fault}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.guide, self.seen, self.carried = guide, seen, carried
        channels = in_channels + guide + 2 * out_channels + FACTS
        options: dict[str, Any] = {"width": width, "depth": depth, "hidden": hidden}
        self.gains = LocalUNet(channels, 2 * out_channels, **options, members=members)
        self.margin = reach + (self.gains.margin or 0)
        self.stride = math.lcm(self.unguided.stride, self.gains.stride)
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
        facts = guide[:, self.guide :]
        valid = facts[:, :1] > 0
        shown = torch.where(valid, guide[:, self.seen], x)
        plain = dataclasses.replace(conditions, guide=None)
        first, there = (
            logarithm(self.unguided.forward_conditioned(image, plain).float())
            for image in (x, shown)
        )
        with torch.autocast(x.device.type, enabled=False):
            logs = logarithm(torch.cat([x, guide[:, : self.guide]], dim=1).float())
            measured = logs[:, [self.in_channels + number for number in self.carried]]
            lacking = torch.where(valid, (measured - there).clamp(-LARGEST, LARGEST), 0.0)
            known = torch.cat([logs, first, lacking, facts.float()], dim=1)
        # A local U-Net begins at the middle of its range.
        gain, trust = self.gains(known).float().chunk(2, dim=1)
        with torch.autocast(x.device.type, enabled=False):
            gain = (gain - 0.5).clamp(-LARGEST, LARGEST)
            trust = (trust + 0.5).clamp(0.0, MOST_TRUST)
            return torch.exp(first + trust * lacking + gain) - LEVEL
