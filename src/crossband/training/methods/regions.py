"""Segment a thermal image into regions of similar temperature with k-means."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def region_means(target: Tensor, mask: Tensor, classes: int, rounds: int = 10) -> Tensor:
    """Return for each pixel the mean of its k-means cluster within the same image.

    Lloyd's algorithm (Lloyd 1982) clusters the band means of the pixels of each image. The initial
    centres are spread evenly from the coldest to the warmest pixel.

    Args:
        target: [B, C, H, W].
        mask: bool [B, 1, H, W].
        classes: number of clusters of an image, at least 1.
        rounds: iterations of Lloyd's algorithm.

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
    """Return the cluster of each pixel as a one-hot vector, [B, N, K]."""
    nearest = (level[:, :, None] - centres[:, None]).abs().argmin(dim=2)
    # Not `one_hot`, which checks the values and so waits for the device.
    classes = torch.arange(centres.shape[1], device=level.device)
    return (nearest[:, :, None] == classes).float() * known[:, :, None]
