"""Interpolate the weights of two models.

Two networks that were fine-tuned from the same weights often lie in one basin of the loss; then the
weights between them give a good network too (Wortsman et al. 2022, "Model soups"). This does not
hold for networks that were trained from different random weights. The result is a single network.
The network class `Blend` and the recipe key `blend` do something else: they keep several networks
and average their outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from crossband.core.atomic import check_folder
from crossband.core.made_from import make_fingerprint
from crossband.core.python_words import public
from crossband.core.registry import build
from crossband.errors import CrossbandError, ModelError, OutputError
from crossband.model import Model, load
from crossband.model.adapt import first_difference
from crossband.model.files import DESCRIPTION
from crossband.model.training_data import take_over_training_data
from crossband.networks import Generator

#: Entries about the data that are kept where both models have the same value.
SHARED = ("sensors", "gsd", "licence")


@public()
def interpolate(one: Model, other: Model, weight: float = 0.5, *, name: str = "") -> Model:
    """Return the model whose weights are (1 - weight) one + weight other.

    Args:
        one: a model.
        other: a model of the same architecture (class and arguments) and signature.
        weight: weight of `other`, 0 to 1.
        name: name of the new model; both names joined by `+` where empty.

    Raises:
        ModelError: the two differ in more than their weights; the message names the first
            difference.
    """
    if not (math.isfinite(weight) and 0.0 <= weight <= 1.0):
        raise CrossbandError(f"--weight is the share of the second model, 0 to 1, not {weight:g}")
    found = first_difference(_architecture(one), _architecture(other))
    if found is not None:
        at, first, second = found
        raise ModelError(
            f"{one.name} and {other.name} differ in {at} ({first} and {second}): only weights of "
            f"one architecture and signature can be interpolated"
        )
    network = build(Generator, type(one.network).__name__, one.network.arguments)
    states = one.network.state_dict(), other.network.state_dict()
    network.load_state_dict(interpolate_weights(*states, weight))
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


def interpolate_weights(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    """Return (1 - weight) one + weight other; tensors of integers are taken from `one`.

    Computed in float64, so that a weight of 0 or 1 returns one of the two models bit for bit.

    >>> import torch
    >>> one, other = {"a": torch.tensor([0.0, 4.0])}, {"a": torch.tensor([1.0, 2.0])}
    >>> interpolate_weights(one, other, 0.25)["a"]
    tensor([0.2500, 3.5000])
    """
    return {
        key: ((1.0 - weight) * a.double() + weight * other[key].double()).to(a.dtype)
        if a.is_floating_point()
        else a.clone()
        for key, a in one.items()
    }


@public()
def blend(
    first: str | Path,
    second: str | Path,
    output: str | Path,
    *,
    weight: float = 0.5,
    overwrite: bool = False,
) -> tuple[Path, str]:
    """Interpolate two models and save the result.

    Args:
        first: bundled name, folder or `hf://owner/name`.
        second: another model of the same architecture and signature.
        output: the new model folder; its name becomes the name of the model.
        weight: weight of the second model.
        overwrite: replace an existing model folder.

    Returns:
        The folder, and one line about the baselines.

    Raises:
        ModelError: the models have different architectures or signatures.
        OutputError: the output is one of the models, or exists.
        UpToDate: the output was made of the same models with the same weight.
    """
    models, output = [load(name) for name in (first, second)], Path(output)
    made_from = make_fingerprint(
        {"models": [_known(m) for m in models], "weight": weight, "name": output.name}
    )
    check_folder(output, overwrite, DESCRIPTION, made_from)
    for model in models:
        if model.folder is not None and model.folder.resolve() == output.resolve():
            raise OutputError(f"{output}: the output is one of the two models")
    result = interpolate(models[0], models[1], weight, name=output.name)
    result.about["made_from"] = made_from
    folder = result.save(output, overwrite=overwrite)
    take_over_training_data([model.folder for model in models], folder)
    return folder, _of_baselines(models, result)


def _known(model: Model) -> tuple[Any, ...]:
    """Return what the result of a blend depends on."""
    baselines = sorted((name, b.weights_hash) for name, b in model.baselines.items())
    return model.name, model.weights_hash, baselines, model.about


def _same(one: Model, other: Model) -> bool:
    return one.weights_hash == other.weights_hash and _architecture(one) == _architecture(other)


def _architecture(model: Model) -> dict[str, Any]:
    """Return everything that must be equal before weights may be mixed."""
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
