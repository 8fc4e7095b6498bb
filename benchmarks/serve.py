"""Measure `crossband serve`: the first preview of a large scene, its memory, and many visitors.

    python benchmarks/serve.py --json serve.json

A scene of 10,980 x 10,980 pixels, the size of a Sentinel-2 tile, is written and served. Measured
are the seconds until the first tile of its source and of its near infrared is there, the peak of
the server's memory while the whole scene is translated, and the requests of visitors who pan at
once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode

import numpy as np
import rasterio
from affine import Affine

HALF = 20037508.342789244


def write_scene(path: Path, side: int) -> None:
    """Write red, green and blue as uint16, in deflated blocks of 512 pixels."""
    rng = np.random.default_rng(0)
    block = rng.integers(300, 3000, (3, 64, 64)).repeat(16, 1).repeat(16, 2)
    block = (block + rng.integers(-60, 60, block.shape)).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(path, "w", zlevel=1, **profile) as out:
        for row in range(0, side, 1024):
            for col in range(0, side, 1024):
                height, width = min(1024, side - row), min(1024, side - col)
                window = rasterio.windows.Window(col, row, width, height)
                out.write(block[:, :height, :width], window=window)
        out.descriptions = ("red", "green", "blue")
        out.scales, out.units = (1e-4,) * 3, ("reflectance",) * 3


class Visitor:
    """Asks the server as the page does, and counts."""

    def __init__(self, address: str, scene: str) -> None:
        self.address = address
        self.query = {"scene": scene, "model": "rgb2nir"}
        self.seconds: list[float] = []
        self.errors: list[str] = []

    def ask(self, path: str, body: object = None, **more: str) -> tuple[int, bytes]:
        """Return status and content of one request; POST with a body."""
        url = f"{self.address}/api/{path}?{urlencode({**self.query, **more})}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"x-crossband": "1", "content-type": "application/json"}
        start = time.perf_counter()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers), timeout=60
            ) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            self.errors.append(f"{path}: {error.code} {error.read()[:200]!r}")
            return error.code, b""
        except OSError as error:
            self.errors.append(f"{path}: {error}")
            return 0, b""
        finally:
            self.seconds.append(time.perf_counter() - start)

    def wait(self, path: str, until: float = 1e12) -> bytes:
        """Ask until the answer is there, as the page does."""
        while time.perf_counter() < until:
            status, content = self.ask(path)
            if status != 202:
                if not content:
                    raise SystemExit(f"the server refuses: {self.errors}")
                return content
            time.sleep(0.3)
        return b""


def tiles_of(view: dict[str, object]) -> tuple[int, int, int, int]:
    """Return the zoom of the scene's own pixels, the tile in its middle, and tiles to its edge."""
    left, bottom, right, top = view["bounds"]  # type: ignore[misc]
    z = int(view["native_zoom"])  # type: ignore[call-overload]
    x = int(((left + right) / 2 + HALF) / (2 * HALF) * 2**z)  # type: ignore[has-type]
    y = int((HALF - (bottom + top) / 2) / (2 * HALF) * 2**z)  # type: ignore[has-type]
    return z, x, y, int((right - left) / (2 * HALF) * 2**z / 2) - 1  # type: ignore[has-type]


def memory(process: int) -> dict[str, float]:
    """Return the present and the highest memory of a process in GiB."""
    text = Path(f"/proc/{process}/status").read_text()
    found = dict(re.findall(r"^(VmHWM|VmRSS):\s+(\d+)", text, re.MULTILINE))
    return {"now": int(found["VmRSS"]) / 2**20, "peak": int(found["VmHWM"]) / 2**20}


def processor_seconds(process: int) -> float:
    """Return the seconds of all processors that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pan(visitor: Visitor, view: dict[str, object], seed: int, seconds: float) -> None:
    """Look at a place, then move on, tile by tile."""
    z, x, y, reach = tiles_of(view)
    rng = random.Random(seed)
    col, row = x + rng.randint(-reach, reach) // 2, y + rng.randint(-reach, reach) // 2
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        col, row = col + rng.choice((-1, 0, 1)), row + rng.choice((-1, 0, 1))
        for layer in ("source", "synthetic", "index-NDVI"):
            visitor.wait(f"tile/{layer}/{z}/{col}/{row}", end)


def main() -> None:
    """Run everything, print it, and write it as JSON."""
    p = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__.splitlines()[0] if __doc__ else ""
    )
    p.add_argument("--side", type=int, default=10_980, help="rows and columns of the scene")
    p.add_argument("--visitors", type=int, default=10)
    p.add_argument("--seconds", type=float, default=60.0, help="that the visitors stay")
    p.add_argument("--job-seconds", type=float, default=60.0, help="of the whole scene's job")
    p.add_argument("--json", help="write the numbers here")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        write_scene(root / "large.tif", a.side)
        words = ["-m", "crossband", "serve", "--port", "0", "--root", str(root)]
        words += ["--folder", f"{folder}/served", "--model", "rgb2nir"]
        server = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = re.search(r"http://[^ /]+", server.stdout.readline())
            assert address is not None
            found = measure(a, server.pid, address[0])
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    found |= {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "side": a.side}
    print(json.dumps(found, indent=1))
    if a.json:
        Path(a.json).write_text(json.dumps(found, indent=1) + "\n")


def measure(a: argparse.Namespace, process: int, address: str) -> dict[str, object]:
    """Return all numbers."""
    first = Visitor(address, "root:large.tif")
    first.ask("offer")
    start, used = time.perf_counter(), processor_seconds(process)
    view = json.loads(first.wait("scene"))["view"]
    z, x, y, _ = tiles_of(view)
    first.wait(f"tile/source/{z}/{x}/{y}")
    source = time.perf_counter() - start
    first.wait(f"tile/synthetic/{z}/{x}/{y}")
    preview = time.perf_counter() - start
    used = processor_seconds(process) - used
    whole = time.perf_counter()
    first.wait(f"tile/source/{z - 6}/{x >> 6}/{y >> 6}")
    whole = time.perf_counter() - whole
    _, content = first.ask("jobs", first.query)
    job = json.loads(content)["id"]
    time.sleep(a.job_seconds)
    about = json.loads(first.ask(f"jobs/{job}")[1])
    with_job = memory(process)
    first.ask(f"jobs/{job}/cancel", {})
    while json.loads(first.ask(f"jobs/{job}")[1])["state"] == "running":
        time.sleep(0.5)
    visitors = [Visitor(address, "root:large.tif") for _ in range(a.visitors)]
    threads = [
        threading.Thread(target=pan, args=(visitor, view, seed, a.seconds))
        for seed, visitor in enumerate(visitors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = sorted(s for visitor in visitors for s in visitor.seconds)
    return {
        "first source tile, s": round(source, 2),
        "first preview, s": round(preview, 2),
        "first preview, processor s": round(used, 2),
        "whole scene from afar, s": round(whole, 2),
        "job: share after its seconds": round(about["done"] / (about["total"] or 1), 3),
        "memory with the job, GiB": {k: round(v, 2) for k, v in with_job.items()},
        "visitors": a.visitors,
        "requests": len(seconds),
        "errors": [error for v in (first, *visitors) for error in v.errors],
        "request, s": {
            "median": round(seconds[len(seconds) // 2], 3),
            "longest": round(seconds[-1], 2),
        },
        "memory at the end, GiB": {k: round(v, 2) for k, v in memory(process).items()},
    }


if __name__ == "__main__":
    main()
