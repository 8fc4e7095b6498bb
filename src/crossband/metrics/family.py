"""A family of metrics: what is prepared of a target once, and what each output adds to the sums.

A family is one file in `crossband.metrics.families`, which joins by being there: a `Part` that
holds additive sums, and a `Family` that makes it. `Truth` and `Output` hold what the families
share, computed when the first of them asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core.registry import Registered, available
from crossband.metrics.catalogue import Metric
from crossband.metrics.index_error import GUARD
from crossband.metrics.moments import Moments, Side, data_range

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """Additive sums of one family over one image or many.

    Fields are numbers, arrays, or dicts of such (by band): they are added one by one.

    Attributes:
        gaps: whether the part knows itself what an output that is not finite does to it. Else
            `Score` makes its numbers NaN as soon as one pixel of any image has no finite value.
        heavy: whether it is for pages only; kept for a sensor, not for each group.
    """

    gaps: ClassVar[bool] = False
    heavy: ClassVar[bool] = False

    def __add__(self, other: Self) -> Self:
        """Return the sums over both sets of images."""
        both = {f.name: _plus(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return type(self)(**both)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the family's metrics over all bands, by name; NaN where not defined."""
        return {}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return band -> metrics of that band alone, for those families that have them."""
        return {}


def _plus(a: Any, b: Any) -> Any:
    if not isinstance(a, dict):
        return a + b
    return {
        **a,
        **{key: _plus(a[key], value) if key in a else value for key, value in b.items()},
    }


class Family(
    Registered,
    family="Metric",
    package="crossband.metrics.families",
    key="name",
    remember=False,  # it is made for each image
):
    """A family of metrics, prepared for one target.

    Attributes:
        name: by which it is asked for.
        metrics: the numbers it gives.
        place: where its numbers stand among those of others.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]] = ()
    place: ClassVar[int] = 1000

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    @classmethod
    def applies(cls, truth: Truth) -> bool:
        """Return whether unit, bands and scale give these metrics a meaning."""
        return True

    def part(self, output: Output) -> Part:
        """Take the sums of one output."""
        raise NotImplementedError


def known_families() -> dict[str, type[Family]]:
    """Return every family by name, in the order of their numbers."""
    families = sorted(available(Family).values(), key=lambda f: (f.place, f.name))
    return {family.name: family for family in families}


class Truth:
    """A target and what is known beside it; arguments as those of `Judge`.

    Attributes:
        values: [C, H, W], float64; the band's mean where a pixel does not count.
        valid: bool [H, W].
        whole: whether all pixels count.
        n: pixels that count.
        limit: data range of the unit.
        level: [C], mean of each band over the pixels that count.
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
    ) -> None:
        if target.ndim != 3 or len(bands) != target.shape[0]:
            raise ValueError(f"{len(bands)} bands, but the target is {target.shape}")
        self.bands, self.unit, self.limit = tuple(bands), unit, data_range(unit)
        self.beside, self.indices, self.guard = dict(beside or {}), tuple(indices), guard
        self.scale, self.shape = scale, target.shape
        raw = np.asarray(target, dtype=np.float64)
        self.valid: Mask = np.asarray(np.isfinite(raw).all(axis=0))
        if mask is not None:
            self.valid &= np.asarray(mask, dtype=bool)
        self.n = int(np.count_nonzero(self.valid))
        self.whole = self.n == self.valid.size
        self.flat: Array = raw.reshape(len(raw), -1) if self.whole else raw[:, self.valid]
        self.level: Array = self.flat.mean(axis=1) if self.n else np.zeros(len(raw))
        fill = self.level[:, None, None]
        self.values: Array = raw if self.whole else np.where(self.valid, raw, fill)
        self.source = {b: np.asarray(v, dtype=np.float64) for b, v in (source or {}).items()}
        self.source_mask: Mask | None = None
        if self.source:
            there: Mask = np.asarray(np.isfinite(np.stack([*self.source.values()])).all(axis=0))
            if source_mask is not None:
                there &= np.asarray(source_mask, dtype=bool)
            self.source_mask = there
            fine = tuple(n * scale for n in there.shape)
            if fine != self.valid.shape:
                raise ValueError(
                    f"the source is {there.shape} at scale {scale}, the target {self.valid.shape}"
                )

    @cached_property
    def centred(self) -> Array:
        """[C, H, W]: values less the level of their band, so that squares keep their digits."""
        return self.values - self.level[:, None, None]

    @cached_property
    def sides(self) -> list[Side]:
        """What the moments need of the target alone, band by band."""
        return [Side.of(t) for t in self.flat]


class Output:
    """What a model gave for a target.

    Attributes:
        raw: [C, H, W] as it came.
        finite: whether every pixel that counts has a finite value in all bands.
        n_nonfinite: pixels that count of which some band has none.
        values: [C, H, W], float64; the target's own value where a pixel does not count, or has
            none, so that nothing there can spoil a sum (numbers are NaN then, see `Part.gaps`).
        known: bool [H, W]: pixels that count and have a finite value in all bands.
    """

    def __init__(self, prediction: NDArray[np.floating], truth: Truth) -> None:
        if prediction.shape != truth.shape:
            raise ValueError(f"the output is {prediction.shape}, the target {truth.shape}")
        self.truth, self.raw = truth, prediction
        there = np.isfinite(prediction)
        finite = there.all(axis=0)
        self.known: Mask = truth.valid & finite
        self.n_nonfinite = truth.n - int(np.count_nonzero(self.known))
        self.finite = self.n_nonfinite == 0
        if self.finite and truth.whole:
            self.values: Array = np.asarray(prediction, dtype=np.float64)
        else:
            self.values = np.where(there & truth.valid, prediction, truth.values)

    @cached_property
    def flat(self) -> Array:
        """[C, n]: values of the pixels that count."""
        v = self.values
        return v.reshape(len(v), -1) if self.truth.whole else v[:, self.truth.valid]

    @cached_property
    def centred(self) -> Array:
        """[C, H, W]: values less the target's level."""
        return self.values - self.truth.level[:, None, None]

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Band -> moments, with what is not finite counted."""
        t = self.truth
        if self.finite:
            sides = zip(t.bands, self.flat, t.flat, t.sides, strict=True)
            return {band: Moments.against(p, v, side) for band, p, v, side in sides}
        raw = self.raw[:, t.valid]
        return {b: Moments.of(p, v) for b, p, v in zip(t.bands, raw, t.flat, strict=True)}
