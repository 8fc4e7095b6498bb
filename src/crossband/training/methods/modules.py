"""Operations on networks that several methods use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crossband.networks.layers.convolution import TRANSPOSED


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Compute no gradients of these networks' weights; gradients still pass through them."""
    trained = [p for n in networks for p in n.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


@torch.no_grad()
def clip_weights(limit: float, networks: Iterable[nn.Module]) -> None:
    """Clip every weight to -limit..limit, which bounds the critic's Lipschitz constant.

    Arjovsky, Chintala and Bottou 2017, Wasserstein GAN, algorithm 1 (limit 0.01).
    """
    for p in (p for n in networks for p in n.parameters() if p.requires_grad):
        p.clamp_(-limit, limit)


@torch.no_grad()
def add_orthogonal_gradient(strength: float, networks: Iterable[nn.Module]) -> None:
    """Add strength times the gradient of `orthogonal_penalty` to the existing gradients.

    With P = W W^T, W as [out, rest], the gradient of |P * (1 - I)|^2 is 4 (P * (1 - I)) W. Brock,
    Donahue and Simonyan 2019, Large scale GAN training, eq. 3, which leaves the rows' norms free.
    """
    for p, turned in _weight_matrices(networks):
        if p.grad is None:
            continue
        weight, gradient = (t.transpose(0, 1) if turned else t for t in (p, p.grad))
        rows = weight.flatten(1)
        alike = rows @ rows.T
        alike.fill_diagonal_(0.0)
        gradient.add_((alike @ rows).view_as(weight), alpha=4.0 * strength)


def orthogonal_penalty(networks: Iterable[nn.Module]) -> Tensor:
    """Return the sum of |W W^T * (1 - I)|^2 over weights W [out, rest]; 0 for orthogonal rows.

    >>> line = nn.Linear(2, 2, bias=False)
    >>> line.weight.data = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    >>> float(orthogonal_penalty([line]))  # the rows' product is 1, twice
    2.0
    """
    total = torch.zeros(())
    for p, turned in _weight_matrices(networks):
        rows = (p.transpose(0, 1) if turned else p).flatten(1)
        alike = rows @ rows.T
        total = total.to(p.device) + (alike - alike.diagonal().diag()).square().sum()
    return total


def _weight_matrices(networks: Iterable[nn.Module]) -> Iterator[tuple[Tensor, bool]]:
    """Yield each weight, and whether axis 0 holds its inputs, as in transposed convolutions."""
    for network in networks:
        turned = {
            id(p)
            for module in network.modules()
            if isinstance(module, TRANSPOSED)
            for p in module.parameters()  # with spectral norm they belong to a submodule
        }
        yield from ((p, id(p) in turned) for p in network.parameters() if p.ndim > 1)


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Update an exponential moving average of weights: average += (1 - d) (weights - average).

    d = min(decay, (1 + step) / (10 + step)) is smaller in the first steps, so that the random
    initial weights are forgotten (TensorFlow's ExponentialMovingAverage with num_updates). Buffers
    are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = zip(average.parameters(), network.parameters(), strict=True)
    mean, now = (list(tensors) for tensors in zip(*pairs, strict=True))
    torch._foreach_lerp_(mean, now, 1.0 - decay)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.copy_(new)
