"""What turns pictures into features, and what tells how far apart two pictures are."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crossband.errors import CrossbandError

#: How pictures are brought to the size of a network; what metrics.json says of it.
ANTIALIASED = "bilinear, antialiased"


class Features(NamedTuple):
    """What a network says of some pictures.

    Attributes:
        values: float32 [N, D].
        probabilities: float32 [N, K], rows that sum to 1; None where the network has no classes.
    """

    values: Tensor
    probabilities: Tensor | None = None


class Extractor(ABC):
    """A frozen network: pictures in, features out.

    Attributes:
        name: as the report has it.
        weights_hash: SHA-256 of the weights.
        size: side in pixels that pictures are resized to before they come; None: as they are.
        resize: how, in words; where the network resizes by itself, how it does.
    """

    name: str
    weights_hash: str
    size: int | None = None
    resize: str = "none"

    @abstractmethod
    def __call__(self, pictures: Tensor) -> Features:
        """Return the features of pictures, float32 [N, 3, H, W] of one size, 0..255."""

    def prepare(self, picture: Tensor) -> Tensor:
        """Bring one picture [3, H, W] to the size that the network takes."""
        return picture if self.size is None else resized(picture, self.size)

    def about(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {"name": self.name, "weights_hash": self.weights_hash, "resize": self.resize}


class Distance(ABC):
    """A frozen network: two pictures in, one number out.

    Attributes:
        name: as the report has it, and of the number.
        weights_hash: SHA-256 of the weights.
        smallest: side in pixels below which it cannot look at a picture.
    """

    name: str
    weights_hash: str
    smallest: int = 1

    @abstractmethod
    def __call__(self, truth: Tensor, output: Tensor) -> Tensor:
        """Return the distances [N] of pictures, each float32 [N, 3, H, W], 0..255."""

    def about(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {"name": self.name, "weights_hash": self.weights_hash, "resize": "none"}


def resized(picture: Tensor, size: int) -> Tensor:
    """Resize a picture [3, H, W] to [3, size, size]; `ANTIALIASED`, edges not aligned.

    Antialiased means that a smaller picture averages what lies below each of its pixels. The
    TensorFlow code of the FID paper leaves pixels out instead, which changes FID by more than
    models differ (Parmar et al. 2022).
    """
    if picture.shape[-2:] == (size, size):
        return picture
    return functional.interpolate(
        picture[None], (size, size), mode="bilinear", align_corners=False, antialias=True
    )[0]


def import_extra(package: str, extra: str, what: str) -> ModuleType:
    """Import a package that is no dependency of the core; one line says how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        other = error.name not in (None, top)  # it is there, and something that it needs is not
        why = f"cannot be imported without {error.name}" if other else "is not installed"
        raise CrossbandError(
            f"{what} needs the package {top.replace('_', '-')}, which {why}: pip install "
            f"'crossband[{extra}]'"
        ) from error


def full_precision() -> AbstractContextManager[None]:
    """Let float32 mean float32 on an NVIDIA card, too: its TensorFloat-32 has 10 bits."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


@contextmanager
def foreign(package: str) -> Iterator[None]:
    """Let another package build its network; whatever goes wrong is one line.

    torch-fidelity and lpips open their weights as pickles of any objects. A variable of PyTorch
    overrules them here, so that nothing but tensors is unpacked.

    Raises:
        CrossbandError: no weights, no network to fetch them, or another version's ways.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    except pickle.UnpicklingError as error:
        raise CrossbandError(
            f"{package}: its file of weights is damaged, or holds other objects than tensors, "
            "which are never unpacked"
        ) from error
    except Exception as error:
        raise CrossbandError(f"{package}: its network cannot be built: {error}") from error
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values of tensors, in the names' order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
