"""Structural similarity under a mask, at one scale and at five scales.

SSIM: Wang, Bovik, Sheikh and Simoncelli 2004. MS-SSIM: Wang, Simoncelli and Bovik 2003.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crossband.metrics.families.pixel import mean
from crossband.metrics.family import NONE, Array, Family, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN

#: Exponents of the scales, the finest first. Wang, Simoncelli and Bovik 2003, section 3.2.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
_AXIS = np.arange(WINDOW) - WINDOW // 2
_KERNEL = np.exp(-0.5 * (_AXIS / SIGMA) ** 2)
_KERNEL /= _KERNEL.sum()

#: Rows (then columns) of means computed by one small matrix product. Smaller blocks need more
#: calls; larger ones multiply mostly zeros. This is ten times as fast as SciPy's correlate1d.
_BLOCK = 16
_BAND = np.stack([np.pad(_KERNEL, (i, _BLOCK - 1 - i)) for i in range(_BLOCK)])
_BAND_T = np.ascontiguousarray(_BAND.T)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian mean of every window: [..., H, W] -> [..., H - 10, W - 10]."""
    *front, height, width = values.shape
    reach = WINDOW - 1
    rows = np.empty((*front, height - reach, width))
    for i in range(0, height - reach, _BLOCK):
        n = min(_BLOCK, height - reach - i)
        np.matmul(
            _BAND[:n, : n + reach], values[..., i : i + n + reach, :], out=rows[..., i : i + n, :]
        )
    out = np.empty((*front, height - reach, width - reach))
    for i in range(0, width - reach, _BLOCK):
        n = min(_BLOCK, width - reach - i)
        np.matmul(rows[..., i : i + n + reach], _BAND_T[: n + reach, :n], out=out[..., i : i + n])
    return out


