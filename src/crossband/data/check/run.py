"""Check a manifest: every row measured, in several processes, then judged.

A file that cannot be read is a finding; one that kills the process that reads it is too.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rasterio.errors import RasterioError

from crossband.data import manifest
from crossband.data.check import sides
from crossband.data.check.facts import Bands, Facts, facts
from crossband.data.check.findings import KINDS, Finding
from crossband.data.check.rules import Limits, judge
from crossband.errors import CrossbandError, ManifestError, nearest
from crossband.raster.gdal import gdal

#: Rows below which starting processes takes longer than reading.
_FEW = 16
#: Rows that wait for each process; more would only take memory.
_AHEAD = 8


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        manifest: its path.
        table: its rows.
        findings: in the order of `KINDS`, then of the rows.
        files: how many different files were read.
        seconds: how long it took.
    """

    manifest: Path
    table: pd.DataFrame
    findings: tuple[Finding, ...]
    files: int
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> how many, only those that there are."""
        return {k: n for k in KINDS if (n := sum(f.kind == k for f in self.findings))}

    @property
    def clean(self) -> bool:
        """No finding; suspicions do not count."""
        return not any(f.severity == "finding" for f in self.findings)

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "schema": "crossband-check-1",
            "manifest": self.manifest.name,
            "rows": len(self.table),
            "files": self.files,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "findings": [f.record() for f in self.findings],
        }


def check(
    path: str | Path,
    *,
    bands: Bands | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    ignore: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Open every file of a manifest and report what is wrong.

    Args:
        path: CSV or parquet.
        bands: which bands source and target are, over what rows and files say.
        limits: thresholds that a user may set.
        workers: processes; as many as processors where None, and none for a few rows.
        ignore: kinds that are not reported.
        progress: called with rows done and rows in all.

    Raises:
        ManifestError: see `manifest.read`; files that are not there and groups that are cut are
            findings instead.
        CrossbandError: a kind to be ignored that there is not.
    """
    start = time.monotonic()
    for kind in ignore:
        if kind not in KINDS:
            raise CrossbandError(f"no kind of finding is called {kind!r}: {nearest(kind, KINDS)}")
    table = manifest.read(path, lenient=True)
    rows = [{str(k): v for k, v in r.items()} for r in table.to_dict("records")]
    if workers is None:
        workers = 1 if len(rows) < _FEW else _processors()
    if workers < 1:
        raise CrossbandError(f"--workers must be 1 or more, not {workers}")
    measured: list[Facts | None] = [None] * len(rows)
    found: list[Finding] = []
    tell = progress or (lambda done, total: None)
    for done, (i, one) in enumerate(_measure(rows, bands or Bands(), workers), start=1):
        measured[i] = one
        tell(done, len(rows))
    known = [one for one in measured if one is not None]
    for one in known:
        found += judge(one, limits)
    found += sides.between(table, known)
    found = [f for f in found if f.kind not in ignore]
    order = list(KINDS)
    found.sort(key=lambda f: (order.index(f.kind), f.rows))
    names = {*table["source"].dropna(), *table["target"].dropna()}
    return Report(Path(path), table, tuple(found), len(names), time.monotonic() - start)


def without_spoilt(report: Report) -> pd.DataFrame:
    """Return the manifest without the rows that are of no use; of pairs that are there twice, one.

    Rows on two sides of a split stay: which side is to give way is for the user to say, by groups
    and a new split. Of the same pair twice, that of test is kept, else of val, so that what models
    are judged on stays the same.
    """
    out: set[int] = set()
    for finding in report.findings:
        if finding.spoils and finding.kind != "duplicate":
            out.update(finding.rows)
    side = {"test": 0, "val": 1}
    splits = dict.fromkeys(report.table["row"], "")
    if "split" in report.table.columns:
        splits = dict(zip(report.table["row"], report.table["split"], strict=True))
    for finding in report.findings:
        if finding.kind == "duplicate":
            left = [r for r in finding.rows if r not in out]
            out.update(sorted(left, key=lambda r: (side.get(splits[r], 2), r))[1:])
    if len(out) == len(report.table):
        raise ManifestError(f"{report.manifest}: every row has a finding; nothing is left to write")
    kept: pd.DataFrame = report.table[~report.table["row"].isin(out)]
    return kept


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _measure(
    rows: Sequence[Mapping[str, Any]], bands: Bands, workers: int
) -> Iterator[tuple[int, Facts]]:
    """Measure all rows; they come in any order."""
    if workers == 1:
        for i, row in enumerate(rows):
            yield i, _one(row, bands)
        return
    left = set(range(len(rows)))
    while left:
        suspects = yield from _pool(rows, left, bands, workers)
        # A process died, and which of the rows in work killed it is not known: one by one.
        for i in sorted(suspects):
            if (yield from _pool(rows, {i}, bands, 1)):
                reason = "unreadable", f"{_file(rows[i])}: the process that read it died"
                left.discard(i)
                yield i, Facts(int(rows[i]["row"]), refused={"source": reason})
        left -= suspects


def _pool(
    rows: Sequence[Mapping[str, Any]], left: set[int], bands: Bands, workers: int
) -> Generator[tuple[int, Facts], None, set[int]]:
    """Measure rows in processes and take them out of `left`; returns those in work at a death."""
    context = multiprocessing.get_context("spawn")  # GDAL and threads do not outlive a fork
    waiting = sorted(left, reverse=True)
    running: dict[Future[Facts], int] = {}
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < _AHEAD * workers:
                    running[pool.submit(_one, rows[waiting[-1]], bands)] = waiting[-1]
                    waiting.pop()
                future = next(as_completed(running))
                one = future.result()
                i = running.pop(future)
                left.discard(i)
                yield i, one
        except BrokenProcessPool:
            return set(running.values()) or set(left)
        finally:
            pool.shutdown(cancel_futures=True)
    return set()


def _file(row: Mapping[str, Any]) -> str:
    return str(row["target"] if pd.isna(row["source"]) else row["source"])


def _one(row: Mapping[str, Any], bands: Bands) -> Facts:
    """Measure a row in this process."""
    try:
        with gdal():
            return facts(row, bands)
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        # What a file can do to GDAL has no end; the other rows go on.
        side = "target" if pd.isna(row["source"]) else "source"
        text = f"{_file(row)}: {type(error).__name__}: {error}"
        return Facts(int(row["row"]), refused={side: ("unreadable", " ".join(text.split()))})
