"""The universal image quality index. Wang and Bovik 2002."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DECIBEL
from crossband.metrics.families.pixel import mean
from crossband.metrics.family import NONE, Array, Family, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN

#: Side of a window: a power of two, because sums over windows are computed by doubling.
SIDE = 8
#: Standard deviation, as a share of the data range, below which a window is flat.
FLAT = 1e-6


@dataclass(frozen=True, eq=False)
class UQISums(Sums):
    """Sum of Q over the completely valid windows, and number of these windows, for each band.

    Q = 4 s_pt mu_p mu_t / ((s_p^2 + s_t^2)(mu_p^2 + mu_t^2)) in each window of 8 x 8 pixels, at
    every position. The formula is 0 / 0 in a window where both images are flat (standard
    deviations below 1e-6 of the data range). There Q is 2 mu_p mu_t / (mu_p^2 + mu_t^2), as in the
    authors' code, and 1 where both images are 0. UQI is the mean over all windows of all images,
    then over bands.

    Attributes:
        sums: band -> [sum of Q, number of windows].
    """

    sums: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return UQI: the mean over bands."""
        return {"uqi": mean(n["uqi"] for n in self.band_numbers(unit, scale).values())}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return UQI of each band."""
        return {b: {"uqi": float(s[0] / s[1]) if s[1] else NAN} for b, s in self.sums.items()}


class UQI(Family):
    """The universal image quality index; not for decibels, which have no absolute zero."""

    name = "uqi"
    order = 20
    metrics = (
        Metric(
            "uqi",
            "UQI",
            NONE,
            "more",
            "universal image quality index, windows of 8 x 8",
            needs="a unit with a zero: not decibels",
            source="Wang and Bovik 2002",
            format=".3f",
        ),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether the unit has an absolute zero."""
        return target.unit != DECIBEL

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.windows = None if target.all_valid else valid_boxes(target.valid)
        shape = [max(n - SIDE + 1, 0) for n in target.valid.shape]
        self.count = (
            math.prod(shape) if self.windows is None else int(np.count_nonzero(self.windows))
        )
        self.flat_variance = (FLAT * target.data_range) ** 2
        self.target_stats = []
        for t in target.centred if self.count else ():
            m = box_sums(t) / SIDE**2
            self.target_stats.append((m, box_sums(t * t) / SIDE**2 - m * m))

    def sums(self, output: Output) -> UQISums:
        """Compute the sums."""
        target, sums = self.target, {}
        for number, band in enumerate(target.bands):
            sums[band] = np.array([self._sum(number, output) if self.count else 0.0, self.count])
        return UQISums(sums)

    def _sum(self, number: int, output: Output) -> float:
        p, t = output.centred[number], self.target.centred[number]
        offset = self.target.band_means[number]
        mean_t, var_t = self.target_stats[number]
        mean_p = box_sums(p) / SIDE**2
        var = box_sums(p * p) / SIDE**2 - mean_p * mean_p + var_t
        cov = box_sums(p * t) / SIDE**2 - mean_p * mean_t
        mean_p, mean_t = mean_p + offset, mean_t + offset
        power = mean_p * mean_p + mean_t * mean_t
        flat, dark = var <= 2 * self.flat_variance, power <= 2 * self.flat_variance
        special = flat | dark
        if special.any():
            var, power = np.where(flat, 1.0, var), np.where(dark, 1.0, power)
        q = 4 * cov * mean_p * mean_t / (var * power)
        if special.any():
            q = np.where(flat, np.where(dark, 1.0, 2 * mean_p * mean_t / power), q)
            # In windows that are not flat but have a mean of 0, the paper's Q is 0.
            q[dark & ~flat] = 0.0
        return float(q.sum() if self.windows is None else q[self.windows].sum())


def box_sums(values: Array) -> Array:
    """Return the sum over every window of 8 x 8: [H, W] -> [H - 7, W - 7], by doubling."""
    for step in (1, 2, 4):
        values = values[:-step] + values[step:]
    for step in (1, 2, 4):
        values = values[:, :-step] + values[:, step:]
    return values


def valid_boxes(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the windows of 8 x 8 valid pixels: bool [H, W] -> [H - 7, W - 7]."""
    if min(valid.shape) < SIDE:
        return np.zeros([max(n - SIDE + 1, 0) for n in valid.shape], bool)
    for step in (1, 2, 4):
        valid = valid[:-step] & valid[step:]
    for step in (1, 2, 4):
        valid = valid[:, :-step] & valid[:, step:]
    return valid
