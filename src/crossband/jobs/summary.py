"""How it went: `summary.jsonl` in the output folder, a line of JSON for each scene.

| key | meaning |
|---|---|
| output | path below the output folder: what the line is about |
| input | path or address, as it was given |
| status | `done`, `skipped` (it was there, made by the same model, input and options), `failed` |
| reason | why it failed: the line that the command printed; null otherwise |
| error | class of the error; null otherwise |
| pixels | pixels of the result; 0 where nothing was computed |
| seconds | that it took |
| model, version | of the model and of Crossband |
| time | when it ended, UTC, ISO 8601 |

Of two lines about one output the later one counts. Each line is appended by one write and is on
disk before the next scene begins. A shard has a file of its own, as `summary-3-of-10.jsonl`, so
that no two processes write one file. A scene that was interrupted has no line.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from crossband.errors import OutputError
from crossband.jobs.shards import Shard

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True)
class Line:
    """What became of one scene; see the table above."""

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


def path_of(folder: Path, shard: Shard) -> Path:
    """Return the file of a shard."""
    return folder / ("summary.jsonl" if shard.count == 1 else f"summary-{shard}.jsonl")


def read(folder: str | Path) -> dict[str, Line]:
    """Return the last word about each output, of all shards: output -> line.

    Lines that a power cut tore are left out.
    """
    lines: list[Line] = []
    for path in sorted(Path(folder).glob("summary*.jsonl")):
        for text in path.read_bytes().splitlines():
            try:
                lines.append(Line(**json.loads(text)))
            except (ValueError, TypeError):
                continue
    return {line.output: line for line in sorted(lines, key=lambda line: line.time)}


class Summary:
    """The file of one run, opened for appending; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def add(self, line: Line) -> None:
        """Append a line."""
        try:
            text = json.dumps(asdict(line), ensure_ascii=False) + "\n"
            os.write(self._handle, text.encode())
            os.fsync(self._handle)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> Self:
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                os.write(self._handle, b"\n")  # a power cut tore the last line
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._handle)
