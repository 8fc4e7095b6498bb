"""Does a loading process leak? Its memory over 20,000 reads; a section of docs/soak.md.

    python benchmarks/soak_loader.py [--reads 20000] [--workers 2] [--out docs/soak.md]

Workers of the real loader read crops of GeoTIFFs, of more files than stay open, so that files are
opened and closed all the time. USS (memory that a process shares with no other) is read after each
batch; the least-squares slope of the second half must be small.

Only this section of the page is written; the others stay as they are.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from soak_page import arguments, write
from torch.utils.data import DataLoader, Dataset

from crossband.core.signals import ignore_signals
from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader
from crossband.data.sampler import PositionSampler
from crossband.data.samples import PairDataset

TITLE = "## Memory of loading processes"
#: Crops of 16 x 16 pixels, as they are read: four bands of float32 and two masks, 4.5 KiB.
CROP, CROP_KIB = 16, 4.5
#: KiB per 1,000 reads that a worker may grow by: a seventieth of a crop leaked at each read.
BOUND = 64.0
READS, WORKERS, BATCH = 20_000, 2, 50
#: Files, and how many of them a process keeps open here: few, so that it soon has all it will have.
FILES, KEPT = 128, 16
BANDS = ("blue", "green", "red", "nir")
RANGES = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
SIGNATURE = Signature(["red", "green", "blue"], ["nir"], {"reflectance": RANGES})


def write_scenes(folder: Path, scenes: int, names: int, side: int = 256) -> Path:
    """Write GeoTIFFs of noise, each with many names, and the manifest of all names."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(scenes):
        path = folder / f"{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=4, height=side, width=side, dtype="uint16",
            crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6), tiled=True,
            blockxsize=64, blockysize=64, compress="deflate",
        ) as file:  # fmt: skip
            file.write(rng.integers(1, 9000, (4, side, side)).astype(np.uint16))
            file.descriptions, file.units = BANDS, ["reflectance"] * 4
            file.scales = [1e-4] * 4
        for other in range(names):
            name = f"{number}_{other}.tif"
            (folder / name).hardlink_to(path)
            rows.append({"source": name, "target": name})
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


class Told(Dataset[Any]):
    """Samples with the memory of the process that loaded them."""

    def __init__(self, data: PairDataset) -> None:
        self.data = data

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return pid and USS in KiB beside the mean of the crop, so that it is read."""
        import torch

        sample = self.data[position]
        # At the end of a batch only: asking takes longer than reading.
        kib = memory() if position % BATCH == BATCH - 1 else 0
        return {"worker": worker(), "kib": kib, "mean": float(torch.mean(sample["source"]))}


def worker() -> int:
    """Return the number of this loading process."""
    import torch.utils.data

    info = torch.utils.data.get_worker_info()
    return -1 if info is None else int(info.id)


def memory() -> int:
    """Return the memory in KiB that this process shares with no other."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.M))


def watch(manifest: Path, reads: int, workers: int, crop: int = CROP) -> dict[int, list[list[int]]]:
    """Read crops; returns for each worker [reads so far, KiB] at the end of every batch."""
    table = manifests.read(manifest)
    reader = PairReader(table, SIGNATURE)
    reader.scenes.limit = KEPT
    reader.check(len(table))
    loader = DataLoader(
        Told(PairDataset(reader, table, crop=crop)),
        batch_sampler=PositionSampler(BATCH, reads // BATCH, lambda: 0),
        num_workers=workers,
        worker_init_fn=ignore_signals,
    )
    seen: dict[int, list[list[int]]] = {}
    for batch in loader:
        one = seen.setdefault(int(batch["worker"][-1]), [])
        one.append([(one[-1][0] if one else 0) + BATCH, int(batch["kib"][-1])])
    return seen


def slope(points: list[list[int]]) -> float:
    """Return KiB per 1,000 reads, over the second half: caches fill in the first."""
    later = np.array(points[len(points) // 2 :], float)
    return float(np.polyfit(later[:, 0] / 1000, later[:, 1], 1)[0])


def section(result: dict[str, Any]) -> str:
    """Return the section of the page."""
    lines = [
        TITLE,
        "",
        f"Written by `python benchmarks/soak_loader.py` ({result['minutes']:.1f} minutes): "
        f"{result['workers']} workers read {result['reads']:,} crops of 16 x 16 pixels from "
        f"{result['files']} GeoTIFFs, of which each keeps {KEPT} open. USS is the memory "
        "that a process shares with no other; the slope is the least-squares line through the "
        f"second half. At most {BOUND:.0f} KiB per 1,000 reads; a crop leaked at each read "
        f"would be {CROP_KIB * 1000:,.0f}.",
        "",
        "| worker | reads | USS after 1/10 | at half | at the end | KiB per 1,000 reads | within |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [f"{kib / 1024:.1f} MiB" for kib in row["kib"]]
        verdict = "yes" if row["within"] else "NO"
        lines.append(
            f"| {row['worker']} | {row['reads']:,} | {' | '.join(cells)} | {row['slope']:.1f} | "
            f"{verdict} |"
        )
    return "\n".join([*lines, ""])


def check(reads: int, workers: int) -> dict[str, Any]:
    """Run the check."""
    begun = time.time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_scenes(folder, 8, FILES // 8)
        seen = watch(manifest, reads, workers)
    rows = []
    for number, points in sorted(seen.items()):
        at = [points[len(points) // 10], points[len(points) // 2], points[-1]]
        rate = slope(points)
        rows.append(
            {
                "worker": number,
                "reads": points[-1][0],
                "kib": [kib for _, kib in at],
                "slope": rate,
                "within": rate <= BOUND,
            }
        )
    minutes = (time.time() - begun) / 60
    return {
        "reads": reads,
        "workers": workers,
        "files": FILES,
        "minutes": minutes,
        "rows": rows,
    }


def main() -> None:
    """Run the check, write the section, and fail where memory grows."""
    parser = arguments(__doc__)
    parser.add_argument("--reads", type=int, default=READS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    a = parser.parse_args()
    result = check(a.reads, a.workers)
    write(a, section(result), result)
    if not all(row["within"] for row in result["rows"]):
        raise SystemExit(f"memory grows: see {a.out}")


if __name__ == "__main__":
    main()
