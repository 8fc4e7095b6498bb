"""Write a model as one ONNX file: physical values in, physical values out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save

from crossband.core.atomic import atomic_file, check_file
from crossband.core.python_words import public
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature
from crossband.core.version import __version__
from crossband.errors import OutputError, UnitError
from crossband.model.exporting.graph import (
    PhysicalUnits,
    check_exportable,
    check_same,
    trace,
    traced_network,
)
from crossband.model.identity import identity
from crossband.model.model import Model
from crossband.model.onnx_file import KEY, SUFFIX, model_of
from crossband.networks import Generator

#: Of what a model says of itself, the part that goes into the file; the training is long.
_ABOUT = ("description", "sensors", "gsd", "licence", "measured")
M = TypeVar("M", bound=Model)


@public()
def export_onnx(
    model: Model, output: str | Path, *, unit: str | None = None, overwrite: bool = False
) -> Path:
    """Write a model as an ONNX file.

    The graph takes one unit; a model of several is written once for each.

    Args:
        model: loaded model.
        output: file with the suffix .onnx.
        unit: unit of the source; by default the signature's first.
        overwrite: replace an existing file.

    Raises:
        ModelError: the network is no graph; see `graph.obstacle`.
        UnitError: the model does not take this unit.
        OutputError: the file exists or cannot be written.
    """
    path = Path(output)
    if path.suffix != SUFFIX:
        raise OutputError(f"{path}: give the file the suffix {SUFFIX}")
    check_file(path, overwrite)
    graph = physical_graph(model, unit)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def physical_graph(model: Model, unit: str | None = None) -> Any:
    """Return the ModelProto of a model in one unit, with its metadata; see `export_onnx`."""
    network, name = model.network, model.name
    check_exportable(name, network)
    signature = one_unit(model.signature, unit)
    in_units = physical(network, signature)
    graph = trace(in_units, network, name)
    graph.producer_name, graph.producer_version = "Crossband", __version__
    graph.graph.name, graph.doc_string = name, _summary(model, signature)
    entry = graph.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(description(model, signature), sort_keys=True)
    exported = model_of(Path(name), graph, (description(model, signature), signature), Model)
    check_same(network, in_units.normalised, exported.network, name)
    return graph


def physical(network: Generator, signature: Signature) -> PhysicalUnits:
    """Return a network of the physical values of a signature's only unit."""
    (unit,) = signature.units
    source, target = (signature.ranges([unit], side, torch.zeros(0)) for side in _SIDES)
    return PhysicalUnits(network, source, target, VALID_RANGE[signature.target_unit(unit)])


_SIDES = ("source", "target")


def one_unit(signature: Signature, unit: str | None) -> Signature:
    """Return a signature with one of its units, by default the first."""
    unit = unit or next(iter(signature.units))
    if unit not in signature.units:
        raise UnitError(f"--unit {unit}: the model takes {' and '.join(signature.units)}")
    return dataclasses.replace(signature, units={unit: signature.units[unit]})


def description(model: Model, signature: Signature) -> dict[str, Any]:
    """Return the metadata of the file: a `model.json` of one unit, without the training."""
    about = {key: model.about[key] for key in _ABOUT if key in model.about}
    described = model.describe()
    if not model.weights_hash:  # it was never saved
        tensors = {k: v.contiguous() for k, v in model.network.state_dict().items()}
        described["weights"]["sha256"] = hashlib.sha256(save(tensors)).hexdigest()
    return {**described, "signature": signature.to_json(), "about": about}


def _summary(model: Model, signature: Signature) -> str:
    (unit,) = signature.units
    return (
        f"{model.name}: {', '.join(signature.source)} ({unit}) -> {', '.join(signature.target)} "
        f"({signature.target_unit(unit)}); NaN is masked. Synthetic: an estimate, no measurement."
    )


def on_onnx_runtime(model: M) -> M:
    """Return a model that ONNX Runtime computes instead of torch, with the same numbers.

    Raises:
        ModelError: the network is no graph; see `graph.obstacle`.
        CrossbandError: the packages of the extra `onnx` are not installed.
    """
    if model.network.runtime is not None:
        return model
    network = traced_network(model.network, model.name, identity(model))
    other = type(model)(
        network, model.signature, name=model.name, task=model.task, about=model.about
    )
    other.baselines, other.weights_hash = model.baselines, model.weights_hash
    other.folder, other.address = model.folder, model.address
    return other.eval()
