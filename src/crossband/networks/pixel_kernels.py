"""Loops over pixels, compiled by Numba for a CPU: of `LocalPyramid` and `PerPixelMLP`.

PyTorch writes the result of each operation to memory and reads it again: interpolated vectors,
sums, activations, their copies in another type. These loops keep them in registers. Products of
matrices remain PyTorch's.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.compiled import Loop, compiled


def _cast(source: Any, target: Any, llvm: ir.Type) -> Any:
    """Return a function for compiled code that takes the same bits as another type."""

    def typed(_context: Any, _value: Any) -> Any:
        def generate(_c: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], llvm)

        return target(source), generate

    return intrinsic(typed)


_bits = _cast(numba.float32, numba.uint32, ir.IntType(32))
_float = _cast(numba.uint32, numba.float32, ir.FloatType())


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _hardswish(value: Any) -> Any:
    shifted = min(max(value + np.float32(3), np.float32(0)), np.float32(6))
    return value * shifted * np.float32(1 / 6)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
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


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _exp(value: Any) -> Any:
    """Return the exponential of a number between -80 and 80, within 4e-7 of it."""
    power = value * np.float32(1.4426950408889634)  # 2 ** power
    whole = np.floor(power + np.float32(0.5))
    x = (power - whole) * np.float32(0.6931471805599453)
    series = np.float32(1 / 120) + x * np.float32(1 / 720)
    series = np.float32(1 / 6) + x * (np.float32(1 / 24) + x * series)
    series = np.float32(1) + x * (np.float32(1) + x * (np.float32(0.5) + x * series))
    return series * _float(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _tanh(value: Any) -> Any:
    value = min(max(value, np.float32(-9)), np.float32(9))  # beyond it is 1 in float32
    return np.float32(1) - np.float32(2) / (_exp(value + value) + np.float32(1))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _halved(value: Any) -> Any:
    """Return the bits of the nearest bfloat16; ties to even."""
    bits = _bits(value)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _doubled(bits: Any) -> Any:
    """Return the float32 of the bits of a bfloat16."""
    return _float(np.uint32(bits) << np.uint32(16))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _neighbours(pixel: Any, cell: Any, count: Any) -> Any:
    """Return the cells with centres before and after that of a pixel, and the share of the second.

    Beyond the centres of the outermost cells, these count alone.
    """
    exact = min(max((pixel + 0.5) / cell - 0.5, 0.0), count - 1.0)
    first = int(exact)
    return first, min(first + 1, count - 1), np.float32(exact - first)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _at_row(cells: Any, row: Any, cell: Any, line: Any) -> None:
    """Interpolate values of cells [h, w, K] to a row of pixels, into [w, K]."""
    above, below, share = _neighbours(row, cell, cells.shape[0])
    for j in range(cells.shape[1]):
        for k in range(cells.shape[2]):
            value = cells[above, j, k]
            line[j, k] = value + (cells[below, j, k] - value) * share


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
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
        # pixels [R, C, F]; vectors [M, B, h, w, K]; weights [M, F, K]; result [M, R, C, K]
        rows, columns = pixels.shape[:2]
        members, width = len(vectors), vectors.shape[3]
        line = np.empty((width, hidden), np.float32)  # vectors at the row of the pixel
        for member in range(members):
            weight = weights[member]
            for r in range(rows):
                _at_row(vectors[member, sample], corner[0] + r, cell, line)
                for c in range(columns):
                    left, right, share = _neighbours(corner[1] + c, cell, width)
                    west, east = line[left], line[right]
                    pixel, units = pixels[r, c], result[member, r, c]
                    for k in range(hidden):
                        value = west[k] + (east[k] - west[k]) * share
                        for f in range(features):
                            value += weight[f, k] * pixel[f]
                        value = _hardswish(value)
                        units[k] = _halved(value) if halved else value

    return compiled(loop, any_order=True)


@functools.cache
def last_layer(hidden: int, halved: bool) -> Loop:
    """Return the loop over pixels from sums of the second hidden layer to the mean output.

    Args:
        hidden: units, K.
        halved: whether the sums are stored as bfloat16.
    """

    def loop(sums: Any, weights: Any, bias: Any, result: Any) -> None:
        # sums [M, N, K]; weights [M, T, K] and bias [T], divided by M; result [T, N]
        members, count = sums.shape[:2]
        for target in range(len(bias)):
            for n in range(count):
                total = bias[target]
                for member in range(members):
                    units, weight, part = sums[member, n], weights[member, target], np.float32(0)
                    for k in range(hidden):
                        value = _doubled(units[k]) if halved else units[k]
                        part += weight[k] * _hardswish(value)
                    total += part
                result[target, n] = total

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
def mlp_last(hidden: int, halved: bool) -> Loop:
    """Return the loop over pixels from the sums of the last hidden layer to the output.

    Args:
        hidden: units, K.
        halved: whether the sums are stored as bfloat16.
    """

    def loop(sums: Any, weights: Any, bias: Any, start: Any, result: Any) -> None:
        # sums [N, K], of pixels from `start` on; weights [T, K]; bias [T]; result [T, all]
        activations = np.empty(hidden, np.float32)
        for n in range(len(sums)):
            units = sums[n]
            for k in range(hidden):
                activations[k] = _gelu(_doubled(units[k]) if halved else units[k])
            for target in range(len(bias)):
                weight, total = weights[target], bias[target]
                for k in range(hidden):
                    total += weight[k] * activations[k]
                result[target, start + n] = total

    return compiled(loop, any_order=True)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _brightness(image: Any, row: int, light: Any, valid: Any) -> None:
    """Write the mean of the bands of a row, and 1 where one is not 0; 0 beyond the image."""
    bands, height, width = image.shape
    light[:], valid[:] = 0, 0
    if row < height:
        for band in range(bands):
            for c in range(width):
                light[c] += image[band, row, c] / bands
                valid[c] = np.float32(1) if image[band, row, c] != 0 else valid[c]


@functools.cache
def cell_sums(bands: int, cell: int, centre: float) -> Loop:
    """Return the loop over cells that `LocalPyramid` computes its statistics from.

    Args:
        bands: of the image, C.
        cell: side of a cell in pixels.
        centre: subtracted from valid colours.
    """
    maps = 2 + 2 * bands + bands * (bands - 1) // 2
    middle, per_cell = np.float32(centre), np.float32(1 / cell**2)

    def loop(image: Any, result: Any) -> None:
        # image [C, H, W] with H and W multiples of the cell; result [maps, H / cell, W / cell]
        height, width = image.shape[1:]
        sums = np.empty((maps, width), np.float32)
        valid = np.empty((2, width + 1), np.float32)  # of a row and the next one
        light = np.empty((2, width + 1), np.float32)
        for r in range(height + 1):
            now, after = (r + 1) % 2, r % 2  # row r - 1 is finished with what row r tells
            _brightness(image, r, light[after], valid[after])
            if r == 0:
                continue
            if (r - 1) % cell == 0:
                sums[:] = 0
            for c in range(width):
                known, here = valid[now, c], light[now, c]
                right = abs(light[now, c + 1] - here) * valid[now, c + 1]
                below = abs(light[after, c] - here) * valid[after, c]
                sums[maps - 1, c] += known * (right + below)
                sums[0, c] += known
            place = 1 + 2 * bands
            for band in range(bands):
                one, mean, square = image[band, r - 1], sums[1 + band], sums[1 + bands + band]
                for c in range(width):
                    value = (one[c] - middle) * valid[now, c]
                    mean[c] += value
                    square[c] += value * value
                for second in range(band + 1, bands):
                    other, product = image[second, r - 1], sums[place]
                    for c in range(width):
                        known = valid[now, c]
                        product[c] += (one[c] - middle) * (other[c] - middle) * known
                    place += 1
            if r % cell == 0:
                for number in range(maps):
                    for j in range(width // cell):
                        total = sums[number, j * cell : (j + 1) * cell].sum()
                        result[number, r // cell - 1, j] = total * per_cell

    return compiled(loop, any_order=True)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
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


class PixelStage:
    """The pixel MLPs of all members of a pyramid, for one call of the network.

    Args:
        members: of the pyramid; those with `pixel_in`, `pixel_mix` and `pixel_out`.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        def stacked(layer: str, name: str) -> Tensor:
            return torch.stack([getattr(getattr(m, layer), name) for m in members]).detach()

        self._type, halved = _product_type(), _product_type() == torch.bfloat16
        self._first = stacked("pixel_in", "weight").transpose(1, 2).contiguous()
        self._mix = stacked("pixel_mix", "weight").transpose(1, 2).to(self._type)
        self._bias = stacked("pixel_mix", "bias")[:, None].to(self._type)
        self._last = stacked("pixel_out", "weight") / len(members)
        self._final = stacked("pixel_out", "bias").mean(dim=0)
        hidden = self._first.shape[2]
        self._into = first_layer(self._first.shape[1], hidden, halved)
        self._out_of = last_layer(hidden, halved)

    def __call__(
        self, pixels: Tensor, vectors: Tensor, sample: int, corner: tuple[int, int], cell: int
    ) -> Tensor:
        """Translate pixels of an image.

        Args:
            pixels: features [R, C, F], float32.
            vectors: context vectors of all cells of all images, [M, B, h, w, K], float32.
            sample: number of the image.
            corner: row and column of the first pixel in the image.
            cell: side of a cell in pixels.

        Returns:
            [Ct, R, C], float32.
        """
        rows, columns, _ = pixels.shape
        hidden = torch.empty(len(vectors), rows, columns, vectors.shape[-1], dtype=self._type)
        result = torch.empty(len(self._final), rows, columns)
        first, last, final = self._first.numpy(), self._last.numpy(), self._final.numpy()
        place = (vectors.numpy(), sample, corner, cell)
        self._into(pixels.numpy(), *place, first, _array(hidden))
        sums = torch.baddbmm(self._bias, hidden.flatten(1, 2), self._mix)
        self._out_of(_array(sums), last, final, result.flatten(1).numpy())
        return result


