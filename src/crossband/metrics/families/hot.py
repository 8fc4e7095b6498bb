"""Contrast between hot objects and their surroundings in thermal bands."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crossband.core.sensors import DECIBEL
from crossband.metrics.families.pixel import mean
from crossband.metrics.family import DATA, Array, Family, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN

#: Common names of thermal bands.
THERMAL = ("thermal", "lwir", "lwir11", "lwir12")
#: Quantile of an image that is used as its maximum, so that single pixels do not decide it.
TOP = 0.995


@dataclass(frozen=True, eq=False)
class ContrastSums(Sums):
    """Number of hot pixels and the sum of their errors, and both for all other pixels, by band.

    A pixel is hot if its true value is above the middle between the median and the 99.5th
    percentile of its image. The contrast is the mean of the hot pixels minus the mean of all other
    pixels. Its error is the synthetic contrast minus the true one, which equals the mean error of
    the hot pixels minus the mean error of the others. Below 0, hot objects are too faint. Over many
    images, both means are over all pixels of these images. Over bands, the mean of the bands is
    taken. It is NaN where no pixel is hot, as in a constant image.

    Attributes:
        sums: band -> [hot pixels, sum of their errors, other pixels, sum of their errors].
    """

    sums: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the error of the contrast: the mean over thermal bands."""
        each = self.band_numbers(unit, scale).values()
        return {"hot_contrast": mean(n["hot_contrast"] for n in each)}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return the error of the contrast of each thermal band."""
        return {band: {"hot_contrast": _error(s)} for band, s in self.sums.items()}


def _error(sums: Array) -> float:
    n_hot, hot_error, n_other, other_error = (float(s) for s in sums)
    return hot_error / n_hot - other_error / n_other if n_hot and n_other else NAN


class HotContrast(Family):
    """Error of the contrast of hot objects."""

    name = "hot"
    order = 80
    metrics = (
        Metric(
            "hot_contrast",
            "hot contrast",
            DATA,
            "zero",
            "error of the contrast between hot pixels and the rest; below 0 hot objects fade",
            needs="a band of emitted heat (thermal, lwir, lwir11, lwir12)",
        ),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether there is a thermal band."""
        return target.unit != DECIBEL and any(b in THERMAL for b in target.bands)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.hot = {}
        for number, band in enumerate(target.bands):
            if band in THERMAL:
                t = target.flat[number]
                median, top = np.quantile(t, (0.5, TOP)) if t.size else (0.0, 0.0)
                threshold = (median + top) / 2 if top > median else np.inf
                self.hot[number] = t > threshold

    def sums(self, output: Output) -> ContrastSums:
        """Compute the sums."""
        sums = {}
        for number, hot in self.hot.items():
            e = output.flat[number] - self.target.flat[number]
            n, total, hot_error = int(np.count_nonzero(hot)), float(e.sum()), float(e[hot].sum())
            sums[self.target.bands[number]] = np.array(
                [n, hot_error, e.size - n, total - hot_error]
            )
        return ContrastSums(sums)
