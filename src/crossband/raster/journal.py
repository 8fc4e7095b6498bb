"""The store of a run: raw files and a journal, which survive a kill and a power cut.

Until `nir.tif` is finished, the folder `.nir.tif.crossband` beside it holds:

    lock       locked by the process that writes the file
    run.json   what the pixels depend on: source, model, options
    *.raw      the numbers, band after band and row after row, then the mask: fixed offsets
    journal    a line for each finished batch: its number, and the valid pixels in each raw file
    placing    the paths to which the finished files are being renamed

The line of a batch is written after its pixels are on disk.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossband.core.hidden_folder import HiddenFolder, check_hidden_folder, folder_of, read_facts
from crossband.core.json_text import read_json
from crossband.core.own_files import flush, open_own, replace_own
from crossband.errors import ChangedError, CrossbandError, OutputError
from crossband.raster.grid import Box

#: Seconds between two flushes; a kill or a power cut loses at most the work of so many seconds.
FLUSH_SECONDS = 2.0


def names_being_placed(output: Path, facts: Mapping[str, str] | None = None) -> set[Path]:
    """Return the paths to which an interrupted run was renaming its finished files.

    Args:
        output: final path of the (first) file.
        facts: of this run; those of another run has placed nothing for it. Not compared where None.
    """
    folder = folder_of(output)
    try:
        check_hidden_folder(output, folder)
        known = read_facts(folder)
        if known is None or facts not in (None, known):
            return set()
        return {Path(name) for name in read_json(folder / "placing")}
    except (CrossbandError, OSError, TypeError):
        return set()


class RawFile:
    """A file with the numbers of a raster [C, H, W], then the bytes of its mask [H, W].

    Args:
        path: created where it does not exist.
        shape: bands, rows, columns.
        dtype: of the numbers.
        masked: the file has a mask.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: str, *, masked: bool
    ) -> None:
        self.path, self.shape, self.dtype, self.masked = path, shape, np.dtype(dtype), masked
        self._handle = open_own(path, os.O_RDWR | os.O_CREAT)
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
            while left:  # a write may be partial, as on a disk that fills up
                done = os.pwrite(self._handle, left, offset)
                left, offset = left[done:], offset + done

    def flush(self) -> None:
        """Flush the file to disk."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Store:
    """The folder of one run; `open` creates one, `close` keeps and `remove` deletes it.

    Attributes:
        folder: its path.
        done: batch number -> valid pixels in each raw file, for batches that are on disk.
    """

    def __init__(self, hidden: HiddenFolder) -> None:
        self.folder = hidden.path
        self.done: dict[int, tuple[int, ...]] = {}
        self._hidden = hidden
        self._raws: list[RawFile] = []
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
        may_change: Collection[str] = (),
    ) -> Self:
        """Open the store of a file.

        Args:
            output: final path of the file.
            facts: everything that the pixels depend on, as name -> value.
            resume: continue with what an interrupted run left; otherwise it is removed.
            may_change: names of facts that the windows do not depend on, so that they may differ.

        Raises:
            OutputError: see `HiddenFolder.open`.
            ChangedError: with `resume`, a fact has changed.
        """
        store = cls(HiddenFolder.open(output))
        known = None
        try:
            known = read_facts(store.folder) if resume else None
            if known is not None:
                _compare(output, known, facts, may_change)
                store._read_journal()
            else:
                store._hidden.clear()
                store._hidden.mark(facts)
            journal = store.folder / "journal"
            # Rewritten, so that no new line follows a partial one.
            replace_own(journal, _lines(store.done))
            store._journal = open_own(journal, os.O_WRONLY | os.O_APPEND)
            flush(store.folder)
        except BaseException as error:
            if known is None:
                store.remove()  # nothing of an earlier run is in it
            else:
                store.close()
            if isinstance(error, OSError):
                raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
            raise
        return store

    def raw(
        self,
        name: str,
        shape: tuple[int, int, int],
        dtype: str,
        *,
        masked: bool,
        rewritten: bool = False,
    ) -> RawFile:
        """Create or open one of the raw files.

        Args:
            name: without the ending.
            shape: bands, rows, columns.
            dtype: of the numbers.
            masked: the file has a mask.
            rewritten: it is written after the last window, so a resumed run may lack it.

        Raises:
            OutputError: a resumed run lacks the file.
        """
        path = self.folder / f"{name}.raw"
        if self.done and not path.exists() and not rewritten:
            raise OutputError(
                f"{path}: missing, so that the run cannot be taken up: give no --resume"
            )
        raw = RawFile(path, shape, dtype, masked=masked)
        self._raws.append(raw)
        return raw

    def mark_done(self, batch: int, valid: Sequence[int]) -> None:
        """Record that a batch is written; every `FLUSH_SECONDS` everything is flushed to disk."""
        self._waiting[batch] = tuple(valid)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Flush the pixels to disk, and then the lines of their batches."""
        if self._waiting:
            for raw in self._raws:
                raw.flush()
            os.write(self._journal, _lines(self._waiting).encode())
            os.fsync(self._journal)
            self.done |= self._waiting
            self._waiting = {}
        self._flushed = time.monotonic()

    def note_placing(self, paths: Sequence[Path]) -> None:
        """Record the paths to which finished files are about to be renamed.

        Raises:
            OutputError: the disk is full.
        """
        try:
            replace_own(self.folder / "placing", json.dumps([str(p) for p in paths]))
            flush(self.folder)
        except OSError as error:
            output = self._hidden.output
            raise OutputError(f"{output}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Close all files and release the lock; the folder stays."""
        self._close_files()
        self._hidden.close()

    def remove(self) -> None:
        """Delete the folder and release the lock."""
        self._close_files()
        self._hidden.remove()

    def _close_files(self) -> None:
        for raw in self._raws:
            raw.close()
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def _read_journal(self) -> None:
        try:
            lines = (self.folder / "journal").read_bytes().split(b"\n")[:-1]
        except OSError:
            return
        for line in lines:
            words = line.split()
            # A power cut may leave a partial line, or zeros in its place.
            if len(words) > 1 and all(word.isdigit() and len(word) < 20 for word in words):
                batch, *valid = map(int, words)
                self.done[batch] = tuple(valid)


@contextmanager
def recorded(
    output: Path, facts: Mapping[str, str], outputs: Sequence[Path], placed: Collection[Path]
) -> Iterator[Store]:
    """Yield a store that records, until all of several files are written, which are this run's.

    So another process that begins the same says so, and after a kill the same run goes on: see
    `names_being_placed`.

    Args:
        output: the file in whose hidden folder this is recorded.
        facts: that tell this run from others.
        outputs: the files.
        placed: those of them that an interrupted run has written already.

    Raises:
        OutputError: see `HiddenFolder.open`; or another process has just written a file.
    """
    before = [path.exists() for path in outputs]
    store = Store.open(output, facts, resume=bool(placed))
    own = [p for p, there in zip(outputs, before, strict=True) if p in placed or not there]
    try:
        if [path.exists() for path in outputs] != before:
            own = []
            raise OutputError(f"{output}: another process has just written it")
        store.note_placing(own)
        yield store
    except BaseException:
        if any(path.exists() for path in own):
            store.close()
        else:
            store.remove()
        raise
    store.remove()


def changed_fact(
    known: Mapping[str, str], facts: Mapping[str, str], ignoring: Collection[str] = ()
) -> str | None:
    """Describe the first fact that changed; None where all are equal.

    Args:
        known: the facts before.
        facts: the facts now.
        ignoring: names of facts that may differ.
    """
    for name in [*facts, *(n for n in known if n not in facts)]:
        before, now = known.get(name), facts.get(name)
        if before != now and name not in ignoring:
            return f"{name} changed{_before_and_now(before, now)}"
    return None


def _compare(
    output: Path, known: Mapping[str, str], facts: Mapping[str, str], may_change: Collection[str]
) -> None:
    changed = changed_fact(known, facts, may_change)
    if changed is not None:
        raise ChangedError(
            f"{output}: cannot go on from what was begun, as {changed}; without --resume it "
            f"starts anew"
        )


def _lines(done: Mapping[int, Sequence[int]]) -> str:
    return "".join(f"{batch} {' '.join(map(str, valid))}\n" for batch, valid in done.items())


#: A hash, or what holds one: it tells people nothing.
_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{16,}")


def _before_and_now(before: str | None, now: str | None) -> str:
    """Return two values of a fact for a message, from where they begin to differ.

    >>> _before_and_now("128", "512"), _before_and_now("9 bytes, " + "ab" * 12, None)
    (' (128 before, 512 now)', '')
    """
    texts = [str(value) if value not in (None, "") else "nothing" for value in (before, now)]
    if any(map(_HASH.search, texts)):
        return ""
    if all(len(text) > _SHOWN for text in texts):
        pairs = enumerate(zip(*texts, strict=False))
        same = next((n for n, (one, other) in pairs if one != other), 0)
        start = max((texts[0].rfind(mark, 0, same) + 1 for mark in " ,[{"), default=0)
        texts = [f"...{text[start:].strip()}" for text in texts]
    short = [text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..." for text in texts]
    return f" ({short[0]} before, {short[1]} now)"


#: Letters of a value that a message shows.
_SHOWN = 40
