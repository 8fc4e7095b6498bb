"""MLPs at each pixel as loops that are compiled by Numba for a CPU.

PyTorch writes the result of each operation to memory and reads it again: interpolated vectors,
sums, activations, their copies in another type. These loops keep them in registers. Products of
matrices remain PyTorch's, see `compiled_layers`.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from crossband.core.compiled import Loop, compiled, inlined


def _cast(source: Any, target: Any, llvm: ir.Type) -> Any:
    """Return a function for compiled code that takes the same bits as another type."""

    def typed(_context: Any, _value: Any) -> Any:
        def generate(_c: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], llvm)

        return target(source), generate

    return intrinsic(typed)


_bits = _cast(numba.float32, numba.uint32, ir.IntType(32))
_float = _cast(numba.uint32, numba.float32, ir.FloatType())


@inlined
def _hardswish(value: Any) -> Any:
    shifted = min(max(value + np.float32(3), np.float32(0)), np.float32(6))
    return value * shifted * np.float32(1 / 6)


@inlined
def _gelu(value: Any) -> Any:
    # The error function of Abramowitz and Stegun 1964, 7.1.28, to 3e-7: it has no exponential, so
    # that many values are computed at once.
    size = abs(value)
    x = size * np.float32(0.7071067811865476)
    base = np.float32(2.765672e-4) + x * np.float32(4.30638e-5)
    base = np.float32(9.2705272e-3) + x * (np.float32(1.520143e-4) + x * base)
    base = np.float32(7.05230784e-2) + x * (np.float32(4.22820123e-2) + x * base)
    base = np.float32(1) + x * base
    base *= base
    base *= base
    base *= base
    return max(value, np.float32(0)) - np.float32(0.5) * size / (base * base)


@inlined
def _exp(value: Any) -> Any:
    """Return the exponential of a number between -18 and 18, within 2e-6 of it."""
    power = value * np.float32(1.4426950408889634)  # 2 ** power
    whole = np.floor(power + np.float32(0.5))
    x = (power - whole) * np.float32(0.6931471805599453)
    series = np.float32(1 / 120) + x * np.float32(1 / 720)
    series = np.float32(1 / 6) + x * (np.float32(1 / 24) + x * series)
    series = np.float32(1) + x * (np.float32(1) + x * (np.float32(0.5) + x * series))
    return series * _float(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23))


@inlined
def _tanh(value: Any) -> Any:
    value = min(max(value, np.float32(-9)), np.float32(9))  # beyond it is 1 in float32
    return np.float32(1) - np.float32(2) / (_exp(value + value) + np.float32(1))


@inlined
def _log(value: Any) -> Any:
    """Return the logarithm of a positive number, to 2e-7."""
    bits = np.int32(_bits(value))
    # value = part * 2 ** exponent, and part lies between sqrt(1 / 2) and sqrt(2).
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    part = _float(np.uint32(bits - (exponent << np.int32(23))))
    ratio = (part - np.float32(1)) / (part + np.float32(1))
    square = ratio * ratio
    series = np.float32(1 / 5) + square * (np.float32(1 / 7) + square * np.float32(1 / 9))
    series = np.float32(1) + square * (np.float32(1 / 3) + square * series)
    return np.float32(exponent) * np.float32(0.6931471805599453) + np.float32(2) * ratio * series


@inlined
def _halved(value: Any) -> Any:
    """Return the bits of the nearest bfloat16; ties to even."""
    bits = _bits(value)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)


@inlined
def _doubled(bits: Any) -> Any:
    """Return the float32 of the bits of a bfloat16."""
    return _float(np.uint32(bits) << np.uint32(16))


@inlined
def _neighbours(pixel: Any, cell: Any, count: Any) -> Any:
    """Return the cells with centres before and after that of a pixel, and the share of the second.

    Beyond the centres of the outermost cells, these count alone.
    """
    exact = min(max((pixel + 0.5) / cell - 0.5, 0.0), count - 1.0)
    first = int(exact)
    return first, min(first + 1, count - 1), np.float32(exact - first)


@inlined
def _at_row(cells: Any, row: Any, cell: Any, line: Any) -> None:
    """Interpolate values of cells [h, w, K] to a row of pixels, into [w, K]."""
    above, below, share = _neighbours(row, cell, cells.shape[0])
    for j in range(cells.shape[1]):
        for k in range(cells.shape[2]):
            value = cells[above, j, k]
            line[j, k] = value + (cells[below, j, k] - value) * share


@inlined
def _at_columns(line: Any, channel: Any, cell: Any, values: Any) -> None:
    """Interpolate one channel of `_at_row` to the pixels of the row."""
    for j in range(-1, len(line)):  # the pixels between the centres of cells j and j + 1
        west = line[max(j, 0), channel]
        slope = (line[min(j + 1, len(line) - 1), channel] - west) / np.float32(cell)
        start = max(int(np.ceil((j + 0.5) * cell - 0.5)), 0)
        stop = min(int(np.ceil((j + 1.5) * cell - 0.5)), len(values))
        offset = np.float32((j + 0.5) * cell - 0.5)
        for c in range(start, stop):
            values[c] = west + slope * (np.float32(c) - offset)


@functools.cache
def pixel_features(bands: int, limits: tuple[float, float, float], most: float) -> Loop:
    """Return the loop from colours to the standardised features of pixels.

    Args:
        bands: of a pixel, C.
        limits: of the colours in logarithms: lowest, highest, and what is added to them.
        most: largest magnitude of a feature.
    """
    lowest, highest, added = (np.float32(limit) for limit in limits)
    largest, part = np.float32(most), np.float32(1 / bands)

    def loop(colours: Any, usual: Any, scale: Any, result: Any) -> None:
        # colours [C, H, W]; usual [2 C]; scale [2 C]; result [2 C, H, W]
        rows, columns = colours.shape[1:]
        logs = np.empty((bands, columns), np.float32)
        for r in range(rows):
            mean = result[2 * bands - 1, r]
            for c in range(columns):
                mean[c] = 0.0
            for band in range(bands):
                for c in range(columns):
                    value = colours[band, r, c]
                    mean[c] += value
                    logs[band, c] = _log(min(max(value, lowest), highest) + added)
                    value = (value - usual[band]) * scale[band]
                    result[band, r, c] = min(max(value, -largest), largest)
            for f in range(bands, 2 * bands):
                for c in range(columns):
                    if f < 2 * bands - 1:
                        value = logs[f - bands + 1, c] - logs[f - bands, c]
                    else:
                        value = _log(min(max(mean[c] * part, lowest), highest) + added)
                    value = (value - usual[f]) * scale[f]
                    result[f, r, c] = min(max(value, -largest), largest)

    return compiled(loop, any_order=True)


@functools.cache
def first_layer(features: int, hidden: int, halved: bool) -> Loop:
    """Return the loop over pixels that ends with the activations of the first hidden layer.

    Args:
        features: of a pixel, F.
        hidden: units, K.
        halved: whether the activations are stored as bfloat16.
    """

    def loop(
        pixels: Any, vectors: Any, sample: Any, corner: Any, cell: Any, weights: Any, result: Any
    ) -> None:
        # pixels [F, R, C]; vectors [M, B, h, w, K]; weights [M, F, K]; result [M, R, C, K]
        rows, columns = pixels.shape[1:]
        pixel = np.empty(features, np.float32)
        members, width = len(vectors), vectors.shape[3]
        line = np.empty((width, hidden), np.float32)  # vectors at the row of the pixel
        for member in range(members):
            weight = weights[member]
            for r in range(rows):
                _at_row(vectors[member, sample], corner[0] + r, cell, line)
                for c in range(columns):
                    left, right, share = _neighbours(corner[1] + c, cell, width)
                    west, east = line[left], line[right]
                    units = result[member, r, c]
                    for f in range(features):
                        pixel[f] = pixels[f, r, c]
                    for k in range(hidden):
                        value = west[k] + (east[k] - west[k]) * share
                        for f in range(features):
                            value += weight[f, k] * pixel[f]
                        value = _hardswish(value)
                        units[k] = _halved(value) if halved else value

    return compiled(loop, any_order=True)


@functools.cache
def context_first(hidden: int, halved: bool) -> Loop:
    """Return the loop over the finest cells that ends with the first activations of a context MLP.

    Args:
        hidden: units, K.
        halved: whether sums and activations are stored as bfloat16.
    """

    def loop(sums: Any, top: Any, bias: Any, coarse: Any, step: Any) -> None:
        # sums [R, w, K] of the rows from `top` on, which become activations; bias [K]; coarse:
        # values [h, w, K] of cells that are step, step ** 2, ... times as large
        rows, width = sums.shape[:2]
        total = np.empty((width, hidden), np.float32)
        for r in range(rows):
            for c in range(width):
                for k in range(hidden):
                    value = _doubled(sums[r, c, k]) if halved else sums[r, c, k]
                    total[c, k] = value + bias[k]
            cell = 1
            for values in coarse:
                cell *= step
                line = np.empty((values.shape[1], hidden), np.float32)
                _at_row(values, top + r, cell, line)
                for c in range(width):
                    left, right, share = _neighbours(c, cell, values.shape[1])
                    west, east, units = line[left], line[right], total[c]
                    for k in range(hidden):
                        units[k] += west[k] + (east[k] - west[k]) * share
            for c in range(width):
                for k in range(hidden):
                    value = _gelu(total[c, k])
                    sums[r, c, k] = _halved(value) if halved else value

    return compiled(loop, any_order=True)


@functools.cache
def between_layers(hidden: int, halved: bool) -> Loop:
    """Return the loop that makes activations, GELUs, of sums.

    Args:
        hidden: units, K.
        halved: whether both are stored as bfloat16.
    """

    def loop(sums: Any, bias: Any) -> None:
        # sums [N, K]; bias [K]
        for n in range(len(sums)):
            units = sums[n]
            for k in range(hidden):
                value = _doubled(units[k]) if halved else units[k]
                value = _gelu(value + bias[k])
                units[k] = _halved(value) if halved else value

    return compiled(loop, any_order=True)


@functools.cache
def mlp_first(bands: int, hidden: int, halved: bool) -> Loop:
    """Return the loop over pixels from colours to the activations of the first hidden layer.

    Args:
        bands: of a pixel, C.
        hidden: units, K.
        halved: whether the activations are stored as bfloat16.
    """

    def loop(colours: Any, start: Any, weights: Any, bias: Any, result: Any) -> None:
        # colours [C, all]; weights [C, K]; bias [K]; result [N, K], of pixels from `start` on
        pixel = np.empty(bands, np.float32)
        for n in range(len(result)):
            units = result[n]
            for band in range(bands):
                pixel[band] = colours[band, start + n]
            for k in range(hidden):
                value = bias[k]
                for band in range(bands):
                    value += weights[band, k] * pixel[band]
                value = _gelu(value)
                units[k] = _halved(value) if halved else value

    return compiled(loop, any_order=True)


@functools.cache
def last_layer(hidden: int, halved: bool, gelu: bool) -> Loop:
    """Return the loop over pixels from the sums of the last hidden layers to the mean output.

    Args:
        hidden: units, K.
        halved: whether the sums are stored as bfloat16.
        gelu: the activation is a GELU, else hard swish.
    """

    def loop(sums: Any, weights: Any, bias: Any, start: Any, result: Any) -> None:
        # sums [M, N, K] of M networks and of the pixels from `start` on; weights [M, T, K] and
        # bias [T], divided by M; result [T, all]
        members, count = sums.shape[:2]
        activations = np.empty(hidden, np.float32)
        for n in range(count):
            for target in range(len(bias)):
                result[target, start + n] = bias[target]
            for member in range(members):
                units = sums[member, n]
                for k in range(hidden):
                    value = _doubled(units[k]) if halved else units[k]
                    activations[k] = _gelu(value) if gelu else _hardswish(value)
                for target in range(len(bias)):
                    weight, part = weights[member, target], np.float32(0)
                    for k in range(hidden):
                        part += weight[k] * activations[k]
                    result[target, start + n] += part

    return compiled(loop, any_order=True)


@inlined
def _seen_at(maps: Any, output: Any, row: Any, least: Any, most: Any, pixels: Any) -> None:
    """Write what a `WidthHead` sees of a row of pixels: maps, output and its square, [seen, W]."""
    shown, targets = len(maps), len(output)
    for f in range(shown):
        for c in range(pixels.shape[1]):
            pixels[f, c] = min(max(maps[f, row, c], least), most)
    for t in range(targets):
        for c in range(pixels.shape[1]):
            value = min(max(output[t, row, c], least), most)
            pixels[shown + t, c], pixels[shown + targets + t, c] = value, value * value


@functools.cache
def width_loop(seen: int, hidden: int, limits: tuple[float, float, float, float]) -> Loop:
    """Return the loop over pixels of a `WidthHead`, with the features of its pixels.

    Args:
        seen: features of a pixel.
        hidden: units, K.
        limits: between the first two are the features, between the others the logarithms of widths.
    """
    least, most, narrowest, widest = (np.float32(limit) for limit in limits)

    def loop(
        maps: Any, output: Any, cells: Any, cell: Any, into: Any, out: Any, bias: Any, result: Any
    ) -> None:
        # maps [M, H, W]; output [Ct, H, W]; cells [h, w, K]; into [seen, K]; out [O, K]; bias [O];
        # result [O or more, H, W]
        outputs, (rows, columns) = len(out), output.shape[1:]
        line = np.empty((cells.shape[1], hidden), np.float32)
        pixels, units = np.empty((seen, columns), np.float32), np.empty(columns, np.float32)
        for r in range(rows):
            _at_row(cells, r, cell, line)
            _seen_at(maps, output, r, least, most, pixels)
            for o in range(outputs):
                result[o, r] = bias[o]
            for k in range(hidden):
                _at_columns(line, k, cell, units)
                for f in range(seen):
                    weight = into[f, k]
                    for c in range(columns):
                        units[c] += weight * pixels[f, c]
                for c in range(columns):
                    units[c] = _tanh(units[c])
                for o in range(outputs):
                    weight = out[o, k]
                    for c in range(columns):
                        result[o, r, c] += weight * units[c]
            for o in range(outputs):
                for c in range(columns):
                    result[o, r, c] = _exp(min(max(result[o, r, c], narrowest), widest))

    return compiled(loop, any_order=True)


@functools.cache
def cell_values() -> Loop:
    """Return the loop that interpolates one value of each cell to the pixels."""

    def loop(cells: Any, cell: Any, result: Any) -> None:
        # cells [h, w, 1]; result [H, W]
        line = np.empty((cells.shape[1], 1), np.float32)
        for r in range(len(result)):
            _at_row(cells, r, cell, line)
            _at_columns(line, 0, cell, result[r])

    return compiled(loop, any_order=True)
