"""Features of a pretrained VGG for losses, loaded from a file of its weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from crossband.core.tensor_files import NamedTensors, state_dicts, with_prefix
from crossband.errors import ModelError, RecipeError, nearest

#: Mean and deviation of ImageNet's red, green and blue, as torchvision's weights expect them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREFIX = "features."


class VGG(nn.Module):
    """The frozen convolutions of Simonyan and Zisserman 2015, Very deep convolutional networks.

    The architecture is read from the tensor names in torchvision's files (vgg16-397923af.pth,
    vgg19-dcbb9e9d.pth and others without batch norm): `features.N.weight`. Where N increases by
    three instead of two, there is a 2 x 2 max-pool between the convolutions. The weights are stored
    in no checkpoint and no model folder, so resuming a training needs the file again.

    Args:
        weights: a state dict written by `torch.save`, opened with `weights_only`, or a
            `.safetensors` file.
        layers: layers whose values are returned, as `relu3_1`: the first convolution of the third
            block, after its ReLU.

    Raises:
        ModelError: no such file, a file with other objects than tensors, not a VGG, no such layer.
    """

    def __init__(self, weights: str | Path, layers: Sequence[str]) -> None:
        super().__init__()
        if not layers:
            raise ValueError("layers must name at least one layer")
        tensors = _open(Path(weights))
        numbers = _layer_numbers(tensors)
        for name in layers:
            if name not in numbers:
                raise tensors.error(f"unknown layer {name!r}: {nearest(name, numbers)}")
        order = list(numbers)
        self.layers = tuple(layers)
        self.names = order[: max(order.index(name) for name in layers) + 1]
        channels = 3
        for name in self.names:
            kernel = tensors.take(f"{numbers[name]}.weight", 4)
            bias = tensors.take(f"{numbers[name]}.bias", 1)
            if kernel.shape[1:] != (channels, 3, 3) or len(bias) != len(kernel):
                raise tensors.error(
                    f"{numbers[name]}.weight is {list(kernel.shape)}: no convolution of {channels} "
                    "channels over 3 x 3 pixels"
                )
            channels = len(kernel)
            self.register_buffer(f"{name}_weight", kernel.contiguous(), persistent=False)
            self.register_buffer(f"{name}_bias", bias.contiguous(), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of images.

        Args:
            image: [B, C, H, W], 0 to 1. Three bands are red, green and blue; with any other
                number of bands all three channels get their mean.

        Returns:
            For each of `layers` [B, C, H / 2^n, W / 2^n], rounded down, where n is its block - 1.

        Raises:
            RecipeError: the images are too small for the deepest layer.
        """
        blocks, side = int(self.names[-1].removeprefix("relu")[0]), min(image.shape[-2:])
        if side < 2 ** (blocks - 1):
            raise RecipeError(
                f"{self.names[-1]} of a VGG needs pictures of {2 ** (blocks - 1)} pixels a side, "
                f"not {side}: set data.crop"
            )
        x = image
        if x.shape[1] != 3:
            x = x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        x = (x - _column(MEAN, x)) / _column(DEVIATION, x)
        found: dict[str, Tensor] = {}
        for name in self.names:
            if name.endswith("_1") and found:  # the first layer of the next block
                x = functional.max_pool2d(x, 2)
            kernel, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
            x = functional.relu(functional.conv2d(x, kernel.to(x), bias.to(x), padding=1))
            found[name] = x
        return [found[name] for name in self.layers]


def valid_fraction(mask: Tensor, features: Tensor) -> Tensor:
    """Return the fraction of valid pixels in each feature pixel, 0 to 1: [B, 1, H, W]."""
    height, width = features.shape[-2:]
    return functional.adaptive_avg_pool2d(mask.to(features.dtype), (height, width))


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


def _open(path: Path) -> NamedTensors:
    for at, state in state_dicts(path):
        if f"{PREFIX}0.weight" in state:
            return with_prefix(path, at, state, PREFIX)
    raise ModelError(f"{path}: no tensor {PREFIX}0.weight, so these are no weights of a VGG")


def _layer_numbers(tensors: NamedTensors) -> dict[str, str]:
    """Return the layers in a file: name, as `relu3_1` -> number of the convolution."""
    found = [re.fullmatch(r"(\d+)\.weight", name) for name in tensors.unused()]
    numbers = sorted(int(m[1]) for m in found if m)
    layers, block, within = {}, 1, 0
    for before, number in zip([-2, *numbers], numbers, strict=False):
        if number - before not in (2, 3) or len(tensors.shape(f"{number}.weight")) != 4:
            raise tensors.error(
                f"{number}.weight: only convolutions with a ReLU after each are known, as in "
                "VGG-11 to VGG-19 without batch norm"
            )
        block, within = (block + 1, 1) if number - before == 3 else (block, within + 1)
        layers[f"relu{block}_{within}"] = str(number)
    return layers
