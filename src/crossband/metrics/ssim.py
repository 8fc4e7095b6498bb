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


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean of every whole window: [H, W] -> [H - 10, W - 10]."""
    half = WINDOW // 2
    rows = ndimage.correlate1d(values, _KERNEL, axis=0, mode="constant")[half:-half]
    both: NDArray[np.float64] = ndimage.correlate1d(rows, _KERNEL, axis=1, mode="constant")
    return both[:, half:-half]


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
    windows = whole_windows(valid)
    count = int(np.count_nonzero(windows))
    if count == 0:
        return 0.0, 0
    # Variances do not change when both are shifted, and keep their digits near zero mean.
    shift = float(t[valid].mean())
    p, t = np.where(valid, p - shift, 0.0), np.where(valid, t - shift, 0.0)
    mean_p, mean_t = _smooth(p), _smooth(t)
    var_p, var_t = _smooth(p * p) - mean_p**2, _smooth(t * t) - mean_t**2
    cov = _smooth(p * t) - mean_p * mean_t
    mean_p, mean_t = mean_p + shift, mean_t + shift
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similarity = ((2 * mean_p * mean_t + c1) * (2 * cov + c2)) / (
        (mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2)
    )
    return float(similarity[windows].sum()), count


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
