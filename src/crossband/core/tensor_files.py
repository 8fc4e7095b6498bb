"""Read the tensors of checkpoint files by name; no other object in a file is unpickled."""

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

#: How deep nested dictionaries are searched.
DEPTH = 4
#: Prefixes that wrappers add to all names: DataParallel and DDP, torch.compile.
WRAPPERS = ("module", "_orig_mod")
#: What `torch.load` raises for a file that is damaged or is something else.
_DAMAGED = (
    *(RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(OSError, AssertionError, NotImplementedError, ImportError, struct.error, zipfile.BadZipFile),
)


class NamedTensors:
    """The tensors of one network by name; keeps a list of those that were not used yet.

    Args:
        path: the file, for error messages.
        part: position in the file, as in `state_dict.netG`; empty at the top level.
        values: name -> tensor.
        others: names of tensors in the same dictionary that do not belong to this network.
    """

    def __init__(
        self, path: Path, part: str, values: Mapping[str, Tensor], others: list[str]
    ) -> None:
        self.path, self.part, self.others = path, part, others
        self._values = dict(values)
        self._unused = dict.fromkeys(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; ModelError if it is missing, sparse, nested or meta."""
        if name not in self._values:
            raise self.error(f"the tensor {name} is missing")
        value = self._values[name]
        # Nested tensors have no single shape; sparse and meta tensors have no dense values.
        if value.layout != torch.strided or value.is_nested or value.is_meta:
            kind = "without values" if value.is_meta else "sparse or nested"
            raise self.error(f"{name} is {kind}, and only plain tensors are read")
        return tuple(value.shape)

    def take(self, name: str, sides: int | None = None) -> Tensor:
        """Return a tensor as float32 and mark it as used.

        Raises:
            ModelError: the tensor is missing, sparse, nested or without values, has another number
                of dimensions than `sides`, or holds values that are not finite.
        """
        shape = self.shape(name)
        self._unused.pop(name, None)
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
        """Mark a tensor as used without reading it, if it exists."""
        self._unused.pop(name, None)

    def unused(self) -> list[str]:
        """Return the names of the tensors that were not used."""
        return list(self._unused)

    def error(self, message: str) -> ModelError:
        """Return an error whose message names the file and the part of it."""
        part = f" ({self.part})" if self.part else ""
        return ModelError(f"{self.path}{part}: {message}")


def state_dicts(path: Path) -> list[tuple[str, dict[str, Tensor]]]:
    """Return the state dicts in a file: (position in the file, name -> tensor).

    Args:
        path: a file written by `torch.save`, or a `.safetensors` file.

    Raises:
        ModelError: no such file, another kind of file, or a file with other objects than tensors,
            which are never unpickled.
    """
    found = list(_find_state_dicts(read_tensor_file(path), "", DEPTH))
    if not found:
        raise ModelError(f"{path}: holds no tensors under names, so no state dict")
    return found


def read_tensor_file(path: Path) -> Any:
    """Return the content of a file: tensors, numbers and strings in lists and dictionaries.

    Args:
        path: a file written by `torch.save`, or a `.safetensors` file.

    Raises:
        ModelError: see `state_dicts`.
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
            warnings.simplefilter("ignore")  # warnings about typed storages in old files
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


def _find_state_dicts(data: Any, at: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(data, Mapping) or not depth:
        return
    tensors = {k: v for k, v in data.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield at, tensors
    for key, value in data.items():
        if isinstance(key, str):
            yield from _find_state_dicts(value, f"{at}.{key}" if at else key, depth - 1)


def with_prefix(path: Path, at: str, state: Mapping[str, Tensor], prefix: str) -> NamedTensors:
    """Return the tensors whose names begin with a prefix, with the prefix removed."""
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    others = [k for k in state if not k.startswith(prefix)]
    words = [w for w in f"{at}.{prefix}".split(".") if w and w not in WRAPPERS]
    return NamedTensors(path, ".".join(words), inside, others)
