"""Errors of a model at places that it was not trained on, in samples of pixels and of windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core import indices
from crossband.evaluation.candidates import ModelCandidate
from crossband.evaluation.evaluation import (
    Evaluation,
    allowed_indices,
    index_maps,
    scale_of,
    sensor_name,
    valid_mask,
)
from crossband.evaluation.guides import GuidedCandidate
from crossband.evaluation.wrong_inputs import wrong_cells
from crossband.model import Model
from crossband.model.calibration import WINDOWS, GuideClass
from crossband.networks.cells import cells_at
from crossband.networks.generators.local_pyramid import member_spread
from crossband.networks.uncertainty import (
    pixel_features,
    source_maps,
    surroundings_of,
)
from crossband.raster.grid import Window

#: Pixels of a row that are looked at, and windows of each size with pixels of each: of few windows
#: the share that an interval covers is mostly chance.
PIXELS, WINDOWS_EACH, PIXELS_OF_WINDOW = 256, 32, 8
#: Of the choice of pixels.
SEED = 0


@dataclass
class Sample:
    """Pixels or windows of one place.

    Attributes:
        cells: [n, k, F] surroundings of k pixels of each.
        pixels: [n, k, P] what the head sees of these pixels.
        errors: [n, Q] truth - output in normalised units, of an index as it is; NaN where unknown.
        spread: [n, k] standard deviation of the outputs of the network's members; 0 without any.
    """

    cells: list[NDArray[np.float32]] = field(default_factory=list)
    pixels: list[NDArray[np.float32]] = field(default_factory=list)
    errors: list[NDArray[np.float32]] = field(default_factory=list)
    spread: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class PlaceErrors:
    """The errors at one place: a group of the manifest in one unit, one class of guides, one way.

    Attributes:
        place: name of the group.
        region: what is never cut in cross-fitting.
        unit: of the source.
        group: by which calibrations are told apart.
        sensors: of its rows.
        samples: side of the windows, 1 for pixels -> samples.
        values: [n, Cs] source values, for the quantiles of the bands.
        wrong: kind of a wrong input, or `RIGHT` -> [n, F] surroundings that it has here.
        guide: the class of the guides; None for results without one.
        way: the degradation that made the sources from the targets; empty where there were sources.
            A place counts once, whatever number of ways it has, see `calibrate.factors_of`.
    """

    place: str
    region: str
    unit: str
    group: str
    sensors: set[str] = field(default_factory=set)
    samples: dict[int, Sample] = field(default_factory=lambda: {n: Sample() for n in WINDOWS})
    values: list[NDArray[np.float32]] = field(default_factory=list)
    wrong: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    guide: GuideClass | None = None
    way: str = ""


def collect(
    model: Model, rows: pd.DataFrame, quantities: Sequence[str], by: str = "sensor"
) -> list[PlaceErrors]:
    """Return the errors of a model without a guide at places that it was not trained on.

    Args:
        model: whose errors are measured.
        rows: of a manifest.
        quantities: target bands, then indices.
        by: column by which calibrations are told apart.
    """
    evaluation = Evaluation(ModelCandidate(model, model.name, "cpu", "fp32"), rows, ())
    rng, found = np.random.default_rng(SEED), dict[tuple[str, str, str], PlaceErrors]()
    other = np.random.default_rng([SEED, 1])
    for position, row in enumerate(evaluation.rows):
        source, target, output = evaluation.triple(position)
        sensor = sensor_name(row)
        region = _region(row)
        way = str(row["degradation"]) if pd.isna(row["source"]) else ""
        key = str(row["group"]), source.unit, way
        group = sensor if by == "sensor" else str(row.get(by, ""))
        place = found.setdefault(key, PlaceErrors(key[0], region, source.unit, group, way=way))
        place.sensors.add(sensor)
        mask = valid_mask(source, target) & output.mask
        _add(place, model, quantities, (source, target, output), output, mask, rng)
        for kind, cells in wrong_cells(model, source, other):
            place.wrong.setdefault(kind, []).append(cells)
    return [place for place in found.values() if place.samples[1].errors]


def collect_guided(
    model: Model, rows: pd.DataFrame, quantities: Sequence[str], by: str = "sensor"
) -> list[PlaceErrors]:
    """Return the errors of guided results at places that the model was not trained on.

    A place counts once in each class of guides that it has. Pixels without a valid guide, and
    guides that no interval is calibrated for, are left out.

    Args:
        model: whose errors are measured.
        rows: of a manifest, with guides.
        quantities: target bands, then indices.
        by: column by which calibrations are told apart.
    """
    candidate = GuidedCandidate(model, model.name, "cpu", "fp32")
    evaluation = Evaluation(candidate, rows, ())
    rng, found = np.random.default_rng(SEED), dict[tuple[str, str, GuideClass], PlaceErrors]()
    for position, row in enumerate(evaluation.rows):
        source, target, output = evaluation.triple(position)
        seen = candidate.seen
        if seen is None or not seen.calibrated:
            continue
        sensor, guide = sensor_name(row), GuideClass.of(seen.ratio, seen.days != 0)
        region, key = _region(row), (str(row["group"]), source.unit)
        group = sensor if by == "sensor" else str(row.get(by, ""))
        new = PlaceErrors(key[0], region, source.unit, group, guide=guide)
        place = found.setdefault((*key, guide), new)
        place.sensors.add(sensor)
        mask = valid_mask(source, target) & output.mask & seen.measured
        _add(place, model, quantities, (source, target, output), seen.network, mask, rng)
    return [place for place in found.values() if place.samples[1].errors]


def _region(row: Mapping[str, Any]) -> str:
    region = row.get("region")
    return str(row["group"] if pd.isna(region) or region == "" else region)


def _add(
    place: PlaceErrors,
    model: Model,
    quantities: Sequence[str],
    windows: tuple[Window, Window, Window],
    made: Window,
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Add samples of a pair.

    Args:
        place: that it is of.
        model: whose errors these are.
        quantities: see `collect`.
        windows: source, target and result.
        made: what the network gave, by which the head decides: the result, or what a guide
            corrected to it.
        mask: pixels that count, of the target.
        rng: chooses the samples.
    """
    source, target, _ = windows
    scale = scale_of(source, target)
    facts = np.array(() if place.guide is None else place.guide.facts, np.float32)
    errors = error_maps(quantities, windows, model)
    with torch.inference_mode():
        x = model.signature.normalise(
            torch.from_numpy(source.values)[None], [source.unit], "source"
        )
        x = x.float() * torch.from_numpy(source.mask)
        around = surroundings_of(model.network)
        levels = around.surroundings(x)
        description, spread = around.description(levels).float(), member_spread(around, x, levels)
        low, span = model.signature.ranges([source.unit], "target", torch.zeros(0))
        normal = (torch.from_numpy(made.values)[None] - low) / span
        seen = pixel_features(source_maps(x, normal), normal)[0]
    for side in WINDOWS:
        for rows, columns in _windows(mask, side, rng):
            inside = mask[rows, columns]
            own = errors[:, rows, columns][:, inside]
            with np.errstate(invalid="ignore"):
                mean = own.mean(axis=1)
            at = np.argwhere(inside)
            at = at[rng.integers(len(at), size=PIXELS_OF_WINDOW if side > 1 else 1)]
            r, c = torch.from_numpy(at.T + np.array([[rows.start], [columns.start]]))
            sample = place.samples[side]
            cells = cells_at(description, r, c, around.stride * scale)[0].numpy()
            told = np.broadcast_to(facts, (len(cells), len(facts)))
            sample.cells.append(np.concatenate([cells, told], axis=1))
            sample.pixels.append(seen[r, c].numpy())
            sample.errors.append(mean.astype(np.float32))
            sample.spread.append(spread[r // scale, c // scale].numpy())
            if side == 1:
                place.values.append(source.values[:, rows.start // scale, columns.start // scale])


def error_maps(
    quantities: Sequence[str], windows: tuple[Window, Window, Window], model: Model
) -> NDArray[np.float32]:
    """Return truth - output [Q, h, w] of each quantity; NaN where it is not defined.

    Bands are in normalised units; the target of a band is divided by its range.
    """
    source, target, output = windows
    _, span = model.signature.ranges([source.unit], "target", torch.zeros(0))
    bands = (target.values - output.values) / span[0].numpy()
    allowed = allowed_indices([q for q in quantities if q not in target.bands], source, target)
    maps = []
    for name in quantities:
        if name in target.bands:
            maps.append(bands[target.bands.index(name)])
        elif name in allowed:
            true, made, defined = index_maps(name, source, target, output)
            usable = defined & np.isfinite(made)
            maps.append(np.where(usable, true - _bounded(name, made), np.nan))
        else:
            maps.append(np.full(bands.shape[1:], np.nan, np.float32))
    return np.stack(maps).astype(np.float32)


def _bounded(name: str, values: NDArray[Any]) -> NDArray[Any]:
    return np.clip(values, -1, 1) if name in indices.BOUNDED else values


def _windows(
    mask: NDArray[np.bool_], side: int, rng: np.random.Generator
) -> Iterable[tuple[slice, slice]]:
    """Yield windows on a lattice whose pixels are valid for nine tenths."""
    down, across = (length // side for length in mask.shape)
    kept = mask[: down * side, : across * side].reshape(down, side, across, side)
    good = np.argwhere(kept.mean(axis=(1, 3)) >= 0.9)
    count = PIXELS if side == 1 else WINDOWS_EACH
    for row, column in rng.permutation(good)[:count]:
        yield slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)


@dataclass(frozen=True)
class SampleTable:
    """The samples of all places in arrays."""

    cells: Tensor
    pixels: Tensor
    errors: Tensor
    spread: Tensor
    place: Tensor

    @classmethod
    def of(cls, places: Sequence[PlaceErrors], side: int) -> Self:
        """Collect the samples of one size of windows."""
        chosen = [(n, p.samples[side]) for n, p in enumerate(places) if p.samples[side].errors]
        numbers = np.concatenate([np.full(len(s.errors), n) for n, s in chosen])
        cells, pixels, errors, spread = (
            torch.from_numpy(np.concatenate([np.stack(getattr(s, name)) for _, s in chosen]))
            for name in ("cells", "pixels", "errors", "spread")
        )
        return cls(cells, pixels, errors, spread, torch.from_numpy(numbers))

    def of_places(self, numbers: Sequence[int]) -> Self:
        """Return the samples of some places."""
        kept = torch.isin(self.place, torch.tensor(list(numbers)))
        parts = (self.cells, self.pixels, self.errors, self.spread, self.place)
        return type(self)(*(part[kept] for part in parts))
