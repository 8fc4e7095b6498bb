"""From public tensors to ours: convolution by convolution, in the order in which they are passed.

A layout (see `layouts`) names the public convolutions and norms in that order, and the network of
ours that has the same plan. Here the weights are carried over, and whatever does not fit is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossband.core.registry import build
from crossband.core.tensor_files import Tensors
from crossband.networks import Generator
from crossband.networks.layers.convolution import Norm, Upsample

#: How batch norms work when a scene is translated: with the statistics that the file holds, or with
#: those of each picture, as pix2pix's own test script does unless it is given --eval.
Statistics = Literal["stored", "picture"]
#: How a map is made larger before a convolution; a file cannot say it.
Mode = Literal["nearest", "bilinear", "bicubic"]
#: A kind of norm: InstanceNorm2d with track_running_stats, which has no weights.
TRACKED = "instance norm with statistics"


@dataclass(frozen=True)
class Wishes:
    """What a user says of a file because the file does not.

    Attributes:
        statistics: how norms work; see `Statistics`. None: as the file has it.
        upsample: how maps are made larger before a convolution.
    """

    statistics: Statistics | None = None
    upsample: Mode | None = None


@dataclass(frozen=True)
class Site:
    """A convolution of the public network and the norm that follows it.

    Attributes:
        conv: name of the convolution.
        norm: name that a norm has, or would have.
        source: it reads the source's bands.
        swapped: its inputs are the map from below, then the skip; ours are the skip, then the map.
    """

    conv: str
    norm: str | None = None
    source: bool = False
    swapped: bool = False


@dataclass(frozen=True)
class Plan:
    """A network of ours that is the public one.

    Attributes:
        network: class name of a generator.
        takes: bands of the source, as the public network counts them.
        gives: bands of the target.
        arguments: of its constructor, without the numbers of bands.
        sites: convolutions of the public network, in the order of ours.
        notes: what was found and done, beside the architecture, for people.
    """

    network: str
    takes: int
    gives: int
    arguments: dict[str, Any]
    sites: Sequence[Site]
    notes: list[str] = field(default_factory=list)


def norm_of(tensors: Tensors, sites: Sequence[Site], wishes: Wishes) -> tuple[Norm, list[str]]:
    """Return the norm of ours that does what the public one does, and what is to be said of it.

    Args:
        tensors: of the public network.
        sites: its convolutions.
        wishes: `statistics` counts.

    Raises:
        ModelError: norms of different kinds, of a kind that names do not tell, or without the
            statistics that are asked for.
    """
    kinds = {s.norm: _kind(tensors, s) for s in sites if s.norm is not None}
    if not kinds:
        return "none", []
    (first, kind), *more = kinds.items()
    for name, other in more:
        if other != kind:
            raise tensors.error(f"{first} is {kind}, but {name} is {other}")
    if kind == "batch norm":
        if wishes.statistics == "picture":
            return "affine", ["batch norm, measured anew on each picture"]
        return "batch", ["batch norm with the statistics of the file"]
    if kind == TRACKED:
        if wishes.statistics is None:
            raise tensors.error(
                "it has statistics of instance norms, which old code uses and newer code drops: "
                "give --statistics stored to use them, or picture to drop them"
            )
        if wishes.statistics == "stored":
            return "batch", ["instance norm with the statistics of the file"]
        return "instance", ["instance norm; the statistics in the file are dropped"]
    if kind == "no norm" and wishes.statistics is not None:
        raise tensors.error("--statistics: it has no norms; leave it out")
    if wishes.statistics == "stored":
        raise tensors.error(
            "--statistics stored: its norms are instance norms, which measure each picture"
        )
    return ("none", ["no norm"]) if kind == "no norm" else ("instance", ["instance norm"])


def _kind(tensors: Tensors, site: Site) -> str:
    weights, statistics = (
        f"{site.norm}.weight" in tensors,
        f"{site.norm}.running_mean" in tensors,
    )
    if weights and not statistics:
        raise tensors.error(
            f"{site.norm} has weights and no statistics: names do not say which norm that is"
        )
    if weights:
        return "batch norm"
    if statistics:
        return TRACKED
    # In these codes a convolution has a bias before an instance norm, and none before no norm.
    return "instance norm" if f"{site.conv}.bias" in tensors else "no norm"


def upsample_of(tensors: Tensors, transpose: bool, wishes: Wishes) -> Upsample:
    """Return how maps are doubled.

    Args:
        tensors: of the public network.
        transpose: it has transpose convolutions.
        wishes: `upsample` counts where it has none.

    Raises:
        ModelError: what the file cannot say was not said, or what it says was.
    """
    if transpose:
        if wishes.upsample is not None:
            raise tensors.error(
                "--upsample: the file has transpose convolutions, which need no other; leave it out"
            )
        return "transpose"
    if wishes.upsample is None:
        raise tensors.error(
            "maps are made larger before a convolution, and the file does not say how: give "
            "--upsample nearest, bilinear or bicubic"
        )
    return "resize" if wishes.upsample == "nearest" else wishes.upsample


def carry(tensors: Tensors, plan: Plan, source: Sequence[str], target: Sequence[str]) -> Generator:
    """Return our network with the weights of the public one.

    A band that is named more than once is given to several inputs of the public network; the
    weights of these are added up, so that ours takes it once and answers the same.

    Args:
        tensors: of the public network; all are used up.
        plan: see `Plan`.
        source: a band for each input of the public network.
        target: a band for each output.

    Raises:
        ModelError: numbers of bands, shapes or names that do not fit.
    """
    _check_bands(tensors, plan, source, target)
    bands = {"in_channels": len(dict.fromkeys(source)), "out_channels": len(target)}
    network = build(Generator, plan.network, bands | plan.arguments)
    ours = _sites(network)
    if len(ours) != len(plan.sites):
        raise tensors.error(f"{len(plan.sites)} convolutions, but {plan.network} has {len(ours)}")
    state = network.state_dict()
    for (conv, norm), site in zip(ours, plan.sites, strict=True):
        assert norm is None or site.norm is not None, conv  # else it would keep random weights
        turned = isinstance(network.get_submodule(conv), nn.ConvTranspose2d)
        weight = tensors.take(f"{site.conv}.weight", 4)
        if site.source:
            weight = _added(weight, source)
        if site.swapped:
            side = 0 if turned else 1  # that of the inputs
            weight = torch.cat(weight.chunk(2, dim=side)[::-1], dim=side)
        _put(tensors, f"{site.conv}.weight", weight, state, f"{conv}.weight")
        if norm is not None and site.norm is not None:
            _carry_norm(tensors, site.norm, norm, state)
        _carry_bias(tensors, site, conv, norm, state)
    if left := tensors.left():
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise tensors.error(
            f"it has tensors that no part of the network has: {', '.join(left[:3])}{more}"
        )
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _check_bands(
    tensors: Tensors, plan: Plan, source: Sequence[str], target: Sequence[str]
) -> None:
    if plan.takes != len(source):
        hint = ""
        if len(source) == 1 and plan.takes == 3:
            thrice = ",".join([*source] * 3)
            hint = f"; where a grey picture was opened as a colour one, give {thrice}"
        raise tensors.error(
            f"it takes {plan.takes} bands, but --source-bands has {len(source)} "
            f"({', '.join(source)}){hint}"
        )
    if plan.gives != len(target):
        raise tensors.error(
            f"it gives {plan.gives} bands, but --target-bands has {len(target)} "
            f"({', '.join(target)})"
        )


def _sites(network: nn.Module) -> list[tuple[str, str | None]]:
    """Return the convolutions of our network with the norm that follows each, in their order."""
    found: list[tuple[str, str | None]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            found.append((name, None))
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            found[-1] = (found[-1][0], name)
    return found


def _carry_bias(
    tensors: Tensors, site: Site, conv: str, norm: str | None, state: dict[str, Tensor]
) -> None:
    theirs, ours = f"{site.conv}.bias", f"{conv}.bias"
    if theirs not in tensors:
        if ours in state:
            state[ours] = torch.zeros_like(state[ours])
        return
    bias = tensors.take(theirs, 1)
    if ours in state:
        _put(tensors, theirs, bias, state, ours)
    elif norm is None:
        raise tensors.error(f"{site.conv} has a bias that our network has no place for")
    elif f"{norm}.running_mean" in state:
        state[f"{norm}.running_mean"] -= bias  # the norm takes its mean away from the sum
    # Before a norm that measures the picture a bias changes nothing.


def _carry_norm(tensors: Tensors, theirs: str, ours: str, state: dict[str, Tensor]) -> None:
    for key in ("weight", "bias", "running_mean", "running_var"):
        name, mine = f"{theirs}.{key}", f"{ours}.{key}"
        if mine in state and (name in tensors or key.startswith("running")):
            _put(tensors, name, tensors.take(name, 1), state, mine)
        elif mine in state:  # a norm without weights
            state[mine] = torch.full_like(state[mine], float(key == "weight"))
        tensors.drop(name)
    tensors.drop(f"{theirs}.num_batches_tracked")


def _put(tensors: Tensors, name: str, value: Tensor, state: dict[str, Tensor], key: str) -> None:
    if value.shape != state[key].shape:
        found, fits = ("x".join(map(str, v.shape)) for v in (value, state[key]))
        raise tensors.error(f"{name} is {found}, and {fits} fits the others")
    state[key] = value.clone()


def _added(weight: Tensor, source: Sequence[str]) -> Tensor:
    """Add up the inputs of one band.

    >>> _added(torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1), ["vv", "vh", "vv"]).flatten()
    tensor([5., 2.])
    """
    sums = []
    for band in dict.fromkeys(source):
        inputs = [n for n, name in enumerate(source) if name == band]
        sums.append(weight[:, inputs].double().sum(dim=1, keepdim=True).to(weight.dtype))
    return torch.cat(sums, dim=1)
