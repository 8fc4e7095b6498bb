"""Write TIFF in any layout, by its specification (TIFF 6.0), with tags of any content."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: Tag -> data type and values.
Entries = dict[int, tuple[int, Any]]
#: Numbers of data types: letters of `struct`.
_TYPES = {2: "s", 3: "H", 4: "I", 12: "d", 16: "Q"}
NONE, DEFLATE, ADOBE_DEFLATE, PACKBITS = 1, 32946, 8, 32773
METADATA, NODATA = 42112, 42113
_FORMATS = {"u": 1, "i": 2, "f": 3}


@dataclass
class Layout:
    """How pixels lie in a file.

    Attributes:
        order: `<` or `>`.
        big: BigTIFF.
        planar: band after band, instead of pixel after pixel.
        tile: side of the tiles; None for strips.
        rows: rows of a strip.
        compression: one of the numbers above.
        predictor: 1, 2 (integers) or 3 (floats).
    """

    order: Literal["<", ">"] = "<"
    big: bool = False
    planar: bool = False
    tile: int | None = None
    rows: int = 8
    compression: int = NONE
    predictor: int = 1


def write(
    values: Array,
    layout: Layout | None = None,
    entries: Mapping[int, tuple[int, Any]] | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
) -> bytes:
    """Return a TIFF.

    Args:
        values: [C, H, W].
        layout: of the pixels.
        entries: further tags: number -> data type and values.
        mask: a second directory, True where a pixel is valid.
    """
    layout = layout or Layout()
    out = bytearray(_head(layout, 0))
    own: Entries = {262: (3, [1])}
    if len(values) > 1:
        own[338] = (3, [0] * (len(values) - 1))
    first = _directory(out, values, layout, own | dict(entries or {}))
    out[: len(_head(layout, 0))] = _head(layout, first[0])
    if mask is not None:
        plain = Layout(layout.order, layout.big, rows=10**6)
        bits = np.packbits(mask, axis=1)[None]
        second = _directory(
            out, bits, plain, {254: (4, [4]), 256: (3, [mask.shape[1]]), 262: (3, [4])}, bits=1
        )
        out[first[1] : first[1] + (8 if layout.big else 4)] = struct.pack(
            layout.order + ("Q" if layout.big else "I"), second[0]
        )
    return bytes(out)


def _head(layout: Layout, at: int) -> bytes:
    mark = b"II" if layout.order == "<" else b"MM"
    if layout.big:
        return mark + struct.pack(layout.order + "HHHQ", 43, 8, 0, at)
    return mark + struct.pack(layout.order + "HI", 42, at)


def _directory(
    out: bytearray, values: Array, layout: Layout, entries: Entries, bits: int | None = None
) -> tuple[int, int]:
    """Append pixels and a directory; return where it lies, and where the link to the next does."""
    count, height, width = values.shape
    pieces = _pieces(values, layout)
    offsets = []
    for piece in pieces:
        offsets.append(len(out))
        out += piece + b"\0" * (len(piece) % 2)
    kind = values.dtype
    own: Entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits or kind.itemsize * 8] * count),
        259: (3, [layout.compression]),
        277: (3, [count]),
        284: (3, [2 if layout.planar else 1]),
        339: (3, [_FORMATS[kind.kind]] * count),
    }
    where, sizes = (324, 325) if layout.tile else (273, 279)
    own[where] = (16 if layout.big else 4, offsets)
    own[sizes] = (4, list(map(len, pieces)))
    if layout.tile:
        own |= {322: (4, [layout.tile]), 323: (4, [layout.tile])}
    else:
        own[278] = (4, [min(layout.rows, height)])
    if layout.predictor != 1:
        own[317] = (3, [layout.predictor])
    return _write_entries(out, layout, own | entries)


def _write_entries(out: bytearray, layout: Layout, entries: Entries) -> tuple[int, int]:
    room = 8 if layout.big else 4
    rows = []
    for tag, (kind, given) in sorted(entries.items()):
        letter = _TYPES[kind]
        if letter == "s":
            data = given if isinstance(given, bytes) else str(given).encode() + b"\0"
            number = len(data)
        else:
            data = struct.pack(f"{layout.order}{len(given)}{letter}", *given)
            number = len(given)
        if len(data) > room:
            at, data = len(out), data + b"\0" * (len(data) % 2)
            out += data
            data = struct.pack(layout.order + ("Q" if layout.big else "I"), at)
        rows.append(struct.pack(layout.order + ("HHQ" if layout.big else "HHI"), tag, kind, number))
        rows[-1] += data.ljust(room, b"\0")
    begin = len(out)
    out += struct.pack(layout.order + ("Q" if layout.big else "H"), len(rows)) + b"".join(rows)
    link = len(out)
    out += b"\0" * room
    return begin, link


def _pieces(values: Array, layout: Layout) -> list[bytes]:
    count, height, width = values.shape
    groups = [values[n : n + 1] for n in range(count)] if layout.planar else [values]
    out = []
    for group in groups:
        if layout.tile:
            side = layout.tile
            for row in range(0, height, side):
                for col in range(0, width, side):
                    part = group[:, row : row + side, col : col + side]
                    padded = np.zeros((len(group), side, side), values.dtype)
                    padded[:, : part.shape[1], : part.shape[2]] = part
                    out.append(_encode(padded, layout))
        else:
            rows = min(layout.rows, height)
            out += [_encode(group[:, r : r + rows], layout) for r in range(0, height, rows)]
    return out


def _encode(part: Array, layout: Layout) -> bytes:
    pixels = np.ascontiguousarray(part.transpose(1, 2, 0))
    if layout.predictor == 2:
        pixels = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1]))
        pixels = pixels.astype(part.dtype)
    if layout.predictor == 3:
        data = _float_predicted(pixels)
    else:
        data = pixels.astype(part.dtype.newbyteorder(layout.order)).tobytes()
    if layout.compression in (DEFLATE, ADOBE_DEFLATE):
        return zlib.compress(data, 1)
    if layout.compression == PACKBITS:
        row = len(data) // max(len(pixels), 1)
        return b"".join(_packbits(data[n : n + row]) for n in range(0, len(data), row))
    return data


def _float_predicted(pixels: Array) -> bytes:
    rows, cols, count = pixels.shape
    size = pixels.dtype.itemsize
    planes = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8)
    planes = planes.reshape(rows, cols * count, size).transpose(0, 2, 1).reshape(rows, -1)
    out = planes.copy()
    out[:, count:] -= planes[:, :-count]
    return out.tobytes()


def _packbits(row: bytes) -> bytes:
    """Return literal runs only, which is a valid form."""
    return b"".join(
        bytes([len(row[n : n + 128]) - 1]) + row[n : n + 128] for n in range(0, len(row), 128)
    )
