"""The order in memory in which a network is fastest: channels last, or contiguous."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


def laid_out(network: N, device: torch.device | None = None) -> N:
    """Bring the weights of a network into the order of memory that suits it.

    Convolutions are fastest with channels last. On a CPU an instance norm copies all that it sees
    into contiguous order and leaves it there, so a network that has some is faster in that order.
    So is one without convolutions of more than a pixel, which works on each band.

    Args:
        network: whose weights are moved.
        device: on which it will run; where it is not known yet, a GPU if there is one.
    """
    on_cpu = device.type == "cpu" if device is not None else not torch.cuda.is_available()
    norms = any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())
    sizes = {m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d)}
    apart = norms or sizes <= {(1, 1)}
    order = torch.contiguous_format if on_cpu and apart else torch.channels_last
    moved: Any = network
    moved.to(memory_format=order)
    for module in moved.modules():  # no torch.memory_format, which torch.save does not take
        module.has_channels_last = order is torch.channels_last
    return network


def order_of(network: nn.Module) -> torch.memory_format:
    """Return the order of memory that `laid_out` gave a network; contiguous for any other one."""
    last = getattr(network, "has_channels_last", False)
    return torch.channels_last if last else torch.contiguous_format


def laid_out_for(network: nn.Module, x: Tensor) -> Tensor:
    """Return an image in the order of memory that `laid_out` gave the network that it is for."""
    moved = hasattr(network, "has_channels_last")
    return x.contiguous(memory_format=order_of(network)) if moved else x
