"""Base classes: `Extractor` (picture -> features) and `Distance` (two pictures -> number)."""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crossband.errors import CrossbandError

#: How pictures are resized to the input size of a network, as written to metrics.json.
ANTIALIASED = "bilinear, antialiased"


class Features(NamedTuple):
    """Output of a network for N pictures.

    Attributes:
        values: float32 [N, D].
        probabilities: float32 [N, K], rows that sum to 1; None where the network has no classes.
    """

    values: Tensor
    probabilities: Tensor | None = None


class Extractor(ABC):
    """A frozen network: pictures in, features out.

    Attributes:
        name: its name in the report.
        weights_hash: SHA-256 of the weights.
        size: side in pixels to which `prepare` resizes pictures; None: they are not resized.
        resize: the method of resizing, in words, also where the network itself resizes.
    """

    name: str
    weights_hash: str
    size: int | None = None
    resize: str = "none"

    @abstractmethod
    def __call__(self, pictures: Tensor) -> Features:
        """Return the features of pictures, float32 [N, 3, H, W] of one size, 0..255."""

    def prepare(self, picture: Tensor) -> Tensor:
        """Resize one picture [3, H, W] to the input size of the network."""
        return picture if self.size is None else resized(picture, self.size)

    def about(self) -> dict[str, Any]:
        """Return its description for the report."""
        return {"name": self.name, "weights_hash": self.weights_hash, "resize": self.resize}


class Distance(ABC):
    """A frozen network: two pictures in, one number out.

    Attributes:
        name: its name in the report, and the name of the number.
        weights_hash: SHA-256 of the weights.
        min_side: smallest side of a picture, in pixels.
    """

    name: str
    weights_hash: str
    min_side: int = 1

    @abstractmethod
    def __call__(self, target: Tensor, output: Tensor) -> Tensor:
        """Return the distances [N] of pictures, each float32 [N, 3, H, W], 0..255."""

    def about(self) -> dict[str, Any]:
        """Return its description for the report."""
        return {"name": self.name, "weights_hash": self.weights_hash, "resize": "none"}


def resized(picture: Tensor, size: int) -> Tensor:
    """Resize a picture [3, H, W] to [3, size, size]; `ANTIALIASED`, edges not aligned.

    Antialiased means that each pixel of a smaller picture is an average over the pixels it covers.
    The TensorFlow code of the FID paper skips pixels instead, which changes FID by more than the
    difference between models (Parmar et al. 2022).
    """
    if picture.shape[-2:] == (size, size):
        return picture
    return functional.interpolate(
        picture[None], (size, size), mode="bilinear", align_corners=False, antialias=True
    )[0]


def full_precision() -> AbstractContextManager[None]:
    """Disable TensorFloat-32 (10 bits) on NVIDIA cards, so that float32 is computed as float32."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


@contextmanager
def external_package(package: str) -> Iterator[None]:
    """Context in which another package builds its network; any error becomes a CrossbandError.

    torch-fidelity and lpips load their weights as pickles of any objects. An environment variable
    of PyTorch restricts them to tensors here.

    Raises:
        CrossbandError: there are no weights, they cannot be downloaded, or the package's interface
            has changed.
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
