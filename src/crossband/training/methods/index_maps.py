"""Colour maps of a spectral index, for the logged validation images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crossband.core import indices
from crossband.core.indices import BOUNDED
from crossband.core.sensors import DISPLAY, REFLECTANCE
from crossband.training.losses.base import Prediction

#: Colours of -1, -0.75, ..., 1: blue for water, brown for soil, green for plants.
COLOURS = (
    (0.03, 0.19, 0.42),
    (0.13, 0.44, 0.71),
    (0.42, 0.68, 0.84),
    (0.78, 0.86, 0.94),
    (0.96, 0.91, 0.76),
    (0.75, 0.51, 0.18),
    (0.65, 0.85, 0.42),
    (0.10, 0.60, 0.31),
    (0.00, 0.27, 0.11),
)


def index_maps(p: Prediction, sample: int) -> list[Tensor]:
    """Return index maps of target and output, [3, h, w] in 0..1; none if no index is possible."""
    name = first_index(p, p.units[sample])
    if name is None:
        return []
    size = p.target.shape[-2:]
    source = functional.interpolate(p.physical_source[sample][None], size, mode="nearest")[0]
    given = dict(zip(p.signature.source, source, strict=True))
    maps = []
    for values in (p.physical_target[sample], p.physical_output[sample]):
        bands = given | dict(zip(p.signature.target, values, strict=True))
        bands = {band: value.clamp_min(0.0) for band, value in bands.items()}
        # 0 / 0 in black pixels is drawn as 0.
        maps.append(coloured(torch.nan_to_num(indices.compute(name, bands))))
    return maps


def first_index(p: Prediction, unit: str) -> str | None:
    """Return the first index that uses a target band, has all its bands, and is valid in this unit.

    That is NDVI where there are near infrared and red.
    """
    source, target = set(p.signature.source), set(p.signature.target)
    if p.signature.target_unit(unit) != unit or unit not in (REFLECTANCE, DISPLAY):
        return None
    for name, (_, needed) in indices.CLOSED_FORMS.items():
        possible = unit == REFLECTANCE or name in BOUNDED
        if possible and target & set(needed) and set(needed) <= source | target:
            return name
    return None


def coloured(values: Tensor) -> Tensor:
    """Return colours [3, h, w] for values [h, w]; values outside -1..1 are clipped."""
    table = torch.tensor(COLOURS, device=values.device)
    place = (values.float().clamp(-1, 1) + 1) / 2 * (len(table) - 1)
    low = place.long().clamp_max(len(table) - 2)
    share = (place - low)[..., None]
    return torch.lerp(table[low], table[low + 1], share).permute(2, 0, 1)
