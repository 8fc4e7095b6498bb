"""Small things that methods do to their networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def channels_last(network: N) -> N:
    """Lay the weights out as the fast convolutions of CPU and GPU want them."""
    moved: Any = network
    moved.to(memory_format=torch.channels_last)
    return network


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Compute no gradients of networks' weights; gradients pass through them all the same."""
    trained = [p for n in networks for p in n.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move a running average of weights: average += (1 - d) (weights - average).

    d = min(decay, (1 + step) / (10 + step)): smaller in the first steps, which forgets the random
    start (TensorFlow's ExponentialMovingAverage with num_updates). Buffers are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = zip(average.parameters(), network.parameters(), strict=True)
    mean, now = (list(tensors) for tensors in zip(*pairs, strict=True))
    torch._foreach_lerp_(mean, now, 1.0 - decay)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.copy_(new)
