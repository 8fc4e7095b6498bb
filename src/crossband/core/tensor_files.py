"""Checkpoint files: what tensors are in them, and under which names; nothing else is unpacked."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from crossband.errors import ModelError

#: Dictionaries inside dictionaries that are looked into.
DEPTH = 4
#: Names that a wrapper puts before all others: DataParallel and DDP, torch.compile.
WRAPPERS = ("module", "_orig_mod")
#: What `torch.load` raises for a file that is damaged or is something else.
_DAMAGED = (
    *(RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(OSError, AssertionError, NotImplementedError, ImportError, struct.error, zipfile.BadZipFile),
)


class Tensors:
    """The tensors of one network, by name; those that are taken are used up.

    Args:
        path: of the file, for messages.
        part: where in the file they are, as in `state_dict.netG`; empty where all are there.
        values: name -> tensor.
        others: names of tensors of the same dictionary that are no part of this network.
    """

    def __init__(
        self, path: Path, part: str, values: Mapping[str, Tensor], others: list[str]
    ) -> None:
        self.path, self.part, self.others = path, part, others
        self._values = dict(values)
        self._left = dict.fromkeys(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; ModelError where it is missing, or sparse and the like."""
        if name not in self._values:
            raise self.error(f"the tensor {name} is missing")
        value = self._values[name]
        # A nested one has no shape, a sparse one no values at each place, one of meta none at all.
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            kind = "without values" if value.is_meta else "sparse or nested"
            raise self.error(f"{name} is {kind}, and only plain tensors are read")
        return tuple(value.shape)

    def take(self, name: str, sides: int | None = None) -> Tensor:
        """Return a tensor as float32 and count it as used.

        Raises:
            ModelError: it is missing, sparse, nested or without values, has another number of
                sides, or holds no finite numbers.
        """
        shape = self.shape(name)
        self._left.pop(name, None)
        value = self._values[name]
        if sides is not None and len(shape) != sides:
            raise self.error(f"{name} has {len(shape)} sides, and {sides} fit")
        if not value.is_floating_point():
            raise self.error(f"{name} is {str(value.dtype).removeprefix('torch.')}, no number")
        value = value.float()
        if not value.isfinite().all():
            raise self.error(f"{name} holds values that are not finite")
        return value

    def drop(self, name: str) -> None:
        """Count a tensor as used that is not needed, where there is one."""
        self._left.pop(name, None)

    def left(self) -> list[str]:
        """Return the names that nothing took."""
        return list(self._left)

    def error(self, message: str) -> ModelError:
        """Return an error that names the file, and the part of it."""
        part = f" ({self.part})" if self.part else ""
        return ModelError(f"{self.path}{part}: {message}")


def states(path: Path) -> list[tuple[str, dict[str, Tensor]]]:
    """Return the dictionaries of tensors in a file: where they are, name -> tensor.

    Args:
        path: what `torch.save` wrote, or a `.safetensors` file.

    Raises:
        ModelError: no such file, not one of these, or one with other objects than tensors, which
            are never unpacked.
    """
    found = list(_states(opened(path), "", DEPTH))
    if not found:
        raise ModelError(f"{path}: holds no tensors under names, so no state dict")
    return found


def opened(path: Path) -> Any:
    """Return what is in a file: tensors, numbers and texts, in lists and dictionaries.

    Args:
        path: what `torch.save` wrote, or a `.safetensors` file.

    Raises:
        ModelError: see `states`.
    """
    if path.is_dir():
        raise ModelError(f"{path}: a folder, but a checkpoint is a file")
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        return load_file(path) if path.suffix == ".safetensors" else _load(path)
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from error


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        first = file.read(2)
    # A zip archive, or the pickle of PyTorch before 1.6.
    if first != b"PK" and first[:1] != b"\x80":
        raise ModelError(f"{path}: not a file that torch.save wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages in old files
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({other[1]})" if other else ""
        raise ModelError(
            f"{path}: holds other objects than tensors{what}, which are never unpacked; what can "
            "be imported is a state dict alone"
        ) from error
    except _DAMAGED as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: cannot be read as a checkpoint: {first_line}") from error


def _states(data: Any, at: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(data, Mapping) or not depth:
        return
    tensors = {k: v for k, v in data.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield at, tensors
    for key, value in data.items():
        if isinstance(key, str):
            yield from _states(value, f"{at}.{key}" if at else key, depth - 1)


def under(path: Path, at: str, state: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Return the tensors whose names begin with a prefix, which is left out."""
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    others = [k for k in state if not k.startswith(prefix)]
    words = [w for w in f"{at}.{prefix}".split(".") if w and w not in WRAPPERS]
    return Tensors(path, ".".join(words), inside, others)
