"""Translation speed: the plain way against the default, interleaved in one run.

    python benchmarks/translate.py [--model rgb2nir] [--size 2048] [--rounds 5] [--json FILE]

Plain: fp32, eager, memory as PyTorch lays it out, tile by tile. Default: what `crossband translate`
does on this machine (bf16 where the processor has it, channels-last). Both go through the same tile
plan and are counted in useful output pixels; reading and writing files is left out. The source is
the Sentinel-2 sample of spyndex, repeated; the difference between the two is measured on it in
reflectance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import crossband
from crossband.demo import sample
from crossband.raster.grid import Grid, Window
from crossband.raster.plan import overhead, plan
from crossband.translator import TILE, Engine, translate_window

BANDS = ("red", "green", "blue")


def scene(size: int) -> Window:
    """Return red, green, blue of the sample, mirrored and repeated to size x size."""
    stored = sample()
    rgb = np.stack([stored[b] for b in BANDS]).astype(np.float32) * 1e-4
    mirrored = np.concatenate([rgb, rgb[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
    times = -(-size // mirrored.shape[1])
    values = np.ascontiguousarray(np.tile(mirrored, (1, times, times))[:, :size, :size])
    mask = np.ones((size, size), bool)
    return Window(values, mask, Grid(size, size), BANDS, "reflectance")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="rgb2nir")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = parser.parse_args()
    window = scene(a.size)
    plain, default = crossband.load(a.model), crossband.load(a.model)
    precision = Engine(default).precision

    def run_plain() -> np.ndarray:
        network = plain.network
        out = np.zeros((1, a.size, a.size), np.float32)
        for tile in plan(a.size, a.size, TILE, network.margin or 0, network.stride):
            rows, cols = tile.source.slices()
            with torch.inference_mode():
                result = plain(torch.from_numpy(window.values[None, :, rows, cols].copy()))[0]
            rows, cols = tile.core.inside(tile.source).slices()
            out[:, *tile.core.slices()] = result[:, rows, cols].numpy()
        return out

    def run_default() -> np.ndarray:
        return translate_window(default, window).values

    ways = {"plain (fp32, eager)": run_plain, f"default ({precision}, channels-last)": run_default}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {name: run() for name, run in ways.items()}  # one of each to warm up
    for _ in range(a.rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    speed = {n: a.size**2 / 1e6 / statistics.median(s) for n, s in seconds.items()}
    first, second = speed.values()
    pairs = zip(*seconds.values(), strict=True)
    ratio = statistics.median(p / d for p, d in pairs)
    one, two = results.values()
    difference = np.abs(one - two)
    network = default.network
    halo = overhead(a.size, a.size, TILE, network.margin or 0, network.stride)
    print(f"model {default.name}, {a.size} x {a.size}, {torch.get_num_threads()} threads, "
          f"tile {TILE}, halo {halo:.1%}, median of {a.rounds}")  # fmt: skip
    print("| way | MPix/s |\n|---|---|")
    for name, value in speed.items():
        print(f"| {name} | {value:.2f} |")
    print(f"\ndefault / plain: {ratio:.2f} (median of the rounds' ratios)")
    print(
        f"difference in reflectance: mean {difference.mean():.5f}, largest {difference.max():.4f}"
    )
    if a.json:
        data = {
            "size": a.size,
            "threads": torch.get_num_threads(),
            "mpix_per_second": {"plain": first, "default": second},
            "ratio": ratio,
            "precision": precision,
            "halo": halo,
            "mean_difference": float(difference.mean()),
            "largest_difference": float(difference.max()),
        }
        a.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
