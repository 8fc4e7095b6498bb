"""The summary of a fleet: `summary.jsonl` in the output folder, a line of JSON for each scene.

| key | meaning |
|---|---|
| output | path of the result, relative to the output folder |
| input | path or address, as it was given |
| status | `done`, `skipped` (the file exists and is up to date) or `failed` |
| reason | why it failed, as the command printed it; null otherwise |
| error | class of the error; null otherwise |
| pixels | pixels of the result; 0 where nothing was computed |
| seconds | duration |
| model | name of the model |
| version | of Crossband |
| time | when it ended, UTC, ISO 8601 |
| guide | path of the guide that the scene got; null without one |
| guide_datetime | when it was taken, where that is known |
| unfamiliar | share of the scene that is unlike the training places; null where unknown |
| unfamiliar_line | above a tenth, what that means and the likely cause; else empty |

Of two lines with one output the later one counts. Each line is appended by one write, and flushed
to disk before the next scene starts. A shard has its own file, as `summary-3-of-10.jsonl`, so that
no two processes write one file. An interrupted scene has no line.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from crossband.core.own_files import open_own
from crossband.errors import OutputError
from crossband.jobs.shards import Shard

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True)
class SummaryLine:
    """The outcome of one scene; see the table above."""

    output: str
    input: str
    status: str
    reason: str | None
    error: str | None
    pixels: int
    seconds: float
    model: str
    version: str
    time: str
    guide: str | None = None
    guide_datetime: str | None = None
    unfamiliar: float | None = None
    unfamiliar_line: str = ""


def summary_path(folder: Path, shard: Shard) -> Path:
    """Return the path of a shard's summary."""
    return folder / ("summary.jsonl" if shard.count == 1 else f"summary-{shard}.jsonl")


def read(folder: str | Path) -> dict[str, SummaryLine]:
    """Return the latest line of each output in the summaries of all shards, as output -> line.

    Partial lines, as a power cut leaves them, are skipped.
    """
    lines: list[SummaryLine] = []
    for path in sorted(Path(folder).glob("summary*.jsonl")):
        for text in path.read_bytes().splitlines():
            try:
                lines.append(SummaryLine(**json.loads(text)))
            except (ValueError, TypeError):
                continue
    return {line.output: line for line in sorted(lines, key=lambda line: line.time)}


class SummaryFile:
    """The summary of one run, opened for appending; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def add(self, line: SummaryLine) -> None:
        """Append a line and flush it to disk; OutputError if the file cannot be written."""
        try:
            text = json.dumps(asdict(line), ensure_ascii=False) + "\n"
            # A name that is not UTF-8 becomes escapes of JSON.
            os.write(self._handle, text.encode(errors="backslashreplace"))
            os.fsync(self._handle)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> Self:
        try:
            self._handle = open_own(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                os.write(self._handle, b"\n")  # a power cut left a partial line
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
