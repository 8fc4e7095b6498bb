"""GuidedDetail: an unguided network, corrected pixel by pixel by what a guide shows around it."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.cells import CELL, interpolate_cells, strips_of
from crossband.networks.conditions import FACTS
from crossband.networks.generators.guided import logarithm
from crossband.networks.generators.guided_correction import Logs, _CorrectedGenerator
from crossband.networks.layers.by_rows import by_rows

#: Standard deviations, in cells, of the Gaussians in which spreads and regressions are computed. A
#: pixel is compared with their means and with that of the cell itself.
WINDOWS = (1.5, 3.0)
MEANS = (0.0, *WINDOWS)
#: A Gaussian ends at so many standard deviations.
TRUNCATED = 3.0
#: By which logarithms, differences of them and spreads are multiplied, for about unit spread.
LOGS, DIFFERENCES = 1.5, 6.0
#: Variance of logarithms that is added to those of a regression, and the largest change it states.
RIDGE, LARGEST_CHANGE = 2e-4, 2.0
#: Smallest share of valid pixels that is used as a divisor.
FEWEST = 1e-3


class GuidedDetail(_CorrectedGenerator):
    """The output of an unguided network, corrected by a perceptron of each pixel at a guide.

    A guide has no detail below its own pixels. Which detail the target has there depends on what
    the pixels are, and the level of the guide tells that better than the colours alone. So a
    perceptron sees source, guide and both unguided translations as logarithms, and how each
    differs from its surroundings: source from guide, source from its own Gaussian means, and the
    spreads of source and guide around the pixel. It also sees how the measured bands depend on the
    colours around the pixel, by linear regressions within the guide, as in the fast guided filter
    (He and Sun, 2015): the change that they state for the colours of the source, and the share of
    the variance that they explain. It finds which share of the unguided network's gain at the guide
    holds for the source (1 at first), and a further gain (1 at first, and where the guide is
    invalid).

    What is around a pixel is computed on cells of 4 x 4 pixels and interpolated to the pixels.
    Pixels that are 0 in all source bands (normalised: masked or padded ones) do not count.

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
        bands = in_channels + out_channels
        own = 2 * in_channels + guide + 3 * out_channels + FACTS
        around = bands * len(MEANS) + (2 * in_channels + 3 * out_channels) * len(WINDOWS)
        self.gains = nn.Sequential(
            nn.Linear(own + around, hidden),
            nn.Hardswish(),
            nn.Linear(hidden, hidden),
            nn.Hardswish(),
        )
        self.last = nn.Linear(hidden, 2 * out_channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        # A pixel is interpolated from cells whose centre is less than a cell away.
        farthest = CELL + CELL // 2 - 1 + CELL * max(reach_of(width) for width in WINDOWS)
        self.margin = self.reach + farthest
        self.stride = math.lcm(self.stride, CELL)

    def carry_over(self, of: Logs) -> tuple[Tensor, Tensor]:
        """Return share and further gain; see `_CorrectedGenerator.carry_over`."""
        height, width = of.now.shape[-2:]
        with torch.autocast(of.now.device.type, enabled=False):
            then = self._then(of)
            cells = self._cells(of, then).permute(0, 2, 3, 1).contiguous()
        found = []
        for rows in strips_of(slice(0, height), width):
            some = Logs(*(part[..., rows, :] for part in vars(of).values()))
            with torch.autocast(of.now.device.type, enabled=False):
                around = interpolate_cells(cells, rows, slice(0, width))
                features = self._features(some, then[..., rows, :], around)
            found.append(by_rows(self._perceptron, features))
        trust, gain = torch.cat(found, dim=1).permute(0, 3, 1, 2).chunk(2, dim=1)
        return trust + 1.0, gain * of.facts[:, :1]

    def _perceptron(self, features: Tensor) -> Tensor:
        """[N, F] -> [N, 2 Ct]."""
        hidden = self.gains(features)
        # In fp32: bfloat16 outputs have steps of 1/256 of their value, visible in flat areas.
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, self.last(hidden.float()))

    def _then(self, of: Logs) -> Tensor:
        """Return the guide; beyond it its bands are the source's, so that its border is no edge."""
        then = torch.zeros_like(of.then)
        then[:, self.seen], then[:, self.carried] = of.now, of.first
        return torch.where(of.facts[:, :1] > 0, of.then, then)

    def _cells(self, of: Logs, then: Tensor) -> Tensor:
        """Return what is around the pixels, on cells: [B, F, h, w].

        For each of MEANS the means of source and unguided translation; for each of WINDOWS spreads
        of source, measured bands and the difference of source and guide, then the slopes of the
        regressions, then the share that they explain.
        """
        seen, measured = then[:, self.seen], then[:, self.carried]
        made, apart = torch.cat([of.now, of.first], dim=1), of.now - seen
        known = (of.now != logarithm(of.now.new_zeros(()))).any(dim=1, keepdim=True)
        both, counts = torch.cat([seen, measured], dim=1), known.to(of.now.dtype)
        bands, targets = self.in_channels, self.out_channels
        products = [both[:, n : n + 1] * both[:, n:] for n in range(bands)]
        squares = [of.now**2, apart**2, measured**2]
        maps = torch.cat([made, both, *squares, *products], dim=1) * counts
        # Beyond the edge are zeros, which do not count.
        maps = torch.cat([counts, maps], dim=1)
        padding = (0, -maps.shape[-1] % CELL, 0, -maps.shape[-2] % CELL)
        sums = functional.avg_pool2d(functional.pad(maps, padding), CELL)
        smooth = {width: gaussian_sum(sums, width) for width in WINDOWS}
        # A cell without valid pixels has the mean around it: a valid pixel is interpolated from it.
        smooth[0.0] = sums + FEWEST * smooth[min(WINDOWS)]
        around = {w: s[:, 1:] / s[:, :1].clamp_min(FEWEST**2) for w, s in smooth.items()}
        found = [around[width][:, : bands + targets] for width in MEANS]
        for means in (around[width] for width in WINDOWS):
            sizes = [bands, targets, bands, targets, bands, bands, targets]
            now, _, far, level, square, difference, measured_square, rest = torch.split(
                means, [*sizes, means.shape[1] - sum(sizes)], dim=1
            )
            variance = measured_square - level**2
            slopes, explained = regression(torch.cat([far, level], dim=1), rest, bands)
            found += [
                DIFFERENCES * v.clamp_min(1e-6).sqrt()
                for v in (square - now**2, variance, difference - (now - far) ** 2)
            ]
            found += [slopes.flatten(1, 2), explained / variance.clamp_min(RIDGE)]
        return torch.cat(found, dim=1)

    def _features(self, of: Logs, then: Tensor, around: Tensor) -> Tensor:
        """Return the features of pixels: [B, h, w, F].

        Args:
            of: what is known of them.
            then: their guide, see `_then`.
            around: [B, h, w, F], `_cells` at them.
        """
        bands, targets = self.in_channels, self.out_channels
        both = bands + targets
        made = torch.cat([of.now, of.first], dim=1).permute(0, 2, 3, 1)
        apart = (of.now - then[:, self.seen]).permute(0, 2, 3, 1)
        sizes = [both] * len(MEANS) + [bands + both, bands * targets, targets] * len(WINDOWS)
        parts = list(torch.split(around, sizes, dim=-1))
        logs = torch.cat([of.now, then, of.first, of.there], dim=1).permute(0, 2, 3, 1)
        features = [LOGS * (logs + 1.0), DIFFERENCES * of.lacking.permute(0, 2, 3, 1)]
        features += [DIFFERENCES * apart]
        features += [DIFFERENCES * (made - mean) for mean in parts[: len(MEANS)]]
        windows = parts[len(MEANS) :]
        for spreads, slopes, explained in zip(*(windows[n::3] for n in range(3)), strict=True):
            stated = slopes.unflatten(-1, (targets, bands)) * apart[..., None, :]
            change = stated.sum(dim=-1).clamp(-LARGEST_CHANGE, LARGEST_CHANGE)
            features += [spreads, DIFFERENCES * change, explained]
        return torch.cat([*features, of.facts.permute(0, 2, 3, 1)], dim=-1)


