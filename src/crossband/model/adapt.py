"""Weights of one generator for another of the same form, with other bands.

Only a few tensors depend on the bands: the columns of the first layers and the rows of the last
ones. To find these tensors and axes, the same network is built with one band more and the shapes
are compared. Along such an axis, band i is index i where there is one index per band. Where there
are more (pixels folded into channels, bands beside other channels), a trial decides: change one
index, see which band responds, and assign the index to that band.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crossband.core.registry import build
from crossband.errors import CrossbandError, ModelError
from crossband.networks.base import Generator
from crossband.networks.generators.blend import Blend

#: Arguments that give the number of bands; all others describe the architecture.
COUNTS = {"source": "in_channels", "target": "out_channels"}


class ModelBands(NamedTuple):
    """Names of the bands of a network, in the order of its channels."""

    source: Sequence[str]
    target: Sequence[str]


#: The meaning of one index along an axis: side, name of the band (both empty where the index
#: belongs to no band), and the number of this index among the band's indices.
Label = tuple[str, str, int]


def first_difference(
    one: Any, other: Any, ignore: Sequence[str] = (), at: str = ""
) -> tuple[str, Any, Any] | None:
    """Return the first difference of two pieces of plain data: dotted name and both values.

    Args:
        one: nested mappings, lists and values.
        other: the same.
        ignore: keys that are not compared, at any depth.
        at: dotted name of the two pieces themselves.

    Returns:
        The dotted name and the two values; None where the two are equal.

    >>> first_difference({"width": 8, "parts": [1, 2]}, {"width": 8, "parts": [1, 3]})
    ('parts.1', 2, 3)
    >>> first_difference({"in_channels": 3}, {"in_channels": 4}, ignore=["in_channels"]) is None
    True
    """
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [k for k in (*one, *(k for k in other if k not in one)) if k not in ignore]
        pairs = [(str(k), one.get(k), other.get(k)) for k in keys]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return at, list(one), list(other)
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else (at, one, other)
    for key, a, b in pairs:
        found = first_difference(a, b, ignore, f"{at}.{key}" if at else key)
        if found is not None:
            return found
    return None


def architecture_difference(one: Generator, other: Generator) -> tuple[str, Any, Any] | None:
    """Return the first difference of two generators' architectures, the numbers of bands aside."""
    names = type(one).__name__, type(other).__name__
    if names[0] != names[1]:
        return "network", *names
    return first_difference(one.arguments, other.arguments, ignore=list(COUNTS.values()))


def adapt(
    old: Generator, old_bands: ModelBands, new: Generator, new_bands: ModelBands
) -> dict[str, Tensor]:
    """Return weights for `new`: those of `old`, with the weights of each band matched by name.

    The weights that read a new source band are 0. The network then gives the same output as before,
    whatever the band holds, and still learns from the first step (the gradient of a zero weight is
    the band's value). The mean of the other bands' weights would change every output at once. A new
    target band keeps the initial weights of `new`.

    Args:
        old: the generator whose weights are taken.
        old_bands: its bands.
        new: a generator of the same architecture; it is not changed.
        new_bands: its bands.

    Raises:
        ModelError: another architecture, no source band in common, or a tensor in which the bands
            cannot be located.
    """
    found = architecture_difference(old, new)
    if found is not None:
        raise ModelError(f"{found[0]} is {found[1]!r}, not {found[2]!r}")
    theirs = {name: value.detach().clone() for name, value in old.state_dict().items()}
    if all(list(a) == list(b) for a, b in zip(old_bands, new_bands, strict=True)):
        return theirs
    if not set(old_bands.source) & set(new_bands.source):
        raise ModelError(
            f"no source band in common: {', '.join(old_bands.source)} and "
            f"{', '.join(new_bands.source)}"
        )
    if isinstance(old, Blend) and isinstance(new, Blend):
        weights: dict[str, Tensor] = {}
        for number, (mine, theirs_part) in enumerate(zip(new.parts, old.parts, strict=True)):
            assert isinstance(mine, Generator)
            assert isinstance(theirs_part, Generator)
            part = adapt(theirs_part, old_bands, mine, new_bands)
            weights |= {f"parts.{number}.{name}": value for name, value in part.items()}
        return weights
    before, after = labels(old, old_bands), labels(new, new_bands)
    return {
        name: _copy_by_label(theirs[name], before[name], value.detach().clone(), after[name])
        if name in after
        else theirs[name]
        for name, value in new.state_dict().items()
    }


def _copy_by_label(
    old: Tensor, before: list[list[Label]], new: Tensor, after: list[list[Label]]
) -> Tensor:
    """Copy values from `old` to the indices of `new` with the same labels; return `new`."""
    mine, theirs = [], []
    for axis, (there, here) in enumerate(zip(before, after, strict=True)):
        place = {label: i for i, label in enumerate(there)}
        fresh = [i for i, label in enumerate(here) if label not in place]
        kept = [i for i, label in enumerate(here) if label in place]
        # Zeros only along input axes. Axis 0 holds a layer's outputs (also the only axis of a
        # vector): a zero there would stop all gradients of what follows.
        unread = [i for i in fresh if here[i][0] == "source" and axis > 0]
        new.index_fill_(axis, torch.tensor(unread, dtype=torch.long), 0)
        mine.append(torch.tensor(kept, dtype=torch.long))
        theirs.append(torch.tensor([place[here[i]] for i in kept], dtype=torch.long))
    new[torch.meshgrid(*mine, indexing="ij")] = old[torch.meshgrid(*theirs, indexing="ij")]
    return new


