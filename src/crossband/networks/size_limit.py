"""Stop the construction of a network that is too large, before its weights take memory.

A model file of a few bytes can ask for gigabytes of weights, or for an endless number of layers.
Every module registers its tensors and its submodules, and torch calls a hook for each. So the
networks themselves need no code for this.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from crossband.errors import ModelError

#: Functions that create a tensor of a given shape -> position of the shape in their arguments.
_SHAPED: dict[Any, int] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full), 0),
    **dict.fromkeys((Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full), 1),
}


#: What a network may have beyond what its weights hold: constants, and layers without weights.
_SPARE_VALUES, _SPARE_PARTS, _PARTS_OF_TENSOR = 2**20, 1000, 4


class TooLargeError(ModelError):
    """A network has more layers or weights than `size_limit` allows."""


@contextmanager
def size_limit(values: int, parts: int) -> Iterator[None]:
    """Raise TooLargeError as soon as a network that is built in this context is too large.

    Args:
        values: largest number of values in all parameters and buffers together. No single tensor
            may have more, even one that is only used to compute others.
        parts: largest number of parameters, buffers and modules together.
    """
    count = _Count(values, parts)
    hooks = [
        registration.register_module_parameter_registration_hook(count.add),
        registration.register_module_buffer_registration_hook(count.add),
        registration.register_module_module_registration_hook(count.add),
    ]
    try:
        with count, warnings.catch_warnings():
            # Of a network without bands, which its own check refuses.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            yield
    finally:
        for hook in hooks:
            hook.remove()


def limit_of_weights(sizes: Collection[int]) -> AbstractContextManager[None]:
    """Return the limit of a network whose weights are known.

    Args:
        sizes: how many numbers each tensor of the weights has.
    """
    parts = _PARTS_OF_TENSOR * len(sizes) + _SPARE_PARTS
    return size_limit(2 * sum(sizes) + _SPARE_VALUES, parts)


class _Count(TorchFunctionMode):
    """Counts the parameters, buffers and modules that this thread creates, and checks shapes."""

    def __init__(self, values: int, parts: int) -> None:
        super().__init__()
        self._values, self._parts, self._most = values, parts, values
        self._thread = threading.get_ident()  # hooks are called for all threads

    def add(self, module: nn.Module, name: str, part: Tensor | nn.Module | None) -> None:
        """Count a part; torch calls this before the part is initialised."""
        if threading.get_ident() != self._thread:
            return
        self._parts -= 1
        if isinstance(part, Tensor):
            self._values -= part.numel()
        if self._parts < 0 or self._values < 0:
            raise TooLargeError("more layers or weights than allowed")

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Check the shape of a tensor before it is created."""
        given = kwargs or {}
        if func in _SHAPED and _numbers(args[_SHAPED[func] :], given.get("size")) > self._most:
            raise TooLargeError("a tensor is larger than allowed")
        return func(*args, **given)


def _numbers(shape: Sequence[Any], named: Any) -> int:
    """Return the number of values of a shape: separate sides, one list, or the argument `size`."""
    sides = shape[0] if shape and isinstance(shape[0], Sequence) else shape
    sides = sides if named is None else named
    return math.prod(side for side in sides if isinstance(side, int))
