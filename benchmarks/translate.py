"""Translation speed, memory and reads: scenes through files, compared with the network alone.

    python benchmarks/translate.py [--network bundled onnx identity x4] [--sizes 2000 4000]
                                   [--layout tiles strips] [--compress none] [--batches 1 2 4]
                                   [--model rgb2nir] [--threads N] [--json FILE]

Each row is measured in its own process, so that its peak memory is its own. Each process measures:

- raw network: the network alone, on normalised tiles of the same plan that are already in memory;
- scene: `crossband translate` from file to file. Its speed is measured until the last window is
  computed. Finishing (making the COG) is given as a share of the whole time;
- fp32 tiles: the network in fp32, eager mode, PyTorch's default memory layout, tile by tile without
  halo (so the result has seams), without reading and writing.

The model is computed by both engines, one row each: `bundled` by torch, `onnx` by ONNX Runtime, in
fp32 always. Neither folds anything: ONNX Runtime's constant folding is off, as in every
translation, and the bundled models have no batch norm that could be folded into a convolution.

All speeds are useful pixels of the result per second. The raw network is timed before and after the
scene, so that other work on the machine slows both equally; the fp32 tiles are timed after the
scene. The scene is the Sentinel-2 sample of spyndex, mirrored and repeated, uint16.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window as RasterioWindow

import crossband
from crossband import Model
from crossband.cli.demo import sample
from crossband.core.signature import Signature, UnitRange
from crossband.model.exporting.onnx_file import on_onnx_runtime
from crossband.networks.generators.identity import Identity
from crossband.raster.open import open_scene
from crossband.translate.conditions import SceneConditions
from crossband.translate.engine import Engine, PreparedBatch
from crossband.translate.options import TileOptions
from crossband.translate.statistics import Statistics
from crossband.translate.tiles import TileBatch
from crossband.translate.tiling import Tiling

BANDS = ("red", "green", "blue")
NETWORKS = ("bundled", "onnx", "identity", "x4")
#: The model, computed by torch and by ONNX Runtime; the others only copy memory.
REAL = ("bundled", "onnx")
#: Upper left corner of scenes with a georeference, in pixels of 1 m.
CORNER = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)
LAYOUTS = {
    "tiles": {"tiled": True, "blockxsize": 512, "blockysize": 512},
    "strips": {"blockysize": 1},
}
COLUMNS = (
    "network", "precision", "size", "layout", "batch", "MPix/s", "share of raw network speed",
    "speed-up over fp32 tiles", "halo", "finishing", "peak MiB", "reads per block",
)  # fmt: skip
#: Tiles on which the raw network and the fp32 tiles are timed, before the scene and after it.
TILES = 2


def write_scene(
    path: Path, size: int, layout: str, compress: str, pixel: float | None = None
) -> None:
    """Write the sample, mirrored and repeated to size x size, some rows at a time.

    With the size of a `pixel` in metres it has a georeference; all such scenes begin at one corner.
    """
    stored = sample()
    rgb = np.stack([stored[b] for b in BANDS])
    mirrored = np.concatenate([rgb, rgb[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
    side = mirrored.shape[1]
    wide = np.tile(mirrored, (1, 1, -(-size // side)))[:, :, :size]
    profile: dict[str, Any] = {"driver": "GTiff", "width": size, "height": size, "count": 3}
    if pixel is not None:
        profile |= {"crs": "EPSG:32633", "transform": CORNER @ Affine.scale(pixel)}
    profile |= {"dtype": "uint16", "compress": compress, "bigtiff": "IF_SAFER", **LAYOUTS[layout]}
    with rasterio.open(path, "w", **profile) as out:
        out.descriptions, out.units, out.scales = BANDS, ["reflectance"] * 3, [1e-4] * 3
        rows = 512
        for row in range(0, size, rows):
            count = min(rows, size - row)
            part = wide[:, np.arange(row, row + count) % side]
            out.write(part, window=RasterioWindow(0, row, size, count))


def load(network: str, name: str) -> Model:
    """Return a model to time."""
    if network == "bundled":
        return crossband.load(name)
    if network == "onnx":
        return on_onnx_runtime(crossband.load(name))
    whole = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)
    signature = Signature(list(BANDS), list(BANDS), {"reflectance": whole})
    scale = 4 if network == "x4" else 1
    return Model(Identity(3, scale), signature, name=network, task="identity")


def middle(work: Tiling) -> list[TileBatch]:
    """Return the batches in the middle of the scene, where every tile has its whole halo."""
    whole = max(
        batch.tiles[0].source.height * batch.tiles[0].source.width for batch in work.batches
    )
    full = [
        batch
        for batch in work.batches
        if batch.tiles[0].source.height * batch.tiles[0].source.width == whole
        and len(batch.tiles) == len(work.batches[0].tiles)
    ]
    first = max(len(full) // 2 - TILES // 2, 0)
    return full[first : first + TILES]


class References:
    """Times of the raw network and of fp32 tiles, on the same tiles; seconds per pixel."""

    def __init__(self, engine: Engine, eager: Model, path: Path, work: Tiling) -> None:
        self.engine, self.eager, self.work = engine, eager, work
        self.raw_times: list[float] = []
        self.eager_times: list[float] = []
        network = engine.model.network
        self.finer = network.scale**2
        with open_scene(path, needed=BANDS) as scene:
            given = SceneConditions(network, scene.grid)
            self.ready: list[PreparedBatch] = []
            for batch in middle(work):
                windows = [scene.read(tile.source) for tile in batch.tiles]
                self.ready.append(engine.prepare(batch, windows, given))
            self.inputs = [
                torch.from_numpy(scene.read(p.batch.tiles[0].source).values)[None]
                for p in self.ready
            ]

    def time(self, rounds: int, *, eager: bool) -> None:
        """Time the raw network several times, and after it the fp32 tiles if `eager` is true."""
        for _ in range(rounds):
            for prepared, values in zip(self.ready, self.inputs, strict=True):
                start = time.perf_counter()
                self.engine.compute(prepared)
                between = time.perf_counter()
                if eager:
                    with torch.inference_mode():
                        self.eager(values)
                    seconds = time.perf_counter() - between
                    self.eager_times.append(seconds / (values[0, 0].numel() * self.finer))
                kept = sum(t.core.height * t.core.width for t in prepared.batch.tiles)
                self.raw_times.append((between - start) / (kept * self.finer))


def row(a: argparse.Namespace) -> dict[str, Any]:
    """Measure one row; in a process of its own."""
    if a.threads:
        torch.set_num_threads(a.threads)
    network, size, layout, batch = a.network[0], a.sizes[0], a.layout[0], a.batches[0]
    eager = load("bundled" if network == "onnx" else network, a.model)
    model = load(network, a.model)
    engine, found = Engine(model), Statistics()
    path = a.scene
    with open_scene(path, needed=BANDS) as scene:
        grid = scene.grid
    times = References(engine, eager.eval(), path, Tiling.of(model, grid, TileOptions(batch=batch)))
    rounds = a.rounds if network in REAL else 5 * a.rounds
    # The fp32 tiles come last: they need more memory, which would be counted for the scene.
    times.time(rounds, eager=False)
    start = time.perf_counter()
    model.translate(path, path.with_name("out.tif"), batch=batch, statistics=found, overwrite=True)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times.time(rounds, eager=True)
    speed = found.pixels / found.windows / 1e6
    raw_speed, eager_speed = (
        1e-6 / statistics.median(s) for s in (times.raw_times, times.eager_times)
    )
    return {
        "network": network,
        "size": size,
        "layout": f"{layout}, {a.compress}",
        "batch": batch,
        "MPix/s": speed,
        "raw network MPix/s": raw_speed,
        "fp32 tiles MPix/s": eager_speed,
        "share of raw network speed": speed / raw_speed,
        "speed-up over fp32 tiles": speed / eager_speed,
        "halo": found.halo,
        "finishing": found.finishing / whole,
        "seconds": whole,
        "computing": found.computing,
        "waiting for reading": found.waiting_for_reading,
        "waiting for writing": found.waiting_for_writing,
        "peak MiB": peak,
        "reads per block": found.reads_per_block,
        "precision": engine.precision,
        "threads": torch.get_num_threads(),
        "tile": Tiling.of(model, grid).tile,
    }


def cells(found: dict[str, Any]) -> str:
    """Return a line of the table."""
    form = {
        "MPix/s": ".3g", "share of raw network speed": ".0%", "speed-up over fp32 tiles": ".2f",
        "halo": ".1%", "finishing": ".1%", "peak MiB": ".0f", "reads per block": ".2f",
    }  # fmt: skip
    texts = {name: format(found[name], form.get(name, "")) for name in COLUMNS}
    if found["network"] not in REAL:
        # The other networks only copy memory, so these two numbers would mean nothing.
        texts |= {"share of raw network speed": "-", "speed-up over fp32 tiles": "-"}
    return " | ".join(texts.values())


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS[:3]))
    parser.add_argument("--sizes", nargs="+", type=int, default=[2000, 4000])
    parser.add_argument("--layout", nargs="+", choices=list(LAYOUTS), default=["tiles"])
    parser.add_argument("--compress", default="none", help="of the source, as GDAL names it")
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--model", default="rgb2nir", help="the bundled model or another folder")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own choice)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="timings of the raw network before and after"
    )
    parser.add_argument("--folder", help="where scenes are written (default: the system's)")
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    a = parse()
    if a.scene:
        print(json.dumps(row(a)))
        return
    rows = []
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        for size in a.sizes:
            for layout in a.layout:
                scene = Path(folder) / f"{size}-{layout}.tif"
                write_scene(scene, size, layout, a.compress)
                for network in a.network:
                    for batch in a.batches:
                        own = ["--network", network, "--sizes", size, "--layout", layout]
                        own += ["--batches", batch, "--compress", a.compress, "--model", a.model]
                        own += ["--threads", a.threads, "--rounds", a.rounds, "--scene", scene]
                        command = [sys.executable, __file__, *map(str, own)]
                        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                        rows.append(json.loads(done.stdout))
                        print(f"| {cells(rows[-1])} |", flush=True)
                scene.unlink()
    print(f"\n{rows[-1]['threads']} threads; {Path(__file__).name} explains")
    if a.json:
        a.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
