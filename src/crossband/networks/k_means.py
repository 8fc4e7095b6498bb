"""Centres that summarise features, and distances from them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crossband.networks.layers.by_rows import by_rows

#: Columns of a product whose rows are computed alike by any library.
COLUMNS = 16


def squared_distances(features: Tensor, centres: Tensor) -> Tensor:
    """Return squared distances in fp32, as one product: [..., F], [K, F] -> [..., K]."""
    with torch.autocast(features.device.type, enabled=False):
        features, centres = features.float(), centres.float()
        own = features.square().sum(dim=-1, keepdim=True)
        # A product with fewer columns depends on where its rows lie in memory.
        more = functional.pad(centres, (0, 0, 0, max(COLUMNS - len(centres), 0)))
        products = by_rows(lambda rows: rows @ more.T, features)[..., : len(centres)]
        both = centres.square().sum(dim=1) - 2.0 * products
        return (own + both).clamp_min(0.0)


def k_means(features: Tensor, centres: Tensor, rounds: int) -> Tensor:
    """Move centres to the means of the features that are nearest to them (Lloyd 1982).

    Args:
        features: [N, F].
        centres: initial ones, [K, F]; those that no feature is nearest to stay.
        rounds: iterations.
    """
    for _ in range(rounds):
        nearest = squared_distances(features, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, features)
        sizes = torch.bincount(nearest, minlength=len(centres))[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres
