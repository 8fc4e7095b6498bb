"""Loops of resampling, compiled by Numba. They compute in the order that is written here."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossband.core.compiled import compiled, inlined


@inlined
def _pieces(begin: Any, end: Any) -> Any:
    """Return the pixels before which the pieces of an interval end, and the weights of the pieces.

    The pieces are a part of its first pixel, whole pixels, and a part of its last one. Where these
    are one, there is a whole one too many, and the whole pixels between them are -1.
    """
    first, last = int(np.floor(begin)), int(np.floor(end))
    return (first, first + 1, last, last + 1), (first + 1 - begin, 1.0, end - last)


def _summed(values: Any, units: Any, table: Any) -> None:
    """Sum an image from its upper left corner, as integers of fixed point.

    Sums over whole pixels are then exact, so that they do not depend on the window. They may wrap
    around, and so may their differences, back to what they are.

    Args:
        values: [C, H, W], finite.
        units: parts of one in the integers.
        table: receives the sums over what lies above and left of a pixel, [C, H + 1, W + 1].
    """
    bands, height, width = values.shape
    table[:, 0], table[:, :, 0] = 0, 0
    for band in range(bands):
        for r in range(height):
            line = np.int64(0)
            for c in range(width):
                line += np.int64(np.rint(values[band, r, c] * units))
                table[band, r + 1, c + 1] = table[band, r, c + 1] + line


summed = compiled(_summed)


def _box_sums(table: Any, valid: Any, low: Any, high: Any, sums: Any, area: Any) -> None:
    """Sum an image over upright rectangles (Crow 1984, "Summed-area tables").

    Args:
        table: of the image, see `_summed`.
        valid: the same of its mask, [1, H + 1, W + 1]; [0, 0, 0] where all pixels are valid.
        low: upper left corners, rows and columns [2, n], inside of the image.
        high: lower right corners, likewise.
        sums: receives the sums, [C, n].
        area: receives the valid area, [n].
    """
    bands, height, width = table.shape[0], table.shape[1] - 1, table.shape[2] - 1
    for n in range(low.shape[1]):
        rows, down = _pieces(low[0, n], high[0, n])
        columns, across = _pieces(low[1, n], high[1, n])
        sums[:, n], area[n] = 0.0, 0.0
        for j in range(3):
            west, east = min(columns[j], width), min(columns[j + 1], width)
            for i in range(3):
                top, bottom = min(rows[i], height), min(rows[i + 1], height)
                share = across[j] * down[i]
                if share == 0:
                    continue
                count = (bottom - top) * (east - west)
                if len(valid):
                    count = valid[0, bottom, east] - valid[0, top, east]
                    count += valid[0, top, west] - valid[0, bottom, west]
                area[n] += share * count
                for band in range(bands):
                    found = table[band, bottom, east] - table[band, top, east]
                    found += table[band, top, west] - table[band, bottom, west]
                    sums[band, n] += share * found


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
