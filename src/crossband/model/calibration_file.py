"""Read `calibration.json`, which is not trusted: every value is checked, nothing is executed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core.json_text import read_strict_json
from crossband.errors import CrossbandError, ModelError
from crossband.model.calibration import (
    BANDS,
    FORMAT,
    HAZE,
    LARGEST_RATIO,
    LEVELS,
    NIGHT,
    OFFSET,
    WINDOWS,
    Calibration,
    Factors,
    Familiar,
    GuideClass,
    Head,
    Wrong,
)
from crossband.model.files import CALIBRATION

#: Largest numbers of one list, and of lists in a list.
_MOST, _ROWS = 4096, 1024
#: Largest number. Surroundings are compared by squares, and by quotients of two squares, in
#: float32.
_LARGEST = 1e6


def read_calibration(folder: Path, weights: str) -> Calibration | None:
    """Return the calibration of a model folder; None where it has none.

    Args:
        folder: of the model.
        weights: SHA-256 of the folder's weights.

    Raises:
        ModelError: it is damaged, or of other weights.
    """
    path = folder / CALIBRATION
    if not os.path.lexists(path):
        return None
    data = read_strict_json(path, ModelError)
    try:
        found = _parsed(data)
    except (KeyError, TypeError, ValueError, OverflowError, CrossbandError) as error:
        what = f"the key {error} is missing" if isinstance(error, KeyError) else error
        raise ModelError(f"{path}: not a calibration: {what}") from error
    if found.weights != weights:
        raise ModelError(
            f"{path}: it is of other weights ({found.weights:.12}, the model has {weights:.12}); "
            "remove it, or calibrate again"
        )
    return found


def _parsed(data: Any) -> Calibration:
    if not isinstance(data, dict) or data["format"] != FORMAT:
        raise ValueError(f"not of format {FORMAT}; crossband calibrate makes a new one")
    quantities = tuple(_text(q) for q in _list(data["quantities"], 64))
    factors = tuple(_factors(f, quantities) for f in _list(data["factors"], _MOST))
    head, familiar, guided = data["head"], data["familiar"], data.get("guided")
    return Calibration(
        _text(data["weights"]),
        quantities,
        factors,
        _text(data["fitted"]),
        tuple(_text(s) for s in _list(data["sources"], _MOST)),
        None if head is None else _head(head, 2 * len(quantities)),
        None if familiar is None else _familiar(familiar),
        None if guided is None else _head(guided, 2 * len(quantities)),
    )


def _factors(data: Any, quantities: Sequence[str]) -> Factors:
    numbers = [[math.inf if v is None else _number(v) for v in _list(data[key], len(LEVELS))]
               for key in ("mean", "strict")]  # fmt: skip
    window, places = _whole(data["window"]), _whole(data["places"])
    if data["quantity"] not in quantities:
        raise ValueError(f"factors of {data['quantity']!r:.60}, which is no quantity")
    if window not in WINDOWS or not 0 <= places < 10**9:
        raise ValueError("a window or a number of places that is not possible")
    for values in numbers:
        if len(values) != len(LEVELS) or values != sorted(values) or values[0] < 0:
            raise ValueError("factors that are negative, or do not rise with the level")
    sensors = tuple(_text(s) for s in _list(data["sensors"], _ROWS))
    mean, strict = map(tuple, numbers)
    guide = data.get("guide")
    return Factors(
        _text(data["quantity"]),
        _text(data["unit"]),
        window,
        _text(data["group"]),
        sensors,
        places,
        mean,
        strict,
        None if guide is None else _guide_class(guide),
    )


def _guide_class(data: Any) -> GuideClass:
    low, high, dated = _number(data["low"]), _number(data["high"]), data["dated"]
    if not isinstance(dated, bool) or not 0 <= low < high <= LARGEST_RATIO:
        raise ValueError("a class of guides that is not possible")
    found = GuideClass.of(low, dated)
    if (found.low, found.high) != (low, high):
        raise ValueError(f"a class of guides from {low:g} to {high:g}")
    return found


def _head(data: Any, outputs: int) -> Head:
    cells, pixels, out = (_matrix(data[key]) for key in ("cells", "pixels", "out"))
    bias, out_bias = _vector(data["bias"]), _vector(data["out_bias"])
    hidden = len(bias)
    if not (len(cells) == len(pixels) == hidden and out.shape == (outputs, hidden)):
        raise ValueError("the sizes of the head do not fit each other")
    if len(out_bias) != outputs:
        raise ValueError("the sizes of the head do not fit each other")
    return Head(cells, pixels, bias, out, out_bias)


def _familiar(data: Any) -> Familiar:
    turn, centres, usual = _matrix(data["turn"]), _matrix(data["centres"]), _vector(data["usual"])
    if turn.shape != (centres.shape[1], len(usual)):
        raise ValueError("the sizes of the centres do not fit each other")
    distance, limit = _number(data["distance"]), _number(data["limit"])
    if distance <= 0 or limit <= 0:
        raise ValueError("a distance that is not positive")
    if not 1 / _LARGEST <= distance * limit <= _LARGEST:
        raise ValueError(f"distances that are not between 0 and {_LARGEST:g}")
    if not isinstance(data["bands"], dict):
        raise ValueError("no quantiles of the bands")
    bands = {_text(unit): _quantiles(of) for unit, of in data["bands"].items()}
    wrong = data.get("wrong")
    of = None if wrong is None else _wrong(wrong, len(usual))
    return Familiar(turn, usual, centres, distance, limit, bands, of)


def _wrong(data: Any, features: int) -> Wrong:
    kinds = tuple(_text(k) for k in _list(data["kinds"], 4))
    cells, out = _matrix(data["cells"]), _matrix(data["out"])
    bias, out_bias = _vector(data["bias"]), _vector(data["out_bias"])
    sizes = cells.shape, len(bias), out.shape, len(out_bias)
    if sizes != ((len(bias), features), len(bias), (len(kinds), len(bias)), len(kinds)):
        raise ValueError("the sizes of the network for wrong inputs do not fit each other")
    if not set(kinds) <= {BANDS, OFFSET, HAZE, NIGHT}:
        raise ValueError(f"wrong inputs of kinds {kinds!r:.60}")
    limit, spread = _number(data["limit"]), _number(data["spread"])
    if spread <= 0:
        raise ValueError("a spread that is not positive")
    return Wrong(_text(data["unit"]), kinds, cells, bias, out, out_bias, limit, spread)


def _quantiles(value: Any) -> dict[str, tuple[float, float, float]]:
    if not isinstance(value, dict):
        raise ValueError("no quantiles of the bands")
    return {_text(name): _three(q) for name, q in value.items()}


def _three(value: Any) -> tuple[float, float, float]:
    low, middle, high = (_number(v) for v in _list(value, 3))
    return low, middle, high


def _matrix(value: Any) -> NDArray[np.float32]:
    rows = [_vector(row) for row in _list(value, _ROWS)]
    if not rows or len({len(row) for row in rows}) > 1:
        raise ValueError("a matrix whose rows differ in length, or without rows")
    return np.stack(rows)


def _vector(value: Any) -> NDArray[np.float32]:
    return np.array([_number(v) for v in _list(value, _MOST)], np.float32)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise ValueError(f"{value!r:.60} is no number of this file")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r:.60} is no whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 1000:
        raise ValueError(f"{value!r:.60} is no line of text")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"no list, or one of more than {most}")
    return value
