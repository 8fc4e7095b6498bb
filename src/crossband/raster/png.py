"""Is a PNG whole? GDAL reads one that was cut off as if it were, where all of it is read at once.

Its fast way for whole pictures takes no notice of checksums; what is missing comes back as whatever
was in memory. The slow way does, and takes twice as long. So the checksums are tested when the file
is opened, which takes a twentieth of the time of reading it.
"""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

from crossband.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(path: str | Path) -> None:
    """Raise InputError for a PNG whose chunks do not come to its end, each with its CRC.

    A chunk is length, type, data and the CRC-32 of type and data (PNG specification, 3rd edition,
    section 5.3).
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
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
