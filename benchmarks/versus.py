"""The bundled model through files, and other ways to compute a scene, in turn in one run.

    python benchmarks/versus.py [--model rgb2nir] [--old FOLDER ...] [--size 2000] [--rounds 5]
                                [--old-source FOLDER ...] [--json FILE]

- the model, and each older model folder (`--old`): `Model.translate` from file to file, all of it;
- the model of that name in an older Crossband (`--old-source`, the folder `src` of a checkout): the
  same, with that code, in a process of its own that stays open;
- the same network with MONAI's sliding windows (where `monai` is installed): windows of 512 pixels
  with an overlap of a quarter, bf16 where the processor computes with it, from an array in memory
  to an array in memory;
- the generator of NIR-GAN (a ResNet with nine blocks, 64 channels) alone: fp32, one tile of 256
  pixels in memory.

The ways take turns, so that other work on the machine slows all of them. Speeds are pixels of the
result per second, medians over the rounds. The scene is the Sentinel-2 sample of spyndex, mirrored
and repeated.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from translate import BANDS, write_scene

import crossband
from crossband import Model
from crossband.core.registry import build
from crossband.networks import Generator
from crossband.raster.open import open_scene
from crossband.translate.engine import Engine

#: Sides of MONAI's windows and of the ResNet's tile.
SIDE, TILE = 512, 256
#: Translates a scene for each line that it reads, and writes the number of pixels.
WORKER = """
import sys, crossband, rasterio
name, scene, out = sys.argv[1:]
model = crossband.load(name)
print(crossband.__file__, flush=True)
for line in sys.stdin:
    model.translate(scene, out, overwrite=True)
    with rasterio.open(out) as made:
        print(made.width * made.height, flush=True)
"""
#: Returns the number of pixels of the result.
Way = Callable[[], int]


def through_files(model: Model, scene: Path) -> int:
    """Translate a file into a file."""
    with open_scene(scene, needed=BANDS) as opened:
        pixels = opened.grid.height * opened.grid.width
    model.translate(scene, scene.with_name("out.tif"), overwrite=True)
    return pixels


def sliding_windows(model: Model, scene: Path) -> int:
    """Translate an array by MONAI's sliding windows."""
    slide: Any = importlib.import_module("monai.inferers").sliding_window_inference
    precision = Engine(model, precision="auto").precision
    with open_scene(scene, needed=BANDS) as opened:
        window = opened.read(opened.grid.box)
    source = model.signature.normalise(
        torch.from_numpy(window.values)[None], [window.unit], "source"
    )
    with torch.inference_mode(), torch.autocast(
        "cpu", torch.bfloat16, enabled=precision == "bf16"
    ):  # fmt: skip
        slide(source, (SIDE, SIDE), 1, model.network, overlap=0.25)
    return int(window.mask.size)


class OldSource:
    """Translates a scene with the code and the model of another Crossband.

    Args:
        source: the folder `src` of its checkout.
        name: the model.
        scene: the file.
    """

    def __init__(self, source: Path, name: str, scene: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, name, str(scene), str(scene.with_name("old.tif"))],
            env=os.environ | {"PYTHONPATH": str(source.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        where = self._answer()
        if not where.startswith(str(source.resolve())):
            raise SystemExit(f"{source}: no Crossband there, as {where} was imported")

    def __call__(self) -> int:
        """Translate the scene once."""
        assert self.process.stdin
        print("translate", file=self.process.stdin, flush=True)
        return int(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout
        if line := self.process.stdout.readline().strip():
            return line
        raise SystemExit("the older Crossband stopped")


def one_tile(network: torch.nn.Module) -> int:
    """Run a network on a tile."""
    with torch.inference_mode():
        network(torch.rand(1, 3, TILE, TILE))
    return TILE * TILE


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="rgb2nir", help="name or folder")
    parser.add_argument("--old", type=Path, nargs="*", default=[], help="folders of older models")
    parser.add_argument("--old-source", type=Path, nargs="*", default=[],
                        help="folders src of older checkouts")  # fmt: skip
    parser.add_argument("--size", type=int, default=2000, help="side of the scene in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own choice)")
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    model = crossband.load(a.model)
    resnet = build(Generator, "ResNet", {"blocks": 9}).eval()
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.tif"
        write_scene(scene, a.size, "tiles", "none")
        ways: dict[str, Way] = {f"{a.model}, file to file": partial(through_files, model, scene)}
        for old in a.old:
            ways[f"{old}, file to file"] = partial(through_files, crossband.load(old), scene)
        for source in a.old_source:
            ways[f"{a.model} of {source}, file to file"] = OldSource(source, a.model, scene)
        if importlib.util.find_spec("monai"):
            ways[f"{a.model}, sliding windows of MONAI"] = partial(sliding_windows, model, scene)
        ways["ResNet of NIR-GAN, a tile, fp32"] = partial(one_tile, resnet)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(a.rounds + 1):
            for name, way in ways.items():
                begun = time.perf_counter()
                pixels = way()
                if number:  # the first round warms up
                    speeds[name].append(pixels / (time.perf_counter() - begun) / 1e6)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    first = next(iter(medians.values()))
    print("| way | MPix/s | lowest to highest | the first is so many times as fast |")
    print("|---|---|---|---|")
    for name, value in medians.items():
        between = f"{min(speeds[name]):.3g} to {max(speeds[name]):.3g}"
        print(f"| {name} | {value:.3g} | {between} | {first / value:.1f} |")
    print(f"\n{Engine(model).precision}, {torch.get_num_threads()} threads")
    if a.json:
        a.json.write_text(json.dumps(speeds, indent=1) + "\n")


if __name__ == "__main__":
    main()
