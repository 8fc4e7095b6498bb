"""What a generator may be given beside its source: where it is, and what is left to chance.

Both are functions of the place in the scene and of nothing else, so that tiles agree, and a scene
that is resumed or dealt out to several machines is the same scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Side of the blocks in which noise is drawn, in pixels of the source.
BLOCK = 64


@dataclass(frozen=True)
class Lattice:
    """Places at the nodes of a wide lattice over a scene, to interpolate between.

    What depends on the place (an embedding, say) is computed at the nodes and interpolated linearly
    to the pixels: one value for each pixel of the scene, whichever tile it is in.

    Attributes:
        lonlat: float32 [B, 2, n, m], n and m at least 2: longitude and latitude of the nodes in
            degrees; NaN where they are unknown.
        origin: row and column of the source's first pixel, counted in pixels from the first node.
        step: pixels from node to node; in a scene the nodes lie at multiples of it from the
            scene's origin.
        corner: row and column of the source's first pixel in the scene, for what repeats over the
            scene; None where it is not known.
    """

    lonlat: Tensor
    origin: tuple[float, float]
    step: float
    corner: tuple[float, float] | None = None

    @classmethod
    def constant(cls, lonlat: Tensor) -> Lattice:
        """Return one place for each sample, [B, 2], everywhere the same."""
        nodes = lonlat[:, :, None, None].expand(-1, -1, 2, 2)
        return cls(nodes, (0.0, 0.0), float("inf"), (0.0, 0.0))

    def interpolate(self, nodes: Tensor, height: int, width: int, coarser: int = 1) -> Tensor:
        """Return what is known at the nodes, [B, C, n, m], at the pixels: [B, C, h, w].

        Args:
            nodes: values.
            height: rows of the result.
            width: columns of the result.
            coarser: source pixels per pixel of the result along one side.
        """
        rows, cols = (weights.to(nodes) for weights in self.node_weights(height, width, coarser))
        return rows @ nodes @ cols.T

    def node_weights(self, height: int, width: int, coarser: int = 1) -> tuple[Tensor, Tensor]:
        """Return how much of each node is at each row and column: float64 [h, n], [w, m]."""
        n, m = self.lonlat.shape[-2:]
        rows = _weights(self.origin[0], self.step, n, height, coarser)
        return rows, _weights(self.origin[1], self.step, m, width, coarser)


def _weights(origin: float, step: float, nodes: int, count: int, coarser: int) -> Tensor:
    """Return the linear interpolation from nodes to pixel centres, [count, nodes]."""
    centres = origin + (np.arange(count) + 0.5) * coarser
    at = np.clip(centres / step, 0.0, nodes - 1.0)
    first = np.minimum(at.astype(int), nodes - 2)
    out = np.zeros((count, nodes))
    out[np.arange(count), first] = 1.0 - (at - first)
    out[np.arange(count), first + 1] = at - first
    return torch.from_numpy(out)


@dataclass(frozen=True)
class Conditions:
    """What a generator that asks for it is given beside its source; see `Generator`.

    Attributes:
        noise: float32 [B, generator.noise, H, W], standard normal, on the source's pixels.
        style: float32 [B, generator.style], standard normal: one draw for a whole scene.
        lattice: where the pixels are.
        whole: the source is a picture of its own, not a tile of a scene, so that a solver may
            choose its steps by looking at all of it.
    """

    noise: Tensor | None = None
    style: Tensor | None = None
    lattice: Lattice | None = None
    whole: bool = False


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
        channels: numbers of a pixel.

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
    """Draw the standard normal code of a scene, [length], a pure function of the seed."""
    return np.random.default_rng([seed, 1]).standard_normal(length, np.float32)
