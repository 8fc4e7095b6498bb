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
