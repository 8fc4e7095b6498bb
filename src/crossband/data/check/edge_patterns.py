"""Find images of the same place by a small descriptor of their edges.

Cropping, stored numbers, season and light change the values of pixels, but not roads, shores and
field borders. The edge pattern of an image is its edge strength on 64 x 64 cells, high-pass
filtered, with zero mean and unit standard deviation. Two images are compared by the correlation of
their patterns.

Neighbouring cells are correlated, so a pattern has a few hundred independent values: unrelated
images correlate by a few hundredths, and a correlation well above 0.1 is not due to chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crossband.data.check.registration import edges

#: Cells along a side of a pattern, and pixels along a side of a cell.
CELLS, FINE = 64, 2
#: Patterns are stored as int8; one standard deviation is this many steps.
STEPS = 32
#: Correlations from which on two images show one place, and are nearly copies.
PLACE, COPY = 0.4, 0.9
#: Candidates are found on averages of 4 x 4 cells. Averaging raises the correlation of similar
#: patterns.
COARSE = 16
_FIRST = 0.3
_FLIPPED = 0.6
_AT_ONCE = 4096


def edge_pattern(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int8] | None:
    """Return the edge pattern of one channel [h, w] as int8 [4096]; None if there is no edge."""
    side = CELLS * FINE
    inside = values[mask]
    if inside.size == 0:
        return None
    filled = np.where(mask, values, np.median(inside))
    small = _resized(filled.astype(np.float32), side)
    known = _resized(mask.astype(np.float32), side) > 0.99
    cells = edges(small, known).reshape(CELLS, FINE, CELLS, FINE).mean(axis=(1, 3))
    pattern = cells - ndimage.gaussian_filter(cells, CELLS / 8)
    spread = float(pattern.std())
    if spread < 1e-6:
        return None
    steps = np.round(STEPS * (pattern - pattern.mean()) / spread)
    return np.asarray(np.clip(steps, -127, 127), np.int8).ravel()


def similar_pairs(
    one: NDArray[np.int8], two: NDArray[np.int8]
) -> Iterator[tuple[int, int, float, bool]]:
    """Find pairs of images that show one place.

    Args:
        one: edge patterns [n, 4096].
        two: edge patterns [m, 4096].

    Yields:
        Position in `one`, position in `two`, correlation, and whether one image is turned or
        mirrored. Turned and mirrored images are found only if they are nearly copies.
    """
    if not len(one) or not len(two):
        return
    first = _unit(_coarse(one))
    for start in range(0, len(two), _AT_ONCE):
        part = two[start : start + _AT_ONCE]
        for turn, view in enumerate(_views(part)):
            least, wanted = (_FIRST, PLACE) if turn == 0 else (_FLIPPED, COPY)
            near = first @ _unit(_coarse(view)).T
            for i, j in zip(*np.nonzero(near >= least), strict=True):
                r = float(_unit(one[i : i + 1])[0] @ _unit(view[j : j + 1])[0])
                if r >= wanted:
                    yield int(i), start + int(j), r, turn > 0


def _resized(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Resize an image to side x side: smoothed where it shrinks, linear where it grows."""
    factors = [side / n for n in values.shape]
    smooth = ndimage.gaussian_filter(values, [max(0.0, (1 / f - 1) / 2) for f in factors])
    at = [(np.arange(side) + 0.5) / f - 0.5 for f in factors]
    grid = np.meshgrid(*at, indexing="ij")
    out = ndimage.map_coordinates(smooth, grid, order=1, mode="nearest")
    return np.asarray(out, np.float32)


def _coarse(cells: NDArray[np.int8]) -> NDArray[np.float32]:
    n = CELLS // COARSE
    shape = (len(cells), COARSE, n, COARSE, n)
    means = cells.reshape(shape).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(means, np.float32).reshape(len(cells), -1)


def _unit(rows: NDArray[np.float32] | NDArray[np.int8]) -> NDArray[np.float32]:
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float32)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norm, 1e-9), np.float32)


def _views(cells: NDArray[np.int8]) -> Iterator[NDArray[np.int8]]:
    """Yield the eight rotations and reflections of patterns, the unchanged one first."""
    pictures = cells.reshape(-1, CELLS, CELLS)
    for mirrored in (pictures, pictures[:, :, ::-1]):
        for turns in range(4):
            yield np.rot90(mirrored, turns, axes=(1, 2)).reshape(len(cells), -1)
