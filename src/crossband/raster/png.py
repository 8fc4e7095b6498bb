"""Check that a PNG is complete, because GDAL reads a truncated one without an error.

GDAL's fast path for whole pictures ignores checksums and returns uninitialised memory for missing
pixels. Its slow path checks them, but takes twice as long. So the checksums are tested when the
file is opened, which takes a twentieth of the time of reading it.
"""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

from crossband.core.regular_file import open_regular_file
from crossband.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(path: str | Path) -> None:
    """Raise InputError for a PNG with a missing chunk or a wrong CRC.

    A chunk is length, type, data and the CRC-32 of type and data (PNG specification, 3rd edition,
    section 5.3).
    """
    try:
        with (
            open_regular_file(path) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if data[:8] == _SIGNATURE and not _is_whole(data):
                raise InputError(f"{path}: cannot be read: the PNG is cut off or damaged")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _is_whole(data: mmap.mmap) -> bool:
    at = len(_SIGNATURE)
    with memoryview(data) as view:
        while at + 12 <= len(view):
            end = at + 12 + int.from_bytes(view[at : at + 4])
            kind = bytes(view[at + 4 : at + 8])
            if end > len(view):
                return False
            with view[at + 4 : end - 4] as part:
                if zlib.crc32(part) != int.from_bytes(view[end - 4 : end]):
                    return False
            if kind == b"IEND":
                return True
            at = end
    return False
