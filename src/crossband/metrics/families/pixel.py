"""Errors of single pixels: MAE, RMSE, bias, R2, Pearson's r, PSNR."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

from crossband.metrics.catalogue import DATA, DECIBELS, NONE, Metric
from crossband.metrics.family import Family, Output, Part
from crossband.metrics.moments import NAN, Moments, data_range


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN for none, or where one is NaN."""
    values = list(values)
    return math.fsum(values) / len(values) if values else NAN


@dataclass(frozen=True, eq=False)
class Pixels(Part):
    """Moments of each band.

    MAE, RMSE, bias and PSNR are over the values of all bands together. R2 and r are the mean over
    bands: taken over all bands at once they would mostly measure that bands differ. Over many
    images each is what it is for all their pixels at once; PSNR comes from the MSE of all pixels.
    """

    gaps = True

    bands: dict[str, Moments] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the metrics over all bands."""
        every = reduce(Moments.__add__, self.bands.values(), Moments())
        return _numbers(every, unit) | {
            "r2": mean(m.r2 for m in self.bands.values()),
            "r": mean(m.r for m in self.bands.values()),
        }

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return the metrics of each band."""
        return {band: _numbers(m, unit) for band, m in self.bands.items()}


def _numbers(m: Moments, unit: str) -> dict[str, float]:
    return {
        "mae": m.mae,
        "rmse": m.rmse,
        "bias": m.bias,
        "r2": m.r2,
        "r": m.r,
        "psnr": m.psnr(data_range(unit)),
    }


class Pixel(Family):
    """Errors of single pixels."""

    name = "pixel"
    place = 0
    metrics = (
        Metric("mae", "MAE", DATA, "less", "mean absolute error"),
        Metric("rmse", "RMSE", DATA, "less", "root mean squared error"),
        Metric("bias", "bias", DATA, "zero", "mean of synthetic - true"),
        Metric("r2", "R2", NONE, "more", "coefficient of determination", format=".3f"),
        Metric("r", "r", NONE, "more", "Pearson's correlation", format=".3f"),
        Metric(
            "psnr",
            "PSNR",
            DECIBELS,
            "more",
            "peak signal-to-noise ratio, the peak being the stated data range of the unit",
            format=".2f",
        ),
    )

    def part(self, output: Output) -> Pixels:
        """Take the moments."""
        return Pixels(output.moments)
