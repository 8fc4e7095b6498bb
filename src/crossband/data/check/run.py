"""Check a manifest: measure all rows in several processes, then apply the rules.

A file that cannot be read is a finding. So is one that kills the process that reads it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from crossband.core.processors import processors
from crossband.core.python_words import public
from crossband.data import manifest
from crossband.data.check import across_rows
from crossband.data.check.bands import Bands
from crossband.data.check.findings import KINDS, Finding, make_finding
from crossband.data.check.row_stats import DAMAGED, RowStats, row_stats
from crossband.data.check.rules import Limits, check_row
from crossband.data.column_names import misspelt_columns
from crossband.errors import CrossbandError, ManifestError, nearest
from crossband.raster.gdal import gdal

#: With fewer rows, starting processes takes longer than reading.
_FEW = 16
#: Rows that are queued for each process.
_QUEUED = 8


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        manifest: its path.
        table: its rows.
        findings: in the order of `KINDS`, then of the rows.
        files: number of distinct files that were read.
        seconds: duration of the check.
    """

    manifest: Path
    table: pd.DataFrame
    findings: tuple[Finding, ...]
    files: int
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind that has any."""
        return {k: n for k in KINDS if (n := sum(f.kind == k for f in self.findings))}

    @property
    def clean(self) -> bool:
        """Whether there is no finding; suspicions do not count."""
        return not any(f.severity == "finding" for f in self.findings)

    def record(self) -> dict[str, Any]:
        """Return the report as plain types, for JSON."""
        return {
            "schema": "crossband-check-1",
            "manifest": self.manifest.name,
            "rows": len(self.table),
            "files": self.files,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "findings": [f.record() for f in self.findings],
        }


@public()
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
        bands: the bands of source and target, if the user states them.
        limits: thresholds that a user can set.
        workers: number of processes; if None, one per processor, or this process alone for a
            few rows.
        ignore: kinds that are not reported.
        progress: called with rows done and rows in all.

    Raises:
        ManifestError: see `manifest.read`; missing files and groups that a split cuts are findings
            instead.
        CrossbandError: an unknown kind in `ignore`.
    """
    start = time.monotonic()
    for kind in ignore:
        if kind not in KINDS:
            raise CrossbandError(f"no kind of finding is called {kind!r}: {nearest(kind, KINDS)}")
    table = manifest.read(path, lenient=True)
    rows = [{str(k): v for k, v in r.items()} for r in table.to_dict("records")]
    if workers is None:
        workers = 1 if len(rows) < _FEW else processors()
    if workers < 1:
        raise CrossbandError(f"--workers must be 1 or more, not {workers}")
    measured: list[RowStats | None] = [None] * len(rows)
    findings: list[Finding] = []
    tell = progress or (lambda done, total: None)
    for done, (i, one) in enumerate(_measure(rows, bands or Bands(), workers), start=1):
        measured[i] = one
        tell(done, len(rows))
    known = [one for one in measured if one is not None]
    for one in known:
        findings += check_row(one, limits)
    findings += [
        make_finding(
            "column-unknown",
            int(table["row"].iloc[0]),
            "manifest",
            Path(path).name,
            f"column {name!r} is not read: {meant!r} may be meant",
        )
        for name, meant in misspelt_columns(path).items()
    ]
    findings += across_rows.check_across_rows(table, known)
    findings = [f for f in findings if f.kind not in ignore]
    order = list(KINDS)
    findings.sort(key=lambda f: (order.index(f.kind), f.rows))
    names = {name for column in manifest.PATHS for name in table[column].dropna()}
    return Report(Path(path), table, tuple(findings), len(names), time.monotonic() - start)


def usable_rows(report: Report) -> pd.DataFrame:
    """Return the manifest without unusable rows, and with one row for each duplicate pair.

    Rows of one place in two parts of a split stay: the user decides, with groups and a new split.
    Of duplicate pairs the one in `test` is kept, else the one in `val`, so that the pairs that
    models are evaluated on stay the same.

    Raises:
        ManifestError: no row is left.
    """
    out: set[int] = set()
    for finding in report.findings:
        if finding.drops_row and finding.kind != "duplicate":
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


def _measure(
    rows: Sequence[Mapping[str, Any]], bands: Bands, workers: int
) -> Iterator[tuple[int, RowStats]]:
    """Yield positions and statistics of all rows, in any order."""
    if workers == 1:
        for i, row in enumerate(rows):
            yield i, _row_stats(row, bands)
        return
    left = set(range(len(rows)))
    while left:
        suspects = yield from _pool(rows, left, bands, workers)
        if suspects and len(left) == len(rows) and not _can_start_processes():
            for i in sorted(left):
                yield i, _row_stats(rows[i], bands)
            return
        # A process died, and which of the running rows killed it is unknown: try them one by one.
        for i in sorted(suspects):
            if (yield from _pool(rows, {i}, bands, 1)):
                reason = "unreadable", _file(rows[i]), "the process that read it died"
                left.discard(i)
                yield i, RowStats(int(rows[i]["row"]), refused={"source": reason})
        left -= suspects


def _can_start_processes() -> bool:
    """Return whether a process starts: none does for a script without a guard of its main part."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(processors).result() > 0
    except (BrokenProcessPool, RuntimeError):
        return False


def _pool(
    rows: Sequence[Mapping[str, Any]], left: set[int], bands: Bands, workers: int
) -> Generator[tuple[int, RowStats], None, set[int]]:
    """Measure rows in processes and remove them from `left`.

    Returns the rows that were running when a process died.
    """
    context = multiprocessing.get_context("spawn")  # GDAL and threads do not survive a fork
    waiting = sorted(left, reverse=True)
    running: dict[Future[RowStats], int] = {}
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < _QUEUED * workers:
                    running[pool.submit(_row_stats, rows[waiting[-1]], bands)] = waiting[-1]
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


def _row_stats(row: Mapping[str, Any], bands: Bands) -> RowStats:
    """Return the statistics of a row, measured in this process."""
    try:
        with gdal():
            return row_stats(row, bands)
    except DAMAGED as error:
        # Damaged files make GDAL fail in many ways; the other rows are still checked.
        side = "target" if pd.isna(row["source"]) else "source"
        text = f"{type(error).__name__}: {error}"
        return RowStats(
            int(row["row"]), refused={side: ("unreadable", _file(row), " ".join(text.split()))}
        )
