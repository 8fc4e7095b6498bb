"""A model whose network also gives widths of errors and the dissimilarity of surroundings."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from threading import Lock
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.errors import ModelError
from crossband.model.calibration import Calibration, Familiar, GuideClass, Head
from crossband.model.model import Model
from crossband.networks.base import Generator
from crossband.networks.uncertainty import (
    Dissimilarity,
    UncertainGenerator,
    WidthHead,
    seen_features,
    surroundings_of,
)

M = TypeVar("M", bound=Model)
#: The unit of the sources, the class of the guide, the quantities whose widths are computed.
Asked = tuple[str, GuideClass | None, tuple[str, ...] | None]
#: Made of each model, by unit: who keeps engines by their models must get the same one.
_MADE: WeakKeyDictionary[Model, tuple[Calibration, dict[Asked, Model]]] = WeakKeyDictionary()
#: What each made model was asked for.
_ASKED: WeakKeyDictionary[Model, Asked] = WeakKeyDictionary()
#: Held while a model is made, as several threads may ask for the same one.
_MAKING = Lock()
#: Name of the channel of the dissimilarity, and how those of widths of guided results begin.
DISSIMILARITY, GUIDED = "dissimilarity", "guided_"


def uncertain_model(
    model: M,
    unit: str,
    guide: GuideClass | None = None,
    quantities: tuple[str, ...] | None = None,
) -> M:
    """Return the model with the further channels of `UncertainGenerator`, the same one each time.

    Args:
        model: calibrated.
        unit: of the sources that it will be given.
        guide: the class of the guide. The widths of guided results then follow the others.
        quantities: whose widths are computed; by default all of the calibration.

    Raises:
        ModelError: there is no calibration, or it does not fit the network.
    """
    calibration = calibration_of(model)
    key = unit, guide, quantities
    with _MAKING:
        of, made = _MADE.get(model, (None, {}))
        if of is not calibration:
            made = {}
            _MADE[model] = calibration, made
        if key not in made:
            kept = calibration if quantities is None else calibration.only(quantities)
            made[key] = _uncertain(model, kept, unit, guide)
            _ASKED[made[key]] = key
        return cast(M, made[key])


def asked_of(model: Model) -> Asked | None:
    """Return the arguments of `uncertain_model` that made a model; None for any other model."""
    return _ASKED.get(model)


def _uncertain(model: M, calibration: Calibration, unit: str, guide: GuideClass | None) -> M:
    bands = tuple(model.signature.target)
    if calibration.quantities[: len(bands)] not in (bands, ()):
        raise ModelError(f"{model.name}: the calibration is of other bands")
    network: Generator = model.network
    around = surroundings_of(network)
    features = around.moments * around.levels
    head, familiar = calibration.head, calibration.familiar
    seen = seen_features(network)
    outputs = 2 * len(calibration.quantities)
    if guide is not None:
        own = _of_class(calibration.guided, guide, features, seen, outputs)
        head = _both(head or _constant(features, seen, outputs), own)
    if head is not None and (head.cells.shape[1], head.pixels.shape[1]) != (features, seen):
        raise ModelError(f"{model.name}: the calibration is of another network")
    if familiar is not None and len(familiar.usual) != features:
        raise ModelError(f"{model.name}: the calibration is of another network")
    wrapped = UncertainGenerator(
        network,
        None if head is None or not outputs else width_head(head),
        None if familiar is None else _dissimilarity(familiar, unit),
        outputs,
        guided=guide is not None,
    )
    clone = copy.copy(model)
    clone._modules = dict(model._modules)
    clone._modules["network"] = wrapped.eval().requires_grad_(False)
    clone.weights_hash = model.weights_hash
    clone.calibration = calibration
    return clone


def channel_names(model: Model) -> tuple[str, ...]:
    """Return the names of the channels of a model's output, those of an uncertain one included."""
    names = list(model.signature.target)
    if isinstance(model.network, UncertainGenerator) and model.calibration is not None:
        for by in ("", GUIDED) if model.network.guided else ("",):
            for quantity in model.calibration.quantities:
                names += [f"{by}{quantity}_below", f"{by}{quantity}_above"]
        if model.network.dissimilarity is not None:
            names.append(DISSIMILARITY)
    return tuple(names)


