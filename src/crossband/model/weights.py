"""Read `model.safetensors` of a model folder into a network that its arguments describe.

What the arguments ask for is held against the names and shapes in the file's header before any
memory is taken for it, and what the file holds is checked before it counts as weights.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from crossband.core.limits import Limit
from crossband.core.registry import build
from crossband.core.regular_file import open_regular_file
from crossband.errors import CrossbandError, ModelError
from crossband.model.files import DESCRIPTION
from crossband.networks import Generator
from crossband.networks.size_limit import TooLargeError, limit_of_weights

#: MiB of a file, at most.
MAX_WEIGHTS = Limit("CROSSBAND_MAX_WEIGHTS_MIB", 8192)
#: Tensors in it and bytes of its header, at most; a tensor takes about 100 there.
MOST_TENSORS, MOST_HEADER = 20_000, 4 * 2**20
_FLOATS, _INTEGERS = ("F64", "F32", "F16", "BF16"), ("I64", "I32", "I16", "I8", "U8", "BOOL")


def load_network(path: Path, sha256: str, name: str, arguments: dict[str, Any]) -> Generator:
    """Build a network and fill it with the weights in a file.

    Args:
        path: the file.
        sha256: hash that it must have.
        name: class of the network.
        arguments: of its constructor.

    Raises:
        ModelError: another file, not a safetensors file, unknown or wrong arguments, weights that
            are those of another network, or that are not finite.
    """
    _check_hash(path, sha256)
    try:
        with safe_open(path, "pt") as held:
            return _load(path, held, name, arguments)
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from error


def _check_hash(path: Path, expected: str) -> None:
    with open_regular_file(path, ModelError) as file:
        size = -(-os.fstat(file.fileno()).st_size // 2**20)
        if size > (most := MAX_WEIGHTS.value):
            raise ModelError(
                f"{path}: larger than {most} MiB; {MAX_WEIGHTS.variable}={size} allows more"
            )
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ModelError(
                f"{path}: the weights are not those that {DESCRIPTION} describes "
                f"(SHA-256 {found[:12]}..., expected {expected[:12]}...)"
            )
        file.seek(0)
        if int.from_bytes(file.read(8), "little") > MOST_HEADER:
            raise ModelError(f"{path}: not a safetensors file: its header is too large")


def _load(path: Path, held: Any, name: str, arguments: dict[str, Any]) -> Generator:
    slices = {key: held.get_slice(key) for key in held.keys()}  # noqa: SIM118, it is no mapping
    shapes = {key: torch.Size(one.get_shape()) for key, one in slices.items()}
    if len(shapes) > MOST_TENSORS:
        raise ModelError(f"{path}: {len(shapes):,} tensors, and {MOST_TENSORS:,} are the most")
    network = _built(path, shapes, name, arguments)
    state = network.state_dict()
    _check_shapes(path, name, {k: v.shape for k, v in state.items()}, shapes)
    for key, value in state.items():
        kind = slices[key].get_dtype()
        if kind not in (_FLOATS if value.is_floating_point() else _INTEGERS):
            raise ModelError(f"{path}: {key} is {kind}, which {name} does not take")
    trained = dict(network.named_parameters())
    tensors = {key: held.get_tensor(key).float() for key in state}
    for key, value in tensors.items():
        # A buffer may say that something has no limit, a weight may not.
        if not (value.isfinite() if key in trained else ~value.isnan()).all():
            raise ModelError(f"{path}: {key} holds values that are not finite")
    try:
        network.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: does not fit {name}: {error}") from error
    return network


def _built(
    path: Path, shapes: dict[str, torch.Size], name: str, arguments: dict[str, Any]
) -> Generator:
    try:
        with (
            limit_of_weights([shape.numel() for shape in shapes.values()]),
            warnings.catch_warnings(action="ignore", category=UserWarning),  # of torch, on no bands
        ):
            return build(Generator, name, arguments)
    except TooLargeError as error:
        raise ModelError(
            f"{path.with_name(DESCRIPTION)}: its arguments describe a {name} that is larger than "
            f"the weights in {path.name}"
        ) from error
    except CrossbandError as error:
        raise ModelError(f"{path.with_name(DESCRIPTION)}: {error}") from error


def _check_shapes(
    path: Path, name: str, wanted: dict[str, torch.Size], found: dict[str, torch.Size]
) -> None:
    """Raise ModelError for the first tensor that is missing, too many or of another shape."""
    for key in [*wanted, *found]:
        if wanted.get(key) != found.get(key):
            has = "is not there" if key not in found else f"is {list(found[key])}"
            takes = f"takes {list(wanted[key])}" if key in wanted else "has no such tensor"
            raise ModelError(f"{path}: does not fit {name}: {key} {has}, and {name} {takes}")
