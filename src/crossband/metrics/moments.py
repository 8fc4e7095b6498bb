"""Per-pixel metrics from sums that can be added: one image, a group, or a whole manifest.

Everything is in physical units and float64. `Moments` holds what MAE, RMSE, bias, R2, Pearson r
and PSNR need, and no pixel; two of them add up to the moments of both sets of pixels, so memory
does not grow with the number of pairs. Variances are kept as central moments and merged by the
formula of Chan, Golub and LeVeque (1979), which stays accurate at 300 K +- 0.01 K, where sums of
squares do not.

An output that is NaN or infinite where there is a truth has no error that could be averaged. It
is counted, and the metrics of these pixels are NaN: a network cannot improve its score by giving
no value where the scene is hard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core.sensors import DECIBEL, DISPLAY, KELVIN, REFLECTANCE
from crossband.errors import UnitError, nearest

NAN = float("nan")

#: The data range of PSNR and SSIM by unit: a convention that is stated with each result, the same
#: for every scene, so that a number does not depend on the brightest pixel of an image. Reflectance
#: and display: 0..1. Decibels: about -25..5, land in C-band. Kelvin: about 230..330, Earth's
#: surface.
DATA_RANGE: dict[str, float] = {REFLECTANCE: 1.0, DISPLAY: 1.0, DECIBEL: 30.0, KELVIN: 100.0}

#: What values of a unit usually are, of the width above: the bins of histograms and profiles.
USUAL_RANGE: dict[str, tuple[float, float]] = {
    REFLECTANCE: (0.0, 1.0),
    DISPLAY: (0.0, 1.0),
    DECIBEL: (-25.0, 5.0),
    KELVIN: (230.0, 330.0),
}


def data_range(unit: str) -> float:
    """Return the data range of PSNR and SSIM for a unit, in that unit.

    >>> data_range("reflectance")
    1.0
    """
    if unit not in DATA_RANGE:
        raise UnitError(f"no data range for unit {unit!r}: {nearest(unit, DATA_RANGE)}")
    return DATA_RANGE[unit]


@dataclass(frozen=True, eq=False)
class Side:
    """What the moments need of one of the two arrays alone.

    Attributes:
        mean: of the values.
        deviations: values - mean, flat.
        m2: sum of their squares.
        constant: the only value; NaN where there are two, or none.
    """

    mean: float
    deviations: NDArray[np.float64]
    m2: float
    constant: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Side:
        """Take them of flat finite values."""
        if values.size == 0:
            return cls(0.0, values, 0.0, NAN)
        mean = float(values.mean())
        deviations = values - mean
        return cls(mean, deviations, float((deviations * deviations).sum()), _constant(values))


@dataclass(frozen=True)
class Moments:
    """Additive sums over pairs of values (prediction, target).

    Attributes:
        n: pairs that were compared; both values are finite.
        n_nonfinite: pairs with a truth whose prediction is NaN or infinite.
        abs_error, error, square_error: sums of |p - t|, p - t, (p - t)^2.
        mean_p, mean_t: means.
        m2_p, m2_t, c_pt: sums of squared deviations from the mean, and of their products.
        constant_p, constant_t: the only value seen so far; NaN once there are two.
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
        """Take the moments of two arrays of one shape.

        Args:
            prediction: any shape, physical units.
            target: same shape and unit; NaN where there is no truth.
            mask: bool, broadcast to that shape, True where a pixel counts; all of them where None.
        """
        p, t, n_nonfinite = pairs(prediction, target, mask)
        return cls.against(p, t, Side.of(t), n_nonfinite)

    @classmethod
    def against(
        cls,
        p: NDArray[np.float64],
        t: NDArray[np.float64],
        side: Side,
        n_nonfinite: int = 0,
    ) -> Moments:
        """Take the moments of flat finite values, where what is the target's alone is known.

        Args:
            p: predictions.
            t: targets.
            side: `Side.of(t)`.
            n_nonfinite: predictions that were left out because they are not finite.
        """
        if p.size == 0:
            return cls(n_nonfinite=n_nonfinite)
        e, own = p - t, Side.of(p)
        return cls(
            n=p.size,
            n_nonfinite=n_nonfinite,
            abs_error=float(np.abs(e).sum()),
            error=float(e.sum()),
            square_error=float((e * e).sum()),
            mean_p=own.mean,
            mean_t=side.mean,
            m2_p=own.m2,
            m2_t=side.m2,
            c_pt=float((own.deviations * side.deviations).sum()),
            constant_p=own.constant,
            constant_t=side.constant,
        )

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of pixels together."""
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
        """Whether there is anything to say: some pixels, and a finite prediction for each."""
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
        """Pearson's correlation; NaN where target or prediction is constant."""
        constant = not (math.isnan(self.constant_t) and math.isnan(self.constant_p))
        if not self.defined or constant or min(self.m2_p, self.m2_t) <= 0:
            return NAN
        return max(-1.0, min(1.0, self.c_pt / math.sqrt(self.m2_p) / math.sqrt(self.m2_t)))

    def psnr(self, data_range: float) -> float:
        """PSNR = 10 log10(data_range^2 / MSE) in decibels; infinite where there is no error."""
        if not self.defined:
            return NAN
        return 10.0 * math.log10(data_range**2 / self.mse) if self.mse > 0 else math.inf


