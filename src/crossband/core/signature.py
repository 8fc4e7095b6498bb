"""The signature of a translation: source bands, target bands, units and value ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from crossband.core.sensors import VALID_RANGE
from crossband.errors import ModelError, UnitError, nearest


@dataclass(frozen=True)
class UnitRange:
    """The normalisation for one source unit, and the unit of the target.

    Attributes:
        source: (low, high) in physical units for each source band; low -> 0, high -> 1.
        target: (low, high) for each target band.
        target_unit: unit of the target; the source's own where None.
    """

    source: list[tuple[float, float]]
    target: list[tuple[float, float]]
    target_unit: str | None = None


@dataclass(frozen=True)
class Signature:
    """Bands and units of a translation; stored in the model.

    Attributes:
        source: common names of the source bands, in the network's channel order.
        target: common names of the target bands.
        units: source unit -> ranges. A unit that is not here is refused.
    """

    source: list[str]
    target: list[str]
    units: dict[str, UnitRange]

    def __post_init__(self) -> None:
        """Check the units, and that each band has a range with low < high."""
        if not self.units:
            raise ModelError("a signature needs at least one unit")
        for unit, r in self.units.items():
            for known in (unit, self.target_unit(unit)):
                if known not in VALID_RANGE:
                    raise UnitError(f"unknown unit {known!r}: {nearest(known, VALID_RANGE)}")
            for what, bands, ranges in (
                ("source", self.source, r.source),
                ("target", self.target, r.target),
            ):
                if len(bands) != len(ranges):
                    raise ModelError(
                        f"{unit}: {len(ranges)} {what} ranges for {len(bands)} {what} bands"
                    )
                if any(low >= high for low, high in ranges):
                    raise ModelError(f"{unit}: a {what} range must be (low, high) with low < high")

    def target_unit(self, unit: str) -> str:
        """Return the unit of the target for a unit of the source."""
        return self.units[unit].target_unit or unit

    def check_unit(self, unit: str) -> None:
        """Raise UnitError if the model was not trained on a unit."""
        if unit not in self.units:
            raise UnitError(
                f"the source is {unit}, but the model was trained on {' and '.join(self.units)}"
            )

    def ranges(self, units: Sequence[str], side: str, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high - low as [B or 1, C, 1, 1], with one unit for each sample."""
        table = [getattr(self.units[u], side) for u in units]
        bounds = torch.tensor(table, dtype=torch.float32).to(like.device, non_blocking=True)
        low = bounds[:, :, 0, None, None]
        return low, bounds[:, :, 1, None, None] - low

    def normalise(self, values: Tensor, units: Sequence[str], side: str) -> Tensor:
        """Physical [B, C, H, W] -> about 0..1; `units` holds one name, or one for each sample."""
        low, span = self.ranges(units, side, values)
        return (values - low) / span

    def denormalise(self, values: Tensor, units: Sequence[str], side: str) -> Tensor:
        """About 0..1 -> physical; see `normalise`."""
        low, span = self.ranges(units, side, values)
        wide = values if values.dtype == torch.float64 else values.float()
        return wide * span + low

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `model.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Rebuild from plain data; ModelError if keys are missing or have wrong values."""
        try:
            units = {
                unit: UnitRange(
                    [(float(a), float(b)) for a, b in r["source"]],
                    [(float(a), float(b)) for a, b in r["target"]],
                    r.get("target_unit"),
                )
                for unit, r in data["units"].items()
            }
            return cls(list(data["source"]), list(data["target"]), units)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"the signature is malformed: {error!r}") from error
