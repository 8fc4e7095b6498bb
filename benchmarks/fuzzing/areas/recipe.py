"""Recipes: YAML and overrides of `fit`, right and changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fuzzing import tiff
from fuzzing.case import RIGHT, Case, Draw, Files, listed, mutate_text
from fuzzing.scenes import NAMES, item, metadata, parts

RECIPE = """name: line
task: rgb2nir
precision: fp32
device: cpu
method:
  class_path: LeastSquares
  init_args:
    signature:
      source: [red, green, blue]
      target: [nir]
      units:
        reflectance:
          source: [[0, 1], [0, 1], [0, 1]]
          target: [[0, 1]]
    generator:
      class_path: PerPixelLinear
      init_args: {in_channels: 3, out_channels: 1}
    max_steps: 4
data:
  class_path: Pairs
  init_args: {crop: 8, batch: 4, steps: 4}
baselines: []
trainer: {logger: csv}
"""
_WEIGHTS, _BIAS = (0.5, 0.3, -0.2), 0.1
_WORDS = (
    *("&a [*a]", "!!python/object/apply:os.system ['touch pwned']", "*b", "? ", "- " * 500),
    *("{" * 2000, "[" * 10**5, ".nan", ".inf", "1e999", "null", "~", "!!binary |", "%YAML 9.9\n"),
    *("class_path: os.system", "init_args: 3", "width: 100000000", "<<: *x", "\t"),
)
_KEYS = listed(
    """
    --seed --data.workers --data.batch --data.crop --method.max_steps --device --name --task
    --method.generator --trainer.logger --data.shares --weights --method.generator.in_channels
    --start --blend --baselines --data.val_fraction --data.transforms --method --data --x.y.z --
    --data.group --method.generator.out_channels
    """
)
_BANDS = (*NAMES, "nir")
_SMALL = ("--data.workers", "--data.batch", "--data.crop", "--method.max_steps")


def case(draw: Draw) -> Case:
    """Draw a case."""
    files: Files = {}
    rows = ["source,target"]
    rng = np.random.default_rng(draw.randrange(2**32))
    for n in range(3):
        source = rng.uniform(0.05, 0.6, (3, 10, 12)).astype(np.float32)
        nir = np.tensordot(_WEIGHTS, source, 1)[None] + _BIAS
        values = np.concatenate([source, nir]).astype(np.float32)
        items = [item("DESCRIPTION", b, "description", name) for b, name in enumerate(_BANDS)]
        items += [item("UNITTYPE", b, "unittype", "reflectance") for b in range(4)]
        files[f"{n}.tif"] = tiff.write(values, None, {tiff.METADATA: (2, metadata(items))})
        rows.append(f"{n}.tif,{n}.tif")
    files["pairs.csv"] = "\n".join(rows).encode()
    arguments = ["fit", "in.yaml", "-o", "run", "--data.manifest", "pairs.csv"]
    kind = draw.randrange(8)
    files["in.yaml"] = RECIPE.encode()
    if kind in (1, 2, 3):
        files["in.yaml"] = mutate_text(draw, RECIPE, _WORDS)
    elif kind > 3:
        for key in draw.some(_KEYS, 3) or ["--seed"]:
            value = draw.number() if draw.chance(0.6) else draw.text()
            if key in _SMALL and value.isdecimal() and len(value) > 2:
                value = "-1"  # a long training is right, and takes long
            arguments.append(f"{key}={value}".replace("\x00", ""))
    return Case(
        arguments,
        files,
        RIGHT if kind == 0 else None,
        (lambda folder: _check(folder / "run" / "model")) if kind == 0 else lambda folder: None,
        ("run", "run/*", "runs"),
        kept=kind > 0,
        says=r".*: step \d+/\d+.*|fitting the baseline .*",
    )


def _check(folder: Path) -> str | None:
    """Hold the fitted line against the one that made the pairs."""
    header, body = parts((folder / "model.safetensors").read_bytes())
    found: list[float] = []
    for name in ("line.weight", "line.bias"):
        begin, end = header[name]["data_offsets"]
        found += np.frombuffer(body[begin:end], "<f4").tolist()
    off = max(abs(a - b) for a, b in zip(found, [*_WEIGHTS, _BIAS], strict=True))
    return None if off < 1e-3 else f"the line is {found}, not {[*_WEIGHTS, _BIAS]}"
