"""The error of a spectral index that is computed from the output."""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.core import indices
from crossband.core.resample import resize_to
from crossband.core.sensors import DISPLAY, REFLECTANCE
from crossband.errors import nearest
from crossband.training.losses.base import Loss, Prediction, masked_mean


class IndexLoss(Loss):
    """Mean absolute error of a spectral index, computed from physical values.

    The index of the output takes the synthetic bands from the output and all others from the
    source; the true index takes them from target and source. As in the metric
    (`crossband.metrics`), negative values count as 0, and pixels count only where the absolute true
    denominator is above `guard`, because the index is noise over deep shadow and clear water. The
    denominator of the output is clamped at `guard`. Clamped negative values keep their gradient
    (straight-through), so that an output below 0 can recover.

    Samples count only if their unit allows the index (reflectance; for normalised differences also
    `display`) and source and target have the same unit.

    Args:
        index: NDVI, NDWI, GNDVI, EVI, SAVI or MSAVI.
        weight: weight of this loss.
        guard: smallest absolute denominator, in the unit of the bands.
    """

    examples = ({}, {"index": "EVI"})

    def __init__(self, index: str = "NDVI", weight: float = 1.0, guard: float = 0.02) -> None:
        super().__init__()
        if index not in indices.CLOSED_FORMS:
            raise ValueError(f"no index loss {index!r}: {nearest(index, indices.CLOSED_FORMS)}")
        self.index, self.weight, self.guard = index, weight, guard

    @property
    def label(self) -> str:
        """The index's name."""
        return self.index

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the mean |index(output) - index(truth)| of each sample, [B]."""
        p = prediction
        source = resize_to(p.physical_source, p.target.shape[-2:])
        given = _by_name(source, p.signature.source)
        truth = given | _by_name(p.physical_target, p.signature.target)
        output = given | _by_name(p.physical_output, p.signature.target)
        indices.check(self.index, set(truth))
        value_true, held_true, defined = self._compute(truth)
        value, held, _ = self._compute(output)
        counts = torch.tensor([self._allowed(p, unit) for unit in p.units])
        where = p.mask & defined & counts.to(p.mask.device, non_blocking=True)[:, None, None, None]
        # Clamp before dividing: where() would pass a NaN of the other branch into the gradient.
        return masked_mean((value / held - value_true / held_true).abs(), where)

    def _compute(self, bands: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return numerator, denominator clamped at the guard, and where it was not clamped."""
        formula, needed = indices.CLOSED_FORMS[self.index]
        numerator, denominator = formula({b: _clamped(bands[b]) for b in needed})
        denominator = torch.as_tensor(denominator, dtype=numerator.dtype, device=numerator.device)
        denominator = denominator.expand_as(numerator)
        defined = denominator.abs() > self.guard
        least = torch.full_like(denominator, self.guard).copysign(denominator.detach())
        return numerator, torch.where(defined, denominator, least), defined

    def _allowed(self, p: Prediction, unit: str) -> bool:
        units = {REFLECTANCE, DISPLAY} if self.index in indices.BOUNDED else {REFLECTANCE}
        return unit in units and p.signature.target_unit(unit) == unit


def _by_name(values: Tensor, names: list[str]) -> dict[str, Tensor]:
    return {name: values[:, i : i + 1] for i, name in enumerate(names)}


def _clamped(values: Tensor) -> Tensor:
    """Clamp at 0, with the gradient of the identity."""
    return values + (values.clamp_min(0.0) - values).detach()
