"""Errors of single pixels: MAE, RMSE, bias, R2, Pearson's r, PSNR."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

from crossband.metrics.family import DATA, DECIBELS, NONE, Family, Metric, Output, Sums
from crossband.metrics.moments import NAN, Moments, data_range


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN for no values, or if one is NaN."""
    values = list(values)
    return math.fsum(values) / len(values) if values else NAN


@dataclass(frozen=True, eq=False)
class PixelSums(Sums):
    """Moments of each band.

    MAE, RMSE, bias and PSNR are computed over the values of all bands together. R2 and r are the
    mean over bands: over all bands at once they would mostly measure how much the bands differ.
    Over many images, each metric is computed over all pixels of these images. PSNR uses the MSE
    over all pixels.
    """

    handles_nonfinite = True

    bands: dict[str, Moments] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the metrics over all bands."""
        total = reduce(Moments.__add__, self.bands.values(), Moments())
        return _numbers(total, unit) | {
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


class PixelErrors(Family):
    """Errors of single pixels."""

    name = "pixel"
    order = 0
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

    def sums(self, output: Output) -> PixelSums:
        """Return the moments of each band."""
        return PixelSums(output.moments)
