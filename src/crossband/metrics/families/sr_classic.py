"""The protocol `sr-classic`: how published super-resolution of pictures is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DISPLAY
from crossband.metrics.catalogue import DECIBELS, NONE, Metric
from crossband.metrics.family import Array, Family, Mask, Output, Part, Truth
from crossband.metrics.moments import NAN
from crossband.metrics.ssim import Windows

NAME = "sr-classic"
#: Y of ITU-R BT.601 in studio range, of red, green and blue in 0..1.
LUMA, BLACK = {"red": 65.481, "green": 128.553, "blue": 24.966}, 16.0
PEAK = 255.0


@dataclass(frozen=True, eq=False)
class Classic(Part):
    """Sums of the squared errors of Y, pixels, SSIM over windows, windows.

    Both pictures are clipped to 0..1 and rounded to 8 bits; Y = 16 + 65.481 R + 128.553 G +
    24.966 B is not rounded; `scale` pixels are left out at each border. PSNR has the peak 255,
    SSIM the Gaussian window of 11 x 11 with sigma 1.5 and L = 255. Published numbers are means
    over images of what each gives alone; over all pixels PSNR comes from the MSE of all.
    """

    square: float = 0.0
    n: int = 0
    ssim: float = 0.0
    windows: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return PSNR (infinite without error) and SSIM."""
        if not self.n:
            psnr = NAN
        elif self.square == 0:
            psnr = math.inf
        else:
            psnr = 10 * math.log10(PEAK**2 * self.n / self.square)
        ssim = self.ssim / self.windows if self.windows else NAN
        return {"sr_classic_psnr": psnr, "sr_classic_ssim": ssim}


def luma(values: NDArray[np.floating], bands: tuple[str, ...]) -> Array:
    """Return Y of a picture, 16..235: [C, H, W] in 0..1 -> [H, W]."""
    eight = np.rint(np.clip(values, 0.0, 1.0) * PEAK) / PEAK
    return np.asarray(sum(w * eight[bands.index(b)] for b, w in LUMA.items()) + BLACK)


class SRClassic(Family):
    """PSNR and SSIM of Y under the protocol `sr-classic`."""

    name = NAME
    place = 110
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
    def applies(cls, truth: Truth) -> bool:
        """Return whether this is a finer picture in colour."""
        return truth.scale > 1 and truth.unit == DISPLAY and set(LUMA) <= set(truth.bands)

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        valid = self._shaved(truth.valid)
        self.valid: Mask | None = None if valid.all() else valid
        self.n = int(np.count_nonzero(valid))
        self.y = self._luma(truth.values)
        self.level = float(self.y[valid].mean()) if self.n else 0.0
        self.windows = Windows(self._held(self.y), self.level, PEAK, self.valid)

    def _shaved(self, values: NDArray) -> NDArray:
        s = self.truth.scale
        return values[s:-s, s:-s]

    def _luma(self, values: Array) -> Array:
        return np.asarray(self._shaved(luma(values, self.truth.bands)))

    def _held(self, y: Array) -> Array:
        centred = y - self.level
        return centred if self.valid is None else np.where(self.valid, centred, 0.0)

    def part(self, output: Output) -> Classic:
        """Take the sums."""
        y = self._luma(output.values)
        apart = y - self.y if self.valid is None else (y - self.y)[self.valid]
        total, _ = self.windows.sums(self._held(y))
        return Classic(float((apart * apart).sum()), self.n, total, self.windows.count)
