"""The unguided network of a guided one: taken from a model, with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crossband import model as models
from crossband.core.registry import available
from crossband.errors import RecipeError
from crossband.model import Model
from crossband.networks.base import Generator
from crossband.networks.generators.guided_correction import _CorrectedGenerator
from crossband.training.methods.base import Method


def set_unguided_network(config: dict[str, Any]) -> Model | None:
    """Write the network that the key `unguided` names into the generator's arguments.

    Args:
        config: a recipe, which is changed.

    Returns:
        The model that it was taken from; None where the recipe names none.

    Raises:
        RecipeError: the recipe's generator takes no such network.
        ModelError: there is no such model.
    """
    name = config.get("unguided")
    if name is None:
        return None
    generator = config.get("method", {}).get("init_args", {}).get("generator", {})
    kind = str(generator.get("class_path", "")).rpartition(".")[2]
    known = available(Generator)
    taking = [name for name, cls in known.items() if issubclass(cls, _CorrectedGenerator)]
    if kind not in taking:
        raise RecipeError(
            f"unguided {name}: only {' and '.join(sorted(taking))} take an unguided network, and "
            f"the generator is {kind or 'not given'}"
        )
    model = models.load(name)
    network = {"class": type(model.network).__name__, "arguments": model.network.arguments}
    generator.setdefault("init_args", {})["unguided"] = network
    return model


def take_unguided(method: Method, model: Model | None) -> None:
    """Copy the weights of the unguided model, which are not trained from then on.

    Raises:
        RecipeError: it translates other bands, or normalises them in another way, than the method
            does with source, guide and target.
    """
    if model is None:
        return
    for generator in (method.generator, method.average):
        if generator is None:
            continue
        assert isinstance(generator, _CorrectedGenerator)
        fault = _difference(method, model, generator)
        if fault:
            raise RecipeError(f"unguided {model.name}: {fault}")
        generator.set_unguided(model.network)


def _difference(method: Method, model: Model, generator: _CorrectedGenerator) -> str:
    """Return how the bands of model and recipe differ; empty where they agree."""
    mine, theirs = method.signature, model.signature
    shown = tuple(mine.guide[number] for number in generator.seen)
    measured = tuple(mine.guide[number] for number in generator.carried)
    for what, bands, wanted in (
        ("source", theirs.source, mine.source),
        ("target", theirs.target, mine.target),
        ("guide's source bands", theirs.source, shown),
        ("guide's target bands", theirs.target, measured),
    ):
        if tuple(bands) != tuple(wanted):
            return f"the recipe's {what} are {', '.join(wanted)}, and it has {', '.join(bands)}"
    for unit, ranges in mine.units.items():
        own = theirs.units.get(unit)
        if own is None:
            return f"it does not translate {unit}"
        guide = [ranges.guide[number] for number in (*generator.seen, *generator.carried)]
        known = _pairs([*own.source, *own.target])
        if known != _pairs([*ranges.source, *ranges.target]) or known != _pairs(guide):
            return f"its ranges of {unit} are other than those of the recipe"
    return ""


def _pairs(ranges: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair)) for pair in ranges]
