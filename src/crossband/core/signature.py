"""The signature of a translation: source bands, target bands, units and value ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossband.core.sensors import VALID_RANGE
from crossband.errors import ModelError, UnitError, nearest

#: Bands on either side, at most; hyperspectral sensors have a few hundred.
MOST_BANDS = 1024


@dataclass(frozen=True)
class UnitRange:
    """The normalisation for one source unit, and the unit of the target.

    Attributes:
        source: (low, high) in physical units for each source band; low -> 0, high -> 1.
        target: (low, high) for each target band.
        target_unit: unit of the target; by default the source's own.
        guide: (low, high) for each guide band, in the unit of the target.
    """

    source: list[tuple[float, float]]
    target: list[tuple[float, float]]
    target_unit: str | None = None
    guide: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Signature:
    """Bands and units of a translation; stored in the model.

    Attributes:
        source: common names of the source bands, in the network's channel order.
        target: common names of the target bands.
        units: source unit -> ranges. A unit that is not here is refused.
        guide: common names of the bands of a measurement that the network takes beside the source,
            in the unit of the target; empty for a network that takes none.
    """

    source: list[str]
    target: list[str]
    units: dict[str, UnitRange]
    guide: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the units, and that each band has a range with low < high."""
        if not self.units:
            raise ModelError("a signature needs at least one unit")
        if not all(isinstance(r.target_unit, str | None) for r in self.units.values()):
            raise ModelError("the unit of a target is no text")
        for what, bands, least in (
            ("source", self.source, 1),
            ("target", self.target, 1),
            ("guide", self.guide, 0),
        ):
            if not least <= len(bands) <= MOST_BANDS:
                raise ModelError(
                    f"{least} to {MOST_BANDS} {what} bands are possible, not {len(bands)}"
                )
            if not all(0 < len(band) <= 80 and band.isprintable() for band in bands):
                raise ModelError(f"a {what} band needs a name of 1 to 80 characters in one line")
            if len(set(bands)) < len(bands):
                raise ModelError(f"one of the {what} bands is named twice: {', '.join(bands)}")
        for unit, r in self.units.items():
            for known in (unit, self.target_unit(unit)):
                if known not in VALID_RANGE:
                    raise UnitError(f"unknown unit {known!r}: {nearest(known, VALID_RANGE)}")
            for what, bands, ranges in (
                ("source", self.source, r.source),
                ("target", self.target, r.target),
                ("guide", self.guide, r.guide),
            ):
                if len(bands) != len(ranges):
                    raise ModelError(
                        f"{unit}: {len(ranges)} {what} ranges for {len(bands)} {what} bands"
                    )
                if not all(_is_range(low, high) for low, high in ranges):
                    raise ModelError(
                        f"{unit}: a {what} range must be (low, high) with low < high, both finite "
                        "and apart in float32"
                    )

    def target_unit(self, unit: str) -> str:
        """Return the unit of the target for a unit of the source."""
        return self.units[unit].target_unit or unit

    def check_unit(self, unit: str) -> None:
        """Raise UnitError if the model was not trained on a unit."""
        if unit not in self.units:
            raise UnitError(f"the source is {unit}, but the model takes {' and '.join(self.units)}")

    def ranges(self, units: Sequence[str], side: str, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high - low as [B or 1, C, 1, 1], with one unit for each sample."""
        few = units[:1] if len(set(units)) == 1 else units
        table = [getattr(self.units[u], side) for u in few]
        bounds = torch.tensor(table, dtype=torch.float32).to(like.device, non_blocking=True)
        low = bounds[:, :, 0, None, None]
        return low, bounds[:, :, 1, None, None] - low

    def normalise(self, values: Tensor, units: Sequence[str], side: str) -> Tensor:
        """Physical [B, C, H, W] -> about 0..1; `units` holds one name, or one for each sample."""
        low, span = self.ranges(units, side, values)
        return (values - low) / span

    def denormalise(self, values: Tensor, units: Sequence[str], side: str) -> Tensor:
        """Turn normalised values [B, C, H, W] into physical ones; see `normalise`."""
        low, span = self.ranges(units, side, values)
        wide = values if values.dtype == torch.float64 else values.float()
        return wide * span + low

    def normalise_guide(self, guide: Tensor, units: Sequence[str]) -> Tensor:
        """Normalise the bands of guides [B, G + F, H, W]; invalid pixels become 0.

        Behind the G bands follow where they are valid, and further facts that stay as they are.
        """
        bands = len(self.guide)
        low, span = self.ranges(units, "guide", guide)
        valid = guide[:, bands : bands + 1]
        return torch.cat([(guide[:, :bands] - low) / span * valid, guide[:, bands:]], dim=1)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `model.json`; a model without a guide says nothing of one."""
        data = asdict(self)
        if not self.guide:
            del data["guide"]
            for ranges in data["units"].values():
                del ranges["guide"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Rebuild from plain data; ModelError if keys are missing or have wrong values."""
        try:
            units = {
                unit: UnitRange(
                    _ranges(r["source"]),
                    _ranges(r["target"]),
                    r.get("target_unit"),
                    _ranges(r.get("guide", [])),
                )
                for unit, r in data["units"].items()
            }
            source, target, guide = data["source"], data["target"], data.get("guide", [])
        except KeyError as error:
            raise ModelError(f"the signature is malformed: the key {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                "the signature is malformed: it needs units, and for each one a source and a "
                "target with a low and a high number for each band"
            ) from error
        for bands in (source, target, guide):
            if not isinstance(bands, list) or not all(isinstance(band, str) for band in bands):
                raise ModelError("the signature is malformed: its bands are no list of names")
        return cls(source, target, units, guide)


def _ranges(data: Any) -> list[tuple[float, float]]:
    return [(float(low), float(high)) for low, high in data]


def _is_range(low: float, high: float) -> bool:
    """Return whether the width of a range is a number above 0 in float32, as it is computed."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.float32(high) - np.float32(low)
    return bool(np.isfinite(width) and width > 0)
