"""Metrics over all bands of a pixel: the spectral angle (SAM) and ERGAS."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from crossband.core.sensors import DECIBEL
from crossband.metrics.family import DEGREES, NONE, Array, Family, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN, data_range


@dataclass(frozen=True, eq=False)
class AngleSums(Sums):
    """Sum of the angles between true and synthetic spectra in degrees, and number of pixels.

    The mean is over all pixels of all images. A pixel whose true spectrum is all zero has no
    direction and is left out. A synthetic spectrum of zeros at any other pixel counts as 90
    degrees, so that an output of zeros has no advantage.
    """

    total: float = 0.0
    n: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the mean angle."""
        return {"sam": self.total / self.n if self.n else NAN}


class SpectralAngle(Family):
    """The spectral angle, for two or more bands, not in decibels."""

    name = "sam"
    order = 30
    metrics = (
        Metric(
            "sam",
            "SAM",
            DEGREES,
            "less",
            "mean angle between true and synthetic spectrum of a pixel",
            needs="two bands or more, of a unit with a zero: not decibels",
            source="Kruse et al. 1993",
            format=".2f",
        ),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether there are two or more bands, in a unit with an absolute zero."""
        return len(target.bands) > 1 and target.unit != DECIBEL

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.length = np.sqrt((target.flat * target.flat).sum(axis=0))
        self.nonzero = self.length > 0
        self.n = int(np.count_nonzero(self.nonzero))
        self.all_nonzero = self.n == self.nonzero.size

    def sums(self, output: Output) -> AngleSums:
        """Compute the angles."""
        p, t, length = output.flat, self.target.flat, self.length
        if not self.all_nonzero:
            p, t, length = p[:, self.nonzero], t[:, self.nonzero], length[self.nonzero]
        p_length = np.sqrt((p * p).sum(axis=0))
        product = (p * t).sum(axis=0)
        cosine = np.divide(
            product, p_length * length, out=np.zeros_like(product), where=p_length > 0
        )
        angles = np.arccos(np.clip(cosine, -1.0, 1.0))
        return AngleSums(float(np.rad2deg(angles).sum()), self.n)


@dataclass(frozen=True, eq=False)
class ERGASSums(Sums):
    """Number of pixels, sum of squared errors and sum of true values of each band.

    ERGAS = 100 h/l sqrt(mean over bands of (RMSE / mean of the target)^2), with h/l the pixel size
    of the output over that of the source: 1 / scale. Over many images, RMSE and mean are over all
    their pixels. ERGAS is NaN where the mean of a band is not above 1e-6 of the data range.

    Attributes:
        bands: band -> [number of pixels, sum of squared errors, sum of true values].
    """

    bands: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return ERGAS."""
        sums = np.stack(list(self.bands.values()))
        if not sums[:, 0].all():
            return {"ergas": NAN}
        square, means = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
        if means.min() <= 1e-6 * data_range(unit):
            return {"ergas": NAN}
        return {"ergas": 100.0 / scale * math.sqrt(float((square / means**2).mean()))}


class ERGAS(Family):
    """The relative dimensionless global error in synthesis, not for decibels."""

    name = "ergas"
    order = 40
    metrics = (
        Metric(
            "ergas",
            "ERGAS",
            NONE,
            "less",
            "relative global error: 100 / scale x root mean square of RMSE / mean over bands",
            needs="a unit with a zero: not decibels",
            source="Wald 2000",
            format=".2f",
        ),
    )

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether the unit has an absolute zero."""
        return target.unit != DECIBEL

    def sums(self, output: Output) -> ERGASSums:
        """Compute the sums from the moments."""
        return ERGASSums(
            {b: np.array([m.n, m.square_error, m.mean_t * m.n]) for b, m in output.moments.items()}
        )
