"""The conditions of a network in a scene: noise, a style, the geographic place and a guide."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.errors import CrossbandError
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions, Lattice, noise_at, style_of
from crossband.raster.gdal import READ_ERRORS
from crossband.raster.grid import Box, Grid

#: Source pixels between two nodes of the lattice of geographic coordinates.
LATTICE_STEP = 512


class SceneConditions:
    """Noise, style, place and guide of every window of a scene.

    Args:
        network: states which conditions it takes.
        grid: the scene's.
        seed: seed of noise and style; by default 0.
        whole: the scene is computed in one tile, so that a solver may adapt its steps to it.
        guide: returns the guides of windows of one shape; see `TrainedGuide.at`. Without one, a
            network that takes a guide computes as where it is invalid.

    Raises:
        CrossbandError: a seed for a network that draws no random numbers, or a negative one.
    """

    def __init__(
        self,
        network: Generator,
        grid: Grid,
        seed: int | None = None,
        whole: bool = False,
        guide: Callable[[Sequence[Box]], Tensor] | None = None,
    ) -> None:
        self.draws = bool(network.noise or network.style)
        if seed is not None and not self.draws:
            raise CrossbandError(
                "--seed: this model's network draws nothing at random; leave it out"
            )
        if seed is not None and seed < 0:
            raise CrossbandError(f"--seed {seed}: must be at least 0")
        self.seed = seed or 0
        self._network, self._whole, self._guide = network, whole, guide
        self._nodes = lattice(grid) if network.located else None

    def at(self, boxes: Sequence[Box]) -> Conditions | None:
        """Return the conditions of windows of one shape; None where the network takes none.

        A network that takes the place gets one window at a time, as a lattice has one origin.
        """
        network = self._network
        if not network.conditioned:
            return None
        noise = style = places = None
        if network.noise:
            drawn = [
                noise_at(self.seed, b.row, b.col, b.height, b.width, network.noise) for b in boxes
            ]
            noise = torch.from_numpy(np.stack(drawn))
        if network.style:
            code = torch.from_numpy(style_of(self.seed, network.style))
            style = code.expand(len(boxes), -1)
        if self._nodes is not None:
            (box,) = boxes
            places = _around(self._nodes, box)
        guide = None if self._guide is None else self._guide(boxes)
        # `whole` is set by the user only, not where the scene happens to fit one tile.
        return Conditions(noise, style, places, self._whole, guide)


def lattice(grid: Grid) -> NDArray[np.float32]:
    """Return longitude and latitude at every `LATTICE_STEP` pixels from the scene's origin.

    Returns:
        Degrees [2, n, m]; the last nodes lie on the scene's edge or beyond it. NaN where the place
        is unknown.
    """
    step = LATTICE_STEP
    rows = np.arange(max(-(-grid.height // step), 1) + 1) * step
    cols = np.arange(max(-(-grid.width // step), 1) + 1) * step
    out = np.full((2, len(rows), len(cols)), np.nan, np.float32)
    if grid.crs is None or grid.transform.is_identity:
        return out
    from rasterio.warp import transform

    t = grid.transform
    across, down = np.meshgrid(cols, rows)
    x = t.a * across + t.b * down + t.c
    y = t.d * across + t.e * down + t.f
    try:
        lon, lat = transform(grid.crs, "EPSG:4326", x.ravel().tolist(), y.ravel().tolist())
    except READ_ERRORS:  # a CRS without a place on the earth
        return out
    out[0], out[1] = np.reshape(lon, x.shape), np.reshape(lat, x.shape)
    out[:, ~np.isfinite(out).all(axis=0)] = np.nan
    return out


def _around(nodes: NDArray[np.float32], box: Box, step: int = LATTICE_STEP) -> Lattice:
    """Return the nodes around a window, at least two along each axis."""
    row, col = box.row // step, box.col // step
    bottom = max(-(-(box.row + box.height) // step), row + 1)
    right = max(-(-(box.col + box.width) // step), col + 1)
    part = np.ascontiguousarray(nodes[:, row : bottom + 1, col : right + 1])
    origin = float(box.row - row * step), float(box.col - col * step)
    corner = float(box.row), float(box.col)
    return Lattice(torch.from_numpy(part)[None], origin, float(step), corner)
