"""All metrics of one image, which add up to those of a group, a sensor, a manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core import indices as spectral
from crossband.core.sensors import REFLECTANCE
from crossband.errors import CrossbandError, UnitError, nearest
from crossband.metrics.families.index import Indices
from crossband.metrics.families.pixel import Pixels
from crossband.metrics.families.profiles import Profile, Profiles
from crossband.metrics.families.spectrum import Spectra, Spectrum
from crossband.metrics.families.structure import Structure
from crossband.metrics.family import Output, Part, Truth, known_families
from crossband.metrics.index_error import GUARD
from crossband.metrics.moments import NAN, Moments

#: Metrics that every score has; what others need is said in `known_metrics`.
METRICS = ("mae", "rmse", "bias", "r2", "r", "psnr", "ssim")
COUNTS = ("n_pixels", "n_valid", "n_nonfinite", "n_windows")


@dataclass(frozen=True, eq=False)
class Score:
    """Additive score of one image or of many, all in one unit and at one scale.

    Attributes:
        unit: physical unit of the target.
        scale: pixels of the target per pixel of the source, along each side.
        n_pixels: pixels of the images, masked ones included.
        n_valid: pixels that count: source and target are valid.
        n_nonfinite: of these, pixels where some band of the output is NaN or infinite.
        parts: family -> its sums.
    """

    unit: str
    scale: int = 1
    n_pixels: int = 0
    n_valid: int = 0
    n_nonfinite: int = 0
    parts: dict[str, Part] = field(default_factory=dict)

    def __add__(self, other: Score) -> Score:
        """Return the score of both sets of images; UnitError where their units differ."""
        if self.unit != other.unit:
            raise UnitError(f"{self.unit} and {other.unit} cannot be averaged together")
        if self.scale != other.scale:
            raise CrossbandError(f"scores at scale {self.scale} and {other.scale} do not add up")
        both = {
            name: part + other.parts[name] if name in other.parts else part
            for name, part in self.parts.items()
        }
        return Score(
            self.unit,
            self.scale,
            self.n_pixels + other.n_pixels,
            self.n_valid + other.n_valid,
            self.n_nonfinite + other.n_nonfinite,
            other.parts | both,
        )

    def numbers(self) -> dict[str, float | int]:
        """Return every metric by name; NaN where it is not defined.

        How each is formed over bands, and over many images, is said where its sums are: in the
        files of `crossband.metrics.families`. One output that is not finite makes a metric NaN.
        """
        windows = self._part(Structure)
        out: dict[str, float | int] = {
            "n_pixels": self.n_pixels,
            "n_valid": self.n_valid,
            "n_nonfinite": self.n_nonfinite,
            "n_windows": windows.n_windows if windows is not None else 0,
        }
        for name in known_families():
            if name in self.parts:
                part = self.parts[name]
                out |= self._told(part, part.numbers(self.unit, self.scale))
        return out

    def band_numbers(self) -> dict[str, dict[str, float]]:
        """Return the metrics of each band, those that a band has alone."""
        out: dict[str, dict[str, float]] = {}
        for name in known_families():
            if name in self.parts:
                part = self.parts[name]
                for band, numbers in part.band_numbers(self.unit, self.scale).items():
                    out.setdefault(band, {}).update(self._told(part, numbers))
        return out

    def light(self) -> Score:
        """Return the score without what only pages need (profiles)."""
        return replace(self, parts={k: p for k, p in self.parts.items() if not p.heavy})

    def spectrum(self) -> dict[str, Spectrum]:
        """Return band -> power spectrum; empty where no tile of 64 x 64 is wholly valid.

        Empty also where an output is not finite: it has no spectrum.
        """
        part = self._part(Spectra)
        return part.spectrum() if part is not None and not self.n_nonfinite else {}

    def profiles(self) -> dict[str, Profile]:
        """Return band -> where the errors lie; empty for a `light` score."""
        part = self._part(Profiles)
        return part.profiles(self.unit) if part is not None else {}

    @property
    def bands(self) -> dict[str, Moments]:
        """Band -> moments."""
        part = self._part(Pixels)
        return part.bands if part is not None else {}

    @property
    def indices(self) -> dict[str, Moments]:
        """Index -> moments on the pixels where the true index is defined."""
        part = self._part(Indices)
        return part.indices if part is not None else {}

    def _told(self, part: Part, numbers: Mapping[str, float]) -> dict[str, float]:
        """Return the numbers; NaN where outputs have gaps that the part does not know of."""
        whole = part.gaps or not self.n_nonfinite
        return {name: value if whole else NAN for name, value in numbers.items()}

    def _part(self, kind: type[Any]) -> Any:
        return next((p for p in self.parts.values() if isinstance(p, kind)), None)


def usable_indices(
    names: Sequence[str],
    source: Sequence[str],
    target: Sequence[str],
    *,
    unit: str,
    same_pixels: bool,
) -> list[str]:
    """Return those indices that can be judged: all bands are there, a synthetic one among them.

    Args:
        names: spyndex short names; an unknown one is a BandError.
        source: common names of the true bands that stand beside the synthetic ones.
        target: common names of the synthetic bands.
        unit: unit of the target; normalised differences work in any, the others have constants
            that mean reflectance.
        same_pixels: whether source and target have one grid and one unit; an index over two units
            (8-bit red, reflectance NIR) means nothing.
    """
    beside = set(source) if same_pixels else set()
    out = []
    for name in names:
        needed = set(spectral.required_bands(name))
        if unit != REFLECTANCE and name not in spectral.BOUNDED:
            continue
        if needed & set(target) and needed <= beside | set(target):
            out.append(name)
    return out


class Judge:
    """A target that outputs are held against: what it alone decides is computed once.

    Args:
        target: [C, H, W], physical units; a pixel that is NaN in any band is masked.
        bands: common names of the C bands.
        unit: their unit.
        mask: bool [H, W], True where source and target are valid.
        beside: true bands that indices take from the source, common name -> [H, W], same unit.
        indices: spyndex short names that these bands allow (see `usable_indices`).
        guard: see `crossband.metrics.index_error.GUARD`.
        scale: pixels of the target per pixel of the source, along each side.
        source: where the scale is above 1: what the model was given, common name ->
            [H / scale, W / scale], in the unit of the target.
        source_mask: bool, of the source.
        families: names of those to compute (see `known_families`); all that apply where None.

    Raises:
        ValueError: shapes that do not fit.
        CrossbandError: an unknown family.
    """

    def __init__(
        self,
        target: NDArray[np.floating],
        bands: Sequence[str],
        unit: str,
        mask: ArrayLike | None = None,
        *,
        beside: Mapping[str, ArrayLike] | None = None,
        indices: Sequence[str] = (),
        guard: float = GUARD,
        scale: int = 1,
        source: Mapping[str, ArrayLike] | None = None,
        source_mask: ArrayLike | None = None,
        families: Collection[str] | None = None,
    ) -> None:
        known = known_families()
        for name in families or ():
            if name not in known:
                raise CrossbandError(f"unknown family of metrics {name!r}: {nearest(name, known)}")
        self.truth = Truth(
            target,
            bands,
            unit,
            mask,
            beside=beside,
            indices=indices,
            guard=guard,
            scale=scale,
            source=source,
            source_mask=source_mask,
        )
        self.families = {
            name: family(self.truth)
            for name, family in known.items()
            if (families is None or name in families) and family.applies(self.truth)
        }

    def score(self, prediction: NDArray[np.floating]) -> Score:
        """Score an output.

        Args:
            prediction: [C, H, W], physical units; NaN or infinite where the network gave no value.
        """
        output = Output(prediction, self.truth)
        return Score(
            self.truth.unit,
            self.truth.scale,
            self.truth.valid.size,
            self.truth.n,
            output.n_nonfinite,
            {name: family.part(output) for name, family in self.families.items()},
        )


def score(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    bands: Sequence[str],
    unit: str,
    mask: ArrayLike | None = None,
    **known: Any,
) -> Score:
    """Compare a synthetic image with the true one; for several of one target see `Judge`.

    Args:
        prediction: [C, H, W], physical units; NaN or infinite where the network gave no value.
        target: [C, H, W], same unit; a pixel that is NaN in any band is masked.
        bands: common names of the C bands.
        unit: of both.
        mask: bool [H, W], True where source and target are valid.
        **known: of `Judge`: beside, indices, guard, scale, source, source_mask, families.
    """
    return Judge(target, bands, unit, mask, **known).score(prediction)
