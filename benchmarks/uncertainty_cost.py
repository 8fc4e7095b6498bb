"""What intervals and familiarity cost: a scene with them against the same scene without.

    python benchmarks/uncertainty_cost.py --side 2000 --rounds 5
    python benchmarks/uncertainty_cost.py --side 500 --model super-resolution-x2

Each round translates a made scene in every way, one after the other, so that a busy machine slows
all of them alike. The first round warms up and is not counted. Times are medians of processor
seconds and of seconds on the clock; ratios are to `off`, in one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from crossband import load
from crossband.api import Model

BANDS = {"red": 1, "green": 2, "blue": 3}
#: Way -> keyword arguments. The first two differ in the calibration: by default a model that knows
#: familiarity looks at some windows of every scene.
WAYS: dict[str, dict[str, Any]] = {
    "without calibration": {},
    "off": {},
    "--interval 0.9": {"interval": 0.9},
    "--familiarity": {"familiarity": True},
    "both": {"interval": 0.9, "familiarity": True},
    "both, and NDVI": {"interval": 0.9, "familiarity": True, "indices": ["NDVI"]},
    "off, and NDVI": {"indices": ["NDVI"]},
}


def write_scene(path: Path, side: int) -> None:
    """Write a scene of smooth random fields in reflectance."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.03, 0.25, (3, side // 8 + 1, side // 8 + 1)).astype(np.float32)
    values = np.kron(coarse, np.ones((1, 8, 8), np.float32))[:, :side, :side]
    values += rng.normal(0, 0.01, values.shape).astype(np.float32)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as out:
        out.write(np.clip(values, 0, 1))


def seconds(model: Model, scene: Path, folder: Path, how: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds of the clock and of the processor that a translation takes."""
    clock, processor = time.perf_counter(), time.process_time()
    model.translate(
        scene, folder / "nir.tif", bands=BANDS, sensor="reflectance", overwrite=True, **how
    )
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--side", type=int, default=2000, help="of the scene, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="rgb2nir", help="a calibrated bundled model")
    a = parser.parse_args()
    model, bare = load(a.model), load(a.model)
    bare.calibration = None
    nir = "nir" in model.signature.target
    ways = {name: how for name, how in WAYS.items() if nir or "indices" not in how}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.tif"
        write_scene(scene, a.side)
        for number in range(a.rounds + 1):
            for name, how in ways.items():
                of = bare if name == "without calibration" else model
                taken = seconds(of, scene, Path(folder), how)
                if number:
                    found[name].append(taken)
    middle = {
        name: tuple(statistics.median(column) for column in zip(*of, strict=True))
        for name, of in found.items()
    }
    print("| way | seconds | of off | processor seconds | of off |\n|---|---|---|---|---|")
    for name, (clock, processor) in middle.items():
        off = middle["off, and NDVI" if "NDVI" in name else "off"]
        cells = [f"{clock:.2f}", f"{clock / off[0]:.2f}", f"{processor:.2f}"]
        print(f"| {name} | " + " | ".join([*cells, f"{processor / off[1]:.2f}"]) + " |")


if __name__ == "__main__":
    main()
