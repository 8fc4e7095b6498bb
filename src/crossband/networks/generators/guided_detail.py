"""GuidedDetail: an unguided network, corrected pixel by pixel by what a guide shows around it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.conditions import FACTS
from crossband.networks.generators.guided_correction import Logs, _CorrectedGenerator

#: Standard deviations in pixels of the Gaussians whose surroundings a pixel is compared with: its
#: fine detail, the contrast of the source, and that of the guide.
DETAIL, CONTRAST, LEVELS = 1.5, 4.0, 8.0
#: A Gaussian ends at so many standard deviations.
TRUNCATED = 3.0
#: By which logarithms, differences of them and spreads are multiplied, for about unit spread.
LOGS, DIFFERENCES = 1.5, 6.0


class GuidedDetail(_CorrectedGenerator):
    """The output of an unguided network, corrected by a perceptron of each pixel at a guide.

    A guide has no detail below its own pixels. Which detail the target has there depends on what
    the pixels are, and the level of the guide tells that better than the colours alone. So a
    perceptron sees source, guide and both unguided translations as logarithms, and how each
    differs from its surroundings: source from guide, source from its own Gaussian mean, and the
    spreads of source and guide around the pixel. It finds which share of the unguided network's
    gain at the guide holds for the source (1 at first), and a further gain (1 at first, and where
    the guide is invalid).

    Args:
        in_channels: see `_CorrectedGenerator`.
        out_channels: likewise.
        guide: likewise.
        seen: likewise.
        carried: likewise.
        unguided: likewise.
        hidden: units of both hidden layers of the perceptron.
    """

    examples = (
        {"guide": 4, "hidden": 5},
        {
            "guide": 5,
            "seen": [2, 1, 0],
            "carried": [4, 3],
            "out_channels": 2,
            "unguided": {"class": "PerPixelMLP", "arguments": {"width": 5, "out_channels": 2}},
            "hidden": 4,
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
        hidden: int = 96,
    ) -> None:
        super().__init__(in_channels, out_channels, guide, seen, carried, unguided)
        features = 5 * in_channels + guide + 5 * out_channels + FACTS
        self.gains = nn.Sequential(
            nn.Conv2d(features, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, 2 * out_channels, 1),
        )
        last = self.gains[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.margin = self.reach + math.ceil(TRUNCATED * LEVELS)

    def carry_over(self, of: Logs) -> tuple[Tensor, Tensor]:
        """Return share and further gain; see `_CorrectedGenerator.carry_over`."""
        valid = of.facts[:, :1]
        with torch.autocast(of.now.device.type, enabled=False):
            features = self._features(of)
        trust, gain = self.gains(features).float().chunk(2, dim=1)
        return trust + 1.0, gain * valid

    def _features(self, of: Logs) -> Tensor:
        valid = of.facts[:, :1] > 0
        # Beyond the guide its bands are those of the source, so that its border is no edge.
        then = torch.zeros_like(of.then)
        then[:, self.seen], then[:, self.carried] = of.now, of.first
        then = torch.where(valid, of.then, then)
        apart, measured = of.now - then[:, self.seen], then[:, self.carried]
        logs = [of.now, then, of.first, of.there]
        differences = [
            of.lacking,
            apart,
            of.now - gaussian_mean(of.now, DETAIL),
            of.first - gaussian_mean(of.first, DETAIL),
            spread(of.now, CONTRAST),
            spread(measured, LEVELS),
            spread(apart, CONTRAST),
        ]
        scaled = [LOGS * (part + 1.0) for part in logs] + [DIFFERENCES * d for d in differences]
        return torch.cat([*scaled, of.facts], dim=1)


def gaussian_mean(x: Tensor, width: float) -> Tensor:
    """Return the Gaussian mean around each pixel of [B, C, H, W]; borders are repeated."""
    reach = math.ceil(TRUNCATED * width)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / width) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = functional.conv2d(x, kernel[:, :, None], groups=x.shape[1])
    return functional.conv2d(x, kernel[..., None], groups=x.shape[1])


def spread(x: Tensor, width: float) -> Tensor:
    """Return the standard deviation of [B, C, H, W] in a Gaussian window around each pixel."""
    variance = gaussian_mean(x**2, width) - gaussian_mean(x, width) ** 2
    return variance.clamp_min(1e-6).sqrt()
