"""Run the same cases with two commits and compare all that a user sees.

    git worktree add ../old v0.1.0
    python benchmarks/compare_commits.py ../old/src src --json compared.json
    git worktree remove ../old

Each case (`compare_cases.py`) runs with both source trees on the same generated files
(`compare_inputs.py`): formats, data types, masks, scales, grids, products, fleets, series, arrays,
a cluster, trainings, tables, bad input. Compared are, bit for bit, pixels, masks, overviews and
weights, and then data types, nodata, scales, units, grids, all tags, all other files, what is
printed, and exit codes. What may differ is in one table (`compare_files.RULES`). A case that has a
second half is also begun with OLD and ended with NEW: an interrupted scene, a training that was cut
off, a model folder. There the end may be refused in one line.

It takes about five minutes on two cores. The exit code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import compare_calls  # noqa: F401 - it adds its cases
import compare_inputs
import compare_worker
from compare_files import NEW_FILES, Tidy, differences, lines, read
from compare_run import CASES, WHOLE, slug
from rasterio.errors import NotGeoreferencedWarning

#: One thread, so that sums are made in one order.
QUIET = {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "100",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TZ": "UTC",
}
_STREAMS = {"out": "stdout", "err": "stderr", "code": "exit code"}
SAME, DIFFERENT, REFUSED = "same", "DIFFERENT", "refused"


class Comparison:
    """Two source trees, and the folder in which both work.

    Args:
        old: folder that holds the package `crossband` of one commit.
        new: of the other.
        root: an empty folder.
        names: of the cases.
    """

    def __init__(self, old: Path, new: Path, root: Path, names: Sequence[str]) -> None:
        self.src, self.root = {"old": old, "new": new}, root
        self.names, self.inputs = list(names), root / "in"

    def run(self) -> list[dict[str, Any]]:
        """Run all cases and compare them; returns a row for each comparison."""
        compare_inputs.write(self.inputs)
        before = self._state()
        groups = dict.fromkeys(CASES[name].group for name in self.names)
        for group in groups:
            self._group([name for name in self.names if CASES[name].group == group])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            rows = list(self._rows())
        changed = sorted(str(p) for p in before ^ self._state())
        rows.append(_row("the inputs are as they were", changed))
        return rows

    def _state(self) -> set[tuple[str, int, int]]:
        files = (p for p in self.inputs.rglob("*") if p.is_file())
        return {(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files}

    def _group(self, names: list[str]) -> None:
        """Run cases with both commits side by side, then the ends of what OLD has begun."""
        mixed = [name for name in names if CASES[name].end is not None]
        running = [
            self._start(
                "old", [("old", "begin", names), ("old", "end", mixed), ("mix", "begin", mixed)]
            ),
            self._start("new", [("new", "begin", names), ("new", "end", mixed)]),
        ]
        for process in running:
            _finish(process)
        if mixed:
            _finish(self._start("new", [("mix", "end", mixed)]))

    def _start(self, side: str, parts: list[tuple[str, str, list[str]]]) -> subprocess.Popen[str]:
        src = self.src[side]
        order = {
            "src": str(src),
            "inputs": str(self.inputs),
            "parts": [
                (str(self.root / root), str(self.root / "records" / root / part), part, names)
                for root, part, names in parts
            ],
        }
        command = [sys.executable, compare_worker.__file__, json.dumps(order)]
        paths = {"PYTHONPATH": str(src), "TMPDIR": str(self.root)}
        return subprocess.Popen(
            command, env={**os.environ, **QUIET, **paths}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _rows(self) -> Iterator[dict[str, Any]]:
        for name in self.names:
            yield _row(name, self._compared(name, "new", ("begin", "end")))
            if CASES[name].end is not None:
                line = self._refusal(name)
                found = [] if line else self._compared(name, "mix", ("end",))
                yield _row(f"{name}: begun by OLD, ended by NEW", found, line)

    def _compared(self, name: str, root: str, parts: tuple[str, ...]) -> list[str]:
        """Return what differs between OLD's case and another; `root` is `new` or `mix`."""
        out = []
        for part in parts:
            if part == "begin" or CASES[name].end is not None:
                out += self._words(name, root, part)
        tidy = self._tidy("old"), self._tidy(root)
        folders = self.root / "old" / slug(name), self.root / root / slug(name)
        listed = [_files(folder, t) for folder, t in zip(folders, tidy, strict=True)]
        for file in sorted({*listed[0], *listed[1]}):
            if not all(file in files for files in listed):
                if re.search(NEW_FILES, f"/{file}"):
                    continue
                out.append(f"{file}: only in {'old' if file in listed[0] else root}")
                continue
            facts = [read(files[file], t) for files, t in zip(listed, tidy, strict=True)]
            out += [f"{file}: {line}" for line in differences(*facts)]
        return out

    def _words(self, name: str, root: str, part: str) -> list[str]:
        """Compare what was printed, and exit codes."""
        out = []
        old, new = self._steps(name, "old", part), self._steps(name, root, part)
        if old is None or new is None:
            return [f"{part}: did not end with {'OLD' if old is None else 'NEW'}"]
        for a, b in zip(old, new, strict=False):
            if a["line"] == WHOLE and a["code"]:
                out.append(f"{part}: the case itself fails: {a['code']}")
            for key, stream in _STREAMS.items():
                one, two = self._tidy("old")(str(a[key])), self._tidy(root)(str(b[key]))
                found = differences(lines(one), lines(two))
                out += [f"{a['line']}: {stream}, {line}" for line in found]
        if len(old) != len(new):
            out.append(f"{part}: {len(old)} steps became {len(new)}")
        return out

    def _steps(self, name: str, root: str, part: str) -> list[dict[str, Any]] | None:
        path = self.root / "records" / root / part / f"{slug(name)}.{part}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _refusal(self, name: str) -> str | None:
        """Return the line by which NEW refused to end what OLD had begun."""
        for step in self._steps(name, "mix", "end") or []:
            said = step["err"].strip()
            if step["code"] == 2 and "\n" not in said:
                return self._tidy("mix")(said)
        return None

    def _tidy(self, root: str) -> Tidy:
        side = "old" if root == "old" else "new"
        version = next((self.root / "records" / side).rglob("version"), None)
        paths = {self.root / root: "<out>", self.inputs: "<in>", self.root: "<tmp>"}
        paths[self.src[side]] = "<src>"
        return Tidy(paths, version.read_text() if version else "no version")


