"""SatCLIP's location encoder: maps longitude and latitude to an embedding.

Klemmer et al. 2025, SatCLIP: global, general-purpose location embeddings with satellite imagery:
spherical harmonics, then a SIREN, a network with sine activations (Sitzmann et al. 2020; Russwurm
et al. 2024, Geographic location encoding with spherical harmonics and sinusoidal representation
networks). It loads the tensors of the public checkpoints, so the basis follows their conventions;
see `spherical_harmonics`.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.tensor_files import NamedTensors, read_tensor_file
from crossband.errors import ModelError

#: Latitudes are clamped to this many degrees: at the poles longitude is undefined.
MAX_LATITUDE = 89.95
#: Factor of the first layer's sine, and of the others'.
FIRST_FREQUENCY, FREQUENCY = 30.0, 1.0
#: Prefixes of the encoder in public checkpoints; most of them contain it twice.
PREFIXES = ("model.location.nnet.", "model.nnet.")
#: Hyperparameters that a public checkpoint must have, if it states them.
WANTED = {
    "le_type": "sphericalharmonics",
    "pe_type": "siren",
    "harmonics_calculation": "analytic",
}


@functools.cache
def _recurrence(degrees: int) -> tuple[NDArray[np.float64], ...]:
    """Return the constants of the recurrence over the degree: diagonal, first, second factor."""
    m = np.arange(degrees, dtype=np.float64)
    grown = np.sqrt((2.0 * m[1:] + 1.0) / (2.0 * m[1:]))
    diagonal = math.sqrt(0.25 / math.pi) * np.cumprod(np.concatenate([[1.0], grown]))
    degree, order = m[:, None], m[None, :]
    below = order < degree
    gap = np.where(below, degree**2 - order**2, 1.0)
    first = np.where(below, np.sqrt(np.maximum(4.0 * degree**2 - 1.0, 0.0) / gap), 0.0)
    before = np.maximum((degree - 1.0) ** 2 - order**2, 0.0)
    second = np.where(below, np.sqrt(before / np.abs(4.0 * (degree - 1.0) ** 2 - 1.0)), 0.0)
    return diagonal, first, second


def spherical_harmonics(lonlat: Tensor, degrees: int) -> Tensor:
    """Return real spherical harmonics of locations, in the order and scale of SatCLIP.

    Degrees l = 0 .. degrees - 1, each with orders m = -l .. l, at the azimuth longitude + 180 and
    the polar angle latitude + 90. With N P the normalised associated Legendre functions without the
    Condon-Shortley phase: sqrt(2) sin(|m| azimuth) N P for m < 0, sqrt(2) cos(m azimuth) N P for
    m > 0, and pi N P for m = 0. The factor pi is wrong, but the checkpoints were trained with it.
    The functions come from a recurrence over the degree that is stable in float64 (forward columns,
    Holmes and Featherstone 2002), not from factorials.

    Args:
        lonlat: [..., 2], longitude and latitude in degrees; latitudes are clamped to 89.95.
        degrees: number of degrees, at least 1.

    Returns:
        float64 [..., degrees^2].
    """
    at = lonlat.to(torch.float64)
    azimuth = torch.deg2rad(at[..., 0] + 180.0)
    polar = torch.deg2rad(at[..., 1].clamp(-MAX_LATITUDE, MAX_LATITUDE) + 90.0)
    cosine, sine = polar.cos()[..., None], polar.sin()[..., None]
    diagonal, first, second = (torch.from_numpy(t).to(at.device) for t in _recurrence(degrees))
    orders = torch.arange(degrees, device=at.device, dtype=torch.float64)
    on_diagonal = diagonal * sine**orders
    turns = azimuth[..., None] * orders
    waves = math.sqrt(2.0) * turns.cos(), math.sqrt(2.0) * turns.sin()
    harmonics, last, now = [], torch.zeros_like(turns), torch.zeros_like(turns)
    for degree in range(degrees):
        last, now = now, first[degree] * (cosine * now - second[degree] * last)
        now = now + on_diagonal * (orders == degree)
        even, odd = now * waves[0], now * waves[1]
        harmonics += [
            odd[..., 1 : degree + 1].flip(-1),
            math.pi * now[..., :1],
            even[..., 1 : degree + 1],
        ]
    return torch.cat(harmonics, dim=-1)


class LocationEncoder(nn.Module):
    """Spherical harmonics, then sine layers: [N, 2] in degrees -> float32 [N, channels].

    A frozen encoder always stays in eval mode: `train()` does not enable its dropout, and its
    weights get no gradients. An unknown location (NaN) gives 0. The network runs in float32 also
    under autocast, and the basis in float64, because the first sine multiplies its input by 30.

    Args:
        degrees: degrees of the basis: 10 (the public files `-l10`), 40 (`-l40`), or any other.
        channels: length of the embedding.
        hidden: units of a hidden layer.
        depth: number of hidden layers.
        dropout: probability of dropping a hidden value before its sine in training; the public
            encoders were trained with 0.5.
        frozen: do not train the encoder.
    """

    def __init__(
        self,
        degrees: int = 10,
        channels: int = 256,
        hidden: int = 512,
        depth: int = 2,
        dropout: float = 0.0,
        frozen: bool = False,
    ) -> None:
        if min(degrees, channels, hidden, depth) < 1 or not 0.0 <= dropout < 1.0:
            raise ValueError("degrees, channels, hidden, depth must be at least 1, dropout 0 to 1")
        super().__init__()
        self.degrees, self.channels, self.dropout = degrees, channels, dropout
        self.frozen = frozen
        inputs = [degrees**2, *[hidden] * depth]
        self.layers = nn.ModuleList(nn.Linear(n, hidden) for n in inputs[:-1])
        self.last_layer = nn.Linear(inputs[-1], channels)
        for number, layer in enumerate([*self.layers, self.last_layer]):
            # Sitzmann et al. 2020, section 3.2: the initialisation of the public encoders.
            bound = 1.0 / inputs[0] if number == 0 else math.sqrt(6.0 / inputs[number]) / FREQUENCY
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        self.requires_grad_(not frozen)
        self.train(True)

    def train(self, mode: bool = True) -> LocationEncoder:
        """Set the mode; a frozen encoder stays in eval mode."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode locations.

        Raises:
            ValueError: `lonlat` is not [N, 2].
        """
        if lonlat.ndim != 2 or lonlat.shape[1] != 2:
            raise ValueError(f"places are [N, 2], longitude and latitude, not {list(lonlat.shape)}")
        known = lonlat.isfinite().all(dim=1, keepdim=True)
        place = lonlat.detach().masked_fill(~known, 0.0)
        if place.device.type == "mps":
            place = place.cpu()  # Metal has no float64
        basis = spherical_harmonics(place, self.degrees)
        with torch.autocast(lonlat.device.type, enabled=False):
            x = basis.to(lonlat.device, self.last_layer.weight.dtype)
            for number, layer in enumerate(self.layers):
                x = functional.dropout(layer(x), self.dropout, self.training)
                x = torch.sin((FREQUENCY if number else FIRST_FREQUENCY) * x)
            out: Tensor = self.last_layer(x)
        return out.masked_fill(~known, 0.0)

    def load_checkpoint(self, tensors: dict[str, Tensor]) -> None:
        """Load the weights that `read_satclip` returns."""
        self.load_state_dict(tensors)


def read_satclip(path: str | Path) -> dict[str, Tensor]:
    """Return the location encoder's tensors of a public SatCLIP checkpoint.

    Only tensors, numbers and strings are read (see `core.tensor_files`); no code of the file runs.
    The image encoder in the file is not used.

    Args:
        path: a Lightning checkpoint with `state_dict`, as satclip-resnet18-l10.ckpt.

    Returns:
        `layers.0.weight` [hidden, degrees^2], ..., `last_layer.weight` [channels, hidden] and the
        biases; float32, though the public files have float64.

    Raises:
        ModelError: the file is missing or damaged, has other content than tensors and numbers, or
            another kind of encoder.
    """
    path = Path(path)
    held = read_tensor_file(path)
    state = held.get("state_dict") if isinstance(held, dict) else None
    if not isinstance(state, dict):
        raise ModelError(f"{path}: no checkpoint of SatCLIP: there is no state_dict")
    stated = held.get("hyper_parameters")
    for name, wanted in WANTED.items():
        given = stated.get(name, wanted) if isinstance(stated, dict) else wanted
        if given != wanted:
            raise ModelError(f"{path}: {name} is {given!r}, and only {wanted!r} is known here")
    for prefix in PREFIXES:
        values = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if isinstance(name, str) and name.startswith(prefix)
        }
        if values:
            break
    return _checked(path, values)


def sizes_of(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Return the arguments degrees, channels, hidden and depth for an encoder's tensors."""
    hidden, inputs = tensors["layers.0.weight"].shape
    return {
        "degrees": math.isqrt(inputs),
        "channels": len(tensors["last_layer.weight"]),
        "hidden": hidden,
        "depth": sum(name.endswith(".weight") for name in tensors) - 1,
    }


def _checked(path: Path, values: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors as float32; ModelError unless they form an encoder."""
    names = {n for n in values if re.fullmatch(r"(layers\.\d+|last_layer)\.(weight|bias)", n)}
    if not {"layers.0.weight", "last_layer.weight"} <= names or names != set(values):
        raise ModelError(f"{path}: no location encoder is in it ({PREFIXES[0]}layers.0.weight)")
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"{path}: {name} is not a tensor")
    held = NamedTensors(path, "", values, [])
    tensors = {name: held.take(name, 2 if name.endswith("weight") else 1) for name in values}
    for name, value in tensors.items():
        if not value.numel():
            raise held.error(f"{name} is empty")
    sizes = sizes_of(tensors)
    inputs = tensors["layers.0.weight"].shape[1]
    encoder = {n: tuple(p.shape) for n, p in _meta(sizes).named_parameters()}
    if inputs != sizes["degrees"] ** 2 or encoder != {
        n: tuple(t.shape) for n, t in tensors.items()
    }:
        raise ModelError(f"{path}: the layers of its location encoder do not fit one another")
    return tensors


def _meta(sizes: dict[str, Any]) -> LocationEncoder:
    with torch.device("meta"):
        return LocationEncoder(**sizes)
