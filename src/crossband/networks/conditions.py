"""Conditions that a generator may take beside its source: location, noise, style and a guide.

They depend only on the seed and the position in the scene. So tiles agree, and a scene is the same
when it is resumed or split among several machines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Side of the blocks in which noise is drawn, in source pixels.
BLOCK = 64


@dataclass(frozen=True)
class Lattice:
    """Locations at the nodes of a coarse lattice over a scene.

    Values that depend on the location, such as embeddings, are computed at the nodes and linearly
    interpolated to the pixels. So a pixel of the scene has the same value in every tile.

    Attributes:
        lonlat: float32 [B, 2, n, m], n and m at least 2: longitude and latitude of the nodes in
            degrees; NaN where they are unknown.
        origin: row and column of the source's first pixel, in pixels from the first node.
        step: pixels between nodes; in a scene the nodes are at multiples of it from the scene's
            origin.
        corner: row and column of the source's first pixel in the scene, for patterns that repeat
            over the scene; None where it is unknown.
    """

    lonlat: Tensor
    origin: tuple[float, float]
    step: float
    corner: tuple[float, float] | None = None

    @classmethod
    def constant(cls, lonlat: Tensor) -> Lattice:
        """Return a lattice with the same location everywhere, one for each sample, [B, 2]."""
        nodes = lonlat[:, :, None, None].expand(-1, -1, 2, 2)
        return cls(nodes, (0.0, 0.0), float("inf"), (0.0, 0.0))

    def interpolate(self, nodes: Tensor, height: int, width: int, coarser: int = 1) -> Tensor:
        """Interpolate values from the nodes, [B, C, n, m], to the pixels, [B, C, h, w].

        Args:
            nodes: values.
            height: rows of the result.
            width: columns of the result.
            coarser: source pixels per pixel of the result along one side.
        """
        rows, cols = (weights.to(nodes) for weights in self.node_weights(height, width, coarser))
        return rows @ nodes @ cols.T

    def node_weights(self, height: int, width: int, coarser: int = 1) -> tuple[Tensor, Tensor]:
        """Return the interpolation weights of rows and columns: float64 [h, n], [w, m]."""
        n, m = self.lonlat.shape[-2:]
        rows = _weights(self.origin[0], self.step, n, height, coarser)
        return rows, _weights(self.origin[1], self.step, m, width, coarser)


def _weights(origin: float, step: float, nodes: int, count: int, coarser: int) -> Tensor:
    """Return the weights of linear interpolation from nodes to pixel centres, [count, nodes]."""
    centres = origin + (np.arange(count) + 0.5) * coarser
    at = np.clip(centres / step, 0.0, nodes - 1.0)
    first = np.minimum(at.astype(int), nodes - 2)
    out = np.zeros((count, nodes))
    out[np.arange(count), first] = 1.0 - (at - first)
    out[np.arange(count), first + 1] = at - first
    return torch.from_numpy(out)


@dataclass(frozen=True)
class Conditions:
    """The conditions that a generator may take beside its source; see `Generator`.

    Attributes:
        noise: float32 [B, generator.noise, H, W], standard normal, on the source's pixels.
        style: float32 [B, generator.style], standard normal: one draw for a whole scene.
        lattice: location of the pixels.
        whole: whether the source is a complete image and not a tile of a scene; then a solver may
            adapt its steps to the whole image.
        guide: float32 [B, generator.guide + FACTS, H, W]: a measurement on the source's pixels,
            normalised and 0 where it is invalid, and what is known of it; see `guide_facts`.
    """

    noise: Tensor | None = None
    style: Tensor | None = None
    lattice: Lattice | None = None
    whole: bool = False
    guide: Tensor | None = None


#: Channels that say something of a guide: where it is valid, the size of its pixels, its age.
FACTS = 3


def guide_facts(ratio: float, days: float) -> tuple[float, float]:
    """Return what a network is told of a guide beside its mask, as numbers of order 1.

    Args:
        ratio: size of a pixel of the guide in pixels of the source.
        days: between guide and source; NaN where unknown.

    >>> guide_facts(16.0, float("nan"))
    (1.0, -1.0)
    """
    age = -1.0 if math.isnan(days) else math.log1p(abs(days)) / 6.0
    return math.log2(max(ratio, 1.0)) / 4.0, age


def noise_at(
    seed: int, row: int, col: int, height: int, width: int, channels: int
) -> NDArray[np.float32]:
    """Draw standard normal numbers that depend on (seed, row, column, channel) only.

    Args:
        seed: at least 0.
        row: first row of the window, in pixels from the scene's origin, at least 0.
        col: first column.
        height: rows.
        width: columns.
        channels: numbers for each pixel.

    Returns:
        float32 [channels, height, width].
    """
    out = np.empty((channels, height, width), np.float32)
    for block_row in range(row // BLOCK, -(-(row + height) // BLOCK)):
        for block_col in range(col // BLOCK, -(-(col + width) // BLOCK)):
            key = np.random.SeedSequence([seed, block_row, block_col]).generate_state(2, np.uint64)
            rng = np.random.Generator(np.random.Philox(key=key))
            block = rng.standard_normal((channels, BLOCK, BLOCK), np.float32)
            top, left = block_row * BLOCK, block_col * BLOCK
            r0, r1 = max(top, row), min(top + BLOCK, row + height)
            c0, c1 = max(left, col), min(left + BLOCK, col + width)
            out[:, r0 - row : r1 - row, c0 - col : c1 - col] = block[
                :, r0 - top : r1 - top, c0 - left : c1 - left
            ]
    return out


def style_of(seed: int, length: int) -> NDArray[np.float32]:
    """Draw the standard normal style vector of a scene, [length], a pure function of the seed."""
    return np.random.default_rng([seed, 1]).standard_normal(length, np.float32)
