"""Loops of resampling, compiled by Numba. They compute in the order that is written here."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossband.core.compiled import compiled


def _box_sums(values: Any, mask: Any, low: Any, high: Any, sums: Any, area: Any) -> None:
    """Sum the valid pixels of an image over upright rectangles, by the shares of their pixels.

    Args:
        values: [C, H, W].
        mask: [H, W].
        low: upper left corners, rows and columns [2, n], inside of the image.
        high: lower right corners, likewise.
        sums: receives the sums, [C, n].
        area: receives the valid area, [n].
    """
    for n in range(low.shape[1]):
        top, left, bottom, right = low[0, n], low[1, n], high[0, n], high[1, n]
        sums[:, n], area[n] = 0.0, 0.0
        first, last = int(np.floor(left)), int(np.ceil(right))
        for r in range(int(np.floor(top)), int(np.ceil(bottom))):
            down = min(bottom, r + 1.0) - max(top, float(r))
            count = 0.0
            for c in range(first, last):
                if mask[r, c]:
                    count += min(right, c + 1.0) - max(left, float(c))
            area[n] += down * count
            for band in range(len(values)):
                line = 0.0
                for c in range(first, last):
                    if mask[r, c]:
                        share = min(right, c + 1.0) - max(left, float(c))
                        line += share * values[band, r, c]
                sums[band, n] += down * line


box_sums = compiled(_box_sums)


def _cubic(padded: Any, rows: Any, columns: Any, weights: Any, made: Any) -> None:
    """Interpolate an image at places.

    Args:
        padded: [C, H + 4, W + 4]: two pixels are added on each side.
        rows: of the places, [n]; 0 is the centre of the first pixel of the image.
        columns: likewise.
        weights: of the four pixels around a place, by the part of a pixel at which it lies:
            [parts + 1, 4].
        made: receives the values, [C, n].
    """
    parts = len(weights) - 1
    for n in range(len(rows)):
        row, column = np.floor(rows[n]), np.floor(columns[n])
        down = weights[int(np.rint((rows[n] - row) * parts))]
        across = weights[int(np.rint((columns[n] - column) * parts))]
        top, left = int(row) + 1, int(column) + 1
        for band in range(len(padded)):
            total = np.float32(0)
            for i in range(4):
                line = np.float32(0)
                for j in range(4):
                    line += padded[band, top + i, left + j] * across[j]
                total += line * down[i]
            made[band, n] = total


cubic = compiled(_cubic)


def _between(
    knots: Any, row: Any, column: Any, low: Any, right: Any, steps: Any, found: Any
) -> None:
    """Interpolate a surface between its knots, linearly along each axis, and round it.

    Args:
        knots: [K, L].
        row: knots above the pixels, [h].
        column: knots to the left of them, [w].
        low: shares of the knots below, [h].
        right: shares of the knots to the right, [w].
        steps: results are multiples of 1 / steps.
        found: receives them, [h, w].
    """
    for r in range(len(row)):
        j = row[r]
        for c in range(len(column)):
            i, share = column[c], right[c]
            above = knots[j, i] * (1 - share) + knots[j, i + 1] * share
            below = knots[j + 1, i] * (1 - share) + knots[j + 1, i + 1] * share
            found[r, c] = np.rint(((below - above) * low[r] + above) * steps) / steps


between = compiled(_between)
