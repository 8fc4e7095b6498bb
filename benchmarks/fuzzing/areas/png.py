"""PNG: pixels of known values, changed bytes, odd chunks and heads."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from fuzzing.case import REFUSED, RIGHT, Case, Draw, mutate_bytes
from fuzzing.scenes import LINE, Array, Scene, compare, draw_size, read_by_gdal, translate

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Bands -> type of colour.
_COLOURS = {1: 0, 3: 2, 2: 4, 4: 6}


def case(draw: Draw) -> Case:
    """Draw a case."""
    dtype = draw.choice(("uint8", "uint8", "uint16"))
    top = int(np.iinfo(dtype).max)
    rng = np.random.default_rng(draw.randrange(2**32))
    values = rng.integers(0, top + 1, (draw.choice((3, 3, 3, 4, 1, 2)), *draw_size(draw)))
    values = values.astype(dtype)
    mask = None
    if len(values) in (2, 4):
        mask = rng.random(values.shape[1:]) < 0.8
        mask[0, 0] = True
        values[-1] = np.where(mask, top, 0)
    out = draw.choice(("out.tif", "out.png"))
    sensor = draw.choices(("display", "reflectance", None), (8, 1, 1))[0]
    kind = draw.randrange(5)
    size = must = None
    if kind == 1:
        size = draw.choice(((2**31 - 1, 1), (1, 2**31 - 1), (0, 5), (60000, 60000), (9, 2**20)))
        must = REFUSED
    elif kind in (2, 3):
        must = RIGHT if len(values) > 2 and sensor == "display" else REFUSED
    data = _write(values, _odd_chunk(draw) if kind == 0 else b"", size=size)
    if kind == 4:
        data = mutate_bytes(draw, data)
    scene = Scene(values[:3], "display", (1.0 / top,) * 3, mask=mask) if len(values) > 2 else None

    def check(folder: Path) -> str | None:
        found = scene if must == RIGHT else read_by_gdal(folder / "in.png", "display", (1, 2, 3))
        return "no colours" if found is None else compare(folder / out, found)

    arguments = translate("in.png", *(["--sensor", sensor] if sensor else []), output=out)
    return Case(arguments, {**LINE.files(), "in.png": data}, must, check, (out,))


def _odd_chunk(draw: Draw) -> bytes:
    """Return a chunk that a reader has to pass over, or to refuse."""
    name = draw.choice((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"tRNS", b"eXIf", b"PLTE"))
    bomb = zlib.compress(b"\0" * 10**6, 9) * draw.choice((1, 4))
    data = draw.choice((b"", draw.randbytes(20), b"Comment\0\xe9\xff", b"icc\0\0" + bomb))
    return _chunk(name, data, right=draw.chance(0.8))


def _chunk(name: bytes, data: bytes, *, right: bool = True) -> bytes:
    """Return a chunk; with a wrong checksum where not `right`."""
    check = zlib.crc32(name + data) ^ (0 if right else 1)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def _write(values: Array, extra: bytes = b"", *, size: tuple[int, int] | None = None) -> bytes:
    """Return a PNG of [C, H, W], 8 or 16 bits.

    Args:
        values: grey, grey and alpha, colours, or colours and alpha.
        extra: a chunk between head and pixels.
        size: height and width that the head claims.
    """
    count, height, width = values.shape
    claimed = size or (height, width)
    head = struct.pack(">IIBB3x", claimed[1], claimed[0], values.itemsize * 8, _COLOURS[count])
    rows = values.transpose(1, 2, 0).astype(values.dtype.newbyteorder(">"))
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    pixels = _chunk(b"IDAT", zlib.compress(raw, 1)) + _chunk(b"IEND", b"")
    return _SIGNATURE + _chunk(b"IHDR", head) + extra + pixels
