"""Sizes while a network is traced into an ONNX graph, where they are symbols and not numbers.

A trace records operations on tensors. A branch or a loop of Python on a size would fix the size of
the example in the graph, and the graph would be wrong for every other one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_traced() -> bool:
    """Return whether a network is being traced into an ONNX graph."""
    return torch.onnx.is_in_onnx_export()


def infers_on_cpu(x: Tensor) -> bool:
    """Return whether this image is translated on a CPU, without gradients and not for a trace.

    Then loops of `pixel_loops` may take the place of PyTorch's operations.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not is_traced()


def largest(one: int, other: int) -> int:
    """Return the larger one of two sizes, as a symbol in a trace."""
    if not is_traced():
        return max(one, other)
    both = (torch.as_tensor(size) for size in (one, other))
    return torch.maximum(*both)  # type: ignore[return-value]


def smallest(one: int, other: int) -> int:
    """Return the smaller one of two sizes, as a symbol in a trace."""
    return -largest(-one, -other)
