"""`model.json`: right, changed, hostile; weights that are no numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.case import REFUSED, RIGHT, Case, Draw, Files, dumped, mutate_text, mutate_tree
from fuzzing.scenes import (
    NAMES,
    Line,
    Scene,
    draw_scene,
    model_files,
    safetensors,
    translation,
)

#: Networks that would be large, or that are none.
_HOSTILE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("LocalUNet", {"width": 10**6, "depth": 9}),
    ("LocalUNet", {"width": 2**15, "depth": 4, "members": 64}),
    ("LocalUNet", {"width": 16, "depth": 10**9}),
    ("PerPixelMLP", {"width": 2**20, "depth": 2}),
    ("PerPixelMLP", {"width": 1, "depth": 10**6}),
    ("PerPixelMLP", {"in_channels": 3, "out_channels": 10**9}),
    ("PerPixelLinear", {"in_channels": -1}),
    ("PerPixelLinear", {"in_channels": "3"}),
    ("PerPixelLinear", {"in_channels": 3.0, "out_channels": True}),
    ("PerPixelLinear", {"in_channels": 3, "out_channels": 2}),
    ("PerPixelLinear", {"in_channels": 3, "out_channels": 1, "x": 1}),
    ("os.system", {"command": "touch pwned"}),
    ("builtins.eval", {"source": "1"}),
    ("Generator", {}),
    ("Identity", {"channels": 3, "scale": 10**6}),
    ("WeightedSum", {"parts": [{"class": "PerPixelLinear"}] * 10**5}),
)
_WORDS = ("NaN", "Infinity", '"class"', "[" * 10**5, '{"a":' * 5000, "1e999", "\\ud800")


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene, line = draw_scene(draw, ("uint16", "float32")), draw_line(draw)
    kind = draw.randrange(7)
    if kind <= 1:
        return _answered(draw, scene, line, line.files(), RIGHT)
    if kind == 2:
        return _hostile(draw, scene, line)
    if kind == 3:
        weights = list(line.weights)
        weights[draw.randrange(3)] = draw.choice((float("nan"), float("inf"), 1e39, -float("inf")))
        broken = replace(line, weights=tuple(weights))
        return _answered(draw, scene, broken, broken.files(), REFUSED)
    files, description = line.files(), line.description()
    description["weights"]["sha256"] = json.loads(files["model/model.json"])["weights"]["sha256"]
    if kind == 4:
        files["model/model.json"] = mutate_text(draw, json.dumps(description, indent=1), _WORDS)
    else:
        for _ in range(draw.choice((1, 1, 2))):
            description = mutate_tree(draw, description)
        files["model/model.json"] = dumped(description)
    return _answered(draw, scene, line, files, None)


def draw_line(draw: Draw) -> Line:
    """Return any model."""
    low = tuple(round(draw.uniform(-0.2, 0.2), 3) for _ in NAMES)
    return Line(
        weights=tuple(draw.uniform(-1.5, 1.5) for _ in NAMES),
        bias=draw.uniform(-0.5, 0.5),
        low=low,
        high=tuple(bottom + draw.choice((0.01, 0.5, 1.0, 3.0)) for bottom in low),
        target=(draw.choice((0.0, -0.3)), draw.choice((0.6, 1.0, 4.0))),
    )


def _answered(draw: Draw, scene: Scene, line: Line, files: Files, must: str | None) -> Case:
    """Return a case whose answer is that of the model as its files now describe it."""

    def meant(folder: Path) -> Line | None:
        return line if must == RIGHT else _described(folder / "model" / "model.json", line)

    return translation(draw, scene, files, must, meant)


def _described(path: Path, line: Line) -> Line | None:
    """Return the model that a changed `model.json` describes; None where it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        signature, network = data["signature"], data["network"]
        unit = signature["units"]["reflectance"]
        channels = {"in_channels", "out_channels"}
        known = network["class"] == "PerPixelLinear" and set(network["arguments"]) <= channels
        known &= signature["source"] == list(NAMES) and len(signature["target"]) == 1
        if not known or (unit.get("target_unit") or "reflectance") != "reflectance":
            return None
        low, high = zip(*((float(a), float(b)) for a, b in unit["source"]), strict=True)
        bottom, top = map(float, unit["target"][0])
        return replace(line, low=low, high=high, target=(bottom, top))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None


def _hostile(draw: Draw, scene: Scene, line: Line) -> Case:
    description, weights = line.description(), line.tensors()
    name, arguments = draw.choice(_HOSTILE)
    description["network"] |= {"class": name, "arguments": arguments}
    if draw.chance(0.3):
        weights["extra.weight"] = np.zeros((4, 4), np.float32)
    made = _answered(draw, scene, line, model_files(description, safetensors(weights)), REFUSED)
    made.note = f"{name} {str(arguments)[:80]}"
    return made
