"""Structural similarity under a mask. Wang, Bovik, Sheikh and Simoncelli 2004."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
_AXIS = np.arange(WINDOW) - WINDOW // 2
_KERNEL = np.exp(-0.5 * (_AXIS / SIGMA) ** 2)
_KERNEL /= _KERNEL.sum()


#: Rows (then columns) of means that one small matrix product gives: with fewer there are more
#: calls, with more the matrix is mostly zeros. Ten times as fast as SciPy's correlate1d here.
_BLOCK = 16
_BAND = np.stack([np.pad(_KERNEL, (i, _BLOCK - 1 - i)) for i in range(_BLOCK)])
_BAND_T = np.ascontiguousarray(_BAND.T)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean of every whole window: [..., H, W] -> [..., H - 10, W - 10]."""
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


def whole_windows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where all 11 x 11 pixels of a window are valid: [H, W] -> [H - 10, W - 10].

    Shapes shrink to zero where the image is smaller than a window.
    """
    height, width = mask.shape
    if height < WINDOW or width < WINDOW:
        return np.zeros((max(height - WINDOW + 1, 0), max(width - WINDOW + 1, 0)), dtype=bool)
    half = WINDOW // 2
    worst = ndimage.minimum_filter(mask, size=WINDOW, mode="constant", cval=False)
    out: NDArray[np.bool_] = worst[half:-half, half:-half]
    return out


class Windows:
    """The windows of one target, against which outputs are held.

    Args:
        t: [H, W], target less `level`; 0 where a pixel does not count.
        level: what was taken off.
        data_range: L in the unit of the values.
        valid: bool [H, W]; None where all pixels count.

    Attributes:
        count: windows that are wholly valid.
    """

    def __init__(
        self,
        t: NDArray[np.float64],
        level: float,
        data_range: float,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        inside = (max(t.shape[0] - WINDOW + 1, 0), max(t.shape[1] - WINDOW + 1, 0))
        self._windows: NDArray[np.bool_] | None = None
        self.count = math.prod(inside)
        if valid is not None:
            self._windows = whole_windows(valid)
            self.count = int(np.count_nonzero(self._windows))
        if self.count == 0:
            return
        self._t, self._level = t, level
        self._c1, self._c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
        self._centre, square = _smooth(np.stack([t, t * t]))
        self._mean = self._centre + level
        self._spread = square - self._centre**2 + self._c2
        self._power = self._mean**2 + self._c1

    def sums(self, p: NDArray[np.float64]) -> tuple[float, float]:
        """Return the sums over the windows of SSIM, and of its second factor (contrast).

        Args:
            p: [H, W], output less `level`; 0 where a pixel does not count.
        """
        if self.count == 0:
            return 0.0, 0.0
        centre, square, product = _smooth(np.stack([p, p * p, p * self._t]))
        contrast = 2 * (product - centre * self._centre) + self._c2
        contrast /= square - centre**2 + self._spread
        mean = centre + self._level
        light = (2 * mean * self._mean + self._c1) / (mean**2 + self._power)
        if self._windows is not None:
            contrast, light = contrast[self._windows], light[self._windows]
        return float((contrast * light).sum()), float(contrast.sum())


def ssim_sum(
    prediction: ArrayLike, target: ArrayLike, data_range: float, mask: ArrayLike | None = None
) -> tuple[float, int]:
    """Return the sum of SSIM over all windows that are wholly valid, and their number.

    SSIM = (2 mu_p mu_t + C1)(2 s_pt + C2) / ((mu_p^2 + mu_t^2 + C1)(s_p^2 + s_t^2 + C2)), with a
    Gaussian window of 11 x 11 pixels and sigma 1.5, C1 = (0.01 L)^2, C2 = (0.03 L)^2 and L the
    data range. Sum and number add up over images. A window that touches a masked or non-finite
    pixel, or leaves the image, does not count: nothing is filled in.

    Args:
        prediction: [H, W], physical units.
        target: [H, W], same unit.
        data_range: L in that unit.
        mask: bool [H, W]; all pixels where None.
    """
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.shape != t.shape or p.ndim != 2:
        raise ValueError(f"SSIM takes two [H, W] arrays of one shape, got {p.shape} and {t.shape}")
    valid = np.isfinite(p) & np.isfinite(t)
    if mask is not None:
        valid &= np.asarray(mask, dtype=bool)
    # Variances do not change when both are shifted, and keep their digits near zero mean.
    shift = float(t[valid].mean()) if valid.any() else 0.0
    p, t = np.where(valid, p - shift, 0.0), np.where(valid, t - shift, 0.0)
    windows = Windows(t, shift, data_range, None if valid.all() else valid)
    return windows.sums(p)[0], windows.count


def ssim(
    prediction: ArrayLike, target: ArrayLike, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Return the mean SSIM over the windows that are wholly valid; NaN where there is none.

    On a full mask this equals `skimage.metrics.structural_similarity` with `gaussian_weights`,
    `sigma=1.5`, `use_sample_covariance=False`, and torchmetrics' full image without its reflected
    border of 5 pixels. NaN where an output under the mask is not finite.

    Args:
        prediction: [H, W] or [C, H, W], physical units; bands are averaged.
        target: same shape and unit.
        data_range: in that unit.
        mask: bool [H, W]; all pixels where None.
    """
    p, t = np.asarray(prediction), np.asarray(target)
    if p.ndim == 3:
        return float(np.mean([ssim(a, b, data_range, mask) for a, b in zip(p, t, strict=True)]))
    known = np.isfinite(t) if mask is None else np.isfinite(t) & np.asarray(mask, dtype=bool)
    if not np.isfinite(p[known]).all():
        return math.nan
    total, count = ssim_sum(p, t, data_range, mask)
    return total / count if count else math.nan
