"""A weighted mean of the outputs of several networks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

from torch import Tensor, nn

from crossband.core.registry import build
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions


class Blend(Generator):
    """Weighted mean of the outputs of several generators.

    A network with context has larger errors in unfamiliar surroundings; a per-pixel fit has smaller
    errors there and larger ones elsewhere. The mean shrinks the first estimate towards the second
    (James and Stein 1961: shrinkage towards a simple estimate reduces the mean error).

    Args:
        parts: `class` and `arguments` of each generator.
        shares: weight of each generator; they sum to 1.
    """

    examples = (
        {
            "parts": [
                {"class": "LocalUNet", "arguments": {"width": 6, "depth": 1, "hidden": 4}},
                {"class": "PerPixelMLP", "arguments": {"width": 5}},
            ],
            "shares": [0.75, 0.25],
        },
    )

    def __init__(self, parts: list[dict[str, Any]], shares: list[float]) -> None:
        if len(parts) != len(shares) or not parts:
            raise ValueError("a blend needs one share for each part")
        if any(part.keys() != {"class", "arguments"} for part in parts):
            raise ValueError("each part of a blend has a class and arguments")
        if min(shares) < 0 or not math.isclose(sum(shares), 1.0):
            raise ValueError(f"the shares of a blend must be positive and sum to 1, not {shares}")
        super().__init__()
        networks = [build(Generator, part["class"], part["arguments"]) for part in parts]
        self.parts, self.shares = nn.ModuleList(networks), list(shares)
        for name in ("in_channels", "out_channels", "scale"):
            values = {getattr(network, name) for network in networks}
            if len(values) > 1:
                raise ValueError(f"the parts of a blend differ in {name}: {values}")
            setattr(self, name, values.pop())
        margins = [network.margin for network in networks]
        known = [m for m in margins if m is not None]
        self.margin = max(known) if len(known) == len(margins) else None
        self.stride = math.lcm(*(network.stride for network in networks))
        self.noise = max(network.noise for network in networks)
        self.style = max(network.style for network in networks)
        self.parallel_tiles = all(network.parallel_tiles for network in networks)
        self.located = any(network.located for network in networks)

    @classmethod
    def of(cls, networks: list[Generator], shares: list[float]) -> Self:
        """Blend existing networks with their weights."""
        parts = [{"class": type(n).__name__, "arguments": n.arguments} for n in networks]
        blend = cls(parts, shares)
        for part, network in zip(blend.parts, networks, strict=True):
            part.load_state_dict(network.state_dict())
        return blend

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H * scale, W * scale] normalised."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate; each part gets the first of the noise channels, as many as it takes."""
        out = None
        for network, share in zip(self.parts, self.shares, strict=True):
            weighted = part_output(network, x, conditions) * share
            out = weighted if out is None else out + weighted
        assert out is not None
        return out


def part_output(network: nn.Module, x: Tensor, conditions: Conditions) -> Tensor:
    """Return the output of a part in float32; it gets as many noise channels as it takes."""
    assert isinstance(network, Generator)
    noise, style = conditions.noise, conditions.style
    taken = dataclasses.replace(
        conditions,
        noise=None if noise is None else noise[:, : network.noise],
        style=None if style is None else style[:, : network.style],
    )
    return network.forward_conditioned(x, taken).float()
