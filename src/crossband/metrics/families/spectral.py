"""How bands stand to each other: the spectral angle, and ERGAS."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from crossband.core.sensors import DECIBEL
from crossband.metrics.catalogue import DEGREES, NONE, Metric
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.moments import NAN, data_range


@dataclass(frozen=True, eq=False)
class Angles(Part):
    """Sum of the angles between true and synthetic spectra in degrees, and pixels.

    A pixel whose true spectrum is all zero has no direction and does not count. A synthetic
    spectrum of zeros where the truth has one counts as 90 degrees: an output must not gain by
    saying nothing. The mean is over pixels, over many images that of all their pixels.
    """

    total: float = 0.0
    n: int = 0

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the mean angle."""
        return {"sam": self.total / self.n if self.n else NAN}


class SpectralAngle(Family):
    """The spectral angle; for two bands and more, not for decibels."""

    name = "sam"
    place = 30
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
    def applies(cls, truth: Truth) -> bool:
        """Return whether there are two bands of a unit with a zero."""
        return len(truth.bands) > 1 and truth.unit != DECIBEL

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.length = np.sqrt((truth.flat * truth.flat).sum(axis=0))
        self.there = self.length > 0
        self.n = int(np.count_nonzero(self.there))
        self.whole = self.n == self.there.size

    def part(self, output: Output) -> Angles:
        """Take the angles."""
        p, t, length = output.flat, self.truth.flat, self.length
        if not self.whole:
            p, t, length = p[:, self.there], t[:, self.there], length[self.there]
        own = np.sqrt((p * p).sum(axis=0))
        product = (p * t).sum(axis=0)
        cosine = np.divide(product, own * length, out=np.zeros_like(product), where=own > 0)
        angles = np.arccos(np.clip(cosine, -1.0, 1.0))
        return Angles(float(np.rad2deg(angles).sum()), self.n)


@dataclass(frozen=True, eq=False)
class Relative(Part):
    """Of each band the pixels, the sum of squared errors and the sum of true values.

    ERGAS = 100 h/l sqrt(mean over bands of (RMSE / mean of the truth)^2), with h/l the pixel size
    of the output over that of the source, 1 / scale. Over many images RMSE and mean are those of
    all their pixels. NaN where the mean of a band is not above 1e-6 of the data range.
    """

    bands: dict[str, Array] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return ERGAS."""
        sums = np.stack(list(self.bands.values()))
        if not sums[:, 0].all():
            return {"ergas": NAN}
        square, level = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
        if level.min() <= 1e-6 * data_range(unit):
            return {"ergas": NAN}
        return {"ergas": 100.0 / scale * math.sqrt(float((square / level**2).mean()))}


class ERGAS(Family):
    """The relative dimensionless global error in synthesis; not for decibels."""

    name = "ergas"
    place = 40
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
    def applies(cls, truth: Truth) -> bool:
        """Return whether the unit has a zero."""
        return truth.unit != DECIBEL

    def part(self, output: Output) -> Relative:
        """Take the sums from the moments."""
        return Relative(
            {b: np.array([m.n, m.square_error, m.mean_t * m.n]) for b, m in output.moments.items()}
        )
