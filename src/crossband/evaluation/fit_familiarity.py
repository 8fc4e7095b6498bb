"""Find the centres of the places' surroundings, and from where on a place is unfamiliar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crossband.core.conformal import threshold
from crossband.evaluation.place_errors import PlaceErrors, SampleTable
from crossband.model import Model
from crossband.model.calibration import Familiar
from crossband.networks.k_means import k_means, squared_distances

#: Centres of the surroundings, iterations of k-means, and the ridge of their covariance.
CENTRES, ROUNDS, RIDGE = 128, 6, 0.02
#: Samples from which the centres are found.
SAMPLES = 20_000
#: Share of untouched new places that may have more unfamiliar pixels than `UNFAMILIAR`.
ALARMS, UNFAMILIAR = 0.05, 0.1


def fit_familiar(
    places: Sequence[PlaceErrors], table: SampleTable, folds: Sequence[int], model: Model
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
    return k_means(samples, samples[:CENTRES], ROUNDS)


def _distances(samples: Tensor, centres: Tensor) -> Tensor:
    return squared_distances(samples, centres).amin(dim=1).sqrt()