def sums_of_cells(image: Tensor, cell: int, centre: float) -> Tensor:
    """Return the means over the cells of an image: [B, C, H, W] -> [B, maps, H / cell, W / cell].

    Args:
        image: float32; 0 in all bands where it is not valid. H and W are multiples of the cell.
        cell: side of a cell in pixels.
        centre: subtracted from valid colours, so that small variances are not lost.

    Returns:
        Share of valid pixels, mean colours, mean squares, mean products of two bands, and the mean
        absolute difference of the brightness from the pixels below and right. Pixels that are not
        valid count as 0.
    """
    count, bands, height, width = image.shape
    maps = 2 + 2 * bands + bands * (bands - 1) // 2
    result = torch.empty(count, maps, height // cell, width // cell)
    loop = cell_sums(bands, cell, centre)
    for sample, into in zip(image.contiguous().numpy(), result.numpy(), strict=True):
        loop(sample, into)
    return result


def mlp_outputs(layers: Sequence[nn.Conv2d], image: Tensor, count: int) -> Tensor:
    """Return the outputs of an MLP on each pixel: [B, C, H, W] -> float32 [B, Ct, H, W].

    Args:
        layers: convolutions of one pixel, at least three; a GELU between any two of them.
        image: float32.
        count: pixels computed at once, so that intermediate results stay in the cache.

    Raises:
        RuntimeError: the image has another number of bands.
    """
    kind = _product_type()
    weights = [layer.weight.detach().flatten(1) for layer in layers]
    if image.shape[1] != weights[0].shape[1]:  # the loops check no index
        raise RuntimeError(f"shape {tuple(image.shape)}, not {weights[0].shape[1]} bands")
    biases: list[Tensor] = [cast(Tensor, layer.bias).detach() for layer in layers]
    size, halved = weights[0].shape, kind == torch.bfloat16
    into, out_of = mlp_first(size[1], size[0], halved), mlp_last(weights[-1].shape[1], halved)
    first, last = (
        (weights[0].T.contiguous().numpy(), biases[0].numpy()),
        (weights[-1].numpy(), biases[-1].numpy()),
    )
    (second, offset), *further = [
        (w.to(kind), b.to(kind)) for w, b in zip(weights[1:-1], biases[1:-1], strict=True)
    ]
    pixels = image.shape[2] * image.shape[3]
    result = torch.empty(len(image), len(weights[-1]), pixels)
    for colours, outputs in zip(image.contiguous().flatten(2).numpy(), result.numpy(), strict=True):
        for start in range(0, pixels, count):
            units = torch.empty(min(count, pixels - start), size[0], dtype=kind)
            into(colours, start, *first, _array(units))
            sums = functional.linear(units, second, offset)
            for weight, bias in further:
                sums = functional.linear(functional.gelu(sums), weight, bias)
            out_of(_array(sums), *last, start, outputs)
    return result.view(*result.shape[:2], *image.shape[2:])


def _product_type() -> torch.dtype:
    """Return the type of products of matrices: bfloat16 where autocast says so."""
    halved = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return torch.bfloat16 if halved else torch.float32


def _array(values: Tensor) -> NDArray[Any]:
    """Return the memory of a tensor; NumPy has no bfloat16."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    array: NDArray[Any] = values.numpy()
    return array
