"""Whether what is hot in truth stands out in the output as it should."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crossband.core.sensors import DECIBEL
from crossband.metrics.catalogue import DATA, Metric
from crossband.metrics.families.pixel import mean
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.moments import NAN

#: Bands of emitted heat.
THERMAL = ("thermal", "lwir", "lwir11", "lwir12")
#: Share of the pixels of an image that may be hotter than what counts as its hottest value.
TOP = 0.995


@dataclass(frozen=True, eq=False)
class Contrast(Part):
    """Of each thermal band: hot pixels, the sum of their errors, and the same for the rest.

    Hot are the pixels of an image above the middle between the median and the 99.5th percentile of
    its true values. The contrast of hot objects is the mean of the hot pixels less the mean of the
    rest; its error is the synthetic contrast less the true one, which is the mean error of the hot
    pixels less the mean error of the rest: below 0 hot objects fade. Over many images both means
    are over all their hot pixels and all the rest; over bands the mean of theirs. NaN where
    nothing is hot, as in a constant image.
    """

    sums: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the error of the contrast, the mean over thermal bands."""
        each = self.band_numbers(unit, scale).values()
        return {"hot_contrast": mean(n["hot_contrast"] for n in each)}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return it for each thermal band."""
        return {band: {"hot_contrast": _error(s)} for band, s in self.sums.items()}


def _error(sums: Array) -> float:
    hot, error, rest, other = (float(s) for s in sums)
    return error / hot - other / rest if hot and rest else NAN


class HotContrast(Family):
    """Error of the contrast of hot objects."""

    name = "hot"
    place = 80
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
    def applies(cls, truth: Truth) -> bool:
        """Return whether there is a thermal band."""
        return truth.unit != DECIBEL and any(b in THERMAL for b in truth.bands)

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.hot = {}
        for number, band in enumerate(truth.bands):
            if band in THERMAL:
                t = truth.flat[number]
                middle, top = np.quantile(t, (0.5, TOP)) if t.size else (0.0, 0.0)
                least = (middle + top) / 2 if top > middle else np.inf
                self.hot[number] = t > least

    def part(self, output: Output) -> Contrast:
        """Take the sums."""
        sums = {}
        for number, hot in self.hot.items():
            e = output.flat[number] - self.truth.flat[number]
            n, total, high = int(np.count_nonzero(hot)), float(e.sum()), float(e[hot].sum())
            sums[self.truth.bands[number]] = np.array([n, high, e.size - n, total - high])
        return Contrast(sums)
