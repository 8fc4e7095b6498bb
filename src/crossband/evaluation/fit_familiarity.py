"""Fit familiarity: centres of known surroundings, a classifier of wrong inputs, and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.evaluation.place_errors import PlaceErrors, SampleTable
from crossband.evaluation.wrong_inputs import RIGHT
from crossband.model import Model
from crossband.model.calibration import Familiar, Wrong
from crossband.networks.k_means import k_means, squared_distances

#: Centres of the surroundings, iterations of k-means, and the ridge of their covariance.
CENTRES, ROUNDS, RIDGE = 128, 6, 0.02
#: Samples from which the centres are found.
SAMPLES = 20_000
#: Share of untouched new places that may have more unfamiliar pixels than `UNFAMILIAR`: by their
#: distance, and because they look wrong.
FAR, WRONG, UNFAMILIAR = 0.015, 0.03, 0.1
#: Hidden units, steps, samples of a step, learning rate and weight decay of the classifier.
HIDDEN, STEPS, BATCH, RATE, DECAY = 96, 3000, 256, 0.01, 0.01


def fit_familiar(places: Sequence[PlaceErrors], folds: Sequence[int], model: Model) -> Familiar:
    """Return what is familiar, with limits by cross-validation over regions.

    Args:
        places: whose surroundings are familiar.
        folds: part of each place in cross-validation.
        model: whose surroundings these are.
    """
    table, weights = SampleTable.of(places, 1), _weights(places)
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
    limit = _limit(table, far, weights, FAR) / distance
    wrong = _fit_wrong(places, table, folds, weights)
    bands = _quantiles(places, model)
    return Familiar(turn.numpy(), usual.numpy(), centres.numpy(), distance, limit, bands, wrong)


def _weights(places: Sequence[PlaceErrors]) -> Tensor:
    """Return how much each place counts.

    Groups count as the root of their places, and so do the regions of a group. Else many places of
    one campaign would decide alone which others are familiar.
    """
    sizes = Counter(place.group for place in places)
    near = Counter((place.group, place.region) for place in places)
    each = [near[place.group, place.region] ** -0.5 for place in places]
    of_group = Counter[str]()
    for place, share in zip(places, each, strict=True):
        of_group[place.group] += share
    return torch.tensor(
        [
            sizes[place.group] ** 0.5 * share / of_group[place.group]
            for place, share in zip(places, each, strict=True)
        ]
    )


def _limit(table: SampleTable, values: Tensor, weights: Tensor, alarms: float) -> float:
    """Return the limit that at most a share `alarms` of places has more than `UNFAMILIAR` above.

    Args:
        table: samples of the places.
        values: of each sample.
        weights: how much each place counts, so that not one sensor decides alone.
        alarms: share of the places, a further one included that is above.
    """
    found = [
        (float(np.quantile(own, 1 - UNFAMILIAR)), float(weights[n]))
        for n in range(len(weights))
        if len(own := values[table.place == n].numpy())
    ]
    ordered = np.array(sorted(found))
    reached = ordered[:, 1].cumsum() >= (1 - alarms) * (ordered[:, 1].sum() + ordered[:, 1].mean())
    return float(ordered[reached.argmax() if reached.any() else -1, 0])


def _fit_wrong(
    places: Sequence[PlaceErrors], table: SampleTable, folds: Sequence[int], weights: Tensor
) -> Wrong | None:
    """Fit the classifier of wrong inputs in the most common unit; with its limit."""
    units = [place.unit for place in places]
    unit = max(sorted(set(units)), key=units.count)
    inside = [n for n, place in enumerate(places) if place.unit == unit]
    table, weights = table.of_places(inside), weights * torch.tensor([u == unit for u in units])
    kinds = tuple(sorted({kind for n in inside for kind in places[n].wrong} - {RIGHT}))
    if not kinds:
        return None
    bad = [_Shown.of(places, kind, unit) for kind in kinds]
    good = [_Shown(table.cells[:, 0], table.place)]
    if any(RIGHT in places[n].wrong for n in inside):
        good.append(_Shown.of(places, RIGHT, unit))
    of_sample, odds = torch.tensor(folds), torch.zeros(len(table.place))
    for fold in sorted(set(folds)):
        held = of_sample == fold
        network = _classifier(good, bad, weights * ~held if (~held).any() else weights)
        some = held[table.place]
        odds[some] = torch.logsumexp(network(table.cells[some, 0]), dim=1)
    network = _classifier(good, bad, weights)
    first, out = network[0], network[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(out, nn.Linear)
    cells, bias, weight, out_bias = (
        a.numpy() for a in (first.weight, first.bias, out.weight, out.bias)
    )
    limit, spread = _limit(table, odds, weights, WRONG), float(odds.std().clamp_min(1e-3))
    return Wrong(unit, kinds, cells, bias, weight, out_bias, limit, spread)


@dataclass(frozen=True)
class _Shown:
    """Surroundings [N, F] of one kind of input, and the number of each one's place."""

    cells: Tensor
    place: Tensor

    @classmethod
    def of(cls, places: Sequence[PlaceErrors], kind: str, unit: str) -> Self:
        """Collect the samples of the places in a unit."""
        own = [(n, p) for n, p in enumerate(places) if p.unit == unit]
        found = [(n, cells) for n, p in own for cells in p.wrong.get(kind, [])]
        numbers = np.concatenate([np.full(len(cells), n) for n, cells in found])
        cells = np.concatenate([cells for _, cells in found])
        return cls(torch.from_numpy(cells), torch.from_numpy(numbers))


