"""All metrics of one image. Scores add up to those of a group, a sensor or a manifest."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from crossband.core import indices as spectral
from crossband.core.sensors import REFLECTANCE
from crossband.errors import CrossbandError, UnitError, nearest
from crossband.metrics.families.index import OF_INDEX, IndexSums, of_index
from crossband.metrics.families.pixel import PixelSums
from crossband.metrics.families.profiles import Profile, ProfileSums
from crossband.metrics.families.spectrum import Spectrum, SpectrumSums
from crossband.metrics.families.ssim import SSIMSums
from crossband.metrics.family import Family, Metric, Output, Sums, Target, known_families
from crossband.metrics.moments import NAN, Additive, Moments

S = TypeVar("S", bound=Sums)

#: Metrics that every score has. `Metric.needs` says when the others are available.
METRICS = ("mae", "rmse", "bias", "r2", "r", "psnr", "ssim")
COUNTS = ("n_pixels", "n_valid", "n_nonfinite", "n_windows")


def known_metrics() -> dict[str, Metric]:
    """Return all metrics by name, in the order of `Score.numbers`; without those of indices."""
    return {m.name: m for f in known_families().values() for m in f.metrics}


def describe(name: str) -> Metric | None:
    """Return the description of a number of `Score.numbers`; None for a count.

    >>> describe("mae").heading, describe("NDVI_mae").heading, describe("NDVI_n")
    ('MAE', 'NDVI MAE', None)
    """
    metrics = known_metrics()
    if name in metrics:
        return metrics[name]
    index, _, kind = name.rpartition("_")
    return of_index(index, kind) if index and kind in {m.name for m in OF_INDEX} else None


@dataclass(frozen=True, eq=False)
class Score(Additive):
    """Additive score of one image or of many, all in one unit and at one scale.

    Attributes:
        unit: physical unit of the target.
        scale: target pixels per source pixel along one side.
        n_pixels: number of pixels, masked ones included.
        n_valid: number of pixels at which source and target are valid.
        n_nonfinite: of these, pixels at which some band of the output is NaN or infinite.
        sums: family name -> its sums.
    """

    unit: str
    scale: int = 1
    n_pixels: int = 0
    n_valid: int = 0
    n_nonfinite: int = 0
    sums: dict[str, Sums] = field(default_factory=dict)

    def __add__(self, other: Score) -> Score:
        """Return the score over both sets of images.

        Raises:
            UnitError: the units differ.
            CrossbandError: the scales differ.
        """
        if self.unit != other.unit:
            raise UnitError(f"{self.unit} and {other.unit} cannot be averaged together")
        if self.scale != other.scale:
            raise CrossbandError(f"scores at scale {self.scale} and {other.scale} do not add up")
        return replace(super().__add__(other), unit=self.unit, scale=self.scale)

    def numbers(self) -> dict[str, float | int]:
        """Return all counts and metrics by name; NaN where a metric is not defined.

        The docstrings of the `Sums` in `crossband.metrics.families` say how each metric is
        averaged over bands and over many images. One output pixel that is not finite makes a
        metric NaN.
        """
        ssim = self._sums_of(SSIMSums)
        out: dict[str, float | int] = {
            "n_pixels": self.n_pixels,
            "n_valid": self.n_valid,
            "n_nonfinite": self.n_nonfinite,
            "n_windows": ssim.n_windows if ssim is not None else 0,
        }
        for sums in self._in_order():
            out |= self._checked(sums, sums.numbers(self.unit, self.scale))
        return out

    def band_numbers(self) -> dict[str, dict[str, float]]:
        """Return band -> metrics, for the metrics that are defined band by band."""
        out: dict[str, dict[str, float]] = {}
        for sums in self._in_order():
            for band, numbers in sums.band_numbers(self.unit, self.scale).items():
                out.setdefault(band, {}).update(self._checked(sums, numbers))
        return out

    def light(self) -> Score:
        """Return the score without the sums that only the report page needs."""
        return replace(self, sums={k: s for k, s in self.sums.items() if not s.report_only})

    def spectrum(self) -> dict[str, Spectrum]:
        """Return band -> power spectrum.

        Empty where no tile of 64 x 64 pixels is completely valid, or where an output is not finite.
        """
        sums = self._sums_of(SpectrumSums)
        return sums.spectrum() if sums is not None and not self.n_nonfinite else {}

    def profiles(self) -> dict[str, Profile]:
        """Return band -> error profile; empty for a `light` score."""
        sums = self._sums_of(ProfileSums)
        return sums.profiles(self.unit) if sums is not None else {}

    @property
    def bands(self) -> dict[str, Moments]:
        """Band -> moments."""
        sums = self._sums_of(PixelSums)
        return sums.bands if sums is not None else {}

    @property
    def indices(self) -> dict[str, Moments]:
        """Index -> moments over the pixels at which the true index is defined."""
        sums = self._sums_of(IndexSums)
        return sums.indices if sums is not None else {}

    def _in_order(self) -> list[Sums]:
        return [self.sums[name] for name in known_families() if name in self.sums]

    def _checked(self, sums: Sums, numbers: Mapping[str, float]) -> dict[str, float]:
        """Return the numbers; NaN where the sums do not handle outputs that are not finite."""
        defined = sums.handles_nonfinite or not self.n_nonfinite
        return {name: value if defined else NAN for name, value in numbers.items()}

    def _sums_of(self, kind: type[S]) -> S | None:
        return next((s for s in self.sums.values() if isinstance(s, kind)), None)


class PairScorer:
    """Scores outputs of one target; computations on the target alone are done once.

    Args:
        target: the true image.
        families: names of the metric families to compute (see `known_families`); None: all that
            apply to the target.

    Raises:
        CrossbandError: an unknown family.

    >>> target = Target(np.array([[[0.1, 0.2]]]), ["nir"], "reflectance")
    >>> round(PairScorer(target).score(np.array([[[0.1, 0.4]]])).numbers()["mae"], 6)
    0.1
    """

    def __init__(self, target: Target, families: Collection[str] | None = None) -> None:
        known = known_families()
        for name in families or ():
            if name not in known:
                raise CrossbandError(f"unknown family of metrics {name!r}: {nearest(name, known)}")
        self.target = target
        self.families: dict[str, Family] = {
            name: family(target)
            for name, family in known.items()
            if (families is None or name in families) and family.applies(target)
        }

    def score(self, image: ArrayLike) -> Score:
        """Score an output: [C, H, W], physical units; NaN or infinite where it has no value."""
        output = Output(image, self.target)
        return Score(
            self.target.unit,
            self.target.scale,
            self.target.valid.size,
            self.target.n,
            output.n_nonfinite,
            {name: family.sums(output) for name, family in self.families.items()},
        )


def usable_indices(
    names: Sequence[str],
    source: Sequence[str],
    target: Sequence[str],
    *,
    unit: str,
    same_pixels: bool,
) -> list[str]:
    """Return the indices that can be compared: all bands are available, one of them synthetic.

    Args:
        names: spyndex short names.
        source: common names of the true bands of the source.
        target: common names of the synthetic bands.
        unit: unit of the target. Normalised differences work in any unit. The constants of other
            indices are defined for reflectance.
        same_pixels: whether source and target have the same grid and unit. An index over two units
            (8-bit red, reflectance NIR) has no meaning.

    Raises:
        BandError: an unknown index.
    """
    available = set(target) | (set(source) if same_pixels else set())
    out = []
    for name in names:
        needed = set(spectral.required_bands(name))
        if unit != REFLECTANCE and name not in spectral.BOUNDED:
            continue
        if needed & set(target) and needed <= available:
            out.append(name)
    return out


def as_json(value: Any) -> Any:
    """Return a copy that JSON can hold: NaN and infinity become None, NumPy numbers plain ones.

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
