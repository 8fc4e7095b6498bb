"""The MLPs at each pixel of `LocalPyramid` and `PerPixelMLP` on a CPU, by compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks import pixel_loops
from crossband.networks.cells import STEP, strips_of


def context_vectors(members: Sequence[nn.Module], features: Sequence[Tensor]) -> Tensor:
    """Return the context vectors of the finest cells, of all members: [M, B, h, w, K], float32.

    Args:
        members: of a pyramid; those with `levels` and `context`.
        features: of the cells of each level, the finest first: [B, h, w, F].
    """
    kind, (images, height, width, _) = product_type(), features[0].shape
    halved, known = kind == torch.bfloat16, [of.to(kind) for of in features]

    def weight(layer: nn.Module) -> Tensor:
        return cast(Tensor, layer.weight).detach().T.to(kind)

    def bias(layer: nn.Module) -> Tensor:
        return cast(Tensor, layer.bias).detach()

    layers = [list(cast(nn.Sequential, member.context)) for member in members]
    outputs = cast(nn.Linear, layers[0][-1]).out_features
    result = torch.empty(len(members), images, height, width, outputs)
    for member, context, vectors in zip(members, layers, result, strict=True):
        levels = cast("list[nn.Module]", list(cast(nn.ModuleList, member.levels)))
        finest, *coarse = [of @ weight(level) for level, of in zip(levels, known, strict=True)]
        # Numba cannot iterate over an empty tuple: a network of one level adds a zero.
        larger = [values.float() for values in coarse] or [
            torch.zeros(images, 1, 1, finest.shape[-1])
        ]
        # The first of its layers, and every other one, is a GELU.
        linears = context[1::2]
        weights, units = [weight(layer) for layer in linears], finest.shape[-1]
        into = pixel_loops.context_first(units, halved)
        between = pixel_loops.between_layers(units, halved)
        for number in range(images):
            near = tuple(values[number].numpy() for values in larger)
            for rows in strips_of(slice(0, height), width):
                sums = finest[number, rows]
                into(_array(sums), rows.start, bias(levels[0]).numpy(), near, STEP)
                for layer, factors in zip(linears[:-1], weights, strict=False):
                    sums = sums @ factors
                    between(_array(sums.flatten(0, 1)), bias(layer).numpy())
                vectors[number, rows] = sums @ weights[-1]
        vectors.add_(bias(linears[-1]))
    return result


def pixel_features(
    colours: Tensor, limits: tuple[float, float, float], usual: Tensor, spread: Tensor, most: float
) -> Tensor:
    """Return standardised features of pixels: [C, H, W] -> [F, H, W], float32.

    They are the colours, the logarithms of the ratios of neighbouring bands, and that of the mean.

    Args:
        colours: float32.
        limits: of the colours in logarithms: lowest, highest, and what is added to them.
        usual: means of the features, F of them.
        spread: their standard deviations.
        most: largest magnitude of a standardised feature.
    """
    bands, height, width = colours.shape
    result = torch.empty(2 * bands, height, width)
    loop = pixel_loops.pixel_features(bands, limits, most)
    scale = (usual.flatten().numpy(), (1 / spread).flatten().numpy())
    loop(colours.numpy(), *scale, result.numpy())
    return result


class PixelStage:
    """The pixel MLPs of all members of a pyramid, for one call of the network.

    Args:
        members: of the pyramid; those with `pixel_in`, `pixel_mix` and `pixel_out`.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        def stacked(layer: str, name: str) -> Tensor:
            return torch.stack([getattr(getattr(m, layer), name) for m in members]).detach()

        self._type = product_type()
        halved = self._type == torch.bfloat16
        self._first = stacked("pixel_in", "weight").transpose(1, 2).contiguous()
        self._mix = stacked("pixel_mix", "weight").transpose(1, 2).to(self._type)
        self._bias = stacked("pixel_mix", "bias")[:, None].to(self._type)
        self._last = stacked("pixel_out", "weight") / len(members)
        self._final = stacked("pixel_out", "bias").mean(dim=0)
        hidden = self._first.shape[2]
        self._into = pixel_loops.first_layer(self._first.shape[1], hidden, halved)
        self._out_of = pixel_loops.last_layer(hidden, halved, gelu=False)

    def __call__(
        self, pixels: Tensor, vectors: Tensor, sample: int, corner: tuple[int, int], cell: int
    ) -> Tensor:
        """Translate pixels of an image.

        Args:
            pixels: features [F, R, C], float32.
            vectors: context vectors of all cells of all images, [M, B, h, w, K], float32.
            sample: number of the image.
            corner: row and column of the first pixel in the image.
            cell: side of a cell in pixels.

        Returns:
            [Ct, R, C], float32.
        """
        _, rows, columns = pixels.shape
        hidden = torch.empty(len(vectors), rows, columns, vectors.shape[-1], dtype=self._type)
        result = torch.empty(len(self._final), rows, columns)
        first, last, final = self._first.numpy(), self._last.numpy(), self._final.numpy()
        place = (vectors.numpy(), sample, corner, cell)
        self._into(pixels.numpy(), *place, first, _array(hidden))
        sums = torch.baddbmm(self._bias, hidden.flatten(1, 2), self._mix)
        self._out_of(_array(sums), last, final, 0, result.flatten(1).numpy())
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
    kind = product_type()
    weights = [layer.weight.detach().flatten(1) for layer in layers]
    if image.shape[1] != weights[0].shape[1]:  # the loops check no index
        raise RuntimeError(f"shape {tuple(image.shape)}, not {weights[0].shape[1]} bands")
    biases: list[Tensor] = [cast(Tensor, layer.bias).detach() for layer in layers]
    size, halved = weights[0].shape, kind == torch.bfloat16
    into = pixel_loops.mlp_first(size[1], size[0], halved)
    out_of = pixel_loops.last_layer(weights[-1].shape[1], halved, gelu=True)
    first, last = (
        (weights[0].T.contiguous().numpy(), biases[0].numpy()),
        (weights[-1][None].numpy(), biases[-1].numpy()),
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
            out_of(_array(sums[None]), *last, start, outputs)
    return result.view(*result.shape[:2], *image.shape[2:])


def product_type() -> torch.dtype:
    """Return the type of products of matrices: bfloat16 where autocast says so."""
    halved = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return torch.bfloat16 if halved else torch.float32


def _array(values: Tensor) -> NDArray[Any]:
    """Return the memory of a tensor; NumPy has no bfloat16."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    array: NDArray[Any] = values.numpy()
    return array