def _files(folder: Path, tidy: Tidy) -> dict[str, Path]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {tidy(str(p.relative_to(folder))): p for p in found}


def _finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate()
    if process.returncode:
        print(f"{said}\na process ended with code {process.returncode}", file=sys.stderr)


def _row(name: str, found: list[str], refusal: str | None = None) -> dict[str, Any]:
    result = DIFFERENT if found else REFUSED if refusal else SAME
    return {"case": name, "result": result, "differences": found, "refusal": refusal}


def printed(rows: Sequence[dict[str, Any]], most: int = 8) -> Iterator[str]:
    """Yield the table: a line for each case, and below it what differs."""
    width = max(len(row["case"]) for row in rows)
    for row in rows:
        yield f"{row['case']:{width}}  {row['result']}" + (
            f": {row['refusal']}" if row["refusal"] else ""
        )
        for line in row["differences"][:most]:
            yield f"    {line[:300]}"
        if len(row["differences"]) > most:
            yield f"    ... and {len(row['differences']) - most} more"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    words = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=words[0],
        epilog=words[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path, metavar="OLD_SRC", help="folder `src` of one checkout")
    parser.add_argument("new", type=Path, metavar="NEW_SRC", help="folder `src` of the other")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all differences")
    parser.add_argument("--only", metavar="NAME", help="cases whose names have this in them")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, and leave it")
    a = parser.parse_args(argv)
    for src in (a.old, a.new):
        if not (src / "crossband/__init__.py").is_file():
            parser.error(f"{src}: no package crossband in it")
    if a.keep and a.keep.exists() and any(a.keep.iterdir()):
        parser.error(f"--keep {a.keep}: is not empty")
    names = [name for name in CASES if (a.only or "") in name]
    if not names:
        parser.error(f"--only {a.only}: no case has this in its name")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        root = a.keep or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        rows = Comparison(a.old.resolve(), a.new.resolve(), root.resolve(), names).run()
    print("\n".join(printed(rows)))
    counts = {r: sum(row["result"] == r for row in rows) for r in (SAME, REFUSED, DIFFERENT)}
    told = ", ".join(f"{count} {result}" for result, count in counts.items())
    print(f"{len(rows)} comparisons: {told}; {time.monotonic() - start:.0f} s")
    if a.json:
        a.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if counts[DIFFERENT] else 0


if __name__ == "__main__":
    raise SystemExit(main())
