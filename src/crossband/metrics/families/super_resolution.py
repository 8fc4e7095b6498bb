"""Super-resolution metrics that compare the output with its source.

Source and output are resized to each other's size by MATLAB's bicubic (`crossband.core.resample`),
for the bands that both have. Only pixels whose whole kernel covers valid pixels are used. Where the
output is made coarser, the kernel must also lie inside the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossband.metrics.family import (
    DATA,
    NONE,
    Array,
    Better,
    Family,
    Mask,
    Metric,
    Output,
    Sums,
    Target,
)
from crossband.metrics.moments import NAN

#: Quantile of an image's distances |source - target|; pixels below it have no detail to compare.
QUANTILE = 0.75
#: Constants of the formulas and of their softmin: the defaults of opensr-test.
GAMMA, TEMPERATURE = 0.05, 0.25
#: Smallest distance between source and target in a denominator, as a share of the data range.
MIN_DISTANCE = 1e-6


def shared_bands(target: Target) -> list[int]:
    """Return the positions of the target's bands that the source has too; empty at scale 1."""
    return [n for n, b in enumerate(target.bands) if b in target.source and target.scale > 1]


def resized(values: Array, factor: float) -> Array:
    """Resize [H, W] by MATLAB's bicubic."""
    from crossband.core.resample import bicubic_axis

    rows, columns = (bicubic_axis(n, factor) for n in values.shape)
    return np.asarray(rows @ values @ columns.T)


def valid_after_resize(valid: Mask, factor: float) -> Mask:
    """Return which pixels of the resized image are computed from valid pixels only."""
    from crossband.core.resample import bicubic_axis

    rows, columns = ((bicubic_axis(n, factor) != 0).astype(float) for n in valid.shape)
    return np.asarray(rows @ ~valid @ columns.T == 0)


def kernel_inside(length: int, scale: int) -> Mask:
    """Return which coarse pixels of an axis have their kernel (4 coarse pixels) in the image."""
    centre = (np.arange(length) + 0.5) * scale - 0.5
    reach = 2 * scale
    return np.asarray((centre - reach >= -1) & (centre + reach <= length * scale))


