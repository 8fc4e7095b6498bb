"""The universal image quality index. Wang and Bovik 2002."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DECIBEL
from crossband.metrics.catalogue import NONE, Metric
from crossband.metrics.families.pixel import mean
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.moments import NAN

#: Side of a window. A power of two: sums over windows are made by doubling.
SIDE = 8
#: In parts of the data range: windows that deviate less are flat; the formula would be 0 / 0.
FLAT = 1e-6


@dataclass(frozen=True, eq=False)
class Quality(Part):
    """Sum of Q over the windows that are wholly valid, and their number, for each band.

    Q = 4 s_pt mu_p mu_t / ((s_p^2 + s_t^2)(mu_p^2 + mu_t^2)) in each window of 8 x 8 pixels, at
    every position. In a window where both are flat (standard deviations below 1e-6 of the data
    range) it is 2 mu_p mu_t / (mu_p^2 + mu_t^2), as in the authors' code, and 1 where both are 0.
    The mean is over windows, over many images that of all their windows; over bands, of theirs.
    """

    sums: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return UQI, the mean over bands."""
        return {"uqi": mean(n["uqi"] for n in self.band_numbers(unit, scale).values())}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return it for each band."""
        return {b: {"uqi": float(s[0] / s[1]) if s[1] else NAN} for b, s in self.sums.items()}


class UQI(Family):
    """The universal image quality index; not for decibels, whose zero is no zero."""

    name = "uqi"
    place = 20
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
    def applies(cls, truth: Truth) -> bool:
        """Return whether the unit has a zero."""
        return truth.unit != DECIBEL

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.windows = None if truth.whole else whole_boxes(truth.valid)
        inside = [max(n - SIDE + 1, 0) for n in truth.valid.shape]
        self.count = (
            math.prod(inside) if self.windows is None else int(np.count_nonzero(self.windows))
        )
        self.flat = (FLAT * truth.limit) ** 2
        self.sides = []
        for t in truth.centred if self.count else ():
            m = boxes(t) / SIDE**2
            self.sides.append((m, boxes(t * t) / SIDE**2 - m * m))

    def part(self, output: Output) -> Quality:
        """Take the sums."""
        truth, sums = self.truth, {}
        for number, band in enumerate(truth.bands):
            sums[band] = np.array([self._sum(number, output) if self.count else 0.0, self.count])
        return Quality(sums)

    def _sum(self, number: int, output: Output) -> float:
        p, t, level = output.centred[number], self.truth.centred[number], self.truth.level[number]
        mean_t, var_t = self.sides[number]
        mean_p = boxes(p) / SIDE**2
        var = boxes(p * p) / SIDE**2 - mean_p * mean_p + var_t
        cov = boxes(p * t) / SIDE**2 - mean_p * mean_t
        mean_p, mean_t = mean_p + level, mean_t + level
        power = mean_p * mean_p + mean_t * mean_t
        flat, dark = var <= 2 * self.flat, power <= 2 * self.flat
        special = flat | dark
        if special.any():
            var, power = np.where(flat, 1.0, var), np.where(dark, 1.0, power)
        q = 4 * cov * mean_p * mean_t / (var * power)
        if special.any():
            q = np.where(flat, np.where(dark, 1.0, 2 * mean_p * mean_t / power), q)
            # Windows that are not flat but of mean zero: the paper's Q is 0 there.
            q[dark & ~flat] = 0.0
        return float(q.sum() if self.windows is None else q[self.windows].sum())


def boxes(values: Array) -> Array:
    """Sum of every window of 8 x 8: [H, W] -> [H - 7, W - 7], by doubling."""
    for step in (1, 2, 4):
        values = values[:-step] + values[step:]
    for step in (1, 2, 4):
        values = values[:, :-step] + values[:, step:]
    return values


def whole_boxes(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where all pixels of a window are valid: [H, W] -> [H - 7, W - 7]."""
    if min(valid.shape) < SIDE:
        return np.zeros([max(n - SIDE + 1, 0) for n in valid.shape], bool)
    for step in (1, 2, 4):
        valid = valid[:-step] & valid[step:]
    for step in (1, 2, 4):
        valid = valid[:, :-step] & valid[:, step:]
    return valid
