"""The protocol `sr-classic`: PSNR and SSIM as published for super-resolution of photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DISPLAY
from crossband.metrics.families.ssim import SSIMWindows
from crossband.metrics.family import (
    DECIBELS,
    NONE,
    Array,
    Family,
    Mask,
    Metric,
    Output,
    Sums,
    Target,
)
from crossband.metrics.moments import NAN

NAME = "sr-classic"
#: Weights and offset of Y (ITU-R BT.601, studio range), for red, green and blue in 0..1.
LUMA, BLACK = {"red": 65.481, "green": 128.553, "blue": 24.966}, 16.0
PEAK = 255.0


@dataclass(frozen=True, eq=False)
class LumaSums(Sums):
    """Sum of squared errors of Y, number of pixels, sum of SSIM over windows, number of windows.

    Both images are clipped to 0..1 and rounded to 8 bits. Y = 16 + 65.481 R + 128.553 G + 24.966 B
    is not rounded. `scale` pixels are left out at each border. PSNR has a peak of 255. SSIM has a
    Gaussian window of 11 x 11 with sigma 1.5, and L = 255. Published results are means over images
    of the metrics of each image. The metrics over all pixels use the MSE over all pixels.
    """

    square: float = 0.0
    n: int = 0
    ssim: float = 0.0
    windows: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return PSNR (infinite for an MSE of 0) and SSIM."""
        if not self.n:
            psnr = NAN
        elif self.square == 0:
            psnr = math.inf
        else:
            psnr = 10 * math.log10(PEAK**2 * self.n / self.square)
        ssim = self.ssim / self.windows if self.windows else NAN
        return {"sr_classic_psnr": psnr, "sr_classic_ssim": ssim}


def luma(values: NDArray[np.floating], bands: tuple[str, ...]) -> Array:
    """Return Y of an image, 16..235: [C, H, W] in 0..1 -> [H, W]."""
    eight = np.rint(np.clip(values, 0.0, 1.0) * PEAK) / PEAK
    return np.asarray(sum(w * eight[bands.index(b)] for b, w in LUMA.items()) + BLACK)


class SRClassic(Family):
    """PSNR and SSIM of Y under the protocol `sr-classic`."""

    name = NAME
    order = 110
    metrics = (
        Metric(
            "sr_classic_psnr",
            "PSNR (Y)",
            DECIBELS,
            "more",
            "PSNR of Y (BT.601) of 8-bit pictures, `scale` pixels off each border",
            needs="scale above 1; red, green and blue in `display`",
            source="ITU-R BT.601; Timofte et al. 2014",
            format=".2f",
        ),
        Metric(
            "sr_classic_ssim",
            "SSIM (Y)",
            NONE,
            "more",
            "SSIM of Y (BT.601) of 8-bit pictures, `scale` pixels off each border",
            needs="scale above 1; red, green and blue in `display`",
            source="Wang, Bovik, Sheikh and Simoncelli 2004",
        ),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether the target is a colour photograph at a scale above 1."""
        return target.scale > 1 and target.unit == DISPLAY and set(LUMA) <= set(target.bands)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        valid = self._without_border(target.valid)
        self.valid: Mask | None = None if valid.all() else valid
        self.n = int(np.count_nonzero(valid))
        self.y = self._luma(target.values)
        self.offset = float(self.y[valid].mean()) if self.n else 0.0
        self.windows = SSIMWindows(self._centred(self.y), self.offset, PEAK, self.valid)

    def _without_border(self, values: NDArray) -> NDArray:
        s = self.target.scale
        return values[s:-s, s:-s]

    def _luma(self, values: Array) -> Array:
        return np.asarray(self._without_border(luma(values, self.target.bands)))

    def _centred(self, y: Array) -> Array:
        centred = y - self.offset
        return centred if self.valid is None else np.where(self.valid, centred, 0.0)

    def sums(self, output: Output) -> LumaSums:
        """Compute the sums."""
        y = self._luma(output.values)
        error = y - self.y if self.valid is None else (y - self.y)[self.valid]
        total, _ = self.windows.sums(self._centred(y))
        return LumaSums(float((error * error).sum()), self.n, total, self.windows.count)
