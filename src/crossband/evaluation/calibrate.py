"""Calibrate a model on places that it was not trained on: `calibration.json` of its folder.

`collect` measures errors at places, `fit` turns them into a calibration. They are two functions, as
the errors may come from several models of one recipe, each where it was not trained.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core import indices
from crossband.core.conformal import threshold
from crossband.data import manifest as manifests
from crossband.errors import ManifestError
from crossband.evaluation.candidates import ModelCandidate
from crossband.evaluation.evaluate import select_split
from crossband.evaluation.evaluation import (
    Evaluation,
    allowed_indices,
    index_maps,
    sensor_name,
    valid_mask,
)
from crossband.model import Model
from crossband.model.calibration import OWN, WINDOWS, Calibration, Factors, Familiar, Head
from crossband.networks.uncertainty import (
    WidthHead,
    cells_at,
    pixel_features,
    surroundings_of,
)
from crossband.raster.grid import Window

#: Pixels of a place that are looked at, and windows of each size with pixels of each.
PIXELS, WINDOWS_EACH, PIXELS_OF_WINDOW = 256, 8, 16
#: Parts of the regions that the head is cross-fitted on.
FOLDS = 5
#: Hidden units, steps, pixels of a step, learning rate and weight decay of the head.
HIDDEN, STEPS, BATCH, RATE, DECAY = 16, 400, 2048, 0.01, 1e-3
#: The head's widths are those of intervals that miss this share.
MISSED = 0.1
#: Centres of the surroundings, iterations of k-means, and the ridge of their covariance.
CENTRES, ROUNDS, RIDGE = 128, 6, 0.02
#: Samples from which the centres are found.
SAMPLES = 20_000
#: Share of untouched new places that may have more unfamiliar pixels than `UNFAMILIAR`.
ALARMS, UNFAMILIAR = 0.05, 0.1


@dataclass
class Sample:
    """Pixels or windows of one place.

    Attributes:
        cells: [n, k, F] surroundings of k pixels of each.
        pixels: [n, k, P] what the head sees of these pixels.
        errors: [n, Q] truth - output in normalised units, of an index as it is; NaN where unknown.
    """

    cells: list[NDArray[np.float32]] = field(default_factory=list)
    pixels: list[NDArray[np.float32]] = field(default_factory=list)
    errors: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class PlaceErrors:
    """The errors at one place: a group of the manifest in one unit.

    Attributes:
        place: name of the group.
        region: what is never cut in cross-fitting.
        unit: of the source.
        group: by which calibrations are told apart.
        sensors: of its rows.
        samples: side of the windows, 1 for pixels -> samples.
        values: [n, Cs] source values, for the quantiles of the bands.
    """

    place: str
    region: str
    unit: str
    group: str
    sensors: set[str] = field(default_factory=set)
    samples: dict[int, Sample] = field(default_factory=lambda: {n: Sample() for n in WINDOWS})
    values: list[NDArray[np.float32]] = field(default_factory=list)


def collect(
    model: Model, rows: pd.DataFrame, quantities: Sequence[str], by: str = "sensor", seed: int = 0
) -> list[PlaceErrors]:
    """Return the errors of a model at places that it was not trained on.

    Args:
        model: whose errors are measured.
        rows: of a manifest.
        quantities: target bands, then indices.
        by: column by which calibrations are told apart.
        seed: of the choice of pixels.
    """
    evaluation = Evaluation(ModelCandidate(model, model.name, "cpu", "fp32"), rows, ())
    rng, found = np.random.default_rng(seed), dict[tuple[str, str], PlaceErrors]()
    for position, row in enumerate(evaluation.rows):
        source, target, output = evaluation.triple(position)
        sensor = sensor_name(row)
        region = str(row.get("region") or row["group"])
        key = str(row["group"]), source.unit
        group = sensor if by == "sensor" else str(row.get(by, ""))
        place = found.setdefault(key, PlaceErrors(key[0], region, source.unit, group))
        place.sensors.add(sensor)
        _add(place, model, quantities, (source, target, output), rng)
    return [place for place in found.values() if place.samples[1].errors]


def _add(
    place: PlaceErrors,
    model: Model,
    quantities: Sequence[str],
    windows: tuple[Window, Window, Window],
    rng: np.random.Generator,
) -> None:
    source, target, output = windows
    if target.grid.height != source.grid.height:
        raise ManifestError(f"{model.name} makes pixels finer, which is not calibrated")
    mask = valid_mask(source, target) & output.mask
    errors = error_maps(quantities, windows, model)
    with torch.inference_mode():
        x = model.signature.normalise(
            torch.from_numpy(source.values)[None], [source.unit], "source"
        )
        x = x.float() * torch.from_numpy(source.mask)
        around = surroundings_of(model.network)
        description = around.description(around.surroundings(x)).float()
        low, span = model.signature.ranges([source.unit], "target", torch.zeros(0))
        normal = (torch.from_numpy(output.values)[None] - low) / span
        seen = pixel_features(x, normal)[0]
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
            sample.cells.append(cells_at(description, r, c, around.stride)[0].numpy())
            sample.pixels.append(seen[r, c].numpy())
            sample.errors.append(mean.astype(np.float32))
            if side == 1:
                place.values.append(source.values[:, rows, columns][:, 0, 0])


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
class _Table:
    """The samples of all places in arrays."""

    cells: Tensor
    pixels: Tensor
    errors: Tensor
    place: Tensor

    @classmethod
    def of(cls, places: Sequence[PlaceErrors], side: int) -> _Table:
        chosen = [(n, p.samples[side]) for n, p in enumerate(places) if p.samples[side].errors]
        numbers = np.concatenate([np.full(len(s.errors), n) for n, s in chosen])
        cells, pixels, errors = (
            torch.from_numpy(np.concatenate([np.stack(getattr(s, name)) for _, s in chosen]))
            for name in ("cells", "pixels", "errors")
        )
        return cls(cells, pixels, errors, torch.from_numpy(numbers))

    def of_places(self, numbers: Sequence[int]) -> _Table:
        """Return the samples of some places."""
        kept = torch.isin(self.place, torch.tensor(list(numbers)))
        return _Table(self.cells[kept], self.pixels[kept], self.errors[kept], self.place[kept])


def fit(
    places: Sequence[PlaceErrors],
    model: Model,
    quantities: Sequence[str],
    *,
    fitted: str,
    sources: Sequence[str],
    constant: bool = False,
    familiarity: bool = True,
) -> Calibration:
    """Return the calibration of a model.

    The widths of a place's scores come from a head that was fitted on other regions.

    Args:
        places: from `collect`.
        model: the model that ships.
        quantities: as for `collect`.
        fitted: how the errors were found.
        sources: what the places are.
        constant: one width for all pixels instead of the head's.
        familiarity: fit the centres of the surroundings, too.
    """
    tables = {side: _Table.of(places, side) for side in WINDOWS if _any(places, side)}
    folds = [zlib.crc32(place.region.encode()) % FOLDS for place in places]
    weights = _place_weights(places)
    head, scores = None, dict[int, Tensor]()
    if constant:
        scores = {side: _scores(table, None) for side, table in tables.items()}
    else:
        for side, table in tables.items():
            scores[side] = torch.full_like(table.errors, float("nan"))
        for fold in sorted(set(folds)):
            inside = [n for n, f in enumerate(folds) if f != fold] or list(range(len(places)))
            own = fit_head(tables[1].of_places(inside), weights)
            for side, table in tables.items():
                held = torch.isin(
                    table.place, torch.tensor([n for n, f in enumerate(folds) if f == fold])
                )
                scores[side][held] = _scores(table, own)[held]
        head = fit_head(tables[1], weights)
    factors = [
        found
        for side, table in tables.items()
        for number, name in enumerate(quantities)
        for found in _factors(places, name, side, scores[side][:, number], table.place)
    ]
    return Calibration(
        model.weights_hash,
        tuple(quantities),
        tuple(factors),
        fitted,
        tuple(sources),
        None if head is None else _arrays(head),
        fit_familiar(places, tables[1], folds, model) if familiarity else None,
    )


def _any(places: Sequence[PlaceErrors], side: int) -> bool:
    return any(place.samples[side].errors for place in places)


def _place_weights(places: Sequence[PlaceErrors]) -> Tensor:
    """Return how much each place counts for the head: groups by the root of their places."""
    sizes: dict[str, int] = {}
    for place in places:
        sizes[place.group] = sizes.get(place.group, 0) + 1
    return torch.tensor([sizes[place.group] ** -0.5 for place in places])


def fit_head(table: _Table, weights: Tensor, seed: int = 0) -> WidthHead:
    """Fit the head by the interval score of each quantity; its standardisation is folded in."""
    cells, pixels, errors = table.cells[:, 0], table.pixels[:, 0], table.errors
    quantities = errors.shape[1]
    sizes = torch.bincount(table.place, minlength=len(weights)).clamp_min(1)
    weight = (weights / sizes)[table.place]
    weight = weight / weight.mean()
    usual = [part.mean(dim=0) for part in (cells, pixels)]
    spread = [part.std(dim=0) + 1e-3 for part in (cells, pixels)]
    cells, pixels = ((p - u) / s for p, u, s in zip((cells, pixels), usual, spread, strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = WidthHead(cells.shape[1], pixels.shape[1], HIDDEN, 2 * quantities)
        known = torch.isfinite(errors)
        typical = [
            torch.quantile(errors[known[:, q], q].abs()[:100_000], 1 - MISSED)
            for q in range(quantities)
        ]
        logs = torch.stack(typical).clamp_min(1e-3).log()
        with torch.no_grad():
            head.out.weight.mul_(0.1)
            head.out.bias.copy_(logs.repeat_interleave(2))
        optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            chosen = torch.randint(len(errors), (BATCH,))
            widths = head(head.cells(cells[chosen]), pixels[chosen])
            loss = _interval_loss(widths, errors[chosen], logs.exp()) * weight[chosen, None]
            optimiser.zero_grad()
            torch.autograd.backward(loss.mean())
            optimiser.step()
            schedule.step()
    return _folded(head, usual, spread)


def _interval_loss(widths: Tensor, errors: Tensor, typical: Tensor) -> Tensor:
    """Return the interval score of each quantity in units of its typical error; 0 if unknown."""
    below, above = widths[:, 0::2], widths[:, 1::2]
    known = torch.isfinite(errors)
    errors = torch.where(known, errors, 0.0)
    beyond = (-below - errors).relu() + (errors - above).relu()
    return torch.where(known, (below + above + 2 / MISSED * beyond) / typical, 0.0)


def _folded(head: WidthHead, usual: list[Tensor], spread: list[Tensor]) -> WidthHead:
    """Fold the standardisation of the inputs into the first layer."""
    with torch.no_grad():
        for layer, middle, width in zip((head.cells, head.pixels), usual, spread, strict=True):
            layer.weight.div_(width)
            head.cells.bias.sub_(layer.weight @ middle)
    return head.eval().requires_grad_(False)


def _scores(table: _Table, head: WidthHead | None) -> Tensor:
    """Return the score of each error: its part of the width below or above; NaN if unknown."""
    errors = table.errors
    if head is None:
        return errors.abs()
    widths = head(head.cells(table.cells), table.pixels).mean(dim=1)
    return torch.where(errors < 0, -errors / widths[:, 0::2], errors / widths[:, 1::2])


def _factors(
    places: Sequence[PlaceErrors], quantity: str, side: int, scores: Tensor, of: Tensor
) -> list[Factors]:
    """Return the factors of a quantity in each unit: of all places, and of groups with many."""
    by_place: dict[int, NDArray[np.float32]] = {}
    for number in range(len(places)):
        own = scores[of == number].numpy()
        own = own[np.isfinite(own)]
        if len(own):
            by_place[number] = own
    found = []
    for unit in sorted({places[n].unit for n in by_place}):
        of_unit = [n for n in by_place if places[n].unit == unit]
        names = sorted({places[n].group for n in of_unit})
        for group in ("", *names):
            members = [n for n in of_unit if group in ("", places[n].group)]
            if group and (len(members) < OWN or len(names) == 1):
                continue
            sensors = tuple(sorted(set().union(*(places[n].sensors for n in members))))
            own_scores = [by_place[n] for n in members]
            found.append(Factors.of(quantity, unit, side, group, sensors, own_scores))
    return found


def _arrays(head: WidthHead) -> Head:
    arrays = (
        *(head.cells.weight, head.pixels.weight, head.cells.bias),
        *(head.out.weight, head.out.bias),
    )
    return Head(*(a.numpy() for a in arrays))


def fit_familiar(
    places: Sequence[PlaceErrors], table: _Table, folds: Sequence[int], model: Model
) -> Familiar:
    """Return the centres of the places' surroundings, with the limit by cross-validation."""
    cells = table.cells[:, 0]
    usual = cells.mean(dim=0)
    covariance = torch.cov((cells - usual).T)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(usual))
    values, vectors = torch.linalg.eigh(covariance)
    turn = vectors.T / values.sqrt()[:, None]
    turned = (cells - usual) @ turn.T
    of_sample = torch.tensor(folds)[table.place]
    far = torch.zeros(len(cells))
    for fold in sorted(set(folds)):
        held = of_sample == fold
        others = turned[~held] if (~held).any() else turned
        far[held] = _distances(turned[held], _centres(others))
    centres = _centres(turned)
    distance = float(_distances(turned, centres).mean().clamp_min(1e-3))
    # All but `ALARMS` of new places have less than `UNFAMILIAR` of their pixels above the limit.
    shares = [
        np.quantile(own, [1 - UNFAMILIAR])
        for n in range(len(places))
        if len(own := far[table.place == n].numpy())
    ]
    limit = threshold(shares, 1 - ALARMS)
    if not np.isfinite(limit):
        limit = float(max(share[0] for share in shares))
    bands = {}
    for unit in sorted({p.unit for p in places}):
        own_values = np.concatenate([np.stack(p.values) for p in places if p.unit == unit])
        three = np.quantile(own_values, [0.01, 0.5, 0.99], axis=0).T
        bands[unit] = {
            band: (float(q[0]), float(q[1]), float(q[2]))
            for band, q in zip(model.signature.source, three, strict=True)
        }
    return Familiar(turn.numpy(), usual.numpy(), centres.numpy(), distance, limit / distance, bands)


