"""Write a folder or a file atomically: it appears complete or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossband.core.file_names import check_output_name
from crossband.core.hidden_folder import NEW, OLD, HiddenFolder
from crossband.errors import OutputError


def check_file(output: str | Path, overwrite: bool) -> None:
    """Raise OutputError for a file that must not or cannot be written under this name."""
    output = Path(output)
    check_output_name(output)
    if output.is_dir():
        raise OutputError(f"{output}: a folder of that name exists")
    if os.path.lexists(output) and not overwrite:
        raise OutputError(f"{output}: exists already; give --overwrite to replace it")


def check_folder(output: Path, overwrite: bool, mark: str) -> None:
    """Raise OutputError if the folder must not be written; see `atomic_folder`."""
    check_output_name(output)
    if output.name in ("", ".."):
        raise OutputError(f"{output}: give the folder a name of its own")
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise OutputError(f"{output}: exists already; give --overwrite to replace it")
    if output.is_symlink():
        raise OutputError(f"{output}: a link; give the folder that it leads to")
    # --overwrite must never delete a folder of another kind.
    empty = output.is_dir() and not any(output.iterdir())
    if not empty and os.path.lexists(output / mark) and not _is_marked(output / mark):
        raise OutputError(f"{output}: its {mark} is not of Crossband, so it is not replaced")
    if not empty and not (output / mark).is_file():
        raise OutputError(f"{output}: there is no {mark} in it, so it is not replaced")


@contextmanager
def atomic_folder(output: Path, overwrite: bool, mark: str) -> Iterator[Path]:
    """Yield a hidden folder; rename it to its final name on success, delete it on an error.

    Args:
        output: final name.
        overwrite: replace an existing folder if it is empty or contains `mark`.
        mark: name of a file of JSON that every folder of this kind contains.

    Raises:
        OutputError: the folder exists, is of another kind, or cannot be written, or another process
            is writing it.
    """
    check_folder(output, overwrite, mark)
    try:
        hidden = HiddenFolder.open(output)
        old, new = hidden.path / OLD, hidden.path / NEW
        try:
            if old.exists() and not output.exists():
                os.replace(old, output)  # killed between the two renames
            hidden.clear()
            check_folder(output, overwrite, mark)
            hidden.mark()
            new.mkdir()
            yield new
            check_folder(output, overwrite, mark)
            if output.exists():
                os.replace(output, old)
            os.replace(new, output)
        finally:
            if old.exists() and not output.exists():
                os.replace(old, output)  # interrupted between the two renames
            hidden.remove()
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file; it is renamed on success, and deleted on an error.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o644)  # a temporary file is for its owner only
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_marked(path: Path) -> bool:
    """Return whether a file of JSON begins as ours do: a key or value is, or begins, crossband."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return b'"crossband' in file.read(2**16)
    except OSError:
        return False
