"""Base classes of metric families, and the target and output that all families read.

A family computes one or more metrics. It is one file in `crossband.metrics.families` with two
classes: a `Sums` (additive sums) and a `Family` (computes the sums of an output). `Target` and
`Output` hold values that several families need, such as centred images; each is computed on first
use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core.registry import Registered, available
from crossband.metrics.moments import Additive, Moments, SampleStats, data_range

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: An index is compared only where the magnitude of its true denominator (N + R for NDVI) is above
#: this, in the unit of the bands. Below it (deep shadow, clear water), sensor noise of 0.005 moves
#: NDVI by more than 0.25, so the error says nothing about the network.
GUARD = 0.02

#: Unit of a metric: that of the data, or one of its own; "" is a pure number.
DATA, DECIBELS, DEGREES, NONE = "data", "dB", "degrees", ""

Better = Literal["less", "more", "zero", ""]


@dataclass(frozen=True)
class Metric:
    """Description of one number of `Score.numbers`.

    Attributes:
        name: key in `Score.numbers`.
        heading: column heading.
        unit: `data` (the unit of the target), `dB`, `degrees`, or "" for a pure number.
        better: which values are better: `less`, `more`, `zero` (nearest to 0), or "" (neither).
        about: what the metric measures, in one line.
        needs: when the metric is available, in words; "" means always.
        source: the paper that defines it, or "".
        format: format specification for printing.
        most: the largest value, which also stands for larger ones; None where there is none.
    """

    name: str
    heading: str
    unit: str
    better: Better
    about: str
    needs: str = ""
    source: str = ""
    format: str = ".4f"
    most: float | None = None


@dataclass(frozen=True, eq=False)
class Sums(Additive):
    """Additive sums of one family, over one image or many.

    Attributes:
        handles_nonfinite: whether the numbers are already NaN, or not affected, where an output is
            not finite. If False, `Score` sets them to NaN as soon as one valid pixel of any image
            has an output that is not finite.
        report_only: whether only the report page needs them. They are then kept for each sensor,
            but not for each group.
    """

    handles_nonfinite: ClassVar[bool] = False
    report_only: ClassVar[bool] = False

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the metrics over all bands, by name; NaN where one is not defined."""
        return {}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return band -> metrics of that band, for families that are defined band by band."""
        return {}


class Family(
    Registered,
    family="Metric",
    package="crossband.metrics.families",
    key="name",
    remember=False,  # a family is built for each image
):
    """A family of metrics, prepared for one target.

    The constructor computes everything that depends on the target only. `sums` is then called for
    each output of that target.

    Attributes:
        name: the name under which the family is requested.
        metrics: the metrics that it computes.
        order: position of its metrics among those of other families.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = ()
    order: ClassVar[int] = 1000

    def __init__(self, target: Target) -> None:
        self.target = target

    @classmethod
    def applies(cls, target: Target) -> bool:
        """Return whether the metrics are meaningful for the target's unit, bands and scale."""
        return True

    def sums(self, output: Output) -> Sums:
        """Compute the sums of one output."""
        raise NotImplementedError


def known_families() -> dict[str, type[Family]]:
    """Return all families by name, in the order of their metrics."""
    families = sorted(available(Family).values(), key=lambda f: (f.order, f.name))
    return {family.name: family for family in families}


def _plain(image: ArrayLike) -> NDArray[Any]:
    """Return an array of real numbers, NaN where it is masked."""
    given: Any = image
    if hasattr(given, "requires_grad"):  # a tensor
        given = given.detach().cpu()
    found: NDArray[Any] = np.asarray(given)
    if found.dtype.kind not in "fiub":
        raise ValueError(f"real numbers are compared, not {found.dtype}")
    if np.ma.is_masked(given):
        kind = np.result_type(found.dtype, np.float32)
        found = np.where(np.ma.getmaskarray(given), np.nan, found).astype(kind)
    return found


