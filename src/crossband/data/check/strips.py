"""Read a scene of any size once, in strips of whole blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.raster.grid import Box, Window
from crossband.raster.scene import Scene

#: Bytes of stored numbers that are read at once.
STRIP = 32 << 20


def strips(scene: Scene, step: int = 1) -> Iterator[tuple[NDArray[Any], Window]]:
    """Yield strips from top to bottom: stored numbers [C, h, w], and a window in physical units.

    Args:
        scene: an open scene. Each block is decoded once, unless blocks are taller than a strip.
        step: strips begin at multiples of it, so that each can be subsampled by itself.

    Raises:
        InputError: a block cannot be decoded.
    """
    height, width = scene.grid.height, scene.grid.width
    rows = max(1, STRIP // (width * len(scene.bands) * 8) // scene.block[0])
    rows = -(-rows * scene.block[0] // step) * step
    for top in range(0, height, rows):
        box = Box(top, 0, min(rows, height - top), width)
        stored, known = scene.stored(box)
        yield stored, scene.physical(stored, known, box)


def preview(scene: Scene, pixels: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return every k-th row and column of a scene: physical values [C, h, w] and mask [h, w].

    The longer side has at most `pixels`.
    """
    step = -(-max(scene.grid.height, scene.grid.width) // pixels)
    thin = [(w.values[:, ::step, ::step], w.mask[::step, ::step]) for _, w in strips(scene, step)]
    values, masks = zip(*thin, strict=True)
    return np.concatenate(values, axis=1), np.concatenate(masks, axis=0)
