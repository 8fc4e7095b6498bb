"""Does memory grow with the scene? Peaks of small and large scenes; a section of docs/soak.md.

    python benchmarks/soak_memory.py [--only identity x4 guided bundled] [--share 1.0]
                                     [--folder DIR] [--out docs/soak.md]

Through a network that changes nothing (`identity`), the peak at 20,000 x 20,000 pixels must lie
within 25% of that at 5,000 x 5,000; through one that repeats each pixel 4 x 4 times (`x4`), the
peak at 5,000 within 25% of that at 1,500; through one that changes nothing with a guide whose
pixels are 8 times larger (`guided`), the peak at 12,000 within 25% of that at 5,000; through the
bundled model, the peak at 5,000 must be less
than 1.5 GiB. Each scene is a process of its own, through files and with the options of the command.
The largest needs 12 GB of disk.

What grows is looked for in the memory that is the process's own (RssAnon): pages of files that it
has mapped, such as torch's libraries, are the system's to keep or to drop, and would only blur the
ratio. The bound is for all of it, files included (VmHWM).

Only this section of the page is written; the others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak_page import arguments, write
from translate import load, write_scene

from crossband.translate.statistics import Statistics

TITLE = "## Memory and the size of a scene"
COLUMNS = (
    "network", "scene", "pixels of the result", "own", "of the smaller", "with files", "seconds",
    "reads per block", "within",
)  # fmt: skip
#: The larger peak over the smaller one, at most.
GROWTH = 1.25
#: MiB that the bundled model may take, pages of files included.
MOST = 1536
#: Seconds between two looks at a process.
LOOK = 0.01


@dataclass(frozen=True)
class Case:
    """Sides of scenes that go through a network, in pixels; the first peak is the measure."""

    network: str
    sides: tuple[int, ...]


CASES = (
    Case("identity", (5000, 20_000)),
    Case("x4", (1500, 5000)),
    Case("guided", (5000, 12_000)),
    Case("bundled", (5000,)),
)
#: Size of a pixel of the guide in pixels of the scene.
RATIO = 8


def status(process: int, name: str) -> float:
    """Return a line of Linux' /proc/PID/status in MiB; 0 where the process has ended."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
    return int(found[1]) / 1024 if found else 0.0


def one(network: str, scene: Path, model: str) -> dict[str, Any]:
    """Translate a scene in this process."""
    found, begun = Statistics(), time.time()
    guide = scene.with_name("guide.tif") if network == "guided" else None
    load(network, model).translate(scene, scene.with_name("out.tif"), statistics=found, guide=guide)
    return {
        "seconds": time.time() - begun,
        "reads": found.reads_per_block,
        "pixels": found.pixels,
    }


def watched(command: list[str]) -> dict[str, Any]:
    """Run a command that prints JSON; returns it with the peaks of its memory in MiB."""
    own = files = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            own = max(own, status(process.pid, "RssAnon"))
            files = max(files, status(process.pid, "VmHWM"))
            time.sleep(LOOK)
        text, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a run failed: {process.returncode}")
    return {"own": own, "files": files, **json.loads(text)}


def measure(case: Case, share: float, model: str, folder: Path | None) -> list[dict[str, Any]]:
    """Return what the scenes of a case took, each in a process of its own."""
    rows: list[dict[str, Any]] = []
    for side in (max(int(s * share), 64) for s in case.sides):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            scene = Path(name) / "scene.tif"
            write_scene(scene, side, "tiles", "none", pixel=1.0)
            if case.network == "guided":
                guide = scene.with_name("guide.tif")
                write_scene(guide, side // RATIO, "tiles", "none", pixel=RATIO)
            command = [sys.executable, __file__, "--scene", str(scene), "--model", model]
            row = watched([*command, "--only", case.network])
        row |= {"network": case.network, "side": side}
        if case.network == "bundled":
            row["within"] = row["files"] <= MOST
        elif rows:
            row["growth"] = row["own"] / rows[0]["own"]
            row["within"] = row["growth"] <= GROWTH
        rows.append(row)
        print(row, flush=True)
    return rows


def run(names: list[str], share: float, model: str, folder: Path | None) -> dict[str, Any]:
    """Measure the cases of these names."""
    begun = time.time()
    chosen = [case for case in CASES if case.network in names]
    rows = [row for case in chosen for row in measure(case, share, model, folder)]
    return {
        "rows": rows,
        "minutes": (time.time() - begun) / 60,
        "within": all(row.get("within", True) for row in rows),
    }


def check() -> dict[str, Any]:
    """Run the check as `make soak` does."""
    return run([case.network for case in CASES], 1.0, "rgb2nir", None)


def section(result: dict[str, Any]) -> str:
    """Return the section of the page."""
    lines = [
        TITLE,
        "",
        f"Written by `python benchmarks/soak_memory.py` ({result['minutes']:.1f} minutes). "
        "`identity` changes nothing, `x4` repeats each pixel 4 x 4 times, `guided` changes nothing "
        f"and has a guide with pixels {RATIO} times larger, `bundled` is rgb2nir. "
        "Scenes are uint16, three bands, tiles of 512; each goes through a process of its own with "
        "the command's options. Own is the peak of the memory that no file stands behind "
        f"(RssAnon, looked at every {LOOK * 1000:.0f} ms), of the larger scene at most {GROWTH} "
        "times that of the smaller one; with files is the peak of all that is resident (VmHWM), "
        f"libraries included, of the bundled model at most {MOST:,} MiB.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for row in result["rows"]:
        verdict = {True: "yes", False: "NO", None: ""}[row.get("within")]
        growth = f"{row['growth']:.2f}" if "growth" in row else ""
        lines.append(
            f"| {row['network']} | {row['side']:,} x {row['side']:,} | {row['pixels'] / 1e6:,.0f} "
            f"million | {row['own']:.0f} MiB | {growth} | {row['files']:.0f} MiB | "
            f"{row['seconds']:.0f} | {row['reads']:.2f} | {verdict} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the check, write the section, and fail where memory grows."""
    names = [case.network for case in CASES]
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--share", type=float, default=1.0, help="of the sides, for a quick look")
    parser.add_argument("--model", default="rgb2nir", help="the bundled model or another folder")
    parser.add_argument("--folder", type=Path, help="where scenes are written (default: /tmp)")
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.scene:
        print(json.dumps(one(a.only[0], a.scene, a.model)))
        return
    result = run(a.only, a.share, a.model, a.folder)
    write(a, section(result), result)
    if not result["within"]:
        raise SystemExit(f"memory grows: see {a.out}")


if __name__ == "__main__":
    main()
