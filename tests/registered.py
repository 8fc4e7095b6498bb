"""What tests go over: the classes of a family, and arguments of small instances of each."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch

from crossband.core.registry import available

#: Classes that tests and benchmarks define are not those of the project.
OTHERS = {Path(__file__).parent, Path(__file__).parents[1] / "benchmarks"}


def classes(base):
    """Return name -> class of a family: ours and other packages', not those of tests."""
    known = sorted(available(base).items())
    return {n: cls for n, cls in known if OTHERS.isdisjoint(Path(inspect.getfile(cls)).parents)}


def cases(base):
    """Return (name, arguments) of every small instance of a family; see `Registered.examples`."""
    return [
        (name, {**cls.examples[0], **example})
        for name, cls in classes(base).items()
        for example in cls.examples
    ]


def sizes(base):
    """Return name -> arguments that make any instance of that class small."""
    return {name: dict(next(iter(cls.examples), {})) for name, cls in classes(base).items()}


def waken(network: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value that matters: some start at zero or one.

    Sums over many inputs get smaller weights, so that values stay about 1 and rounding small.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 1
        spread = min(0.2, inputs**-0.5)
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return network.eval()
