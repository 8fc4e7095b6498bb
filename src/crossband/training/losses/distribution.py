"""Distances between distributions of pixel values, independent of pixel positions."""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.training.losses.base import Loss, Prediction


class EarthMovers(Loss):
    """Earth mover's distance between the values of output and target, band by band.

    The exact Wasserstein distance of order 1 between the two sets of valid pixels, without bins
    (Rubner et al. 2000, "The Earth Mover's Distance as a Metric for Image Retrieval"). A brightness
    shift of d costs d; the positions of the pixels have no effect. It is computed on normalised
    values and is never larger than L1.

    Args:
        weight: weight of this loss.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the distance of each sample, averaged over its bands, [B]."""
        p = prediction
        mask = p.mask.expand_as(p.output).flatten(2)
        return earth_movers(p.output.flatten(2), p.target.flatten(2), mask, mask).mean(dim=1)


def earth_movers(x: Tensor, y: Tensor, valid_x: Tensor, valid_y: Tensor) -> Tensor:
    """Return the 1-D Wasserstein distance between two sets of numbers: the area between their CDFs.

    Differentiable almost everywhere. The two sets may differ in size.

    Args:
        x: [..., n].
        y: [..., m].
        valid_x: bool [..., n], which numbers belong to the set.
        valid_y: bool [..., m].

    Returns:
        [...]; 0 where one of the sets is empty.
    """
    values = torch.cat([x.masked_fill(~valid_x, 0.0), y.masked_fill(~valid_y, 0.0)], dim=-1)
    ordered, order = values.sort(dim=-1)

    def below(valid: Tensor, other: Tensor, first: bool) -> Tensor:
        # Integer counts, so that equal sets differ by exactly 0.
        both = [valid, torch.zeros_like(other)]
        ours = torch.cat(both if first else both[::-1], dim=-1)
        counted = ours.gather(-1, order).cumsum(dim=-1)
        return counted[..., :-1].to(values.dtype) / counted[..., -1:].clamp_min(1)

    apart = (below(valid_x, valid_y, True) - below(valid_y, valid_x, False)).abs()
    distance = (apart * ordered.diff(dim=-1)).sum(dim=-1)
    return distance * (valid_x.any(dim=-1) & valid_y.any(dim=-1))
