"""Per-pixel metrics from additive sums: for one image, a group, or a whole manifest.

All values are float64 in physical units. `Moments` holds the sums that MAE, RMSE, bias, R2,
Pearson's r and PSNR are computed from. It keeps no pixels. The sum of two `Moments` holds the
moments of both sets of pixels, so memory does not grow with the number of pairs. Variances are
stored as central moments and merged by the formula of Chan, Golub and LeVeque (1979). This stays
accurate for values such as 300 K +- 0.01 K, where plain sums of squares lose all digits.

A prediction that is NaN or infinite at a valid target pixel has no error. Such pixels are
counted, and the metrics over them are NaN. Otherwise a network could improve its score by
returning no value at difficult pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core.sensors import DECIBEL, DISPLAY, KELVIN, REFLECTANCE
from crossband.errors import UnitError, nearest

NAN = float("nan")

#: Data range L of PSNR and SSIM by unit. It is a convention, reported with each result. It is the
#: same for every scene, so a result does not depend on the brightest pixel of an image.
#: Reflectance and display: 0..1. Decibels: about -25..5 (land in C-band). Kelvin: about 230..330
#: (surface of the Earth).
DATA_RANGE: dict[str, float] = {REFLECTANCE: 1.0, DISPLAY: 1.0, DECIBEL: 30.0, KELVIN: 100.0}

#: Usual range of the values of a unit, as wide as its data range. Histograms and profiles bin it.
USUAL_RANGE: dict[str, tuple[float, float]] = {
    REFLECTANCE: (0.0, 1.0),
    DISPLAY: (0.0, 1.0),
    DECIBEL: (-25.0, 5.0),
    KELVIN: (230.0, 330.0),
}


def data_range(unit: str) -> float:
    """Return the data range of PSNR and SSIM for a unit, in that unit.

    Raises:
        UnitError: an unknown unit.

    >>> data_range("reflectance")
    1.0
    """
    if unit not in DATA_RANGE:
        raise UnitError(f"no data range for unit {unit!r}: {nearest(unit, DATA_RANGE)}")
    return DATA_RANGE[unit]


@dataclass(frozen=True, eq=False)
class Additive:
    """Base of dataclasses whose sum over two sets of images is the sum of their fields.

    A field is a number, an array, an object with `+`, or a dict of these. Dicts are added key by
    key. A key that only one of them has is kept.
    """

    def __add__(self, other: Self) -> Self:
        """Return the sums over both sets of images."""
        both = {f.name: _add(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return type(self)(**both)


def _add(a: Any, b: Any) -> Any:
    if not isinstance(a, dict):
        return a + b
    return {
        **a,
        **{key: _add(a[key], value) if key in a else value for key, value in b.items()},
    }


@dataclass(frozen=True, eq=False)
class SampleStats:
    """Statistics of one of the two arrays that moments are computed from.

    Attributes:
        mean: mean of the values.
        deviations: values - mean, flat.
        m2: sum of the squared deviations.
        constant: the value, if all values are equal; otherwise NaN.
    """

    mean: float
    deviations: NDArray[np.float64]
    m2: float
    constant: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> SampleStats:
        """Compute the statistics of finite values [N]."""
        if values.size == 0:
            return cls(0.0, values, 0.0, NAN)
        mean = float(values.mean())
        deviations = values - mean
        return cls(mean, deviations, float((deviations * deviations).sum()), _constant(values))


@dataclass(frozen=True)
class Moments:
    """Sums over pairs of values (prediction p, target t).

    Attributes:
        n: number of pairs with two finite values.
        n_nonfinite: number of pairs with a finite target and a NaN or infinite prediction.
        abs_error, error, square_error: sums of |p - t|, p - t, (p - t)^2.
        mean_p, mean_t: means of p and t.
        m2_p, m2_t, c_pt: sums of squared deviations from the mean, and of their products.
        constant_p, constant_t: the value, if all values so far are equal; otherwise NaN.
    """

    n: int = 0
    n_nonfinite: int = 0
    abs_error: float = 0.0
    error: float = 0.0
    square_error: float = 0.0
    mean_p: float = 0.0
    mean_t: float = 0.0
    m2_p: float = 0.0
    m2_t: float = 0.0
    c_pt: float = 0.0
    constant_p: float = NAN
    constant_t: float = NAN

    @classmethod
    def of(cls, prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> Moments:
        """Compute the moments of two arrays of the same shape.

        Args:
            prediction: any shape, physical units.
            target: same shape and unit. A value that is not finite is masked.
            mask: bool, broadcast to that shape, True for valid pixels; None: all are valid.

        Raises:
            ValueError: the shapes differ.

        >>> Moments.of([1.0, 2.0, 9.0], [1.0, 4.0, 0.0], [True, True, False]).mae
        1.0
        """
        p, t = np.asarray(prediction), np.asarray(target)
        if p.shape != t.shape:
            raise ValueError(f"prediction {p.shape} and target {t.shape} differ in shape")
        valid = np.isfinite(t)
        if mask is not None:
            valid &= np.broadcast_to(np.asarray(mask, dtype=bool), t.shape)
        finite = np.isfinite(p)
        n_nonfinite = int(np.count_nonzero(valid & ~finite))
        p, t = (x[valid & finite].astype(np.float64) for x in (p, t))
        return cls.of_finite(p, t, SampleStats.of(t), n_nonfinite)

    @classmethod
    def of_finite(
        cls,
        p: NDArray[np.float64],
        t: NDArray[np.float64],
        target_stats: SampleStats,
        n_nonfinite: int = 0,
    ) -> Moments:
        """Compute the moments of finite values [N].

        Args:
            p: predictions.
            t: targets.
            target_stats: `SampleStats.of(t)`, computed once for several predictions.
            n_nonfinite: number of predictions that were left out because they are not finite.
        """
        if p.size == 0:
            return cls(n_nonfinite=n_nonfinite)
        e, stats = p - t, SampleStats.of(p)
        return cls(
            n=p.size,
            n_nonfinite=n_nonfinite,
            abs_error=float(np.abs(e).sum()),
            error=float(e.sum()),
            square_error=float((e * e).sum()),
            mean_p=stats.mean,
            mean_t=target_stats.mean,
            m2_p=stats.m2,
            m2_t=target_stats.m2,
            c_pt=float((stats.deviations * target_stats.deviations).sum()),
            constant_p=stats.constant,
            constant_t=target_stats.constant,
        )

    def __add__(self, other: Moments) -> Moments:
        """Return the moments over both sets of pixels."""
        n_nonfinite = self.n_nonfinite + other.n_nonfinite
        if self.n == 0 or other.n == 0:
            full = other if self.n == 0 else self
            return Moments(**{**vars(full), "n_nonfinite": n_nonfinite})
        n = self.n + other.n
        share = other.n / n
        dp, dt = other.mean_p - self.mean_p, other.mean_t - self.mean_t
        between = self.n * share
        return Moments(
            n=n,
            n_nonfinite=n_nonfinite,
            abs_error=self.abs_error + other.abs_error,
            error=self.error + other.error,
            square_error=self.square_error + other.square_error,
            mean_p=self.mean_p + dp * share,
            mean_t=self.mean_t + dt * share,
            m2_p=self.m2_p + other.m2_p + dp * dp * between,
            m2_t=self.m2_t + other.m2_t + dt * dt * between,
            c_pt=self.c_pt + other.c_pt + dp * dt * between,
            constant_p=self.constant_p if self.constant_p == other.constant_p else NAN,
            constant_t=self.constant_t if self.constant_t == other.constant_t else NAN,
        )

    @property
    def defined(self) -> bool:
        """Whether there are valid pixels and all their predictions are finite."""
        return self.n > 0 and self.n_nonfinite == 0

    @property
    def mae(self) -> float:
        """Mean absolute error, in the unit."""
        return self.abs_error / self.n if self.defined else NAN

    @property
    def bias(self) -> float:
        """Mean of prediction - target, in the unit."""
        return self.error / self.n if self.defined else NAN

    @property
    def mse(self) -> float:
        """Mean squared error, in the unit squared."""
        return self.square_error / self.n if self.defined else NAN

    @property
    def rmse(self) -> float:
        """Root mean squared error, in the unit."""
        return math.sqrt(self.mse) if self.defined else NAN

    @property
    def r2(self) -> float:
        """R2 = 1 - sum (p - t)^2 / sum (t - mean t)^2; NaN for a constant target."""
        if not self.defined or not math.isnan(self.constant_t) or self.m2_t <= 0:
            return NAN
        return 1.0 - self.square_error / self.m2_t

    @property
    def r(self) -> float:
        """Pearson's correlation; NaN for a constant target or prediction."""
        constant = not (math.isnan(self.constant_t) and math.isnan(self.constant_p))
        if not self.defined or constant or min(self.m2_p, self.m2_t) <= 0:
            return NAN
        return max(-1.0, min(1.0, self.c_pt / math.sqrt(self.m2_p) / math.sqrt(self.m2_t)))

    def psnr(self, data_range: float) -> float:
        """PSNR = 10 log10(data_range^2 / MSE) in decibels; infinite for an MSE of 0."""
        if not self.defined:
            return NAN
        return 10.0 * math.log10(data_range**2 / self.mse) if self.mse > 0 else math.inf


def _constant(values: NDArray[np.float64]) -> float:
    low = float(values.min())
    return low if low == float(values.max()) else NAN
