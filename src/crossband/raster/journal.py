"""What is computed survives a kill and a power cut: raw files with fixed offsets, and a journal.

Beside `nir.tif` lies the folder `.nir.tif.crossband` until the file is finished:

    lock       held by the process that works on it
    run.json   what the pixels depend on: source, model, options
    *.raw      band after band, row after row, then the mask: a window has its place beforehand
    journal    a line for each finished job: its number, and how many pixels are valid in each file
    placing    the names that the finished files are being given

A window counts as finished when its pixels are on disk and, after that, its line is.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossband.errors import ChangedError, OutputError
from crossband.raster.grid import Box

#: Seconds between two flushes: what a kill or a power cut may cost.
FLUSH_SECONDS = 2.0


def folder_of(output: Path) -> Path:
    """Return the hidden folder in which a file is being made."""
    return output.with_name(f".{output.name}.crossband")


def begun(output: Path) -> set[Path]:
    """Return the names that an interrupted run had begun to give to its finished files."""
    try:
        names = json.loads((folder_of(output) / "placing").read_text())
        return {Path(name) for name in names}
    except (OSError, ValueError):
        return set()


class Raw:
    """Numbers of a raster at fixed offsets of a file: [C, H, W], then bytes of the mask [H, W].

    Args:
        path: made, or opened as it is where it is there.
        shape: bands, rows, columns.
        dtype: of the numbers.
        masked: keep a mask, too.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: str, *, masked: bool
    ) -> None:
        self.path, self.shape, self.dtype, self.masked = path, shape, np.dtype(dtype), masked
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(self._handle, self.size(shape, dtype, masked=masked))
        except OSError:
            os.close(self._handle)
            raise

    @staticmethod
    def size(shape: tuple[int, int, int], dtype: str, *, masked: bool) -> int:
        """Return the bytes of such a file."""
        pixels = shape[1] * shape[2]
        return pixels * shape[0] * np.dtype(dtype).itemsize + pixels * masked

    def write(self, box: Box, numbers: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Write numbers [C, h, w] and mask [h, w] at `box`."""
        bands, height, width = self.shape
        for band, plane in enumerate(numbers):
            self._plane(band * height * width * self.dtype.itemsize, box, plane)
        if self.masked:
            start = bands * height * width * self.dtype.itemsize
            self._plane(start, box, mask.astype(np.uint8) * 255)

    def write_band(self, band: int, box: Box, plane: NDArray[Any]) -> None:
        """Write the numbers [h, w] of one band (from 0) at `box`; others stay as they are."""
        _, height, width = self.shape
        self._plane(band * height * width * self.dtype.itemsize, box, plane)

    def _plane(self, start: int, box: Box, plane: NDArray[Any]) -> None:
        plane = np.ascontiguousarray(plane)
        width, size = self.shape[2], plane.itemsize
        whole = box.width == width
        lines: Any = [plane] if whole else plane
        for row, line in enumerate(lines):
            offset = start + ((box.row + row) * width + box.col) * size
            left = memoryview(line).cast("B")
            while left:  # a disk that fills up takes a part first
                done = os.pwrite(self._handle, left, offset)
                left, offset = left[done:], offset + done

    def flush(self) -> None:
        """See that all is on disk."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Store:
    """The folder of one run; `open` one, and `remove` or `close` it.

    Attributes:
        folder: where it lies.
        done: job -> valid pixels in each raw file, of the jobs that are on disk.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.done: dict[int, tuple[int, ...]] = {}
        self._lock = lock
        self._raws: list[Raw] = []
        self._journal = -1
        self._waiting: dict[int, tuple[int, ...]] = {}
        self._flushed = time.monotonic()

    @classmethod
    def open(
        cls,
        output: Path,
        facts: Mapping[str, str],
        *,
        resume: bool = False,
        later: Collection[str] = (),
    ) -> Self:
        """Open the store of a file; what an earlier run left is taken up, or removed.

        Args:
            output: the final name.
            facts: all that the pixels depend on, by the name under which a change is reported.
            resume: take up what is there, where there is something.
            later: facts that come in after the windows, and may change.

        Raises:
            OutputError: another process is at work on it.
            ChangedError: with `resume`, a fact has changed.
        """
        folder = folder_of(output)
        store = cls(folder, _locked(folder, output))
        try:
            known = store._known() if resume else None
            if known is not None:
                _compare(output, known, facts, later)
                store._read_journal()
            else:
                for path in folder.iterdir():
                    if path.name != "lock":
                        path.unlink()
                _write(folder / "run.json", json.dumps(dict(facts), indent=1))
            # Written again, so that nothing comes after half a line.
            _write(folder / "journal", _lines(store.done))
            flags = os.O_WRONLY | os.O_APPEND
            store._journal = os.open(folder / "journal", flags)
            flush(folder)
        except OSError as error:
            store.close()
            raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
        except BaseException:
            store.close()
            raise
        return store

    def raw(
        self,
        name: str,
        shape: tuple[int, int, int],
        dtype: str,
        *,
        masked: bool,
        again: bool = False,
    ) -> Raw:
        """Make or open one of its raw files.

        Args:
            name: without the ending.
            shape: bands, rows, columns.
            dtype: of its numbers.
            masked: keep a mask, too.
            again: it is written anew after the windows, and need not be there.
        """
        path = self.folder / f"{name}.raw"
        if self.done and not path.exists() and not again:
            raise OutputError(
                f"{path}: missing, so that the run cannot be taken up: give no --resume"
            )
        raw = Raw(path, shape, dtype, masked=masked)
        self._raws.append(raw)
        return raw

    def note(self, job: int, valid: Sequence[int]) -> None:
        """Remember that a job is written; every few seconds all that is written is flushed."""
        self._waiting[job] = tuple(valid)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring all pixels to disk, and then the lines that say so."""
        if self._waiting:
            for raw in self._raws:
                raw.flush()
            os.write(self._journal, _lines(self._waiting).encode())
            os.fsync(self._journal)
            self.done |= self._waiting
            self._waiting = {}
        self._flushed = time.monotonic()

    def placing(self, paths: Sequence[Path]) -> None:
        """Note that finished files are being renamed to these names."""
        _write(self.folder / "placing", json.dumps([str(p) for p in paths]))
        flush(self.folder)

    def close(self) -> None:
        """Let go of it; the folder stays."""
        for raw in self._raws:
            raw.close()
        for handle in (self._journal, self._lock):
            if handle >= 0:
                os.close(handle)
        self._journal = self._lock = -1

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _known(self) -> dict[str, str] | None:
        try:
            facts: dict[str, str] = json.loads((self.folder / "run.json").read_text())
        except (OSError, ValueError):
            return None  # it stopped before it began
        return facts

    def _read_journal(self) -> None:
        try:
            lines = (self.folder / "journal").read_bytes().split(b"\n")[:-1]
        except OSError:
            return
        for line in lines:
            words = line.split()
            # A power cut may leave half a line, or zeros in its place.
            if len(words) > 1 and all(word.isdigit() for word in words):
                job, *valid = map(int, words)
                self.done[job] = tuple(valid)


def _locked(folder: Path, output: Path) -> int:
    """Make the folder and lock it; two processes at one file would spoil it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # another process has just removed the folder
        except OSError as error:
            raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise OutputError(f"{output}: another process is writing it") from error
        try:
            if os.path.samestat(os.fstat(handle), os.stat(folder / "lock")):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)  # it was removed before we had it


def difference(
    known: Mapping[str, str], facts: Mapping[str, str], ignoring: Collection[str] = ()
) -> str | None:
    """Say which fact changed first, and how; None where all are the same."""
    for name in [*facts, *(n for n in known if n not in facts)]:
        before, now = known.get(name), facts.get(name)
        if before != now and name not in ignoring:
            return f"{name} changed ({_short(before)} before, {_short(now)} now)"
    return None


def _compare(
    output: Path, known: Mapping[str, str], facts: Mapping[str, str], later: Collection[str]
) -> None:
    changed = difference(known, facts, later)
    if changed is not None:
        raise ChangedError(
            f"{output}: cannot go on from what was begun, as {changed}; without --resume it "
            f"starts anew"
        )


def _lines(done: Mapping[int, Sequence[int]]) -> str:
    return "".join(f"{job} {' '.join(map(str, valid))}\n" for job, valid in done.items())


def _short(value: str | None) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole, on disk."""
    new = path.with_name(path.name + ".new")
    with open(new, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def flush(path: Path) -> None:
    """See that a file or folder is on disk before something relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
