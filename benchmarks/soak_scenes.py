"""Does translating leak? 200 scenes of mixed kinds in one process; a section of docs/soak.md.

    python benchmarks/soak_scenes.py [--scenes 200] [--model rgb2nir] [--primed 3000] [--arenas 1]
                                     [--seed N] [--out FILE]

Scenes of random shapes, data types, masks and layouts are translated one after the other, with
random options of the output, and then all of them once more. After each, free memory is handed back
to the system and the memory that the process shares with no other is read, so that neither shared
libraries nor what the allocator keeps for later count. glibc gives threads arenas of their own, up
to eight for each core, and each new one grows to its size some scenes later; so the process has one
of them here (`--arenas 0`: as many as glibc likes).

In bfloat16 oneDNN keeps something of each new shape of a layer, some 50 MiB in all, until it has
seen most (fp32 keeps nothing): that has an end, and is no leak. So the process first translates
`--primed` small windows of random shapes, and the page says how much that took. Among the scenes
there still are new shapes now and then: over the first time the process may grow by a few percent.
The second time brings nothing new: what still grows then is a leak, and the least-squares slope
must be next to nothing.

Only this section of the page is written; the others stay as they are.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import random
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
from soak_loader import memory
from soak_page import arguments, write

import crossband
from crossband import Model
from crossband.errors import InputError
from crossband.raster.grid import Grid, Window
from crossband.translate.window import translate_window

TITLE = "## Memory over many scenes"
SCENES = 200
#: Largest side of a scene; a float32 window of one is 5.7 MiB.
SIDE = 700
#: Growth from a tenth of the scenes to the last, the first time; KiB a scene, the second time: less
#: than the pixels of a scene of 20 x 20.
GROWTH, BOUND = 1.05, 4.0
#: Windows of random shapes that are translated first, and their largest height and width.
PRIMED, LARGEST = 3000, (64, 200)
#: Of the allocator and of torch, in the process that translates.
ARENAS, THREADS = 1, 1
DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
MASKS = ("none", "nodata", "nan", "mask", "alpha", "all")
LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"blockysize": 1},
    {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"},
    {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band"},
)


def write_scene(path: Path, draw: random.Random) -> dict[str, Any]:
    """Write a scene of a random kind; returns options to translate it with."""
    height, width = draw.randint(1, SIDE), draw.randint(1, SIDE)
    dtype, masked, layout = draw.choice(DTYPES), draw.choice(MASKS), draw.choice(LAYOUTS)
    whole = np.dtype(dtype).kind in "iu"
    top = min(np.iinfo(dtype).max, 10_000) if whole else 1
    rng = np.random.default_rng(draw.randrange(2**32))
    values = rng.uniform(0.01, 0.5, (3, height, width)) * top
    hole = np.zeros((height, width), bool)
    hole[: height // 3, : width // 2] = True
    if masked == "all":
        hole[:] = True
    profile: dict[str, Any] = {"count": 3, "height": height, "width": width, "dtype": dtype}
    profile |= {"driver": "GTiff", "crs": "EPSG:32633", "transform": Affine(10, 0, 0, 0, -10, 0)}
    if masked in ("nodata", "all"):
        profile["nodata"] = 0
        values[:, hole] = 0
    if masked == "nan" and not whole:
        values[:, hole] = np.nan
    stored = values.astype(dtype)
    if masked == "alpha" and dtype in ("uint8", "uint16"):
        stored = np.concatenate([stored, np.where(hole, 0, np.iinfo(dtype).max)[None]])
        profile |= {"count": 4, "photometric": "rgb", "alpha": "yes"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile, **layout) as file,
    ):
        file.write(stored.astype(dtype))
        file.descriptions = ("red", "green", "blue", *[None] * (profile["count"] - 3))
        file.units, file.scales = ["reflectance"] * profile["count"], [1 / top] * profile["count"]
        if masked == "mask":
            file.write_mask(~hole)
    options: dict[str, Any] = {"tile": draw.choice((192, 384, 896))}
    if draw.random() < 0.3:
        options["dtype"] = "float32"
    if draw.random() < 0.3:
        options["indices"] = ["NDVI"]
    if draw.random() < 0.3:
        options["compress"] = draw.choice(("zstd", "none", "lzw"))
    return options


def hand_back() -> None:
    """Free what only points at itself, and give free memory back where the allocator is glibc's."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def prime(model: Model, count: int, seed: int) -> list[list[int]]:
    """Translate windows of random shapes; returns [windows so far, KiB] three times."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    bands, points = tuple(model.signature.source), []
    for number in range(1, count + 1):
        height, width = (draw.randint(8, most) for most in LARGEST)
        values = rng.uniform(0.01, 0.5, (len(bands), height, width)).astype(np.float32)
        mask = np.ones((height, width), bool)
        window = Window(values, mask, Grid(height, width), bands, "reflectance")
        translate_window(model, window)
        if number % max(count // 3, 1) == 0:
            hand_back()
            points.append([number, memory()])
    return points


def watch(folder: Path, model: str, threads: int, primed: int) -> dict[str, list[list[int]]]:
    """Translate the scenes of a folder.

    Returns:
        `primed`, see `prime`; `first` and `again`: [scenes so far, KiB, KiB with what is free].
    """
    if threads:
        torch.set_num_threads(threads)
    loaded = crossband.load(model)
    ready = prime(loaded, primed, 0) if primed else []
    first, again = (through(folder, loaded) for _ in range(2))
    return {"primed": ready, "first": first, "again": again}


def through(folder: Path, model: Model) -> list[list[int]]:
    """Translate each scene of a folder; returns [scenes so far, KiB, KiB with what is free]."""
    points: list[list[int]] = []
    for path in sorted(folder.glob("*.tif")):
        options = json.loads(path.with_suffix(".json").read_text())
        out = folder / "out" / "nir.tif"
        try:
            model.translate(path, out, overwrite=True, **options)
        except InputError as error:  # wholly masked: one line, and nothing is left
            if "every pixel is masked" not in str(error):
                raise
        before = memory()
        hand_back()
        points.append([len(points) + 1, memory(), before])
    left = [p.name for p in (folder / "out").iterdir() if p.name.startswith(".")]
    if left:
        raise SystemExit(f"left behind: {left}")
    return points


def check() -> dict[str, Any]:
    """Run the check as `make soak` does."""
    return run(SCENES, "rgb2nir", random.SystemRandom().randrange(10**6))


def run(
    scenes: int,
    model: str,
    seed: int,
    threads: int = THREADS,
    arenas: int = ARENAS,
    primed: int = PRIMED,
) -> dict[str, Any]:
    """Write scenes drawn from a seed and translate them in a process of their own."""
    begun, draw = time.time(), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(scenes):
            path = folder / f"{number:04}.tif"
            path.with_suffix(".json").write_text(json.dumps(write_scene(path, draw)))
        command = [sys.executable, __file__, "--folder", name, "--model", model]
        command += ["--threads", str(threads), "--primed", str(primed)]
        environment = dict(os.environ)
        if arenas:
            environment["MALLOC_ARENA_MAX"] = str(arenas)
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    found = json.loads(done.stdout)
    growth, rate, within = verdict(found["first"], found["again"])
    return {
        "scenes": scenes,
        "model": model,
        "seed": seed,
        "arenas": arenas,
        **found,
        "growth": growth,
        "slope": rate,
        "within": within,
        "minutes": (time.time() - begun) / 60,
    }


def verdict(first: list[list[int]], again: list[list[int]]) -> tuple[float, float, bool]:
    """Return growth the first time, KiB a scene the second time, and whether both are in bounds."""
    growth = first[-1][1] / first[len(first) // 10][1]
    counts, kib, _ = zip(*again, strict=True)
    rate = float(np.polyfit(counts, kib, 1)[0])
    return growth, rate, growth <= GROWTH and rate <= BOUND


def section(result: dict[str, Any]) -> str:
    """Return the section of the page."""
    first, again = result["first"], result["again"]
    tenth, half = len(first) // 10, len(first) // 2
    most = max(kib for _, _, kib in first + again) / 1024
    verdict = "yes" if result["within"] else "NO"
    primed = ""
    if result["primed"]:
        steps = ", ".join(f"{kib / 1024:.0f} MiB after {n:,}" for n, kib in result["primed"])
        primed = (
            "In bfloat16 oneDNN keeps something of each new shape of a layer until it has seen "
            f"most, so windows of random shapes come first: {steps}. "
        )
    few = f"The process has {result['arenas']} arena of glibc's allocator. "
    arenas = few if result["arenas"] else ""

    def row(name: str, points: list[list[int]], growth: str, rate: str) -> str:
        at = (points[tenth], points[half], points[-1])
        cells = " | ".join(f"{kib / 1024:.1f} MiB" for _, kib, _ in at)
        return f"| {name} | {cells} | {growth} | {rate} |"

    return "\n".join(
        [
            TITLE,
            "",
            f"Written by `python benchmarks/soak_scenes.py` ({result['minutes']:.1f} minutes, "
            f"random seed {result['seed']}): {result['scenes']} scenes of 1 to {SIDE} pixels a "
            f"side, {', '.join(DTYPES)}, with nodata, NaN, mask, alpha or none, in strips and "
            f"tiles, through {result['model']} in one process, and then all of them once more. USS "
            "is the memory that a process shares with no other, read after what is free was handed "
            f"back to the system (without that at most {most:.0f} MiB). {primed}{arenas}The first "
            "time some shapes are still new: the last scene may stand "
            f"{GROWTH - 1:.0%} above the first tenth's. The second time nothing is new, and what "
            f"grows is a leak: the least-squares line through all scenes, at most {BOUND:.0f} "
            f"KiB a scene. Within: {verdict}.",
            "",
            "| scenes | USS after 1/10 | at half | at the end | growth | KiB a scene |",
            "|---|---|---|---|---|---|",
            row(f"{result['scenes']}", first, f"{result['growth']:.3f}", ""),
            row("the same again", again, "", f"{result['slope']:.1f}"),
            "",
        ]
    )


def main() -> None:
    """Run the check, write the section, and fail where memory grows."""
    parser = arguments(__doc__)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--model", default="rgb2nir", help="a bundled name or a folder")
    parser.add_argument(
        "--primed", type=int, default=PRIMED, help="windows of random shapes before the scenes"
    )
    parser.add_argument("--threads", type=int, default=THREADS, help="of torch; 0: its own choice")
    parser.add_argument("--arenas", type=int, default=ARENAS, help="of glibc; 0: its own choice")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.folder:
        print(json.dumps(watch(a.folder, a.model, a.threads, a.primed)))
        return
    result = run(a.scenes, a.model, a.seed, a.threads, a.arenas, a.primed)
    write(a, section(result), result)
    if not result["within"]:
        raise SystemExit(f"memory grows: see {a.out}")


if __name__ == "__main__":
    main()