@dataclass(frozen=True, eq=False)
class ConsistencySums(Sums):
    """Sum of |degraded output - source| over coarse pixels and bands, and number of values."""

    total: float = 0.0
    n: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the mean, in the unit of the target."""
        return {"consistency": self.total / self.n if self.n else NAN}


class Consistency(Family):
    """Difference between the source and the output resized to the source's grid."""

    name = "consistency"
    order = 90
    metrics = (
        Metric(
            "consistency",
            "consistency",
            DATA,
            "less",
            "mean absolute difference between the degraded output and the source",
            needs="scale above 1, and bands that source and target share",
        ),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether the scale is above 1 and source and target share bands."""
        return bool(shared_bands(target))

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        assert target.source_mask is not None  # the family applies only with a source
        height, width = target.source_mask.shape
        inside = np.outer(kernel_inside(height, target.scale), kernel_inside(width, target.scale))
        self.valid = (
            target.source_mask & inside & valid_after_resize(target.valid, 1 / target.scale)
        )
        self.n = int(np.count_nonzero(self.valid))

    def sums(self, output: Output) -> ConsistencySums:
        """Compute the sum."""
        total = 0.0
        for number in shared_bands(self.target):
            difference = resized(output.values[number], 1 / self.target.scale)
            difference -= self.target.source[self.target.bands[number]]
            total += float(np.abs(difference[self.valid]).sum())
        return ConsistencySums(total, self.n * len(shared_bands(self.target)))


@dataclass(frozen=True, eq=False)
class CorrectnessSums(Sums):
    """Sums over pixels of the three scores of opensr-test, and number of pixels.

    After Aybar et al. 2024. For each pixel, with the source enlarged and each distance the mean
    over bands of absolute differences: d_ref = |source - target|, d_im = |output - target| / d_ref,
    d_om = |output - source| / d_ref. With H = d_im + d_om - 1

        improvement   = d_im + d_om (1 - exp(-gamma H))     near 0 where the output is the target
        omission      = d_om + d_im (1 - exp(-gamma H))     near 0 where it is still the source
        hallucination = exp(-gamma d_im d_om)               near 0 where it is far from both

    The three scores of the pixel are exp(-x / T) of these, divided by their sum, so they add up to
    1. gamma = 0.05 and T = 0.25, as in opensr-test. Only pixels are used where one of the three
    absolute distances is above the 75th percentile of d_ref in the image; other pixels have no
    detail. Unlike in opensr-test, the output is neither matched to the histogram of the target nor
    shifted, the distance is L1, the source is enlarged by MATLAB's bicubic, and no border is left
    out. The mean is over these pixels of all images.
    """

    improvement: float = 0.0
    omission: float = 0.0
    hallucination: float = 0.0
    n: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the means of the three scores."""
        sums = (self.improvement, self.omission, self.hallucination)
        names = ("improvement", "omission", "hallucination")
        return {k: s / self.n if self.n else NAN for k, s in zip(names, sums, strict=True)}


def _metric(name: str, better: Better, about: str) -> Metric:
    needs = "scale above 1, and bands that source and target share"
    source = "Aybar et al. 2024"
    return Metric(name, name, NONE, better, about, needs, source, ".3f")


class Correctness(Family):
    """Shares of the detail that is correct, missing, or hallucinated."""

    name = "correctness"
    order = 100
    metrics = (
        _metric("improvement", "more", "share of the detail that is nearer to the truth"),
        _metric("omission", "less", "share of the detail that is left as in the source"),
        _metric("hallucination", "less", "share of the detail that is in neither"),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether the scale is above 1 and source and target share bands."""
        return bool(shared_bands(target))

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        assert target.source_mask is not None  # the family applies only with a source
        self.bands = shared_bands(target)
        valid = target.valid & valid_after_resize(target.source_mask, target.scale)
        self.valid = slice(None) if valid.all() else valid
        enlarged = [
            resized(np.where(target.source_mask, target.source[target.bands[n]], 0.0), target.scale)
            for n in self.bands
        ]
        self.source = np.stack([v[self.valid].ravel() for v in enlarged])
        self.true = np.stack([target.values[n][self.valid].ravel() for n in self.bands])
        self.reference = np.abs(self.source - self.true).mean(axis=0)
        self.threshold = (
            float(np.quantile(self.reference, QUANTILE)) if self.reference.size else 0.0
        )
        self.divisor = np.maximum(self.reference, MIN_DISTANCE * target.data_range)

    def sums(self, output: Output) -> CorrectnessSums:
        """Compute the sums."""
        p = np.stack([output.values[n][self.valid].ravel() for n in self.bands])
        to_target = np.abs(p - self.true).mean(axis=0)
        to_source = np.abs(p - self.source).mean(axis=0)
        detail = np.maximum(np.maximum(to_target, to_source), self.reference) > self.threshold
        divisor = self.divisor[detail]
        shares = scores(to_target[detail] / divisor, to_source[detail] / divisor)
        improvement, omission, hallucination = (float(s.sum()) for s in shares)
        return CorrectnessSums(improvement, omission, hallucination, int(divisor.size))


def scores(d_im: Array, d_om: Array) -> tuple[Array, Array, Array]:
    """Return improvement, omission and hallucination of each pixel, which add up to 1.

    Args:
        d_im: |output - target| / |source - target|.
        d_om: |output - source| / |source - target|.
    """
    penalty = 1 - np.exp(-GAMMA * (d_im + d_om - 1))
    each = np.stack([d_im + d_om * penalty, d_om + d_im * penalty, np.exp(-GAMMA * d_im * d_om)])
    # This cancels in the shares; without it all three weights may underflow to 0.
    each -= each.min(axis=0)
    weights = np.exp(-each / TEMPERATURE)
    improvement, omission, hallucination = weights / weights.sum(axis=0)
    return improvement, omission, hallucination
