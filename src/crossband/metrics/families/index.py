"""How wrong spectral indices are, by the rules of `crossband.metrics.index_error`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossband.core.indices import required_bands
from crossband.metrics.family import Array, Family, Output, Part, Truth
from crossband.metrics.index_error import clamped, index_values
from crossband.metrics.moments import Moments, Side


@dataclass(frozen=True, eq=False)
class Indices(Part):
    """Moments of each index, on the pixels where the true index is defined."""

    gaps = True

    indices: dict[str, Moments] = field(default_factory=dict)

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return `<index>_mae`, `_rmse`, `_bias`, `_r2`, `_r`, and the pixels `_n`."""
        out: dict[str, float] = {}
        for name, m in self.indices.items():
            kinds = {"mae": m.mae, "rmse": m.rmse, "bias": m.bias, "r2": m.r2, "r": m.r}
            out |= {f"{name}_{kind}": value for kind, value in kinds.items()}
            out[f"{name}_n"] = m.n + m.n_nonfinite
        return out


class SpectralIndices(Family):
    """Errors of the indices that were asked for. Their names are `of_index` of the catalogue."""

    name = "index"
    place = 200

    @classmethod
    def applies(cls, truth: Truth) -> bool:
        """Return whether an index was asked for."""
        return bool(truth.indices)

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.needed = {b for name in truth.indices for b in required_bands(name)}
        beside = {
            b: np.asarray(v)[truth.valid]
            for b, v in truth.beside.items()
            if b in self.needed and b not in truth.bands
        }
        self.beside = clamped(beside, truth.unit)
        true = self._with(truth.flat)
        self.own = {}
        for name in truth.indices:
            values, defined = index_values(name, true, truth.unit, truth.guard, ready=True)
            every = bool(defined.all())
            values = values if every else values[defined]
            self.own[name] = (values, None if every else defined, Side.of(values))

    def _with(self, flat: NDArray[np.floating]) -> dict[str, Array]:
        """Return the bands of the indices: these [C, n], and the true ones beside them."""
        own = {b: v for b, v in zip(self.truth.bands, flat, strict=True) if b in self.needed}
        return self.beside | clamped(own, self.truth.unit)

    def part(self, output: Output) -> Indices:
        """Take the moments."""
        truth = self.truth
        synthetic = self._with(output.flat if output.finite else output.raw[:, truth.valid])
        found = {}
        for name, (true, defined, side) in self.own.items():
            values, _ = index_values(name, synthetic, truth.unit, truth.guard, ready=True)
            values = values if defined is None else values[defined]
            whole = bool(np.isfinite(values).all())
            found[name] = Moments.against(values, true, side) if whole else Moments.of(values, true)
        return Indices(found)
