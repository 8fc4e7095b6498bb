"""A model whose network also gives widths of errors and the dissimilarity of surroundings."""

from __future__ import annotations

import copy
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.errors import ModelError
from crossband.model.calibration import Calibration, Familiar, Head
from crossband.model.model import Model
from crossband.networks.base import Generator
from crossband.networks.uncertainty import (
    Dissimilarity,
    UncertainGenerator,
    WidthHead,
    surroundings_of,
)

M = TypeVar("M", bound=Model)
#: Made of each model, by unit: who keeps engines by their models must get the same one.
_MADE: WeakKeyDictionary[Model, dict[str, Model]] = WeakKeyDictionary()
#: Name of the channel of the dissimilarity.
DISSIMILARITY = "dissimilarity"


def uncertain_model(model: M, unit: str) -> M:
    """Return the model with the further channels of `UncertainGenerator`, the same one each time.

    Args:
        model: calibrated.
        unit: of the sources that it will be given.

    Raises:
        ModelError: there is no calibration, or it does not fit the network.
    """
    calibration = calibration_of(model)
    made = _MADE.setdefault(model, {})
    if unit not in made or made[unit].calibration is not calibration:
        made[unit] = _uncertain(model, calibration, unit)
    return cast(M, made[unit])


def _uncertain(model: M, calibration: Calibration, unit: str) -> M:
    if calibration.quantities[: len(model.signature.target)] != tuple(model.signature.target):
        raise ModelError(f"{model.name}: the calibration is of other bands")
    network: Generator = model.network
    around = surroundings_of(network)
    features = around.moments * around.levels
    head, familiar = calibration.head, calibration.familiar
    seen = network.in_channels + 2 * network.out_channels
    if head is not None and (head.cells.shape[1], head.pixels.shape[1]) != (features, seen):
        raise ModelError(f"{model.name}: the calibration is of another network")
    if familiar is not None and len(familiar.usual) != features:
        raise ModelError(f"{model.name}: the calibration is of another network")
    wrapped = UncertainGenerator(
        network,
        None if head is None else _head(head),
        None if familiar is None else _dissimilarity(familiar, unit),
        2 * len(calibration.quantities),
    )
    clone = copy.copy(model)
    clone._modules = dict(model._modules)
    clone._modules["network"] = wrapped.eval().requires_grad_(False)
    return clone


def channel_names(model: Model) -> tuple[str, ...]:
    """Return the names of the channels of a model's output, those of an uncertain one included."""
    names = list(model.signature.target)
    if isinstance(model.network, UncertainGenerator) and model.calibration is not None:
        for quantity in model.calibration.quantities:
            names += [f"{quantity}_below", f"{quantity}_above"]
        if model.network.dissimilarity is not None:
            names.append(DISSIMILARITY)
    return tuple(names)


def calibration_of(model: Model) -> Calibration:
    """Return the calibration of a model.

    Raises:
        ModelError: it has none.
    """
    if model.calibration is None:
        raise ModelError(
            f"{model.name}: the model has no calibration, so no intervals and no familiarity; "
            "crossband calibrate MODEL --manifest PAIRS -o MODEL makes one"
        )
    return model.calibration


def _head(head: Head) -> WidthHead:
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