def _classifier(good: Sequence[_Shown], bad: Sequence[_Shown], weights: Tensor) -> nn.Sequential:
    """Fit log-odds of each kind of wrong inputs against right ones."""
    shown = (*good, *bad)
    cells = torch.cat([samples.cells for samples in shown])
    usual, spread = cells.mean(dim=0), cells.std(dim=0) + 1e-3
    kinds = torch.arange(len(bad)).repeat_interleave(BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(cells.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, len(bad))]
        network = nn.Sequential(*layers)
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        chances = [_chances(samples, weights) for samples in shown]
        for _ in range(STEPS):
            some = [s.cells[_drawn(c)] for s, c in zip(shown, chances, strict=True)]
            scores = network((torch.cat(some) - usual) / spread)
            right, wrong = scores[: len(good) * BATCH], scores[len(good) * BATCH :]
            odds = torch.cat([wrong, torch.zeros(len(wrong), 1)], dim=1)
            loss = functional.softplus(torch.logsumexp(right, dim=1)).mean()
            loss = loss + functional.cross_entropy(odds, kinds)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    first = layers[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.div_(spread)
        first.bias.sub_(first.weight @ usual)
    return network.eval().requires_grad_(False)


def _chances(samples: _Shown, weights: Tensor) -> Tensor:
    """Return the distribution function of the samples, in which a place counts by its weight."""
    sizes = torch.bincount(samples.place, minlength=len(weights)).clamp_min(1)
    return (weights / sizes)[samples.place].double().cumsum(dim=0)


def _drawn(chances: Tensor) -> Tensor:
    """Return the numbers of `BATCH` random samples."""
    at = torch.searchsorted(chances, torch.rand(BATCH, dtype=torch.double) * chances[-1])
    return at.clamp_max(len(chances) - 1)


def _quantiles(
    places: Sequence[PlaceErrors], model: Model
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return the 1 %, 50 % and 99 % quantile of each source band, by unit."""
    bands = {}
    for unit in sorted({p.unit for p in places}):
        own_values = np.concatenate([np.stack(p.values) for p in places if p.unit == unit])
        three = np.quantile(own_values, [0.01, 0.5, 0.99], axis=0).T
        bands[unit] = {
            band: (float(q[0]), float(q[1]), float(q[2]))
            for band, q in zip(model.signature.source, three, strict=True)
        }
    return bands


def _centres(samples: Tensor, seed: int = 0) -> Tensor:
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:SAMPLES]
    samples = samples[order]
    return k_means(samples, samples[:CENTRES], ROUNDS)


def _distances(samples: Tensor, centres: Tensor) -> Tensor:
    return squared_distances(samples, centres).amin(dim=1).sqrt()
