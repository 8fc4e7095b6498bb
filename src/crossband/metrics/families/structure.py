"""Structural similarity at one scale and at five."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossband.metrics.catalogue import NONE, Metric
from crossband.metrics.families.pixel import mean
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.moments import NAN
from crossband.metrics.ssim import Windows

#: Exponents of the scales, the finest first. Wang, Simoncelli and Bovik 2003, section 3.2.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True, eq=False)
class Structure(Part):
    """Sums of SSIM, and of its factors at each scale, over windows that are wholly valid.

    SSIM is the mean over windows, over many images that of all their windows; over bands it is the
    mean of theirs. MS-SSIM is the product of the mean contrast of four scales and the mean SSIM of
    the fifth, each to the power of its weight; over many images these are means over all their
    windows. A mean below 0 counts as 0. NaN where a scale has no whole window: an image below
    176 pixels has no fifth scale, and fewer scales would be another metric.

    Attributes:
        ssim: band -> [sum, windows].
        scales: band -> [5, 2], of each scale the sum (of contrast; SSIM at the last) and windows.
    """

    ssim: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return SSIM and MS-SSIM, the mean over bands."""
        each = self.band_numbers(unit, scale).values()
        return {name: mean(e[name] for e in each) for name in ("ssim", "ms_ssim")}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return them for each band."""
        return {
            band: {"ssim": _ratio(self.ssim[band]), "ms_ssim": _product(self.scales[band])}
            for band in self.ssim
        }

    @property
    def n_windows(self) -> int:
        """SSIM windows of the band that has the fewest."""
        return min((int(count) for _, count in self.ssim.values()), default=0)


def _ratio(sums: Array) -> float:
    return float(sums[0] / sums[1]) if sums[1] else NAN


def _product(scales: Array) -> float:
    if not scales[:, 1].all():
        return NAN
    means = np.maximum(scales[:, 0] / scales[:, 1], 0.0)
    return float(np.prod(means ** np.array(WEIGHTS)))


class SSIM(Family):
    """Structural similarity."""

    name = "structure"
    place = 10
    metrics = (
        Metric(
            "ssim",
            "SSIM",
            NONE,
            "more",
            "structural similarity, Gaussian windows of 11 x 11",
            source="Wang, Bovik, Sheikh and Simoncelli 2004",
            format=".3f",
        ),
        Metric(
            "ms_ssim",
            "MS-SSIM",
            NONE,
            "more",
            "structural similarity over five scales",
            needs="at least 176 x 176 pixels; smaller images give NaN",
            source="Wang, Simoncelli and Bovik 2003",
            format=".3f",
        ),
    )

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.scales: list[list[Windows]] = []
        for band in range(len(truth.bands)):
            t, level = truth.centred[band], float(truth.level[band])
            valid = None if truth.whole else truth.valid
            own = []
            for _ in WEIGHTS:
                own.append(Windows(t, level, truth.limit, valid))
                if own[-1].count == 0:
                    break  # what is coarser has no whole window either
                t, valid = halved(t), None if valid is None else halved_mask(valid)
            self.scales.append(own)

    def part(self, output: Output) -> Structure:
        """Take the sums."""
        ssim, scales = {}, {}
        for number, (band, own) in enumerate(zip(self.truth.bands, self.scales, strict=True)):
            p = output.centred[number]
            sums = np.zeros((len(WEIGHTS), 2))
            complete = len(own) == len(WEIGHTS) and own[-1].count > 0
            for level, windows in enumerate(own if complete else own[:1]):
                both, contrast = windows.sums(p)
                if level == 0:
                    ssim[band] = np.array([both, windows.count])
                last = level == len(WEIGHTS) - 1
                sums[level] = (both if last else contrast), windows.count
                p = halved(p) if complete and not last else p
            scales[band] = sums if complete else np.zeros_like(sums)
        return Structure(ssim, scales)


def halved(values: Array) -> Array:
    """Mean of blocks of 2 x 2: [H, W] -> [H // 2, W // 2]."""
    h, w = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    rows = values[0:h:2, :w] + values[1:h:2, :w]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * 0.25)


def halved_mask(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where all of a block of 2 x 2 is valid."""
    h, w = valid.shape[0] // 2 * 2, valid.shape[1] // 2 * 2
    rows = valid[0:h:2, :w] & valid[1:h:2, :w]
    return np.asarray(rows[:, 0::2] & rows[:, 1::2])
