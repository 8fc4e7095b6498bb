"""Validation during training: errors by unit and group, one score, a few fixed images."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor
from torch.nn import functional

from crossband.core.sensors import VALID_RANGE
from crossband.training.losses.base import Prediction
from crossband.training.methods.index_maps import index_maps

#: Longest side of a logged image.
SIDE = 256


class Validation:
    """Collects the errors of validation batches; waits for the device once, at the end.

    Errors of different units are never averaged. The score that selects the best checkpoint is the
    mean over groups of the absolute error in normalised values, so that every group has the same
    weight, whatever its size.

    Args:
        pictures: number of windows to draw: the first window of as many groups.
    """

    def __init__(self, pictures: int = 4) -> None:
        self.pictures = pictures
        self._seen: list[tuple[str, str, int, Tensor]] = []
        self._drawn: dict[str, Tensor] = {}

    def add(self, p: Prediction, groups: list[str], windows: list[int]) -> None:
        """Add the windows of a batch, with the group and the number of each."""
        output, target = p.physical_output, p.physical_target
        _, span = p.signature.ranges(p.units, "target", output)
        for i, (unit, group, window) in enumerate(zip(p.units, groups, windows, strict=True)):
            out = p.signature.target_unit(unit)
            error = (output[i].clamp(*VALID_RANGE[out]) - target[i]).abs() * p.mask[i]
            normal = error / span[i if len(span) > 1 else 0]
            count = p.mask[i].sum() * error.shape[0]
            # Metal has no float64.
            wide = torch.float32 if error.device.type == "mps" else torch.float64
            sums = torch.stack([error.to(wide).sum(), normal.to(wide).sum(), count.to(wide)])
            self._seen.append((out, group, window, sums))
            name = f"validation/{group}"
            if len(self._drawn) < self.pictures and name not in self._drawn:
                self._drawn[name] = comparison_image(p, i)

    def finish(self, world: int = 1) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the errors (empty without valid pixels) and the images, and reset."""
        seen = {window: (unit, group, s.tolist()) for unit, group, window, s in self._seen}
        drawn, self._seen, self._drawn = self._drawn, [], {}
        if world > 1:
            every: list[dict[int, tuple[str, str, list[float]]]] = [{} for _ in range(world)]
            torch.distributed.all_gather_object(every, seen)
            seen = {window: row for part in every for window, row in part.items()}
        places: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for unit, group, sums in seen.values():
            for k, value in enumerate(sums):
                places[unit, group][k] += value
        counted = {place: sums for place, sums in places.items() if sums[2] > 0}
        if not counted:
            return {}, drawn
        numbers = {}
        for unit in sorted({unit for unit, _ in counted}):
            errors = [s[0] / s[2] for (u, _), s in counted.items() if u == unit]
            numbers[f"val/mae_{unit}"] = sum(errors) / len(errors)
        scores = [s[1] / s[2] for s in counted.values()]
        numbers["val/score"] = sum(scores) / len(scores)
        return numbers, drawn


def comparison_image(p: Prediction, index: int) -> Tensor:
    """Return source, target, output, absolute error and two index maps side by side.

    Normalised values 0..1 are drawn from black to white; the error is multiplied by four. The maps
    show the first spectral index that the bands allow, for the target and for the output.

    Returns:
        float32 [3, h, n w] in 0..1 with n = 4 panels, or 6 with an index; a panel is at most `SIDE`
        high and wide.
    """
    names = p.signature.source
    colour = [names.index(b) for b in ("red", "green", "blue") if b in names]
    source = p.source[index, colour if len(colour) == 3 else [0]]
    target, output = p.target[index, :1], p.output[index, :1]
    error = 4.0 * (output - target).abs()
    size = target.shape[-2:]
    panels = []
    for panel in (source, target, output, error, *index_maps(p, index)):
        same = functional.interpolate(panel[None].float(), size, mode="nearest")[0]
        panels.append((same * p.mask[index]).clamp(0, 1).expand(3, -1, -1))
    strip = torch.cat(panels, dim=2)
    shrink = max(size) / SIDE
    if shrink > 1:
        high, wide = (max(round(n / shrink), 1) for n in size)
        strip = functional.interpolate(
            strip[None],
            (high, len(panels) * wide),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )[0]
    return strip.cpu()
