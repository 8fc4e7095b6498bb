"""Regions of one temperature each, found in a thermal picture itself."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def region_means(target: Tensor, mask: Tensor, classes: int, rounds: int = 10) -> Tensor:
    """Return each pixel's mean over the pixels of its picture that are about as warm.

    The classes are those of Lloyd's algorithm (k-means, Lloyd 1982) on the mean over the bands of
    each pixel of one picture, begun with centres spread evenly from the coldest to the warmest.

    Args:
        target: [B, C, H, W].
        mask: bool [B, 1, H, W].
        classes: most different values of a picture, at least 1.
        rounds: of Lloyd's algorithm.

    Returns:
        [B, C, H, W], 0 where masked.
    """
    values = target.float().flatten(2)  # [B, C, N]
    level, known = values.mean(dim=1), mask.flatten(1)  # [B, N]
    low = level.masked_fill(~known, torch.inf).amin(dim=1, keepdim=True)
    high = level.masked_fill(~known, -torch.inf).amax(dim=1, keepdim=True)
    steps = (torch.arange(classes, device=level.device) + 0.5) / classes
    centres = torch.where(known.any(1, keepdim=True), low + (high - low) * steps, steps)
    weights = _assignments(level, known, centres)
    for _ in range(rounds):
        count = weights.sum(dim=1)
        means = torch.einsum("bn,bnk->bk", level.masked_fill(~known, 0.0), weights)
        centres = torch.where(count > 0, means / count.clamp_min(1), centres)
        weights = _assignments(level, known, centres)
    sums = torch.einsum("bcn,bnk->bck", values.masked_fill(~known[:, None], 0.0), weights)
    means = sums / weights.sum(dim=1).clamp_min(1)[:, None]
    return torch.einsum("bck,bnk->bcn", means, weights).view_as(target).to(target.dtype)


def _assignments(level: Tensor, known: Tensor, centres: Tensor) -> Tensor:
    """Return which class a pixel is of, as ones and zeros: [B, N, K]."""
    nearest = (level[:, :, None] - centres[:, None]).abs().argmin(dim=2)
    # Not `one_hot`, which looks at the values.
    classes = torch.arange(centres.shape[1], device=level.device)
    return (nearest[:, :, None] == classes).float() * known[:, :, None]
