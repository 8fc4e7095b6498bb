"""Familiarity of a scene: how unlike the training places its windows are, and the likely cause."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crossband.core.devices import one_thread
from crossband.model import Model
from crossband.model.calibration import BANDS, Familiar
from crossband.model.uncertain import calibration_of, uncertain_model
from crossband.networks.uncertainty import UncertainGenerator
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.scene import Scene
from crossband.translate.unfamiliar_causes import LOOKS, likely_cause

#: Windows along each side of a scene that are looked at, at most and in a length of so many pixels,
#: and their side in pixels: few, as every translation pays for them.
WINDOWS, APART, SIDE = 4, 512, 128
#: Windows along the shorter side of a scene, at least, where there is room for them.
LEAST = 3
#: Further windows are looked at where fewer of the pixels are valid.
LEAST_VALID = 0.25
#: Bands whose every order is tried, at most.
PERMUTED = 4
#: Rows of a familiarity that are counted at once.
ROWS = 1024
#: States the share in a file and in the attributes of an array.
UNFAMILIAR_TAG = "CROSSBAND_UNFAMILIAR"
#: A scene is told to be unfamiliar above this share of its pixels.
SHARE = 0.1


@dataclass(frozen=True)
class SceneFamiliarity:
    """How familiar a scene is.

    Attributes:
        share: of its valid pixels whose surroundings are unfamiliar; where no familiarity is
            written, of those in windows spread over the scene.
        cause: the likely cause in a few words, where numbers show one.
    """

    share: float
    cause: str

    @property
    def line(self) -> str:
        """One line for people; empty where the scene is familiar."""
        if self.share <= SHARE:
            return ""
        return (
            f"{self.share:.0%} of the scene is unlike what the model was trained on, and its error "
            f"there may be larger than stated" + (f"; likely: {self.cause}" if self.cause else "")
        )


def scene_familiarity(model: Model, scene: Scene) -> SceneFamiliarity | None:
    """Return how familiar a scene is; None for a model that does not know.

    Args:
        model: loaded model.
        scene: with the bands that the model takes.
    """
    if model.calibration is None or model.calibration.familiar is None:
        return None
    return window_familiarity(model, _looked_at(scene))


def known_familiarity(model: Model, window: Window) -> SceneFamiliarity | None:
    """Return how familiar a scene in memory is; None for a model that does not know.

    Args:
        model: loaded model.
        window: all of the scene, with the bands that the model takes.
    """
    if model.calibration is None or model.calibration.familiar is None:
        return None
    return window_familiarity(model, (window.crop(box) for box in _spread(window.grid)))


def counted(found: SceneFamiliarity | None, values: NDArray[np.float32]) -> SceneFamiliarity | None:
    """Return how familiar a scene is by the dissimilarity of all its pixels.

    Args:
        found: by windows.
        values: the dissimilarity [H, W]; NaN is masked.
    """
    valid = far = 0
    for row in range(0, len(values), ROWS):
        part = values[row : row + ROWS]
        valid, far = valid + int((~np.isnan(part)).sum()), far + int((part > 1).sum())
    return replace(found or SceneFamiliarity(0.0, ""), share=far / valid) if valid else found


def _looked_at(scene: Scene) -> Iterator[Window]:
    """Yield windows that are spread over a scene; more of them where the first are mostly masked.

    What lies around a small part of a larger scene is looked at, too.
    """
    boxes, valid, seen = _spread(scene.grid), 0, 0
    for box in boxes:
        window = scene.read(_widened(box, scene.around))
        valid, seen = valid + int(window.mask.sum()), seen + window.mask.size
        yield window
    if valid < seen * LEAST_VALID:
        for box in sample_boxes(scene.grid, SIDE):
            if box not in boxes:
                yield scene.read(box)


def window_familiarity(model: Model, windows: Iterable[Window]) -> SceneFamiliarity | None:
    """Return how familiar windows of one scene are; None where every pixel is masked."""
    familiar = calibration_of(model).familiar
    assert familiar is not None
    network: UncertainGenerator | None = None
    found: list[tuple[Tensor, Tensor]] = []
    seen: list[Window] = []
    with torch.inference_mode(), one_thread():
        for window in windows:
            if window.mask.any():
                if network is None:
                    network = cast(UncertainGenerator, uncertain_model(model, window.unit).network)
                found.append(_cells(model, network, window))
                seen.append(window)
        if network is None:
            return None
        far, odds = (torch.cat(parts) for parts in zip(*found, strict=True))
        share = _unfamiliar(far)
        if share <= SHARE:
            return SceneFamiliarity(share, "")
        looks = _looks(familiar, odds)
        order = (
            _familiar_order(model, network, seen, share) if looks.get(BANDS, 0.0) > LOOKS else ()
        )
    values = np.concatenate([window.values[:, window.mask] for window in seen], axis=1)
    bands = dict(zip(seen[0].bands, values, strict=True))
    return SceneFamiliarity(share, likely_cause(familiar, bands, seen[0].unit, looks, order))


def _unfamiliar(far: Tensor) -> float:
    """Return the share of cells that are unfamiliar."""
    return float((far > 1).float().mean())


def _familiar_order(
    model: Model, network: UncertainGenerator, windows: Sequence[Window], share: float
) -> tuple[str, ...]:
    """Return the names of the bands in the order that makes windows most familiar.

    Args:
        model: loaded model.
        network: with the measure of the windows' unit.
        windows: of one scene.
        share: of their cells that are unfamiliar as they are.

    Returns:
        What each band looks like; empty where no order halves the share.
    """
    names = windows[0].bands
    best: tuple[str, ...] = ()
    for order in _orders(len(names)):
        shown = (replace(window, values=window.values[list(order)]) for window in windows)
        far = torch.cat([_cells(model, network, window)[0] for window in shown])
        if (now := _unfamiliar(far)) < (share if best else share / 2):
            best, share = tuple(names[order.index(n)] for n in range(len(names))), now
    return best


def _orders(bands: int) -> Iterator[tuple[int, ...]]:
    """Yield orders of bands other than their own: all of up to four, else swaps and the reverse."""
    own = tuple(range(bands))
    if bands <= PERMUTED:
        yield from itertools.islice(itertools.permutations(own), 1, None)
        return
    yield own[::-1]
    for one, other in itertools.combinations(own, 2):
        yield tuple({one: other, other: one}.get(n, n) for n in own)


def _cells(model: Model, network: UncertainGenerator, window: Window) -> tuple[Tensor, Tensor]:
    """Return the dissimilarity [n] of cells, and their log-odds [n, kinds] of wrong inputs."""
    measure, around = network.dissimilarity, network.around
    assert measure is not None
    device = next(model.parameters(), torch.zeros(())).device
    x = model.signature.normalise(torch.from_numpy(window.values)[None], [window.unit], "source")
    x = (x.float() * torch.from_numpy(window.mask)).to(device)
    description = around.to(device).description(around.surroundings(x)).float()[0]
    height, width = window.mask.shape
    mask = torch.from_numpy(window.mask).float()[None, None]
    mask = functional.pad(mask, (0, -width % around.stride, 0, -height % around.stride))
    valid = functional.avg_pool2d(mask, around.stride)[0, 0] > 0
    seen = description[valid.to(device)]
    measure = measure.to(device)
    odds = seen.new_zeros(len(seen), 0) if measure.classifier is None else measure.classifier(seen)
    return measure(seen).cpu(), odds.cpu()


def _looks(familiar: Familiar, odds: Tensor) -> dict[str, float]:
    """Return the share of cells that look like each kind of wrong input."""
    wrong = familiar.wrong
    if wrong is None or not odds.shape[1]:
        return {}
    above = torch.logsumexp(odds, dim=1) > wrong.limit
    kinds = odds.argmax(dim=1)
    return {
        kind: float((above & (kinds == number)).float().mean())
        for number, kind in enumerate(wrong.kinds)
    }


def sample_boxes(grid: Grid, apart: int = APART) -> list[Box]:
    """Return windows spread evenly over a grid, one in a length of `apart` pixels."""
    tops, lefts = (_starts(length, apart) for length in (grid.height, grid.width))
    return [
        Box(top, left, min(SIDE, grid.height - top), min(SIDE, grid.width - left))
        for top in tops
        for left in lefts
    ]


def _spread(grid: Grid) -> list[Box]:
    """Return windows for familiarity: of a small scene not the middle only."""
    return sample_boxes(grid, max(min(APART, min(grid.height, grid.width) // LEAST), SIDE))


def _widened(box: Box, around: Box) -> Box:
    """Return a box that is as large as a window, as far as `around` goes."""
    edge = max(SIDE - min(box.height, box.width), 0) // 2
    return box.expanded(edge, around)


def _starts(length: int, apart: int) -> list[int]:
    count = min(WINDOWS, max(length // apart, 1))
    if count == 1:
        return [max(length - SIDE, 0) // 2]
    return [round(n * (length - SIDE) / (count - 1)) for n in range(count)]
