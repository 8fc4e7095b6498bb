"""Compare the start of a fine-tuning with its result, on the validation windows."""

from __future__ import annotations

import math

import torch

from crossband.core.messages import say
from crossband.data.module import Pairs
from crossband.errors import ModelError
from crossband.model import Model
from crossband.model import folder as models
from crossband.training.methods.batches import conditions_of, predict
from crossband.training.methods.validation import Validation


def keep_start_if_better(model: Model, name: str, data: Pairs) -> Model:
    """Return the fine-tuned model, or its start where that is better on the validation windows.

    During the training the checkpoints are compared with the start. This compares whole models: a
    blend has further members, which no checkpoint knows.

    Args:
        model: the fine-tuned model, with its baselines.
        name: the start; its error may differ from that of the member that was fine-tuned.
        data: with its validation windows.
    """
    try:
        start = models.load(name)
    except ModelError as error:
        say(f"crossband: the start is not compared with the model: {error}", error=True)
        return model
    if not _translates(start, model):
        return model
    say("comparing the model with its start", error=True)
    before, after = _errors(start, model, data), _errors(model, model, data)
    ratios = [after[key] / before[key] for key in before if before[key] > 0]
    if not ratios:
        return model
    ratio = math.exp(sum(map(math.log, ratios)) / len(ratios)) if min(ratios) > 0 else 0.0
    numbers = ", ".join(
        f"MAE in {key} {after[key]:.4g}, of the start {before[key]:.4g}" for key in sorted(before)
    )
    model.about["training"]["start"]["kept"] = ratio > 1
    if ratio <= 1:
        say(f"validation: {numbers}", error=True)
        return model
    say(f"crossband: validation: {numbers}: the start is better, and becomes the model", error=True)
    kept = Model(
        start.network, start.signature, name=model.name, task=model.task, about=model.about
    )
    kept.baselines = model.baselines
    return kept


def _translates(start: Model, model: Model) -> bool:
    """Return whether the start can translate what the model does, to the same bands."""
    return (
        set(start.signature.source) <= set(model.signature.source)
        and start.signature.target == model.signature.target
        and set(model.signature.units) <= set(start.signature.units)
        and start.network.scale == model.network.scale
    )


@torch.no_grad()
def _errors(tried: Model, trained: Model, data: Pairs) -> dict[str, float]:
    """Return unit -> mean absolute error of a model over the groups of the validation pairs.

    Args:
        tried: the model.
        trained: has the bands that the data gives.
        data: with its validation windows.
    """
    validation = Validation(pictures=0)
    bands = [trained.signature.source.index(band) for band in tried.signature.source]
    for number, batch in enumerate(data.validation_batches()):
        seen = batch | {"source": batch["source"][:, bands]}
        conditions = conditions_of(tried.signature, tried.network, seen)
        prediction = predict(tried.signature, tried.network, seen, conditions)
        validation.add(prediction, [str(group) for group in batch["group"]], [number])
    numbers, _ = validation.finish()
    return {key.removeprefix("val/mae_"): n for key, n in numbers.items() if "mae" in key}