def reach_of(width: float) -> int:
    """Return how many cells a Gaussian of this standard deviation reaches to each side."""
    return math.ceil(TRUNCATED * width)


def gaussian_sum(x: Tensor, width: float) -> Tensor:
    """Smooth [B, C, H, W] by a Gaussian of a width in cells; beyond the edge are zeros."""
    reach, channels = reach_of(width), x.shape[1]
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / width) ** 2)
    kernel = (kernel / kernel.sum()).expand(channels, 1, -1)
    x = functional.conv2d(x, kernel[:, :, None], padding=(0, reach), groups=channels)
    return functional.conv2d(x, kernel[..., None], padding=(reach, 0), groups=channels)


def regression(means: Tensor, products: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return how values depend on colours, from their means: a ridge regression in each cell.

    Args:
        means: [B, Cs + Ct, h, w], of colours, then of values.
        products: [B, F, h, w], means of the product of each colour with itself, the later colours,
            and the values, in this order.
        count: Cs.

    Returns:
        Slopes, [B, Ct, Cs, h, w], and the variance of the values that they explain, [B, Ct, h, w].
    """
    lengths = [means.shape[1] - n for n in range(count)]
    rows = [
        product - means[:, n : n + 1] * means[:, n:]
        for n, product in enumerate(torch.split(products, lengths, dim=1))
    ]
    with_values = [row[:, count - n :] for n, row in enumerate(rows)]
    rows = [torch.cat([row[:, :1] + RIDGE, row[:, 1:]], dim=1) for row in rows]
    # Elimination in all cells at once: matrices of three bands are too small for a library's loop.
    for n in range(count):
        for later in range(n + 1, count):
            factor = rows[n][:, later - n : later - n + 1] / rows[n][:, :1]
            rows[later] = rows[later] - factor * rows[n][:, later - n :]
    slopes: list[Tensor] = []
    for n in reversed(range(count)):
        known = torch.zeros_like(means[:, count:])
        for number, slope in enumerate(slopes, start=1):
            known = known + rows[n][:, number : number + 1] * slope
        slopes.insert(0, (rows[n][:, count - n :] - known) / rows[n][:, :1])
    explained = sum(
        (slope * with_value for slope, with_value in zip(slopes, with_values, strict=True)),
        start=torch.zeros_like(means[:, count:]),
    )
    return torch.stack(slopes, dim=2), explained