def _centres(samples: Tensor, seed: int = 0) -> Tensor:
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
    samples = samples[order]
    centres = samples[:CENTRES].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(samples, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, samples)
        sizes = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


def _distances(samples: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(samples, centres).amin(dim=1)


def calibrate(
    model: Model,
    manifest: str | Path,
    *,
    split: str | None = None,
    index: Sequence[str] = ("NDVI",),
    by: str = "sensor",
) -> Calibration:
    """Calibrate a model on the places of a manifest that it was not trained on.

    Args:
        model: loaded model.
        manifest: CSV or parquet, see `crossband.data.manifest`.
        split: its rows; `test` if there is one, else `val`, else all.
        index: indices that get intervals of their own.
        by: column by which calibrations are told apart where places suffice.

    Raises:
        ManifestError: no pairs; an unknown column.
    """
    rows, split = select_split(manifests.read(manifest), split)
    if by not in rows:
        raise ManifestError(f"--by {by}: the manifest has no such column")
    rows = rows[manifests.is_paired(rows)].reset_index(drop=True)
    if not len(rows):
        raise ManifestError(f"{manifest}: no row has both a source and a target")
    quantities = [*model.signature.target, *index]
    for name in index:
        indices.required_bands(name)
    places = collect(model, rows, quantities, by)
    if not places:
        raise ManifestError(f"{manifest}: no valid pixel")
    source = f"{Path(manifest).name}, {split or 'all rows'}, {len(places)} places"
    words = "errors of this model at places that its training did not see, as the manifest says"
    return fit(places, model, quantities, fitted=words, sources=[source])


def summary(calibration: Calibration) -> Mapping[str, Any]:
    """Return how many places each quantity was calibrated on, by unit and group."""
    return {
        f"{f.quantity}, {f.unit}" + (f", {f.group}" if f.group else ""): f.places
        for f in calibration.factors
        if f.window == 1
    }
