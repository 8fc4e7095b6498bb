"""Add bands and units to an ONNX file of another program, so that it is a model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from crossband.core.atomic import atomic_file, check_file
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature, UnitRange
from crossband.core.version import __version__
from crossband.errors import OutputError, UnitError, nearest
from crossband.model.description import check_line, check_name
from crossband.model.files import FORMAT, WEIGHTS
from crossband.model.importing.checkpoint import BandSpec, Origin
from crossband.model.model import Model
from crossband.model.onnx_file import KEY, SUFFIX, model_of, read_graph

#: Sides of the windows on which a graph is tried, in strides: one is no multiple of the other.
_TRIED = (2, 3)


@dataclasses.dataclass(frozen=True)
class Tiles:
    """What the graph does not say of its tiles; see `networks.base.Generator`.

    Attributes:
        margin: radius of its receptive field in source pixels; None where it is not known, and then
            tiles are blended.
        stride: total downsampling; tile origins are multiples of it.
        scale: target pixels per source pixel along one side.
    """

    margin: int | None = None
    stride: int = 1
    scale: int = 1


def describe_onnx(
    file: str | Path,
    output: Path,
    *,
    task: str,
    source: BandSpec,
    target: BandSpec,
    tiles: Tiles = Tiles(),
    name: str | None = None,
    origin: Origin | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a copy of an ONNX file with the metadata of a model.

    Its graph has one input and one output, float32 [N, C, H, W] of any height and width, in
    physical values.

    Args:
        file: the ONNX file.
        output: the copy, with the suffix .onnx.
        task: what it does, as in rgb2nir.
        source: bands, unit and ranges of the source. Masked pixels are given each band's low value.
        target: those of the target.
        tiles: margin, stride and scale.
        name: of the model; by default that of the copy.
        origin: licence and address.
        overwrite: replace an existing file.

    Raises:
        ModelError: the file is refused, or its graph does not do what is said of it.
    """
    if output.suffix != SUFFIX:
        raise OutputError(f"{output}: give the file the suffix {SUFFIX}")
    check_file(output, overwrite)
    name = name or output.stem
    check_name(name)
    check_line("the task of a model", task)
    for unit in (source.unit, target.unit):
        if unit not in VALID_RANGE:
            raise UnitError(f"unknown unit {unit!r}: {nearest(unit, VALID_RANGE)}")
    ranges = UnitRange(_ranges(source), _ranges(target), target.unit)
    signature = Signature(list(source.bands), list(target.bands), {source.unit: ranges})
    graph = read_graph(Path(file))
    kept = [entry for entry in graph.metadata_props if entry.key != KEY]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    digest = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
    origin = origin or Origin()
    about = {"licence": origin.licence, "source": origin.url or str(Path(file).name)}
    data = {
        "format": FORMAT,
        "name": name,
        "task": task,
        "crossband": __version__,
        "network": {
            "class": "ONNX",
            "arguments": {},
            **dataclasses.asdict(tiles),
            "parameters": 0,
        },
        "signature": signature.to_json(),
        "weights": {"file": WEIGHTS, "sha256": digest, "dtype": "float32"},
        "about": {key: value for key, value in about.items() if value},
    }
    entry = graph.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(data, sort_keys=True)
    model = model_of(Path(file), graph, (data, signature), Model)
    for strides in _TRIED:  # the network says what is wrong
        model.network(torch.full((1, len(source.bands), *(2 * [4 * strides * tiles.stride])), 0.5))
    with atomic_file(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
    return output


def _ranges(spec: BandSpec) -> list[tuple[float, float]]:
    given: Sequence[tuple[float, float]] = spec.ranges or [VALID_RANGE[spec.unit]]
    return list(given) * len(spec.bands) if len(given) == 1 else list(given)
