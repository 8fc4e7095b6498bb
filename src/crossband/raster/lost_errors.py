"""Errors of GDAL that rasterio loses or takes for warnings, and the messages for damaged files.

rasterio decodes GDAL's messages as UTF-8. Where one has other bytes, as those of a tag or of a
file's name, it drops the message, and Python prints a traceback. Where this was an error, a read
that failed gives zeros.

libtiff only warns of a tag whose values lie beyond the end of a file, and leaves it out. A file
whose last bytes are missing would be read without its scale, offset, nodata or CRS.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import rasterio._base

#: Thread in `raise_lost_errors` -> the error that rasterio lost in it; empty for none.
_watching: dict[int, str] = {}
#: Thread in `raise_lost_tags` -> the first warning of a tag that could not be read.
_opening: dict[int, str] = {}
#: What libtiff says of such a tag.
_TAG_LOST = "IO error during reading of"


def raise_lost_errors() -> AbstractContextManager[None]:
    """Raise OSError on exit if rasterio lost an error of GDAL in this context."""
    return _raise_noted(_watching)


def raise_lost_tags() -> AbstractContextManager[None]:
    """Raise OSError on exit if a tag of a TIFF could not be read in this context."""
    return _raise_noted(_opening)


@contextmanager
def _raise_noted(notes: dict[int, str]) -> Iterator[None]:
    thread = threading.get_ident()
    notes[thread] = ""
    try:
        yield
    finally:
        noted = notes.pop(thread)
    if noted:
        raise OSError(noted)


def _note_lost_tags(record: logging.LogRecord) -> bool:
    """Note a warning of a tag that could not be read."""
    thread = threading.get_ident()
    if _opening.get(thread) == "" and _TAG_LOST in (words := record.getMessage()):
        lost = words[words.index(_TAG_LOST) :].partition(";")[0]
        _opening[thread] = f"the file is cut off or damaged: {lost}"
    return True  # further filters may want the message: see `retry`


def decode(error: UnicodeDecodeError) -> str:
    """Return the text that is not UTF-8, in one line."""
    return " ".join(bytes(error.object).decode("latin-1").split())


def install() -> None:
    """Note lost errors and lost tags, and have nothing printed of them, by libtiff or rasterio."""
    # rasterio logs the messages of GDAL that its exceptions have already.
    for name in ("rasterio", "rasterio._err"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warned = logging.getLogger("rasterio._env")
    warned.setLevel(logging.WARNING)
    warned.addFilter(_note_lost_tags)
    warned.addHandler(logging.NullHandler())
    warned.propagate = False
    sys.unraisablehook = unraisable_hook(sys.unraisablehook)
    sys.excepthook = exception_hook(sys.excepthook)
    library = ctypes.CDLL(rasterio._base.__file__)
    # What matters is an error of GDAL, too. A libtiff that is part of GDAL has other names.
    with contextlib.suppress(AttributeError):
        library.TIFFSetErrorHandler(ctypes.c_void_p())
        library.TIFFSetWarningHandler(ctypes.c_void_p())


def unraisable_hook(others: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return a `sys.unraisablehook` that notes lost errors.

    Args:
        others: the hook for everything else.
    """

    def note(problem: Any) -> None:
        error, place = problem.exc_value, str(problem.object)
        if isinstance(error, MemoryError):
            return  # the work that lost it fails, too, and a traceback of each says no more
        if not (isinstance(error, UnicodeDecodeError) and place.startswith("rasterio.")):
            others(problem)
        elif place.endswith(".chaining_error_handler"):  # of an error, not of a warning
            thread = threading.get_ident()
            # In a thread of GDAL, the error belongs to one of the watching threads.
            for watching in [thread] if thread in _watching else list(_watching):
                _watching[watching] = decode(error)

    return note


def exception_hook(others: Callable[..., object]) -> Callable[..., None]:
    """Return a `sys.excepthook` without what Cython prints before it calls `sys.unraisablehook`.

    Args:
        others: the hook for everything else.
    """

    def show(kind: Any, error: BaseException, traceback: Any) -> None:
        # The traceback of an error that nobody caught begins at the outermost function.
        inner = traceback is None or traceback.tb_frame.f_back is not None
        if not (isinstance(error, UnicodeDecodeError) and inner):
            others(kind, error, traceback)

    return show
