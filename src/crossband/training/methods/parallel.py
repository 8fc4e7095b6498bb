"""Data-parallel training: every process has all networks; gradients are averaged before a step.

Lightning's `ddp` wraps the module and averages gradients inside every backward pass. The wrapper
expects one backward pass a step over all parameters; adversarial training has several over parts of
them, some with second derivatives. So nothing is wrapped here: the method calls `average_gradients`
once for each optimiser after the last batch of a step. That is one all-reduce a step however many
batches are accumulated, with the same result as one process with the whole batch. FSDP is not
offered: Lightning cannot combine it with manual optimisation (#20138), and these networks fit one
device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn

#: Gradients are averaged in buckets of about this size: few calls, and little extra memory.
BUCKET_BYTES = 64 * 2**20


class UnwrappedDDPStrategy(DDPStrategy):
    """DDP with its processes, groups and launchers, but without the module wrapper."""

    def configure_ddp(self) -> None:
        """Broadcast the weights of the first process to all others."""
        assert isinstance(self.model, nn.Module)
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            distributed.broadcast(tensor.detach(), 0)


def average_gradients(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Replace each gradient by its mean over the processes.

    A parameter without a gradient has none in any process, because all run the same graph.

    Args:
        parameters: parameters with gradients.
        world: number of processes.
    """
    if world == 1:
        return
    piece: list[Tensor] = []
    size = 0
    for p in parameters:
        if p.grad is None:
            continue
        if piece and (size >= BUCKET_BYTES or piece[0].dtype != p.grad.dtype):
            _average(piece, world)
            piece, size = [], 0
        piece.append(p.grad)
        size += p.grad.numel() * p.grad.element_size()
    if piece:
        _average(piece, world)


def _average(tensors: Sequence[Tensor], world: int) -> None:
    flat = torch.cat([t.flatten() for t in tensors])
    distributed.all_reduce(flat)
    flat /= world
    for tensor, mean in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


def mean_over_processes(values: Tensor, world: int) -> Tensor:
    """Return the mean of a tensor over the processes."""
    if world == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / world


def any_process(here: bool, world: int, device: torch.device) -> bool:
    """Return whether a condition holds in at least one process; waits for the others."""
    if world == 1:
        return here
    flag = torch.tensor(float(here), device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag > 0)
