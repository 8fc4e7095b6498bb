"""Models between two models: their weights, interpolated.

Two networks that were fine-tuned from the same start often lie in one valley of the loss, and then
the weights between them make a good network too (Wortsman et al. 2022, "Model soups"); where they
were trained from different random weights, they do not. The result is one network, as fast as one.
The network class `Blend`, and the recipe key `blend`, are another thing: they keep several networks
and average their answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from crossband.core.atomic import check_folder
from crossband.core.registry import build
from crossband.errors import CrossbandError, ModelError, OutputError
from crossband.model import Model, load
from crossband.model.adapt import difference
from crossband.model.files import DESCRIPTION
from crossband.networks import Generator

#: Facts about the data that hold for both models when both state them alike.
SHARED = ("sensors", "gsd", "licence")


def interpolate(one: Model, other: Model, weight: float = 0.5, *, name: str = "") -> Model:
    """Return the model whose weights are (1 - weight) one + weight other.

    Args:
        one: a model.
        other: a model of the same architecture (class and arguments) and signature.
        weight: share of `other`, 0 to 1.
        name: of the new model; both names joined by `+` where empty.

    Raises:
        ModelError: the two differ in more than their weights; the first difference is named.
    """
    if not (math.isfinite(weight) and 0.0 <= weight <= 1.0):
        raise CrossbandError(f"--weight is the share of the second model, 0 to 1, not {weight:g}")
    found = difference(_facts(one), _facts(other))
    if found is not None:
        at, first, second = found
        raise ModelError(
            f"{one.name} and {other.name} differ in {at} ({first} and {second}): only weights of "
            f"one architecture and signature can be interpolated"
        )
    network = build(Generator, type(one.network).__name__, one.network.arguments)
    network.load_state_dict(between(one.network.state_dict(), other.network.state_dict(), weight))
    names = f"{one.name} and {other.name}"
    about: dict[str, Any] = {
        "description": f"weights between those of {names}; share of {other.name}: {weight:g}",
        "interpolated": [
            {"name": model.name, "sha256": model.weights_hash, "share": share}
            for model, share in ((one, 1.0 - weight), (other, weight))
        ],
    }
    for key in SHARED:
        if key in one.about and one.about[key] == other.about.get(key):
            about[key] = one.about[key]
    model = Model(
        network.eval().requires_grad_(False),
        one.signature,
        name=name or f"{one.name}+{other.name}",
        task=one.task,
        about=about,
    )
    model.baselines = {
        key: baseline
        for key, baseline in one.baselines.items()
        if key in other.baselines and _same(baseline, other.baselines[key])
    }
    return model


def between(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    """Return (1 - weight) one + weight other; what is no floating point is taken from `one`.

    In float64: a share of 0 or 1 gives back that model, bit for bit.

    >>> import torch
    >>> between({"a": torch.tensor([0.0, 4.0])}, {"a": torch.tensor([1.0, 2.0])}, 0.25)["a"]
    tensor([0.2500, 3.5000])
    """
    return {
        key: ((1.0 - weight) * a.double() + weight * other[key].double()).to(a.dtype)
        if a.is_floating_point()
        else a.clone()
        for key, a in one.items()
    }


def blend(
    first: str, second: str, output: Path, *, weight: float = 0.5, overwrite: bool = False
) -> tuple[Path, str]:
    """Interpolate two models and save the result.

    Args:
        first: bundled name, folder or `hf://owner/name`.
        second: another of the same architecture and signature.
        output: the new model folder; its last part becomes the model's name.
        weight: share of the second.
        overwrite: replace a model folder that is there.

    Returns:
        The folder, and one line about the baselines.
    """
    check_folder(output, overwrite, DESCRIPTION)
    models = [load(name) for name in (first, second)]
    for model in models:
        if model.folder is not None and model.folder.resolve() == output.resolve():
            raise OutputError(f"{output}: the output is one of the two models")
    result = interpolate(models[0], models[1], weight, name=output.name)
    folder = result.save(output)
    return folder, _of_baselines(models, result)


def _same(one: Model, other: Model) -> bool:
    return one.weights_hash == other.weights_hash and _facts(one) == _facts(other)


def _facts(model: Model) -> dict[str, Any]:
    """Return all that must be equal for weights to mean the same."""
    network = model.network
    return {
        "network": type(network).__name__,
        "arguments": network.arguments,
        "signature": model.signature.to_json(),
    }


def _of_baselines(models: list[Model], result: Model) -> str:
    kept = sorted(result.baselines)
    known = {name for model in models for name in model.baselines}
    left = sorted(known - set(kept))
    parts = [f"kept: {', '.join(kept)}" if kept else "none kept"]
    if left:
        parts.append(f"left out, as the two models' are not equal: {', '.join(left)}")
    return f"baselines {'; '.join(parts)}" if known else "neither model has baselines"
