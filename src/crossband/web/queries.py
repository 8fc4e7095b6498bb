"""Parameters of a request: numbers, the bounds of a view, a stretch."""

from __future__ import annotations

import math

from starlette.requests import Request

from crossband.errors import InputError
from crossband.web.shown import Layer
from crossband.web.views import Bounds


def ranges_of(text: str, layer: Layer) -> list[tuple[float, float]]:
    """Read the stretch of each band, as `low,high,low,high,...`."""
    if not text:
        return list(layer.ranges)
    numbers = [number(part) for part in text.split(",")]
    if len(numbers) != 2 * len(layer.bands):
        raise InputError("the stretch needs a low and a high value of each band")
    ranges = list(zip(numbers[::2], numbers[1::2], strict=True))
    if not all(math.isfinite(high - low) for low, high in ranges):
        raise InputError("the stretch is too wide")
    return ranges


def bounds(request: Request) -> Bounds:
    """Read the bounds of the view, as `left,bottom,right,top`."""
    parts = request.query_params.get("bounds", "").split(",")
    if len(parts) != 4:
        raise InputError("the bounds of the view are left, bottom, right and top")
    return Bounds(*(number(part) for part in parts))


def whole_number(text: str) -> int:
    """Read a part of a tile's address."""
    try:
        return int(text[:20])
    except ValueError as error:
        raise InputError("there is no such tile") from error


def number(text: str) -> float:
    """Read a finite number."""
    try:
        number = float(text[:40])
    except ValueError as error:
        raise InputError(f"{text[:40]!r}: a number is needed") from error
    if not math.isfinite(number):
        raise InputError(f"{text[:40]!r}: a number is needed")
    return number