def calibration_of(model: Model) -> Calibration:
    """Return the calibration of a model.

    Raises:
        ModelError: it has none.
    """
    if model.network.runtime is not None:
        raise ModelError(
            f"{model.name}: {model.network.runtime} computes no intervals and no familiarity; take "
            "the model folder, without --engine"
        )
    if model.calibration is None:
        raise ModelError(
            f"{model.name}: the model has no calibration of these weights, so no intervals and no "
            "familiarity; crossband calibrate MODEL --manifest PAIRS -o MODEL makes one"
        )
    return model.calibration


def counts_as_dated(model: Model, days: float) -> bool:
    """Return whether a guide counts as one of another date, as one of unknown age does.

    A guide without the source's bands cannot show what has changed since. A network that takes one,
    and was calibrated with guides of the same date only, is for guides of one acquisition: with it
    only a guide that is known to be of another date counts as such.

    Args:
        model: calibrated.
        days: between guide and source; NaN where unknown.
    """
    own = model.signature
    shared = {*own.guide} & {*own.source}
    one = bool(own.guide) and not shared and calibration_of(model).same_date_only
    return days != 0 and not (one and math.isnan(days))


def _of_class(head: Head | None, guide: GuideClass, features: int, seen: int, outputs: int) -> Head:
    """Return the head of guided results for one class: what it is told of the guide is constant."""
    if head is None:
        return _constant(features, seen, outputs)
    facts = np.array(guide.facts, np.float32)
    if head.cells.shape[1] != features + len(facts):
        raise ModelError("the calibration of guided results is of another network")
    own = head.bias + head.cells[:, features:] @ facts
    return replace(head, cells=head.cells[:, :features], bias=own.astype(np.float32))


def _constant(features: int, seen: int, outputs: int) -> Head:
    """Return a head whose widths are all 1."""
    sizes = ((1, features), (1, seen), (1,), (outputs, 1), (outputs,))
    return Head(*(np.zeros(size, np.float32) for size in sizes))


def _both(one: Head, other: Head) -> Head:
    """Return one head with the outputs of two, computed in the same matrix products."""
    cells, pixels, bias, out_bias = (
        np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("cells", "pixels", "bias", "out_bias")
    )
    out = np.zeros((len(out_bias), len(bias)), np.float32)
    out[: len(one.out), : len(one.bias)] = one.out
    out[len(one.out) :, len(one.bias) :] = other.out
    return Head(cells, pixels, bias, out, out_bias)


def width_head(head: Head) -> WidthHead:
    """Return the network of a head's weights."""
    module = WidthHead(
        head.cells.shape[1],
        head.pixels.shape[1],
        len(head.bias),
        len(head.out_bias),
    )
    parts = {
        "cells.weight": head.cells,
        "cells.bias": head.bias,
        "pixels.weight": head.pixels,
        "out.weight": head.out,
        "out.bias": head.out_bias,
    }
    module.load_state_dict({name: _tensor(array) for name, array in parts.items()})
    return module


def _dissimilarity(familiar: Familiar, unit: str) -> Dissimilarity:
    directions, features = familiar.turn.shape
    wrong = familiar.wrong if familiar.wrong is not None and familiar.wrong.unit == unit else None
    sizes = (0, 0) if wrong is None else (len(wrong.bias), len(wrong.kinds))
    module = Dissimilarity(features, directions, len(familiar.centres), *sizes)
    parts = {
        "turn": familiar.turn,
        "usual": familiar.usual,
        "centres": familiar.centres,
        "distance": np.float32(familiar.distance * familiar.limit),
    }
    if wrong is not None:
        parts |= {"classifier.0.weight": wrong.cells, "classifier.0.bias": wrong.bias}
        parts |= {"classifier.2.weight": wrong.out, "classifier.2.bias": wrong.out_bias}
        parts["odds"] = np.array([wrong.limit, wrong.spread], np.float32)
    tensors = {name: _tensor(np.asarray(array)) for name, array in parts.items()}
    module.load_state_dict(module.state_dict() | tensors)
    return module


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))
