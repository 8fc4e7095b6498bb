"""Fuzz the command with files and words of our own making; docs/robustness.md has the results.

    python benchmarks/fuzz.py [--seed N] [--cases N] [--minutes M] [--area NAME] [--json FILE]
                              [--case N] [--workers N] [--kept FOLDER] [--page FILE]

Each case is a command in a folder of its own with a few files: rasters, products, items, models,
weights, recipes, manifests, names, variables, options; right ones, hostile ones, and right ones
with changes. It has to end with the right answer, which is computed apart from the command, or with
one line and exit code 2: without a traceback, a warning of a library or a file that is left, in
bounded time and memory. A case is known by the seed and its number; `--case N` repeats one, and
says where its files lie. Inputs of failures are kept in a folder.

The exit code is 1 where a case failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soak_page
from fuzzing import worker
from fuzzing.areas import AREAS, area_of, make_case
from fuzzing.case import REFUSED, RIGHT, Case
from fuzzing.judge import Verdict
from fuzzing.scenes import LINE

from crossband.cli.main import main as crossband

CASES, MINUTES = 20_000, 60.0
#: One thread a worker: workers are processes, one for each core.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin no case after these")
    parser.add_argument("--area", choices=AREAS, help="only cases of this area")
    parser.add_argument("--case", type=int, metavar="N", help="repeat one case, and keep its files")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with this number")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    parser.add_argument("--kept", type=Path, default=Path("out/fuzz"), help="of inputs that failed")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    return parser.parse_args()


def warm_up(folder: Path) -> None:
    """Let the command import what it needs, once for all workers.

    Nothing is computed: a process that has threads of libraries cannot be forked.
    """
    for name in ("lightning", "torch._dynamo", "pandas", "pyarrow.parquet", "xarray", "matplotlib"):
        __import__(name)
    for command in ("translate empty.tif -o out.tif", "series empty.tif -o out", "fit none.yaml"):
        case = Case([*command.split(), "--model=model"], {**LINE.files(), "empty.tif": b""})
        worker.run(case, folder, crossband)


def keep(case: Case, number: int, verdict: Verdict, folder: Path) -> None:
    """Keep the files of a case, and what was seen."""
    worker.write_files(case, folder)
    (folder / "case.json").write_text(json.dumps(about(case, number, verdict), indent=1))


def about(case: Case, number: int, verdict: Verdict) -> dict[str, Any]:
    """Return a case and its end as plain data."""
    kept: dict[str, Any] = {"case": number, "area": area_of(number), "kind": verdict.kind}
    kept |= {"words": verdict.words, "arguments": case.arguments, "note": case.note}
    return kept | {"environment": case.environment, "must": case.must}


def repeat(a: argparse.Namespace) -> int:
    """Run one case in this process, and leave its files."""
    folder = (a.kept / f"{a.seed}-{a.case}").absolute()
    case = make_case(a.seed, a.case)
    verdict = worker.run(case, folder, crossband)
    print(json.dumps(about(case, a.case, verdict), indent=1), folder, sep="\n")
    return int(verdict.failed)


def numbers(a: argparse.Namespace, end: float) -> Iterator[int]:
    """Yield the numbers of the cases until the time is over."""
    wanted = (n for n in itertools.count(a.first) if a.area in (None, area_of(n)))
    for number in itertools.islice(wanted, a.cases):
        if time.monotonic() > end:
            return
        yield number


def table(counts: dict[str, Counter[str]]) -> str:
    """Return the counts by area as a table of Markdown."""
    lines = ["| area | cases | right | refused | failed |", "|---|---|---|---|---|"]
    rows = {area: counts[area] for area in AREAS if area in counts}
    for name, found in (rows | {"all": sum(rows.values(), Counter())}).items():
        kinds = sorted((k, n) for k, n in found.items() if k not in (RIGHT, REFUSED))
        words = ", ".join(f"{n} {kind}" for kind, n in kinds) or "0"
        cells = (f"{sum(found.values()):,}", f"{found[RIGHT]:,}", f"{found[REFUSED]:,}", words)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the cases; return the exit code."""
    a = arguments()
    os.environ |= dict.fromkeys(THREADS, "1")
    if a.case is not None:
        return repeat(a)
    begun = time.monotonic()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    failures: list[dict[str, Any]] = []
    shutil.rmtree(a.kept, ignore_errors=True)
    # In memory, where there is such a disk: the command waits for each file to be on the disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        warm_up(folder / "warm")
        found = worker.run_all(
            numbers(a, begun + 60 * a.minutes),
            lambda number: make_case(a.seed, number),
            crossband,
            folder,
            a.workers,
        )
        for number, verdict in found:
            counts[area_of(number)][verdict.kind] += 1
            if verdict.failed:
                case = make_case(a.seed, number)
                keep(case, number, verdict, a.kept / f"{a.seed}-{number}")
                print(f"{number} {area_of(number)}: {verdict.kind}: {verdict.words}", flush=True)
                failures.append(about(case, number, verdict))
    minutes = (time.monotonic() - begun) / 60
    cases = sum(sum(found.values()) for found in counts.values())
    used = sum(os.times()[:4]) / max(cases, 1)
    said = (
        f"Written by `make fuzz`: {cases:,} cases of seed {a.seed} in {minutes:.0f} minutes "
        f"({platform.machine()}, {os.cpu_count()} cores), {used:.3f} s of the processor each."
    )
    section = f"## Cases by area\n\n{said}\n\n{table(counts)}\n"
    print(section)
    if a.json:
        result = {"seed": a.seed, "cases": cases, "minutes": minutes, "failures": failures}
        result["areas"] = {area: dict(found) for area, found in counts.items()}
        a.json.write_text(json.dumps(result, indent=1) + "\n")
    if a.page:
        a.page.write_text(soak_page.put(a.page.read_text(), section))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
