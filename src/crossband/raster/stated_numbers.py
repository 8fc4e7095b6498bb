"""Refuse a number in a raster's metadata whose text GDAL reads in part: `12abc` as 12, `٣` as 0."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from crossband.core.regular_file import read_bytes
from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.gdal import gdal
from crossband.raster.references import is_on_server, parse_vrt

#: What GDAL and Python read alike, and how programs write numbers that are not finite.
_PLAIN = re.compile(
    r"\s*([-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|[-+]?inf(inity)?|-?1\.#(qnan|ind|inf)0*)\s*",
    re.ASCII | re.IGNORECASE,
)
#: What helps.
_SET = "give it another one: gdal_translate -a_nodata, -a_scale, -a_offset"
#: Words of these that GDAL 3.10 reads as 0.
_ZERO = ("NAN", "Nan", "infinity")
#: What states a nodata number, and what states the other numbers that pixels depend on: elements of
#: a VRT or of the file .aux.xml beside a raster, and roles of items in the metadata of a TIFF.
NODATA, LINE = ("nodatavalue", "nodata"), ("scale", "offset", "scaleoffset", "scaleratio")
#: Tags of a TIFF in which GDAL keeps a nodata number, and XML with the rest.
_NODATA, _METADATA = 42113, 42112
#: Most bytes that are read of a directory, and of a text.
_LONGEST = 2**20


def check_numbers(
    root: ElementTree.Element, path: str, kinds: Sequence[str] = (*NODATA, *LINE)
) -> None:
    """Raise InputError for XML of GDAL that states a number in a text that is none.

    Args:
        root: of a VRT, of `.aux.xml`, or of the metadata of a TIFF.
        path: for messages.
        kinds: of the numbers that count.

    >>> check_numbers(ElementTree.fromstring("<a><NoDataValue>1,5</NoDataValue></a>"), "a.vrt")
    Traceback (most recent call last):
    crossband.errors.InputError: a.vrt: its nodatavalue is '1,5', and no plain number; give ...
    """
    for element in root.iter():
        kind = str(element.tag).lower()
        if kind == "item":
            kind = element.get("role", "")
        if kind in kinds:
            _check(kind, element.text or "", path)


def check_stated_numbers(dataset: Any, path: str | Path, kinds: Sequence[str]) -> None:
    """Raise InputError for a raster that states nodata, scale or offset in a text that is none.

    VRTs are looked at before they are opened. Rasters on servers are not: to read the texts would
    take further requests for each.

    Args:
        dataset: of rasterio, or what reads like one.
        path: for messages.
        kinds: of the numbers that count: `NODATA` or `LINE`.
    """
    name = str(getattr(dataset, "name", ""))
    if is_on_server(name):
        return
    if os.path.isfile(f"{name}.aux.xml"):
        _check_xml(read_bytes(f"{name}.aux.xml"), f"{path}.aux.xml", kinds)
    if getattr(dataset, "driver", "") != "GTiff":
        return
    for tag, text in _texts(name):
        if tag == _METADATA:
            _check_xml(text, path, kinds)
        elif kinds == NODATA:
            _check("nodata number", text.decode("latin-1"), path)


def _check_xml(content: bytes, path: str | Path, kinds: Sequence[str]) -> None:
    try:
        root = parse_vrt(content)
    except ValueError:
        return  # GDAL does not read it either
    check_numbers(root, str(path), kinds)


def _check(kind: str, text: str, path: str | Path) -> None:
    if text and (not _PLAIN.fullmatch(text) or text.strip().lstrip("+-") in _ZERO):
        raise InputError(f"{path}: its {kind} is {text[:40]!r}, and no plain number; {_SET}")


def _texts(name: str) -> list[tuple[int, bytes]]:
    """Return the texts in which the first directory of a TIFF states numbers, with their tags.

    GDAL is not asked where the directory is: it would swallow what is wrong with others.
    """
    with gdal(), suppress(OSError, struct.error):  # to read pixels tells what is wrong
        head = remote.read(name, 16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
        count, entry, word, at = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
        size, offset = struct.calcsize(count), struct.unpack_from(order + word, head, at)[0]
        number = struct.unpack(order + count, remote.read(name, size, offset))[0]
        entries = remote.read(name, min(number * entry, _LONGEST), offset + size)
        return _tags(name, entries, order, word)
    return []


def _tags(name: str, entries: bytes, order: str, word: str) -> list[tuple[int, bytes]]:
    """Return the tags that hold numbers as text; of several the first one, as GDAL does.

    Args:
        name: of the file, as GDAL opens it.
        entries: of its directory.
        order: of bytes, and
        word: kind of lengths and places, as `struct` names them.
    """
    head = struct.Struct(f"{order}HH{word}")
    inside = struct.calcsize(word)
    found: dict[int, bytes] = {}
    for at in range(0, len(entries) - head.size - inside + 1, head.size + inside):
        tag, _, length = head.unpack_from(entries, at)
        if tag in (_NODATA, _METADATA) and tag not in found:
            text = entries[at + head.size :][:inside]
            if length > inside:
                text = remote.read(name, min(length, _LONGEST), *struct.unpack(order + word, text))
            found[tag] = text[:length].split(b"\0")[0]
    return list(found.items())
