"""Write a folder or a text file atomically: it appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossband.core.file_names import check_output_name
from crossband.errors import OutputError


def check_folder(output: Path, overwrite: bool, mark: str) -> None:
    """Raise OutputError if the folder must not be written; see `atomic_folder`."""
    check_output_name(output)
    if not output.exists():
        return
    if not overwrite:
        raise OutputError(f"{output}: exists already; give --overwrite to replace it")
    # --overwrite must never delete a folder of another kind.
    empty = output.is_dir() and not any(output.iterdir())
    if not empty and not (output / mark).is_file():
        raise OutputError(f"{output}: there is no {mark} in it, so it is not replaced")


@contextmanager
def atomic_folder(output: Path, overwrite: bool, mark: str) -> Iterator[Path]:
    """Yield a hidden folder; rename it to its final name on success, delete it on an error.

    Args:
        output: final name.
        overwrite: replace an existing folder if it is empty or contains `mark`.
        mark: name of a file that every folder of this kind contains.

    Raises:
        OutputError: the folder exists, is of another kind, or cannot be written.
    """
    hidden: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        folder = hidden / "new"
        folder.mkdir()
        yield folder
        check_folder(output, overwrite, mark)
        if output.exists():
            os.replace(output, hidden / "old")
        os.replace(folder, output)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        if hidden is not None:
            if (hidden / "old").exists() and not output.exists():
                os.replace(hidden / "old", output)  # interrupted between the two renames
            shutil.rmtree(hidden, ignore_errors=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
