"""Convert the weights of a public network to one of our networks, convolution by convolution.

A checkpoint format (see `formats`) lists the public convolutions and norms in the order of the
forward pass, and names our network with the same architecture. This module copies the weights and
raises a ModelError for everything that does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossband.core.registry import build
from crossband.core.tensor_files import NamedTensors
from crossband.networks import Generator
from crossband.networks.layers.convolution import Norm, Upsample

#: Statistics that batch norms use at inference: those stored in the file, or those of each image,
#: as pix2pix's own test script does without --eval.
Statistics = Literal["stored", "picture"]
#: How feature maps are enlarged before a convolution; a file does not contain it.
Mode = Literal["nearest", "bilinear", "bicubic"]
#: A kind of norm: InstanceNorm2d with track_running_stats and without weights.
TRACKED = "instance norm with statistics"


@dataclass(frozen=True)
class ImportOptions:
    """What the user must say about a network because its file does not.

    Attributes:
        statistics: statistics of the norms; see `Statistics`. None: as the file has it.
        upsample: how feature maps are enlarged before a convolution.
    """

    statistics: Statistics | None = None
    upsample: Mode | None = None


@dataclass(frozen=True)
class ConvLayer:
    """A convolution of the public network and the norm that follows it.

    Attributes:
        conv: name of the convolution.
        norm: name of the norm; also given where the norm may be missing.
        source: whether it reads the bands of the source.
        swapped: whether its inputs are the decoder's features, then the skip. Our networks
            concatenate the skip first.
    """

    conv: str
    norm: str | None = None
    source: bool = False
    swapped: bool = False


@dataclass(frozen=True)
class Conversion:
    """How one of our networks rebuilds the public one.

    Attributes:
        network: class name of our generator.
        in_channels: source channels of the public network.
        out_channels: target channels of the public network.
        arguments: arguments of its constructor, without the numbers of bands.
        layers: convolutions of the public network, in the order of our network's.
        notes: what was found and done beside the architecture, for people.
    """

    network: str
    in_channels: int
    out_channels: int
    arguments: dict[str, Any]
    layers: Sequence[ConvLayer]
    notes: list[str] = field(default_factory=list)


def norm_of(
    tensors: NamedTensors, layers: Sequence[ConvLayer], options: ImportOptions
) -> tuple[Norm, list[str]]:
    """Return our norm that computes the same as the public one, and notes about it.

    Args:
        tensors: tensors of the public network.
        layers: its convolutions.
        options: only `statistics` is used.

    Raises:
        ModelError: norms of different kinds, a kind that the names do not tell, or requested
            statistics that the file does not have.
    """
    kinds = {s.norm: _norm_kind(tensors, s) for s in layers if s.norm is not None}
    if not kinds:
        return "none", []
    (first, kind), *more = kinds.items()
    for name, other in more:
        if other != kind:
            raise tensors.error(f"{first} is {kind}, but {name} is {other}")
    if kind == "batch norm":
        if options.statistics == "picture":
            return "affine", ["batch norm, measured anew on each picture"]
        return "batch", ["batch norm with the statistics of the file"]
    if kind == TRACKED:
        if options.statistics is None:
            raise tensors.error(
                "it has statistics of instance norms, which old code uses and newer code drops: "
                "give --statistics stored to use them, or picture to drop them"
            )
        if options.statistics == "stored":
            return "batch", ["instance norm with the statistics of the file"]
        return "instance", ["instance norm; the statistics in the file are dropped"]
    if kind == "no norm" and options.statistics is not None:
        raise tensors.error("--statistics: it has no norms; leave it out")
    if options.statistics == "stored":
        raise tensors.error(
            "--statistics stored: its norms are instance norms, which measure each picture"
        )
    return ("none", ["no norm"]) if kind == "no norm" else ("instance", ["instance norm"])


def _norm_kind(tensors: NamedTensors, layer: ConvLayer) -> str:
    weights, statistics = (
        f"{layer.norm}.weight" in tensors,
        f"{layer.norm}.running_mean" in tensors,
    )
    if weights and not statistics:
        raise tensors.error(
            f"{layer.norm} has weights and no statistics: names do not say which norm that is"
        )
    if weights:
        return "batch norm"
    if statistics:
        return TRACKED
    # In these repositories a convolution has a bias before an instance norm, and none without one.
    return "instance norm" if f"{layer.conv}.bias" in tensors else "no norm"


def upsample_of(tensors: NamedTensors, transpose: bool, options: ImportOptions) -> Upsample:
    """Return how feature maps are enlarged.

    Args:
        tensors: tensors of the public network.
        transpose: whether it has transpose convolutions.
        options: only `upsample` is used, where there are no transpose convolutions.

    Raises:
        ModelError: `upsample` is missing, or given for a network that does not need it.
    """
    if transpose:
        if options.upsample is not None:
            raise tensors.error(
                "--upsample: the file has transpose convolutions, which need no other; leave it out"
            )
        return "transpose"
    if options.upsample is None:
        raise tensors.error(
            "maps are made larger before a convolution, and the file does not say how: give "
            "--upsample nearest, bilinear or bicubic"
        )
    return "resize" if options.upsample == "nearest" else options.upsample


def convert(
    tensors: NamedTensors, conversion: Conversion, source: Sequence[str], target: Sequence[str]
) -> Generator:
    """Return our network with the weights of the public one.

    Where a band is named more than once, several inputs of the public network get the same band.
    The weights of these inputs are summed, so that our network takes the band once and gives the
    same output.

    Args:
        tensors: tensors of the public network; every one must be used.
        conversion: see `Conversion`.
        source: a band for each input of the public network.
        target: a band for each output.

    Raises:
        ModelError: numbers of bands, shapes or names that do not fit.
    """
    _check_bands(tensors, conversion, source, target)
    bands = {"in_channels": len(dict.fromkeys(source)), "out_channels": len(target)}
    network = build(Generator, conversion.network, bands | conversion.arguments)
    ours = _conv_layers(network)
    if len(ours) != len(conversion.layers):
        raise tensors.error(
            f"{len(conversion.layers)} convolutions, but {conversion.network} has {len(ours)}"
        )
    state = network.state_dict()
    for (conv, norm), layer in zip(ours, conversion.layers, strict=True):
        assert norm is None or layer.norm is not None, conv  # or it would keep random weights
        transposed = isinstance(network.get_submodule(conv), nn.ConvTranspose2d)
        weight = tensors.take(f"{layer.conv}.weight", 4)
        if layer.source:
            weight = _summed_inputs(weight, source)
        if layer.swapped:
            axis = 0 if transposed else 1  # the axis of the inputs
            weight = torch.cat(weight.chunk(2, dim=axis)[::-1], dim=axis)
        _copy(tensors, f"{layer.conv}.weight", weight, state, f"{conv}.weight")
        if norm is not None and layer.norm is not None:
            _convert_norm(tensors, layer.norm, norm, state)
        _convert_bias(tensors, layer, conv, norm, state)
    if left := tensors.unused():
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise tensors.error(
            f"it has tensors that no part of the network has: {', '.join(left[:3])}{more}"
        )
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _check_bands(
    tensors: NamedTensors, conversion: Conversion, source: Sequence[str], target: Sequence[str]
) -> None:
    if conversion.in_channels != len(source):
        hint = ""
        if len(source) == 1 and conversion.in_channels == 3:
            thrice = ",".join([*source] * 3)
            hint = f"; where a grey picture was opened as a colour one, give {thrice}"
        raise tensors.error(
            f"it takes {conversion.in_channels} bands, but --source-bands has {len(source)} "
            f"({', '.join(source)}){hint}"
        )
    if conversion.out_channels != len(target):
        raise tensors.error(
            f"it gives {conversion.out_channels} bands, but --target-bands has {len(target)} "
            f"({', '.join(target)})"
        )


def _conv_layers(network: nn.Module) -> list[tuple[str, str | None]]:
    """Return the convolutions of our network in order, each with the norm that follows it."""
    found: list[tuple[str, str | None]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            found.append((name, None))
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            found[-1] = (found[-1][0], name)
    return found


def _convert_bias(
    tensors: NamedTensors, layer: ConvLayer, conv: str, norm: str | None, state: dict[str, Tensor]
) -> None:
    theirs, ours = f"{layer.conv}.bias", f"{conv}.bias"
    if theirs not in tensors:
        if ours in state:
            state[ours] = torch.zeros_like(state[ours])
        return
    bias = tensors.take(theirs, 1)
    if ours in state:
        _copy(tensors, theirs, bias, state, ours)
    elif norm is None:
        raise tensors.error(f"{layer.conv} has a bias that our network has no place for")
    elif f"{norm}.running_mean" in state:
        state[f"{norm}.running_mean"] -= bias  # the norm subtracts its mean after the bias
    # Before an instance norm a bias has no effect.


def _convert_norm(tensors: NamedTensors, theirs: str, ours: str, state: dict[str, Tensor]) -> None:
    for key in ("weight", "bias", "running_mean", "running_var"):
        name, mine = f"{theirs}.{key}", f"{ours}.{key}"
        if mine in state and (name in tensors or key.startswith("running")):
            _copy(tensors, name, tensors.take(name, 1), state, mine)
        elif mine in state:  # a norm without weights
            state[mine] = torch.full_like(state[mine], float(key == "weight"))
        tensors.drop(name)
    tensors.drop(f"{theirs}.num_batches_tracked")


def _copy(
    tensors: NamedTensors, name: str, value: Tensor, state: dict[str, Tensor], key: str
) -> None:
    if value.shape != state[key].shape:
        found, fits = ("x".join(map(str, v.shape)) for v in (value, state[key]))
        raise tensors.error(f"{name} is {found}, and {fits} fits the others")
    state[key] = value.clone()


def _summed_inputs(weight: Tensor, source: Sequence[str]) -> Tensor:
    """Sum the weights of inputs that get the same band.

    >>> _summed_inputs(torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1), ["vv", "vh", "vv"]).flatten()
    tensor([5., 2.])
    """
    sums = []
    for band in dict.fromkeys(source):
        inputs = [n for n, name in enumerate(source) if name == band]
        sums.append(weight[:, inputs].double().sum(dim=1, keepdim=True).to(weight.dtype))
    return torch.cat(sums, dim=1)
