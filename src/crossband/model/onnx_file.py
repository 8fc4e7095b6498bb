"""Read a model from an ONNX file. The file is not trusted: it is checked before it runs.

The file that `model.exporting` writes says in its metadata what a `model.json` says. It holds a
graph and weights and no code. Custom operators, which are code of other libraries, and weights in
other files are refused, as are loops, which may not end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from crossband.core.extras import import_extra
from crossband.core.json_text import parse_strict_json
from crossband.core.regular_file import read_bytes
from crossband.core.signature import Signature
from crossband.errors import CrossbandError, ModelError
from crossband.model.description import checked_description
from crossband.model.model import Model
from crossband.model.weights import MAX_WEIGHTS
from crossband.networks.onnx_network import Geometry, PhysicalRanges, onnx_network

SUFFIX = ".onnx"
#: Key of the metadata, whose value is a `model.json` with one unit.
KEY = "crossband"
#: Opsets that are read: 13 is the oldest that ONNX Runtime promises to run.
OLDEST_OPSET = 13
#: Nodes of a graph and bytes of its metadata, at most.
MOST_NODES, MOST_METADATA = 100_000, 4 * 2**20
#: Operators that repeat a graph as often as a number in the file says.
_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
_WANTED = (
    "describe it: crossband import FILE.onnx -o NAMED.onnx --task ... --source-bands ... "
    "--target-bands ... --unit ..."
)
M = TypeVar("M", bound=Model)


def import_onnx() -> Any:
    """Import the package onnx; CrossbandError where it is not installed."""
    return import_extra("onnx", "onnx", "ONNX")


def load_onnx(path: Path, kind: type[M]) -> M:
    """Load an ONNX file that Crossband wrote as a model that ONNX Runtime computes.

    Raises:
        ModelError: another kind of file, or one that is refused; see the module's docstring.
        CrossbandError: the packages of the extra `onnx` are not installed.
    """
    graph = read_graph(path)
    return model_of(path, graph, read_description(path, graph), kind)


def read_graph(path: Path) -> Any:
    """Return the ModelProto of an ONNX file whose operators and weights are all its own.

    Raises:
        ModelError: see `load_onnx`.
    """
    onnx = import_onnx()
    most = MAX_WEIGHTS.value * 2**20
    data = read_bytes(path, ModelError, most)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:
        raise ModelError(f"{path}: no ONNX file, or a damaged one") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path}: no ONNX file, or one without a graph")
    _check_opsets(path, model, onnx.defs.onnx_opset_version())
    _check_graph(path, model, onnx.TensorProto.EXTERNAL)
    return model


def _check_opsets(path: Path, model: Any, newest: int) -> None:
    if model.functions:
        raise ModelError(f"{path}: it defines operators of its own, which are not read")
    for stated in model.opset_import:
        if stated.domain not in ("", "ai.onnx"):
            # A file may import a domain whose operators it does not use.
            continue
        if not OLDEST_OPSET <= stated.version <= newest:
            raise ModelError(
                f"{path}: its operators are those of opset {stated.version}, and {OLDEST_OPSET} to "
                f"{newest} are read"
            )
        return
    raise ModelError(f"{path}: it does not say of which opset its operators are")


def _check_graph(path: Path, model: Any, external: int) -> None:
    for count, node in enumerate(_nodes(model.graph)):
        if count >= MOST_NODES:
            raise ModelError(f"{path}: more than {MOST_NODES:,} operators")
        if node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"{path}: its operator {node.op_type!r:.60} is of {node.domain!r:.60} and not of "
                "ONNX; custom operators are code, and are never run"
            )
        if node.op_type in _LOOPS:
            raise ModelError(f"{path}: its operator {node.op_type} is a loop, which may not end")
    for tensor in _tensors(model.graph):
        if tensor.data_location == external or tensor.external_data:
            raise ModelError(
                f"{path}: its weights {tensor.name!r:.60} lie in another file, which is not read; "
                "save it as one file"
            )


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph, and of the graphs in its nodes' attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors that a graph and those within it hold."""

    def own(tensors: Any, sparse: Any) -> Iterator[Any]:
        yield from tensors
        for one in sparse:
            yield from (one.values, one.indices)

    yield from own(graph.initializer, graph.sparse_initializer)
    for node in _nodes(graph):
        for attribute in node.attribute:
            yield from own([attribute.t, *attribute.tensors], attribute.sparse_tensors)
            yield from own([attribute.sparse_tensor.values, attribute.sparse_tensor.indices], [])
            for inner in (attribute.g, *attribute.graphs):
                yield from own(inner.initializer, inner.sparse_initializer)


def read_description(path: Path, graph: Any) -> tuple[dict[str, Any], Signature]:
    """Return what the metadata of a graph say of its model.

    Raises:
        ModelError: they say nothing, or what no model has.
    """
    found = [entry.value for entry in graph.metadata_props if entry.key == KEY]
    if not found:
        raise ModelError(f"{path}: it does not say which bands and units it takes; {_WANTED}")
    if len(found) > 1 or len(found[0]) > MOST_METADATA:
        raise ModelError(f"{path}: its metadata {KEY!r} are there twice, or too long")
    try:
        return checked_description(parse_strict_json(found[0]))
    except (ValueError, CrossbandError) as error:
        raise ModelError(f"{path}: its metadata {KEY!r}: {error}") from error


def model_of(
    path: Path, graph: Any, description: tuple[dict[str, Any], Signature], kind: type[M]
) -> M:
    """Return the model of a checked graph that takes and gives physical values."""
    data, signature = description
    if len(signature.units) != 1:
        raise ModelError(f"{path}: a graph takes one unit, not {', '.join(signature.units)}")
    about = data["network"]
    geometry = Geometry(
        len(signature.source),
        len(signature.target),
        about["margin"],
        about["stride"],
        about["scale"],
        (about["class"], about["parameters"]),
    )
    content: bytes = graph.SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).hexdigest()
    network = onnx_network(
        content, geometry, name=str(path), identity=digest, ranges=ranges_of(signature)
    )
    model = kind(network, signature, name=data["name"], task=data["task"], about=data["about"])
    model.weights_hash = digest
    return model.eval()


def ranges_of(signature: Signature) -> PhysicalRanges:
    """Return the ranges of the first unit, as a network of physical values takes them."""
    unit = next(iter(signature.units))

    def bounds(side: str) -> tuple[np.ndarray, np.ndarray]:
        low, span = signature.ranges([unit], side, torch.zeros(0))
        return low[0].numpy(), span[0].numpy()

    return PhysicalRanges(bounds("source"), bounds("target"))
