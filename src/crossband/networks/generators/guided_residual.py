"""GuidedResidual: an unguided network, corrected by its own error at a guide."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from crossband.networks.conditions import FACTS
from crossband.networks.generators.guided_correction import Logs, _CorrectedGenerator
from crossband.networks.generators.local_unet import LocalUNet


class GuidedResidual(_CorrectedGenerator):
    """The output of an unguided network, corrected by its own error at a guide.

    A `LocalUNet` finds which share of the unguided network's gain at the guide holds for the source
    (1 at first, less if the guide shows another state of the ground), and a further gain (1 at
    first). The output is the unguided translation times both gains. So before training the network
    works like the method `residual`. See `_CorrectedGenerator`.

    The `LocalUNet` sees source, guide, the unguided translation and the gain as logarithms. It also
    sees the mask of the guide, the size of its pixels and its age.

    Args:
        in_channels: see `_CorrectedGenerator`.
        out_channels: likewise.
        guide: likewise.
        seen: likewise.
        carried: likewise.
        unguided: likewise.
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
        super().__init__(in_channels, out_channels, guide, seen, carried, unguided)
        channels = in_channels + guide + 2 * out_channels + FACTS
        options: dict[str, Any] = {"width": width, "depth": depth, "hidden": hidden}
        self.gains = LocalUNet(channels, 2 * out_channels, **options, members=members)
        self.margin = self.reach + (self.gains.margin or 0)
        self.stride = math.lcm(self.stride, self.gains.stride)

    def carry_over(self, of: Logs) -> tuple[Tensor, Tensor]:
        """Return share and further gain; see `_CorrectedGenerator.carry_over`."""
        known = torch.cat([of.now, of.then, of.first, of.lacking, of.facts], dim=1)
        # A local U-Net begins at the middle of its range.
        gain, trust = self.gains(known).float().chunk(2, dim=1)
        return trust + 0.5, gain - 0.5
