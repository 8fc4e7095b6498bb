"""GuidedUNet: a local U-Net that multiplies a measurement by gains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossband.networks.conditions import FACTS, Conditions
from crossband.networks.generators.guided import (
    LARGEST,
    LEVEL,
    _GuidedGenerator,
    check_numbers,
    logarithm,
)
from crossband.networks.generators.local_unet import LocalUNet

#: Normalised value from which a target without a guide is counted.
USUAL = 0.4


class GuidedUNet(_GuidedGenerator):
    """A `LocalUNet` on source and guide, whose output is a gain of the guide.

    A band of the target is the same band of the enlarged guide, multiplied by a gain. The network
    computes the gain from the detail of the source. This is the high-pass modulation of
    pansharpening (Vivone et al. 2015) with a trained gain. Where the guide is invalid, or lacks the
    band, a constant is multiplied instead.

    The network sees source and guide as values and as logarithms, in which a gain is a difference.
    It also sees the mask of the guide, the size of its pixels and its age.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        guide: bands of the guide.
        carried: for each target band, the number of the guide's band that is multiplied, from 0;
            -1 if the guide lacks it. By default the guide lacks all.
        width: channels of the residual blocks.
        depth: residual blocks.
        hidden: channels of the per-pixel part.
        members: number of members, trained at the same time.
    """

    examples = (
        {"guide": 2, "width": 6, "depth": 1, "hidden": 4},
        {
            "guide": 1,
            "carried": [-1, 0],
            "out_channels": 2,
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
        carried: list[int] | None = None,
        width: int = 48,
        depth: int = 4,
        hidden: int = 32,
        members: int = 1,
    ) -> None:
        super().__init__()
        carried = [-1] * out_channels if carried is None else carried
        check_numbers("carried", carried, out_channels, guide, -1)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.guide, self.carried = guide, carried
        seen = 2 * (in_channels + guide) + FACTS
        options: dict[str, Any] = {"width": width, "depth": depth, "hidden": hidden}
        self.gains = LocalUNet(seen, out_channels, **options, members=members)
        self.margin, self.stride = self.gains.margin, self.gains.stride

    def forward_guided(self, x: Tensor, guide: Tensor, conditions: Conditions) -> Tensor:
        """Multiply the enlarged guide by the gains; see `_GuidedGenerator`."""
        with torch.autocast(x.device.type, enabled=False):
            values = torch.cat([x, guide[:, : self.guide]], dim=1).float()
            logs = logarithm(values)
            seen = torch.cat([values, logs, guide[:, self.guide :].float()], dim=1)
        # A local U-Net begins at the middle of its range.
        gains = (self.gains(seen) - 0.5).clamp(-LARGEST, LARGEST)
        with torch.autocast(x.device.type, enabled=False):
            return torch.exp(self._base(logs, guide) + gains.float()) - LEVEL

    def _base(self, logs: Tensor, guide: Tensor) -> Tensor:
        """Return the logarithms that the gains are added to, [B, Ct, H, W]."""
        valid = guide[:, self.guide : self.guide + 1] > 0
        usual = logarithm(logs.new_tensor(USUAL))
        bases = [
            usual.expand_as(valid)
            if number < 0
            else torch.where(valid, logs[:, self.in_channels + number, None], usual)
            for number in self.carried
        ]
        return torch.cat(bases, dim=1)
