"""Translation killed and resumed: the same pixels in the end; a section of docs/soak.md.

    python benchmarks/soak_kills.py [--kills 10] [--size 2000] [--seed N] [--out docs/soak.md]

`crossband translate` is killed (SIGKILL) at random moments and goes on with `--resume` after each.
Most kills come while windows are computed; the first may come before there is any, and the last two
while the file is made. Its file and its index must hold the same pixels, masks and tags as those of
a run that nobody touched, and nothing else may be left. Each window that the network has answered
is counted, so that it shows how many had to be computed again.

Only this section of the page is written; the others stay as they are.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from soak_page import arguments, write
from translate import write_scene

from crossband.core.hidden_folder import folder_of
from crossband.raster.journal import FLUSH_SECONDS

TITLE = "## Translation killed and resumed"
KILLS, SIZE, TILE = 10, 2000, 256
#: Share of the kills that come while the file is made.
LATE = 0.2
#: The real command, which leaves a byte behind for each window that it has computed. One that is to
#: be killed halts before its files get their names, so that it never ends before it is killed.
COMMAND = """
import os, signal, sys
from crossband.translate import engine
from crossband.raster.journal import Store
from crossband.cli.main import main
count = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
if sys.argv.pop(1) == "halt":
    Store.note_placing = lambda *_: os.kill(os.getpid(), signal.SIGSTOP)
compute = engine.Engine.compute
def counted(self, prepared):
    answer = compute(self, prepared)
    os.write(count, b"." * len(prepared.batch.tiles))
    return answer