class Target:
    """A true image, its mask, and the true bands of the source that metrics need.

    Args:
        image: [C, H, W], physical units. A pixel that is not finite, or masked in a NumPy array, in
            some band is masked.
        bands: common names of the C bands.
        unit: unit of the image.
        mask: bool [H, W], True where source and target are valid; None: all pixels are valid.
        other_bands: true bands that indices take from the source, common name -> [H, W], in the
            unit of the image.
        indices: spyndex short names of indices that these bands allow; see `usable_indices`.
        guard: smallest denominator of an index; see `GUARD`.
        scale: target pixels per source pixel along one side.
        source: for a scale above 1, the input of the model: common name ->
            [H / scale, W / scale], in the unit of the image.
        source_mask: bool [H / scale, W / scale], True for valid pixels of the source.

    Attributes:
        values: [C, H, W], float64; the mean of the band at pixels that are not valid.
        valid: bool [H, W].
        n: number of valid pixels.
        all_valid: whether all pixels are valid.
        flat: [C, n], values of the valid pixels.
        data_range: data range of the unit.
        band_means: [C], mean of each band over the valid pixels.

    Raises:
        ValueError: the shapes do not fit; a band is named twice; complex numbers.
        UnitError: an unknown unit.
    """

    def __init__(
        self,
        image: ArrayLike,
        bands: Sequence[str],
        unit: str,
        mask: ArrayLike | None = None,
        *,
        other_bands: Mapping[str, ArrayLike] | None = None,
        indices: Sequence[str] = (),
        guard: float = GUARD,
        scale: int = 1,
        source: Mapping[str, ArrayLike] | None = None,
        source_mask: ArrayLike | None = None,
    ) -> None:
        image = _plain(image)
        if image.ndim != 3 or len(bands) != image.shape[0]:
            raise ValueError(f"{len(bands)} bands, but the target is {image.shape}")
        if isinstance(bands, str) or len({*bands}) < len(bands):
            raise ValueError(f"names of bands, each once, not {bands!r}")
        self.bands, self.unit, self.data_range = tuple(bands), unit, data_range(unit)
        self.other_bands = {b: _plain(v) for b, v in (other_bands or {}).items()}
        self.indices, self.guard = tuple(indices), guard
        self.scale, self.shape = scale, image.shape
        raw = np.asarray(image, dtype=np.float64)
        self.valid: Mask = np.asarray(np.isfinite(raw).all(axis=0))
        if mask is not None:
            self.valid &= np.ma.filled(mask, False).astype(bool)
        self.n = int(np.count_nonzero(self.valid))
        self.all_valid = self.n == self.valid.size
        self.flat: Array = raw.reshape(len(raw), -1) if self.all_valid else raw[:, self.valid]
        self.band_means: Array = self.flat.mean(axis=1) if self.n else np.zeros(len(raw))
        fill = self.band_means[:, None, None]
        self.values: Array = raw if self.all_valid else np.where(self.valid, raw, fill)
        self.source = {b: _plain(v).astype(np.float64) for b, v in (source or {}).items()}
        self.source_mask: Mask | None = None
        if self.source:
            known: Mask = np.asarray(np.isfinite(np.stack([*self.source.values()])).all(axis=0))
            if source_mask is not None:
                known &= np.asarray(source_mask, dtype=bool)
            self.source_mask = known
            if tuple(n * scale for n in known.shape) != self.valid.shape:
                raise ValueError(
                    f"the source is {known.shape} at scale {scale}, the target {self.valid.shape}"
                )

    @cached_property
    def centred(self) -> Array:
        """[C, H, W]: values minus the mean of their band, so that squares keep their digits."""
        return self.values - self.band_means[:, None, None]

    @cached_property
    def stats(self) -> list[SampleStats]:
        """Statistics of each band, for the moments."""
        return [SampleStats.of(t) for t in self.flat]


class Output:
    """A synthetic image of a target.

    Args:
        image: [C, H, W], physical units; NaN, infinite or masked where the network returned no
            value.
        target: the target.

    Attributes:
        raw: the image as given.
        valid: bool [H, W], valid pixels of the target at which all bands of the output are finite.
        n_nonfinite: number of valid pixels of the target at which some band is not finite.
        finite: whether there are none of these.
        values: [C, H, W], float64. At pixels that are masked or not finite these are the target's
            values, so that no sum becomes NaN; see `Sums.handles_nonfinite`.

    Raises:
        ValueError: the shapes differ; complex numbers.
    """

    def __init__(self, image: ArrayLike, target: Target) -> None:
        image = _plain(image)
        if image.shape != target.shape:
            raise ValueError(f"the output is {image.shape}, the target {target.shape}")
        self.target, self.raw = target, image
        finite = np.isfinite(image)
        self.valid: Mask = target.valid & finite.all(axis=0)
        self.n_nonfinite = target.n - int(np.count_nonzero(self.valid))
        self.finite = self.n_nonfinite == 0
        if self.finite and target.all_valid:
            self.values: Array = np.asarray(image, dtype=np.float64)
        else:
            self.values = np.where(finite & target.valid, image, target.values)

    @cached_property
    def flat(self) -> Array:
        """[C, n]: values at the valid pixels of the target."""
        v = self.values
        return v.reshape(len(v), -1) if self.target.all_valid else v[:, self.target.valid]

    @cached_property
    def centred(self) -> Array:
        """[C, H, W]: values minus the target's mean of their band."""
        return self.values - self.target.band_means[:, None, None]

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Band -> moments; pixels that are not finite are counted in them."""
        t = self.target
        if self.finite:
            bands = zip(t.bands, self.flat, t.flat, t.stats, strict=True)
            return {band: Moments.of_finite(p, v, stats) for band, p, v, stats in bands}
        raw = self.raw[:, t.valid]
        return {b: Moments.of(p, v) for b, p, v in zip(t.bands, raw, t.flat, strict=True)}