def _constant(values: NDArray[np.float64]) -> float:
    low = float(values.min())
    return low if low == float(values.max()) else NAN


def pairs(
    prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return finite predictions and targets under the mask as flat float64, and the rest's count.

    A target that is not finite is no truth, so it is masked; a prediction that is not finite where
    there is a truth is counted.
    """
    p, t = np.asarray(prediction), np.asarray(target)
    if p.shape != t.shape:
        raise ValueError(f"prediction {p.shape} and target {t.shape} differ in shape")
    keep = np.isfinite(t)
    if mask is not None:
        keep &= np.broadcast_to(np.asarray(mask, dtype=bool), t.shape)
    finite = np.isfinite(p)
    n_nonfinite = int(np.count_nonzero(keep & ~finite))
    keep &= finite
    return p[keep].astype(np.float64), t[keep].astype(np.float64), n_nonfinite


def mae(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean absolute error over all values under the mask.

    >>> mae([1.0, 2.0, 9.0], [1.0, 4.0, 0.0], [True, True, False])
    1.0
    """
    return Moments.of(prediction, target, mask).mae


def rmse(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Root mean squared error over all values under the mask.

    >>> rmse([1.0, 5.0], [1.0, 1.0])
    2.8284271247461903
    """
    return Moments.of(prediction, target, mask).rmse


def bias(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean of prediction - target over all values under the mask.

    >>> bias([1.0, 5.0], [1.0, 1.0])
    2.0
    """
    return Moments.of(prediction, target, mask).bias


def r2(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Coefficient of determination over all values under the mask; NaN for a constant target.

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]) == 1 - 1 / (14 / 3)
    True
    """
    return Moments.of(prediction, target, mask).r2


def pearson_r(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Pearson's correlation over all values under the mask; NaN where either is constant.

    >>> round(pearson_r([3.0, 1.0], [1.0, 2.0]), 12)
    -1.0
    """
    return Moments.of(prediction, target, mask).r


def psnr(
    prediction: ArrayLike, target: ArrayLike, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Peak signal-to-noise ratio in decibels, from the MSE over all values under the mask.

    >>> psnr([0.1, 0.0], [0.0, 0.1], data_range=1.0)
    20.0
    """
    return Moments.of(prediction, target, mask).psnr(data_range)


def as_json(value: Any) -> Any:
    """Return numbers that JSON can hold: NaN and infinity become None.

    >>> as_json({"psnr": float("inf"), "n": [1, 2.5]})
    {'psnr': None, 'n': [1, 2.5]}
    """
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
