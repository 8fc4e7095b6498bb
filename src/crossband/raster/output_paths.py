"""Check the paths of results before any work is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crossband.core.atomic import check_file
from crossband.core.file_names import check_output_name
from crossband.errors import OutputError
from crossband.raster.remote import address, is_remote

TIFF, PNG = (".tif", ".tiff"), (".png",)
#: Endings of files beside a raster that change how GDAL reads it.
SIDECARS = (".aux.xml", ".msk", ".ovr")


def check_output(path: Path, overwrite: bool, source: str | Path | None = None) -> None:
    """Raise OutputError where a result cannot or must not be written.

    Args:
        path: of the result.
        overwrite: it may replace an existing file.
        source: what the result is made from; it must be another file.
    """
    _check_name(path)
    if source is not None and same_file(path, source):
        raise OutputError(f"{path}: the output is the input; choose another name")
    if path.suffix.lower() not in (*TIFF, *PNG):
        raise OutputError(f"{path}: results are written as .tif (COG) or .png")
    check_file(path, overwrite)
    for ending in SIDECARS:
        beside = path.with_name(path.name + ending)
        if beside.is_dir():
            raise OutputError(f"{beside}: this folder is where a file beside {path.name} goes")
    make_folder(path.parent)


def check_not_source(paths: Iterable[Path], sources: Iterable[str]) -> None:
    """Raise OutputError where a result would replace one of the files of its source."""
    sources = list(sources)
    for path in paths:
        if any(same_file(path, source) for source in sources):
            raise OutputError(f"{path}: the source is read from this file; choose another name")


def make_folder(folder: Path) -> None:
    """Create a folder; raise OutputError where files cannot be written into it."""
    _check_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror or error}") from error


@contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Remove a folder, and those above, that were made in this context, if it fails.

    Folders that hold something stay.
    """
    missing = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
    try:
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise


def _check_name(path: Path) -> None:
    if is_remote(path):
        raise OutputError(
            f"{address(path)}: results are written to a local disk; copy them from there"
        )
    check_output_name(path)


def check_not_read(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raise OutputError where a result would be written over a file that it is made from.

    Args:
        outputs: files that will be written.
        inputs: files that are read; addresses and names that only GDAL knows are passed over.
    """
    read = {os.path.realpath(name) for name in inputs if not is_remote(str(name))}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise OutputError(f"{path}: it is read by this command; choose another name or folder")


def same_file(path: Path, source: str | Path) -> bool:
    """Return whether both paths name one existing file."""
    try:
        return os.path.samefile(path, source)
    except OSError:
        return False