def valid_windows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the windows of 11 x 11 valid pixels: bool [H, W] -> [H - 10, W - 10].

    The result has a side of 0 where the image is smaller than a window.
    """
    height, width = mask.shape
    if height < WINDOW or width < WINDOW:
        return np.zeros((max(height - WINDOW + 1, 0), max(width - WINDOW + 1, 0)), dtype=bool)
    half = WINDOW // 2
    eroded = ndimage.minimum_filter(mask, size=WINDOW, mode="constant", cval=False)
    out: NDArray[np.bool_] = eroded[half:-half, half:-half]
    return out


class SSIMWindows:
    """SSIM windows of one target; sums of SSIM over them for several outputs.

    SSIM = (2 mu_p mu_t + C1)(2 s_pt + C2) / ((mu_p^2 + mu_t^2 + C1)(s_p^2 + s_t^2 + C2)), with a
    Gaussian window of 11 x 11 pixels and sigma 1.5, C1 = (0.01 L)^2, C2 = (0.03 L)^2 and L the
    data range. Windows that contain a masked pixel or leave the image are left out; no pixel is
    filled in. Without a mask this equals `skimage.metrics.structural_similarity` with
    `gaussian_weights`, `sigma=1.5`, `use_sample_covariance=False`, and the full image of
    torchmetrics without its reflected border of 5 pixels.

    Args:
        t: [H, W], target minus `offset`; 0 at pixels that are not valid.
        offset: value that was subtracted from target and output. Variances do not change when
            both are shifted, and they keep their digits near a mean of 0.
        data_range: L in the unit of the values.
        valid: bool [H, W]; None: all pixels are valid.

    Attributes:
        count: number of windows that are completely valid.
    """

    def __init__(
        self,
        t: NDArray[np.float64],
        offset: float,
        data_range: float,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        shape = (max(t.shape[0] - WINDOW + 1, 0), max(t.shape[1] - WINDOW + 1, 0))
        self._windows: NDArray[np.bool_] | None = None
        self.count = math.prod(shape)
        if valid is not None:
            self._windows = valid_windows(valid)
            self.count = int(np.count_nonzero(self._windows))
        if self.count == 0:
            return
        self._t, self._offset = t, offset
        self._c1, self._c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
        self._centre, square = _smooth(np.stack([t, t * t]))
        self._mean = self._centre + offset
        self._spread = square - self._centre**2 + self._c2
        self._power = self._mean**2 + self._c1

    def sums(self, p: NDArray[np.float64]) -> tuple[float, float]:
        """Return the sums over the windows of SSIM, and of its second factor (contrast).

        Args:
            p: [H, W], output minus `offset`; 0 at pixels that are not valid.
        """
        if self.count == 0:
            return 0.0, 0.0
        centre, square, product = _smooth(np.stack([p, p * p, p * self._t]))
        contrast = 2 * (product - centre * self._centre) + self._c2
        contrast /= square - centre**2 + self._spread
        mean = centre + self._offset
        luminance = (2 * mean * self._mean + self._c1) / (mean**2 + self._power)
        if self._windows is not None:
            contrast, luminance = contrast[self._windows], luminance[self._windows]
        return float((contrast * luminance).sum()), float(contrast.sum())


@dataclass(frozen=True, eq=False)
class SSIMSums(Sums):
    """Sums of SSIM, and of its factors at each scale, over the windows that are completely valid.

    SSIM is the mean over all windows of all images, then over bands. MS-SSIM is the product of the
    mean contrast of four scales and the mean SSIM of the fifth, each to the power of its weight.
    These are means over all windows of all images; a mean below 0 is set to 0. MS-SSIM is NaN
    where a scale has no valid window: an image with a side below 176 pixels has no fifth scale,
    and a product of fewer scales would be another metric.

    Attributes:
        ssim: band -> [sum, number of windows].
        scales: band -> [5, 2], for each scale the sum (of the contrast; of SSIM at the last) and
            the number of windows.
    """

    ssim: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return SSIM and MS-SSIM, the mean over bands."""
        each = self.band_numbers(unit, scale).values()
        return {name: mean(e[name] for e in each) for name in ("ssim", "ms_ssim")}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return SSIM and MS-SSIM of each band."""
        return {
            band: {"ssim": _ratio(self.ssim[band]), "ms_ssim": _product(self.scales[band])}
            for band in self.ssim
        }

    @property
    def n_windows(self) -> int:
        """Number of SSIM windows of the band that has the fewest."""
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
    order = 10
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

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.scales: list[list[SSIMWindows]] = []
        for band in range(len(target.bands)):
            t, offset = target.centred[band], float(target.band_means[band])
            valid = None if target.all_valid else target.valid
            windows = []
            for _ in WEIGHTS:
                windows.append(SSIMWindows(t, offset, target.data_range, valid))
                if windows[-1].count == 0:
                    break  # a coarser scale has no valid window either
                t, valid = halved(t), None if valid is None else halved_mask(valid)
            self.scales.append(windows)

    def sums(self, output: Output) -> SSIMSums:
        """Compute the sums."""
        ssim, scales = {}, {}
        for number, (band, levels) in enumerate(zip(self.target.bands, self.scales, strict=True)):
            p = output.centred[number]
            sums = np.zeros((len(WEIGHTS), 2))
            complete = len(levels) == len(WEIGHTS) and levels[-1].count > 0
            for level, windows in enumerate(levels if complete else levels[:1]):
                total, contrast = windows.sums(p)
                if level == 0:
                    ssim[band] = np.array([total, windows.count])
                last = level == len(WEIGHTS) - 1
                sums[level] = (total if last else contrast), windows.count
                p = halved(p) if complete and not last else p
            scales[band] = sums if complete else np.zeros_like(sums)
        return SSIMSums(ssim, scales)


def halved(values: Array) -> Array:
    """Return the means of blocks of 2 x 2: [H, W] -> [H // 2, W // 2]."""
    h, w = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    rows = values[0:h:2, :w] + values[1:h:2, :w]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * 0.25)


def halved_mask(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the blocks of 2 x 2 valid pixels: bool [H, W] -> [H // 2, W // 2]."""
    h, w = valid.shape[0] // 2 * 2, valid.shape[1] // 2 * 2
    rows = valid[0:h:2, :w] & valid[1:h:2, :w]
    return np.asarray(rows[:, 0::2] & rows[:, 1::2])
