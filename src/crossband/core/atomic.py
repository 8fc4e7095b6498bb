"""Write a folder or a file atomically: it appears complete or not at all."""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from crossband.core.file_names import check_output_name
from crossband.core.hidden_folder import NEW, OLD, HiddenFolder, remove_leftovers
from crossband.core.made_from import is_made_from
from crossband.core.own_files import flush
from crossband.errors import OutputError, UpToDate


def check_file(output: str | Path, overwrite: bool, made_from: str | None = None) -> None:
    """Raise OutputError for a file that must not or cannot be written under this name.

    Args:
        output: final name.
        overwrite: replace an existing file.
        made_from: fingerprint of what would be written; UpToDate is raised where it is there.
    """
    output = Path(output)
    check_output_name(output)
    if output.is_dir():
        raise OutputError(f"{output}: a folder of that name exists")
    if os.path.lexists(output) and not overwrite:
        raise _exists(output, output, made_from)


def is_finished(output: str | Path, overwrite: bool, made_from: str) -> bool:
    """Return whether a file is up to date; OutputError where `check_file` raises another one."""
    try:
        check_file(output, overwrite, made_from)
    except UpToDate:
        return True
    return False


def check_folder(output: Path, overwrite: bool, mark: str, made_from: str | None = None) -> None:
    """Raise OutputError if the folder must not be written; see `atomic_folder`."""
    check_output_name(output)
    if output.name in ("", ".."):
        raise OutputError(f"{output}: give the folder a name of its own")
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise _exists(output, output / mark, made_from)
    if output.is_symlink():
        raise OutputError(f"{output}: a link; give the folder that it leads to")
    # --overwrite must never delete a folder of another kind.
    empty = output.is_dir() and not any(output.iterdir())
    if not empty and os.path.lexists(output / mark) and not _is_marked(output / mark):
        raise OutputError(f"{output}: its {mark} is not of Crossband, so it is not replaced")
    if not empty and not (output / mark).is_file():
        raise OutputError(f"{output}: there is no {mark} in it, so it is not replaced")


@contextmanager
def atomic_folder(
    output: Path,
    overwrite: bool,
    mark: str,
    made_from: str | None = None,
    *,
    names: Collection[str] = (),
) -> Iterator[Path]:
    """Yield a hidden folder; rename it to its final name on success, delete it on an error.

    What lies in a folder that is replaced, and is not of its kind, is kept in the new one.

    Args:
        output: final name.
        overwrite: replace an existing folder if it is empty or contains `mark`.
        mark: name of a file of JSON that every folder of this kind contains.
        made_from: fingerprint of what is written, which the caller writes into `mark`.
        names: of the other files and folders that folders of this kind may contain.

    Raises:
        OutputError: the folder exists, is of another kind, or cannot be written, or another process
            is writing it.
        UpToDate: the folder exists, and its mark holds `made_from`.
    """
    check_folder(output, overwrite, mark, made_from)
    try:
        hidden = HiddenFolder.open(output)
        old, new = hidden.path / OLD, hidden.path / NEW
        try:
            if old.exists() and not output.exists():
                os.replace(old, output)  # killed between the two renames
            _keep_others(old, output, {mark, *names})  # killed after them
            hidden.clear()
            check_folder(output, overwrite, mark, made_from)
            hidden.mark()
            new.mkdir()
            yield new
            for path in new.rglob("*"):
                flush(path)
            check_folder(output, overwrite, mark)
            if output.exists():
                os.replace(output, old)
            os.replace(new, output)
            _keep_others(old, output, {mark, *names})
            flush(output.parent)
        finally:
            if old.exists() and not output.exists():
                os.replace(old, output)  # interrupted between the two renames
            hidden.remove()
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error


def _keep_others(old: Path, output: Path, own: Collection[str]) -> None:
    """Move what is not of a folder's kind from the old folder into the new one."""
    for path in old.iterdir() if old.is_dir() else ():
        if path.name not in own and not os.path.lexists(output / path.name):
            os.replace(path, output / path.name)


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = True, wait: bool = False) -> Iterator[Path]:
    """Yield a path in a hidden folder; what is written there gets its final name on success.

    Args:
        path: final name.
        overwrite: replace an existing file. Otherwise one with the same content stays.
        wait: until another process has written the file.

    Raises:
        OutputError: the file exists with another content, it cannot be written, or another process
            is writing it.
    """
    try:
        hidden = HiddenFolder.open(path, wait=wait)
        try:
            hidden.clear()
            hidden.mark()
            new = hidden.path / path.name
            yield new
            if overwrite or not os.path.lexists(path):
                flush(new)
                new.chmod(0o644)  # some libraries make a file for its owner only
                os.replace(new, path)
                flush(path.parent)
            elif not _is_same(new, path):
                raise OutputError(
                    f"{path}: exists already with another content; give --overwrite to replace it"
                )
        finally:
            hidden.remove()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text_atomically(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write a text file in a hidden folder, then rename it; see `atomic_file`."""
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _exists(output: Path, record: Path, made_from: str | None) -> OutputError:
    """Return the error for an output that exists: another one where it is up to date."""
    if made_from is None or not is_made_from(record, made_from):
        return OutputError(f"{output}: exists already; give --overwrite to replace it")
    remove_leftovers(output)
    return up_to_date(output)


def up_to_date(output: Path) -> UpToDate:
    """Return the error for an output that the same command has finished before."""
    return UpToDate(
        f"{output}: exists already, made from the same in the same way; nothing is left to do, and "
        f"--overwrite makes it anew"
    )


def _is_same(one: Path, other: Path) -> bool:
    """Return whether a regular file has the content of another one."""
    return stat.S_ISREG(other.lstat().st_mode) and filecmp.cmp(one, other, shallow=False)


def _is_marked(path: Path) -> bool:
    """Return whether a file of JSON begins as ours do: a key or value is, or begins, crossband."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return b'"crossband' in file.read(2**16)
    except OSError:
        return False
