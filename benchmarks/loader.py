"""Samples per second of the loader, for each format, beside what a training step consumes.

    python benchmarks/loader.py [--rounds 5] [--seconds 1.0] [--workers 0,1,2] [--threads N]
                                [--formats tiff,png,jpeg,packed,kept] [--json FILE]

Three loads, with the data settings of their recipes: `rgb2nir/local-statistics` (crops of 128, of
which 20 pixels count, batch 118), `rgb2nir/local-unet` (crops of 64, batch 32), both with 1 to 2
times coarser pixels, and pix2pix's U-Net of `benchmarks/train.py` (crops of 256, batch 4). All
pictures are of 512 x 512 pixels. Nothing decoded is kept in memory (`cache_mb` 0), which is what a
data set larger than memory gives; but in the row `kept` all of it is, as in the usual training on
tens of scenes. Formats and steps take turns; each number is the median of the rounds, with the
least and the most. A step is timed from when it has its batch to when it is done.

GeoTIFF: four bands of 16 bits in tiles of 256, deflate with the horizontal predictor. PNG and JPEG
(quality 90): a colour picture and a grey one of 8 bits. Packed: the GeoTIFFs by `crossband data
pack`. The pictures are made of noise with the spectrum of natural scenes (amplitude 1 / frequency)
and a little sensor noise. Each scene has many names, so that neither GDAL's block cache nor the
files that the reader keeps open hold what is read next; the operating system's cache holds it.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch
import yaml
from affine import Affine
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from train import WARM_UP, Turns, now, settle, train

from crossband.core.signals import ignore_signals
from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest as manifests
from crossband.data.pack import pack
from crossband.data.reader import PairReader
from crossband.data.sampler import PositionSampler
from crossband.data.samples import PairDataset
from crossband.data.transforms import Flip
from crossband.training import recipe
from crossband.training.fit import fit

SIDE = 512
BANDS = ("blue", "green", "red", "nir")
#: Rows of a manifest: far more than the reader keeps open (`data.open_scenes`).
ROWS = 2000
ACCELERATOR = 500.0
RANGES = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
SIGNATURE = Signature(["red", "green", "blue"], ["nir"], {"reflectance": RANGES, "display": RANGES})
LOADS: dict[str, dict[str, Any]] = {
    "rgb2nir/local-statistics": {
        "crop": 128,
        "resolution": (1.0, 2.0),
        "pixels": 20,
        "batch": 118,
    },
    "rgb2nir/local-unet": {"crop": 64, "resolution": (1.0, 2.0), "batch": 32},
    "pix2pix U-Net 256": {"crop": 256, "batch": 4},
}


def texture(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Return four bands [4, side, side] in 0..1: noise of amplitude 1/f, alike but not the same."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = np.inf
    layers = []
    for _ in range(5):
        noise = rng.normal(size=f.shape) + 1j * rng.normal(size=f.shape)
        x = np.fft.irfft2(noise / f, (side, side))
        layers.append((x - x.min()) / (x.max() - x.min()))
    return np.stack([0.8 * layers[0] + 0.2 * own for own in layers[1:]])


def pictures(folder: Path, count: int, side: int) -> dict[str, Path]:
    """Write the same scenes in each format; returns the manifests by the format's name."""
    rng = np.random.default_rng(0)
    out = {}
    rows: dict[str, list[dict[str, str]]] = {"tiff": [], "png": [], "jpeg": []}
    for number in range(count):
        values = texture(rng, side)
        profile: dict[str, Any] = {
            "driver": "GTiff", "count": 4, "height": side, "width": side, "dtype": "uint16",
            "crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "nodata": 0,
            "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate",
            "predictor": 2,
        }  # fmt: skip
        name = f"{number}.tif"
        with rasterio.open(folder / name, "w", **profile) as file:
            # Reflectance up to 0.5, and sensor noise of 0.001 (Sentinel-2: S/N above 100).
            noise = rng.normal(0.0, 10.0, values.shape)
            file.write(np.clip(values * 5000 + noise, 1, 10000).astype(np.uint16))
            file.descriptions, file.units = BANDS, ["reflectance"] * 4
            file.scales = [1e-4] * 4
        rows["tiff"].append({"source": name, "target": name})
        grey = np.clip(values * 255 + rng.normal(0.0, 1.0, values.shape), 0, 255).astype(np.uint8)
        for kind, ending, options in (("png", "png", {}), ("jpeg", "jpg", {"quality": 90})):
            names = [f"{number}_{part}.{ending}" for part in ("rgb", "nir")]
            for name, part in zip(names, (grey[[2, 1, 0]], grey[3:]), strict=True):
                with rasterio.open(
                    folder / name, "w", driver=kind.upper(), count=len(part), height=side,
                    width=side, dtype="uint8", **options,
                ) as file:  # fmt: skip
                    file.write(part)
            rows[kind].append({"source": names[0], "target": names[1]})
    for kind, found in rows.items():
        table = pd.DataFrame(found)
        table = pd.concat([_renamed(table, folder, n) for n in range(ROWS // count)])
        if kind != "tiff":
            table = table.assign(sensor="display", target_bands="nir=1")
        table.to_csv(folder / f"{kind}.csv", index=False)
        out[kind] = folder / f"{kind}.csv"
    pd.DataFrame(rows["tiff"]).to_csv(folder / "few.csv", index=False)
    pack(folder / "few.csv", folder / "packed")
    return out | {"packed": folder / "packed", "kept": folder / "few.csv"}


def _renamed(table: pd.DataFrame, folder: Path, number: int) -> pd.DataFrame:
    """Return the rows with other names of the same files."""
    (folder / f"names{number}").mkdir(exist_ok=True)
    for name in {*table["source"], *table["target"]}:
        (folder / f"names{number}" / name).hardlink_to(folder / name)
    return table.assign(**{s: f"names{number}/" + table[s] for s in ("source", "target")})


def reader(manifest: Path, *, kept: bool = False) -> PairReader:
    """Return a reader that knows the facts of every row, and the pixels where they are kept."""
    table = manifests.read(manifest)
    out = PairReader(table, SIGNATURE, cache_mb=2048 if kept else 0)
    out.check(len(table))
    for row in range(len(table) if kept else 0):
        out.read(row, out.info(row).grid.box)
    return out


def loader(reader: PairReader, load: dict[str, Any], workers: int) -> DataLoader[Any]:
    """Return the loader as `Pairs` builds it."""
    options = {k: v for k, v in load.items() if k != "batch"}
    data = PairDataset(reader, pd.DataFrame(reader.rows), transforms=[Flip()], **options)
    return DataLoader(
        data,
        batch_sampler=PositionSampler(load["batch"], 10**6, lambda: 0),
        num_workers=workers,
        worker_init_fn=ignore_signals,
    )


def rate(batches: DataLoader[Any], batch: int, seconds: float) -> float:
    """Return samples per second, when what was loaded ahead is used up."""
    ahead = 2 * batches.num_workers + 1
    iterator: Iterator[Any] = iter(batches)
    for _ in range(ahead):
        next(iterator)
    begun, count = time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < seconds or count < ahead:
        next(iterator)
        count += 1
    return count * batch / took


class Busy(Turns):
    """Times the steps alone, without the wait for their batches."""

    def __init__(self, device: torch.device, steps: int, line: Connection) -> None:
        super().__init__(device, steps, line)
        self._begun = self._spent = 0.0

    def on_train_batch_start(self, *arguments: Any) -> None:
        """Begin to count."""
        super().on_train_batch_start(*arguments)
        self._begun = now(self.device)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Stop counting; a round is the sum of its steps."""
        end = now(self.device)
        self._spent += end - self._begun
        self._start = end - self._spent
        super().on_train_batch_end(*arguments)
        if (self.done - WARM_UP) % self.steps == 0:
            self._spent = 0.0


def steps(name: str, a: argparse.Namespace, folder: Path, line: Connection) -> None:
    """Train, and time a round at each word of the line; the body of a process."""
    settle(a)
    count = WARM_UP + a.rounds * a.steps
    watch = Busy(torch.device("cpu"), a.steps, line)
    if name not in recipe.available():
        train(a, count, watch)
        return
    overrides = ["--data.manifest", str(folder / "few.csv"), "--method.max_steps", str(count)]
    config = recipe.load(name, [*overrides, "--data.val_fraction", "0", "--device", "cpu"])
    config = {k: v for k, v in config.items() if k != "blend"} | {"baselines": []}
    own = folder / name.replace("/", "-")
    own.with_suffix(".yaml").write_text(yaml.safe_dump(config))
    fit(own.with_suffix(".yaml"), output=own, callbacks=[watch])


def measure(a: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time all formats and steps in turns."""
    found = pictures(folder, a.scenes, a.side)
    chosen = {name: reader(found[name], kept=name == "kept") for name in a.formats}
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    for name in LOADS:
        lines[name], other = context.Pipe()
        processes.append(context.Process(target=steps, args=(name, a, folder, other), daemon=True))
        processes[-1].start()
        other.close()
        lines[name].recv()  # its warm-up is over
    keys = [(load, kind, n) for load in LOADS for kind in chosen for n in a.workers]
    loaders = {(load, k, n): loader(chosen[k], LOADS[load], n) for load, k, n in keys}
    rates: dict[tuple[str, str, int], list[float]] = {key: [] for key in keys}
    needs: dict[str, list[float]] = {name: [] for name in LOADS}
    for _ in range(a.rounds):
        for name, line in lines.items():
            line.send("go")
            seconds, _memory = line.recv()
            batch = a.batch if name not in recipe.available() else LOADS[name]["batch"]
            needs[name].append(batch * a.steps / seconds)
        for key, batches in loaders.items():
            rates[key].append(rate(batches, LOADS[key[0]]["batch"], a.seconds))
    for process in processes:
        process.kill()  # it would save a model that nobody wants
    sizes = {}
    for kind, end in {"tiff": "*.tif", "png": "*.png", "jpeg": "*.jpg"}.items():
        sizes[kind] = sum(p.stat().st_size for p in folder.glob(end)) / a.scenes / 2**10
    sizes["kept"] = sizes["tiff"]
    sizes["packed"] = (
        sum(p.stat().st_size for p in folder.glob("packed/shards/*")) / a.scenes / 2**10
    )
    loads = []
    for load in LOADS:
        need = statistics.median(needs[load])
        rows = []
        for kind in chosen:
            one = {n: rates[load, kind, n] for n in a.workers}
            # Of each round its own ratio: the machine's pace changes from round to round.
            ratios = [r / n for r, n in zip(one[a.workers[0]], needs[load], strict=True)]
            rows.append({"format": kind, "rates": one, "ratio": statistics.median(ratios)})
        loads.append({"load": load, "need": need, "needs": needs[load], "formats": rows})
    return {"loads": loads, "kib_per_pair": sizes}


def table(result: dict[str, Any], workers: list[int]) -> str:
    """Return the numbers as text."""
    lines = []
    for load in result["loads"]:
        low, high = min(load["needs"]), max(load["needs"])
        lines += [
            f"{load['load']}: the step takes {load['need']:.1f} samples/s "
            f"({low:.1f} to {high:.1f})",
            "| format | KiB a pair | "
            + " | ".join(f"{n} workers" for n in workers)
            + f" | {workers[0]} workers / step | workers for {ACCELERATOR:.0f}/s |",
            "|---" * (len(workers) + 4) + "|",
        ]
        for row in load["formats"]:
            cells = [
                f"{statistics.median(r):.0f} ({min(r):.0f} to {max(r):.0f})"
                for r in row["rates"].values()
            ]
            # Of one process on one core; a loading process of its own is about as fast.
            alone = statistics.median(row["rates"][workers[0]]) / max(workers[0], 1)
            lines.append(
                f"| {row['format']} | {result['kib_per_pair'][row['format']]:.0f} | "
                + " | ".join(cells)
                + f" | {row['ratio']:.1f} | {math.ceil(ACCELERATOR / alone)} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn of a loader")
    parser.add_argument("--workers", default="0,1,2", help="numbers of loading processes")
    parser.add_argument("--formats", default="tiff,png,jpeg,packed,kept")
    parser.add_argument("--threads", type=int, help="PyTorch's, of the steps")
    parser.add_argument("--steps", type=int, default=1, help="of each turn of a step")
    parser.add_argument("--scenes", type=int, default=20, help="of their own")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of a scene")
    parser.add_argument("--width", type=int, default=64, help="pix2pix's, as --levels and --size")
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = parser.parse_args()
    a.workers, a.formats = [int(n) for n in a.workers.split(",")], a.formats.split(",")
    a.batch, a.device, a.precision = LOADS["pix2pix U-Net 256"]["batch"], "cpu", "auto"
    with tempfile.TemporaryDirectory() as name:
        result = measure(a, Path(name))
    print(f"{os.cpu_count()} cores, {a.rounds} rounds of {a.seconds} s, {a.side} x {a.side} pixels")
    print(table(result, a.workers))
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