def labels(network: Generator, bands: ModelBands) -> dict[str, list[list[Label]]]:
    """Return the labels of all axes of each tensor that depends on the bands.

    Raises:
        ModelError: a tensor in which the bands cannot be located.
    """
    state = network.state_dict()
    with _own_random_state():
        axes = {side: _axes(network, side) for side in COUNTS}
        owners: dict[tuple[str, int], dict[int, tuple[str, int]]] = {}
        for side, found in axes.items():
            names = getattr(bands, side)
            for (name, axis), repeats in found.items():
                size = state[name].shape[axis]
                if size == len(names) and repeats == 1:
                    owned = {i: i for i in range(size)}
                else:
                    owned = _measure(network, name, axis, side, list(found))
                wrong = sorted(owned.values()) != sorted(list(range(len(names))) * repeats)
                both = owners.setdefault((name, axis), {})
                if wrong or both.keys() & owned.keys():
                    raise ModelError(
                        f"{type(network).__name__}: which weights of {name} belong to which "
                        f"{side} band cannot be told, so its bands cannot be changed"
                    )
                both |= {i: (side, number) for i, number in owned.items()}
    labelled: dict[str, list[list[Label]]] = {}
    for name in dict.fromkeys(name for name, _ in owners):
        labelled[name] = [
            _label(length, owners.get((name, axis), {}), bands)
            for axis, length in enumerate(state[name].shape)
        ]
    return labelled


def _label(length: int, owners: dict[int, tuple[str, int]], bands: ModelBands) -> list[Label]:
    counts: dict[tuple[str, str], int] = {}
    out = []
    for i in range(length):
        side, number = owners.get(i, ("", 0))
        key = (side, getattr(bands, side)[number] if side else "")
        out.append((*key, counts.get(key, 0)))
        counts[key] = counts.get(key, 0) + 1
    return out


def _axes(network: Generator, side: str) -> dict[tuple[str, int], int]:
    """Return the axes that depend on the bands of one side: (tensor, axis) -> indices per band."""
    cls, count = type(network).__name__, COUNTS[side]
    if network.guide:
        raise ModelError(
            f"{cls}: it takes a guide, whose bands are tied to those of source and "
            "target, so its bands cannot be changed"
        )
    if count not in network.arguments:
        raise ModelError(f"{cls}: has no argument {count}, so its bands cannot be changed")
    more = {**network.arguments, count: network.arguments[count] + 1}
    try:
        grown = build(Generator, cls, more).state_dict()
    except CrossbandError as error:
        raise ModelError(f"{cls}: its bands cannot be changed: {error}") from error
    return {
        (name, axis): longer - shorter
        for name, value in network.state_dict().items()
        for axis, (shorter, longer) in enumerate(zip(value.shape, grown[name].shape, strict=True))
        if longer != shorter
    }


@torch.no_grad()
def _measure(
    network: Generator, name: str, axis: int, side: str, all_axes: list[tuple[str, int]]
) -> dict[int, int]:
    """Find by trial which index along one axis belongs to which band: index -> band.

    Source: set all weights that read bands to 0 except one index; the index belongs to the band
    whose change still changes the output. Target: change the weights at one index; the index
    belongs to the band whose output changes. An index is left out if no band responds, or several.
    """
    # A new network: in a trained one the weights of a band may be zero.
    probe = build(Generator, type(network).__name__, network.arguments).eval()
    for value in probe.state_dict().values():
        if value.is_floating_point() and not value.any():
            value.copy_(0.1 * torch.randn(value.shape))  # a zero would hide the layers before it
    state = probe.state_dict()
    whole = state[name].clone()
    bands = probe.in_channels if side == "source" else probe.out_channels
    edge = max(16, probe.stride)
    x = torch.rand(1, probe.in_channels, edge, edge)
    if side == "source":
        for other, _ in all_axes:
            state[other].zero_()
        batch = x.repeat(bands + 1, 1, 1, 1)  # the last one stays as it is
        for band in range(bands):
            batch[band, band] += 1.0 + torch.rand(edge, edge)
    else:
        batch = x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = probe(batch)
    owners = {}
    for i in range(whole.shape[axis]):
        if side == "source":
            state[name].zero_().select(axis, i).copy_(whole.select(axis, i))
        else:
            state[name].copy_(whole).select(axis, i).add_(1.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same noise for networks that draw some
            after = probe(batch)
        moved = after[:bands] - after[bands:] if side == "source" else (after - before)[0]
        size = moved.flatten(1).abs().amax(dim=1)
        # Rounding changes outputs by about 1e-6; the band itself changes them by far more.
        least = max(1e-3 * float(size.max()), 1e-5 * float(before.abs().max()))
        answering = (size > least).nonzero().flatten().tolist()
        if len(answering) == 1:
            owners[i] = answering[0]
    return owners


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Draw random numbers without changing the state of the run's random generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
