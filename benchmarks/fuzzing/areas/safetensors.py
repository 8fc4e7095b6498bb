"""The weights' file: headers and bytes, with a hash that fits."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import numpy as np

from fuzzing.areas.model import draw_line
from fuzzing.case import REFUSED, RIGHT, Case, Draw, dumped, mutate_bytes, mutate_tree
from fuzzing.scenes import (
    Line,
    draw_scene,
    joined,
    model_files,
    parts,
    safetensors,
    translation,
)

_TYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene, line = draw_scene(draw, ("uint16", "float32")), draw_line(draw)
    own = data = safetensors(line.tensors())
    must, kind = None, draw.randrange(6)
    if kind == 1:
        dtype = draw.choice(("float64", "float16"))
        data = safetensors({name: part.astype(dtype) for name, part in line.tensors().items()})
    elif kind == 2:
        length = draw.choice((0, 1, 2**63, 2**64 - 1, 2**31, 10**8, 100_000_001, len(data)))
        rest = draw.choice((data[8:], b"", b"{}", b"[]" * 100))
        data = struct.pack("<Q", length) + rest
    elif kind == 3:
        data = mutate_bytes(draw, data)
    elif kind > 3:
        header, body = parts(data)
        data = joined(dumped(mutate_tree(draw, header)), body)
    files = model_files(line.description(), data)
    if kind == 0:  # another hash than that of the file
        data = mutate_bytes(draw, data) + draw.choice((b"", b"\0"))
        files["model/model.safetensors"] = data
        must = RIGHT if data == own else REFUSED
    return translation(draw, scene, files, must, lambda folder: _weights(data, line))


def _weights(data: bytes, line: Line) -> Line | None:
    """Return the model with the weights of a changed file; None where it holds none."""
    try:
        header, body = parts(data)
        found: list[list[float]] = []
        for name, count in (("line.weight", 3), ("line.bias", 1)):
            begin, end = header[name]["data_offsets"]
            values = np.frombuffer(body[begin:end], _TYPES[header[name]["dtype"]])
            found.append([float(v) for v in values.astype(np.float32)])
            if len(values) != count or not all(map(math.isfinite, found[-1])):
                return None
    except (ValueError, KeyError, TypeError, struct.error):
        return None
    return replace(line, weights=tuple(found[0]), bias=found[1][0])
