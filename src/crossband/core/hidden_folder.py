"""The hidden folder in which an output is made: `.nir.tif.crossband` for `nir.tif`.

It holds a file `lock`, which the process that writes the output has locked, and `run.json`, by
whose key `crossband` it is known to be ours. Nothing in it is deleted but files of the names that
we give them.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from crossband.core.json_text import read_json
from crossband.core.locks import release_lock, take_lock
from crossband.core.own_files import check_own_files, check_own_folder, is_own, replace_own
from crossband.core.regular_file import open_regular_file
from crossband.errors import CrossbandError, OutputError

LOCK, MARK = "lock", "run.json"
#: Folders in it: what is being made, and what it replaces.
NEW, OLD = "new", "old"
_FILES = re.compile(r"(run\.json|journal|placing)(\.new)?|.+\.(raw|vrt)(\..+)?", re.DOTALL)
#: What there may be before the mark is written: a lock, and the beginning of the mark.
_NEW_MARK = f"{MARK}.new"
#: The first line of a mark; version 0.1.0 wrote none, but said its version among the facts.
_OURS, _BEGINS = {"crossband": "the folder of an unfinished output"}, '{\n "crossband": "'
_OF_0_1_0 = "the version of Crossband"
#: How often a folder is made that other processes remove at once.
_TRIES = 100


def folder_of(output: Path) -> Path:
    """Return the hidden folder in which an output is made."""
    return output.with_name(f".{output.name}.crossband")


def remove_leftovers(output: Path) -> None:
    """Remove the hidden folder of a finished output, left by a run that was killed at its end."""
    if folder_of(output).is_dir():
        with contextlib.suppress(OutputError):  # another process holds it, or it is none of ours
            HiddenFolder.open(output).remove()


class HiddenFolder:
    """A hidden folder that this process has locked; `open` makes it, `remove` deletes it.

    Attributes:
        output: what is made in it.
        path: of the folder.
    """

    def __init__(self, output: Path, path: Path, lock: int) -> None:
        self.output, self.path, self._lock = output, path, lock

    @classmethod
    def open(cls, output: Path, path: Path | None = None, *, wait: bool = False) -> Self:
        """Create the folder of an output, or take up what an earlier run has left.

        Args:
            output: what is made in it.
            path: of the folder; by default `folder_of(output)`.
            wait: until another process has written the output.

        Raises:
            OutputError: another process is writing the output; the folder cannot be written; or it
                is none of ours: a link, of another user, or without the mark.
        """
        path = folder_of(output) if path is None else path
        reason: OSError | None = None
        for _ in range(_TRIES):
            try:
                check_hidden_folder(output, path)
                path.mkdir(parents=True, exist_ok=True)
                return cls(output, path, take_lock(path / LOCK, output, wait=wait))
            except FileNotFoundError as error:  # another process has just removed the folder
                reason = error
            except OSError as error:
                reason = error
                with contextlib.suppress(OSError):  # on a full disk it is empty
                    path.rmdir()
                break
        assert reason is not None
        raise OutputError(f"{output}: cannot be written ({reason.strerror})") from reason

    def mark(self, facts: Mapping[str, str] = {}) -> None:
        """Write the mark; before it, nothing may be written into the folder.

        Args:
            facts: what the content of the folder depends on, as name -> value; see `read_facts`.
        """
        replace_own(self.path / MARK, json.dumps(_OURS | dict(facts), indent=1))

    def clear(self) -> None:
        """Delete what runs have left, except lock and mark."""
        for path in _own_entries(self.output, self.path):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (LOCK, MARK):
                path.unlink()

    def remove(self) -> None:
        """Delete the folder, and release the lock; files of others in it stay."""
        with contextlib.suppress(OSError):
            self.clear()
            (self.path / MARK).unlink(missing_ok=True)
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()
        self.close()

    def close(self) -> None:
        """Release the lock; the folder stays."""
        release_lock(self._lock)


def read_facts(folder: Path) -> dict[str, str] | None:
    """Return the facts in the mark of a hidden folder; None where no run of ours has written it."""
    try:
        found = read_json(folder / MARK)
    except CrossbandError:
        return None
    if not isinstance(found, dict) or not (found.items() >= _OURS.items() or _OF_0_1_0 in found):
        return None
    return {str(k): str(v) for k, v in found.items() if k not in _OURS}


def _is_before_mark(path: Path) -> bool:
    """Return whether a file may lie in a folder whose mark a run of ours had not yet written."""
    if path.name == LOCK:
        return True  # `take_lock` refuses one of others
    if path.name != _NEW_MARK:
        return False
    try:
        with open_regular_file(path) as file:
            begun = file.read(len(_BEGINS)).rstrip(b"\0")  # a power cut may leave zeros
    except (CrossbandError, OSError):
        return False
    return _BEGINS.encode().startswith(begun)


def _own_entries(output: Path, folder: Path) -> Iterator[Path]:
    """Yield what is in a hidden folder under one of our names."""
    for path in sorted(folder.iterdir()):
        name = path.name
        # GDAL adds endings to the name of the file that it makes.
        made = name == output.name or name.startswith(f"{output.name}.")
        if made or name in (LOCK, NEW, OLD) or _FILES.fullmatch(name):
            yield path


def check_hidden_folder(output: Path, folder: Path) -> None:
    """Raise OutputError for a folder that no run of ours has made; FileNotFoundError passes."""
    check_own_folder(folder)
    if not folder.exists():
        return
    entries = list(_own_entries(output, folder))
    if not is_own(folder, folder.lstat()):
        raise OutputError(
            f"{folder}: it belongs to another user; remove it, or choose another name"
        )
    for path in entries:
        if path.name in (NEW, OLD):
            check_own_folder(path)
    check_own_files(path for path in entries if path.name not in (NEW, OLD))
    for path in entries:
        if path.is_dir() and path.name not in (NEW, OLD):
            raise OutputError(f"{path}: it is to be a file, and is a folder; remove it")
    if read_facts(folder) is None and not all(map(_is_before_mark, entries)):
        raise OutputError(
            f"{folder}: it holds files, and no {MARK} of Crossband, so no run has made it; remove "
            f"it, or choose another name"
        )