engine.Engine.compute = counted
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Command:
    """The real command, with an index, in a process of one thread."""

    scene: Path
    out: Path
    model: str
    tile: int

    def start(self, *more: str, halt: bool = False) -> subprocess.Popen[str]:
        """Start it; with `halt`, it waits to be killed at the latest before it would end."""
        end = "halt" if halt else "end"
        command = [sys.executable, "-c", COMMAND, self.count, end, "translate", self.scene]
        command += ["-o", self.out, "--model", self.model, "--tile", self.tile]
        return subprocess.Popen(
            [*map(str, command), "--index", "NDVI", "--quiet", *more],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def count(self) -> Path:
        """Return the file that counts computed windows."""
        return self.out.parent.with_suffix(".count")

    def computed(self) -> int:
        """Return how many windows were computed so far, in all runs."""
        return self.count.stat().st_size if self.count.exists() else 0

    def windows(self) -> int:
        """Return how many windows its journal says are on disk."""
        try:
            return (folder_of(self.out) / "journal").read_bytes().count(b"\n")
        except OSError:
            return 0

    def making(self) -> float:
        """Return since when the file is being made; 0 where it is not."""
        try:
            return (folder_of(self.out) / "values.vrt").stat().st_mtime
        except OSError:
            return 0.0


@dataclass(frozen=True)
class Times:
    """Seconds of a run that nobody touches: to its first window on disk, to the last, the file.

    The file's end where it has its name: the process still takes some time to end.
    """

    starting: float
    windows: float
    making: float


def wait(process: subprocess.Popen[str], until: Callable[[], bool], seconds: float = 600) -> None:
    """Wait until something is so, or the process has ended."""
    end = time.time() + seconds
    while process.poll() is None and not until() and time.time() < end:
        time.sleep(0.005)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a command that must succeed."""
    _, err = process.communicate(timeout=3600)
    if process.returncode != 0:
        raise SystemExit(f"a run failed: {err}")


def timed(command: Command) -> Times:
    """Run it as a whole."""
    begun = time.time()
    process = command.start()
    wait(process, lambda: command.windows() > 0)
    first, making = time.time(), 0.0
    while process.poll() is None and not command.out.exists():
        making = command.making() or making
        time.sleep(0.005)
    end = time.time()
    finish(process)
    making = making or end
    return Times(first - begun, making - first, end - making)


def kill_at_random(command: Command, kills: int, seed: int, whole: Times) -> list[str]:
    """Kill it at random moments, resume it after each, and let it end at last.

    Args:
        command: what is run.
        kills: how often.
        seed: of the moments.
        whole: what it takes where nobody kills.

    Returns:
        Of each kill the windows that were on disk, or "file" where the file was being made.
    """
    draw = random.Random(seed)
    left: list[str] = []
    late = max(int(kills * LATE), 1)
    for number in range(kills):
        process = command.start(*(["--resume"] if number else []), halt=True)
        begun, before = time.time(), command.windows()
        if number == 0:
            wait(process, lambda: False, draw.uniform(0.0, 1.5 * whole.starting))
        elif number < kills - late:
            # From the first new windows on, so that each start gets somewhere.
            wait(process, lambda before=before: command.windows() > before)  # type: ignore[misc]
            wait(process, lambda: False, draw.uniform(0.0, 1.4 * whole.windows / kills))
        else:
            wait(process, lambda begun=begun: command.making() > begun)  # type: ignore[misc]
            wait(process, lambda: False, draw.uniform(0.0, 0.8 * whole.making))
        making = command.making() > begun
        process.kill()
        _, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"a run failed: {err}")
        left.append("file" if making else str(command.windows()))
    finish(command.start("--resume"))
    return left


def same_files(one: Path, other: Path) -> bool:
    """Say whether two rasters have the same pixels, masks and tags."""
    with rasterio.open(one) as a, rasterio.open(other) as b:
        # As text, in which NaN (the index' nodata number) equals itself.
        if any(str(x) != str(y) for x, y in ((a.profile, b.profile), (a.tags(), b.tags()))):
            return False
        windows = [w for _, w in a.block_windows(1)]
        return all(
            np.array_equal(a.read(window=w), b.read(window=w), equal_nan=True)
            and np.array_equal(a.dataset_mask(window=w), b.dataset_mask(window=w))
            for w in windows
        )


def run(kills: int, size: int, tile: int, model: str, seed: int) -> dict[str, Any]:
    """Do all of it."""
    begun = time.time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        scene = folder / "in" / "scene.tif"
        write_scene(scene, size, "tiles", "deflate")
        straight = Command(scene, folder / "straight" / "nir.tif", model, tile)
        killed = Command(scene, folder / "killed" / "nir.tif", model, tile)
        for command in (straight, killed):
            command.out.parent.mkdir()
        times = timed(straight)
        left = kill_at_random(killed, kills, seed, times)
        made = sorted(path.name for path in straight.out.parent.iterdir())
        clean = sorted(path.name for path in killed.out.parent.iterdir()) == made
        same = clean and all(
            same_files(straight.out.with_name(name), killed.out.with_name(name)) for name in made
        )
        windows, again = straight.computed(), killed.computed() - straight.computed()
    return {
        "size": size,
        "model": model,
        "tile": tile,
        "windows": windows,
        "again": again,
        "left": left,
        "same": same and len(made) == 2,
        "seed": seed,
        "seconds": times.starting + times.windows + times.making,
        "minutes": (time.time() - begun) / 60,
    }


def check() -> dict[str, Any]:
    """Run the check as `make soak` does."""
    return run(KILLS, SIZE, TILE, "rgb2nir", random.SystemRandom().randrange(10**6))


def section(result: dict[str, Any]) -> str:
    """Return the section of the page."""
    verdict = "yes" if result["same"] else "NO"
    return "\n".join(
        [
            TITLE,
            "",
            f"Written by `python benchmarks/soak_kills.py` ({result['minutes']:.1f} minutes, "
            f"random seed {result['seed']}): a scene of {result['size']:,} x {result['size']:,} "
            f"pixels through {result['model']}, windows of {result['tile']}, with NDVI; killed by "
            "SIGKILL at random moments and resumed by `--resume` each time, compared with an "
            f"uninterrupted run ({result['seconds']:.0f} s). The same: pixels, masks and tags of "
            "both files, and nothing else is left. Computed again: windows that were computed "
            f"before a kill and not yet written to the disk; they are written every "
            f"{FLUSH_SECONDS:.0f} s.",
            "",
            "| windows | on disk at each kill (file: while it was made) | computed again | same |",
            "|---|---|---|---|",
            f"| {result['windows']} | {', '.join(result['left'])} | {result['again']} | "
            f"{verdict} |",
            "",
        ]
    )


def main() -> None:
    """Run the check, write the section, and fail where pixels differ."""
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--size", type=int, default=SIZE, help="side of the scene in pixels")
    parser.add_argument("--tile", type=int, default=TILE)
    parser.add_argument("--model", default="rgb2nir", help="a bundled name or a folder")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    a = parser.parse_args()
    result = run(a.kills, a.size, a.tile, a.model, a.seed)
    write(a, section(result), result)
    if not result["same"]:
        raise SystemExit(f"the runs differ: see {a.out}")


if __name__ == "__main__":
    main()
