"""`calibration.json`: the calibration of a model. The file is not trusted, and is checked.

It holds weights of a small head for the widths of intervals, the factors by which these widths are
multiplied at each level, and what surroundings were like at the places that it was fitted on. Every
value is checked before use; nothing is executed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core import indices
from crossband.core.conformal import PROMISES, Scores, highest_level, threshold
from crossband.core.json_text import read_strict_json
from crossband.core.sensors import VALID_RANGE
from crossband.errors import CrossbandError, ModelError
from crossband.model.files import CALIBRATION

FORMAT = 2
#: Levels of the stored factors; a level between two of them takes the higher one.
LEVELS = tuple(round(0.01 * n, 2) for n in range(5, 100))
#: Sides in pixels of the windows whose means are calibrated beside single pixels.
WINDOWS = (1, 10, 50)
#: Fewer places of a sensor than this share the calibration of all sensors.
OWN = 40
#: Largest numbers of one list, and of lists in a list.
_MOST, _ROWS = 4096, 1024
#: Kinds of wrong and unusual inputs that familiarity is shown.
BANDS, OFFSET, HAZE, NIGHT = "bands", "offset", "haze", "night"
GUARANTEE = (
    "On average over places like those of the calibration, at least the stated share of a new "
    "place's pixels lies between lower and upper value; and no larger share of new places than may "
    "be missed misses more than twice as much (at 90 %: at most 10 % of places are covered to less "
    "than 80 %). Nothing is promised for one place, one pixel, or places unlike these."
)


@dataclass(frozen=True)
class Factors:
    """By what the widths of one quantity are multiplied, at each of `LEVELS`.

    Attributes:
        quantity: a target band or an index.
        unit: of the source.
        window: side in pixels of the windows whose mean is meant; 1 for pixels.
        group: whose places these are, as a sensor; empty for all places.
        sensors: of the places.
        places: number of places of the calibration.
        mean: the factor at each level for the promise `mean`, see `conformal.threshold`; infinite
            where there are too few places.
        strict: the same for the promise `places`.
    """

    quantity: str
    unit: str
    window: int
    group: str
    sensors: tuple[str, ...]
    places: int
    mean: tuple[float, ...]
    strict: tuple[float, ...]

    @classmethod
    def of(
        cls,
        quantity: str,
        unit: str,
        window: int,
        group: str,
        sensors: tuple[str, ...],
        scores: Scores,
    ) -> Factors:
        """Return the factors that the scores of places give."""
        mean, strict = (
            tuple(threshold(scores, level, promise) for level in LEVELS) for promise in PROMISES
        )
        places = sum(len(place) > 0 for place in scores)
        return cls(quantity, unit, window, group, sensors, places, mean, strict)

    def at(self, level: float, promise: str) -> float:
        """Return the factor at a level; at the next higher one where it is not stored.

        Raises:
            CrossbandError: the level is outside of 0 to 1, or these places cannot promise it.
        """
        if promise not in PROMISES:
            raise CrossbandError(f"--promise {promise}: {' or '.join(PROMISES)}")
        if not 0 < level < 1:
            raise CrossbandError(f"--interval {level:g}: a share between 0 and 1, as 0.9")
        factors = self.mean if promise == PROMISES[0] else self.strict
        for stored, factor in zip(LEVELS, factors, strict=True):
            if stored >= level - 1e-9 and math.isfinite(factor):
                return factor
        best = max((v for v, f in zip(LEVELS, factors, strict=True) if math.isfinite(f)), default=0)
        raise CrossbandError(
            f"--interval {level:g}: the calibration has {self.places} places of {self.quantity} in "
            f"{self.unit}, which promise at most {best:g}"
            + (f" (level <= K / (K + 1) = {highest_level(self.places):.3f})" if best else "")
        )


@dataclass(frozen=True)
class Head:
    """A small network for the widths, as arrays; see `networks.uncertainty`.

    Attributes:
        cells: [hidden, F] weights of the surroundings.
        pixels: [hidden, P] weights of the source bands, the output and its square.
        bias: [hidden].
        out: [2 x quantities, hidden].
        out_bias: [2 x quantities].
    """

    cells: NDArray[np.float32]
    pixels: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]
    out_bias: NDArray[np.float32]


@dataclass(frozen=True)
class Wrong:
    """A small network that tells wrong inputs from right ones by their surroundings.

    Attributes:
        unit: of the sources that it knows.
        kinds: of wrong inputs: `BANDS`, `OFFSET`, `HAZE`, `NIGHT`.
        cells: [hidden, F] weights of the surroundings.
        bias: [hidden].
        out: [kinds, hidden].
        out_bias: [kinds]; log-odds of each kind against right inputs.
        limit: log-odds of all kinds together above which an input looks wrong.
        spread: of these log-odds, over right inputs.
    """

    unit: str
    kinds: tuple[str, ...]
    cells: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]
    out_bias: NDArray[np.float32]
    limit: float
    spread: float


@dataclass(frozen=True)
class Familiar:
    """The surroundings of the training places, by which others are familiar or not.

    Attributes:
        turn: [D, F] turns standardised surroundings into directions of equal spread.
        usual: [F] mean surroundings.
        centres: [K, D].
        distance: mean distance of a training sample to the nearest centre, the unit of the index.
        limit: dissimilarity above which surroundings are unfamiliar.
        bands: name -> 1 %, 50 % and 99 % quantile of the source's values, for each unit.
        wrong: None where no wrong inputs were shown.
    """

    turn: NDArray[np.float32]
    usual: NDArray[np.float32]
    centres: NDArray[np.float32]
    distance: float
    limit: float
    bands: dict[str, dict[str, tuple[float, float, float]]]
    wrong: Wrong | None = None


@dataclass(frozen=True)
class Calibration:
    """What a model folder knows of its errors.

    Attributes:
        weights: SHA-256 of the weights that were calibrated.
        quantities: target bands, then indices, in the order of the head's outputs.
        factors: of each quantity, unit, window and group.
        fitted: how the errors were found.
        sources: what the places are.
        head: of the widths; None for constant ones.
        familiar: None where familiarity was not fitted.
    """

    weights: str
    quantities: tuple[str, ...]
    factors: tuple[Factors, ...]
    fitted: str
    sources: tuple[str, ...]
    head: Head | None = None
    familiar: Familiar | None = None

    def find(
        self, quantity: str, unit: str, sensor: str | None = None, window: int = 1
    ) -> list[Factors]:
        """Return the factors of a quantity: of the groups with places of a sensor, else of all.

        Raises:
            CrossbandError: it was not calibrated.
        """
        found = [
            f for f in self.factors if (f.quantity, f.unit, f.window) == (quantity, unit, window)
        ]
        if not found:
            known = sorted({f"{f.quantity} in {f.unit}" for f in self.factors if f.window == 1})
            raise CrossbandError(
                f"--interval: {quantity} of a {unit} source was not calibrated; this model has "
                f"{', '.join(known)}; crossband calibrate --index adds an index"
            )
        return [f for f in found if f.group and sensor in f.sensors] or found

    def factor(
        self,
        quantity: str,
        unit: str,
        level: float,
        promise: str = PROMISES[0],
        sensor: str | None = None,
        window: int = 1,
    ) -> tuple[float, Factors]:
        """Return the factor of a scene, and whose places it is from.

        Where several groups could be meant, as for a sensor without places of its own, it is the
        largest: an interval that is too wide breaks no promise.

        Raises:
            CrossbandError: not calibrated, or not at this level; see `Factors.at`.
        """
        found, refused = [], []
        for factors in self.find(quantity, unit, sensor, window):
            try:
                found.append((factors.at(level, promise), factors))
            except CrossbandError as error:
                refused.append(error)
        if not found:
            raise refused[-1]
        return max(found, key=lambda pair: pair[0])

    def save(self, folder: Path) -> Path:
        """Write `calibration.json`."""
        data = {"format": FORMAT, "guarantee": GUARANTEE, **_plain(asdict(self))}
        path = folder / CALIBRATION
        path.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
        return path


def limits(quantity: str, unit: str) -> tuple[float, float]:
    """Return the range that an interval of a quantity never leaves."""
    if quantity in indices.BOUNDED:
        return -1.0, 1.0
    return VALID_RANGE[unit] if indices_name(quantity) is None else (-math.inf, math.inf)


def indices_name(quantity: str) -> str | None:
    """Return the name of an index, None for a band."""
    try:
        indices.required_bands(quantity)
    except CrossbandError:
        return None
    return quantity


def read_calibration(folder: Path, weights: str) -> Calibration | None:
    """Return the calibration of a model folder; None where it has none.

    Args:
        folder: of the model.
        weights: SHA-256 of the folder's weights.

    Raises:
        ModelError: it is damaged, or of other weights.
    """
    path = folder / CALIBRATION
    if not os.path.exists(path):
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
    head, familiar = data["head"], data["familiar"]
    return Calibration(
        _text(data["weights"]),
        quantities,
        factors,
        _text(data["fitted"]),
        tuple(_text(s) for s in _list(data["sources"], _MOST)),
        None if head is None else _head(head, 2 * len(quantities)),
        None if familiar is None else _familiar(familiar),
    )


def _factors(data: Any, quantities: Sequence[str]) -> Factors:
    numbers = [[math.inf if v is None else _number(v) for v in _list(data[key], len(LEVELS))]
               for key in ("mean", "strict")]  # fmt: skip
    window, places = data["window"], data["places"]
    if data["quantity"] not in quantities:
        raise ValueError(f"factors of {data['quantity']!r:.60}, which is no quantity")
    if window not in WINDOWS or not isinstance(places, int) or not 0 <= places < 10**9:
        raise ValueError("a window or a number of places that is not possible")
    for values in numbers:
        if len(values) != len(LEVELS) or values != sorted(values):
            raise ValueError("factors that do not rise with the level")
    sensors = tuple(_text(s) for s in _list(data["sensors"], _ROWS))
    mean, strict = map(tuple, numbers)
    return Factors(
        _text(data["quantity"]),
        _text(data["unit"]),
        window,
        _text(data["group"]),
        sensors,
        places,
        mean,
        strict,
    )


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
    if not isinstance(data["bands"], dict):
        raise ValueError("no quantiles of the bands")
    bands = {
        _text(unit): {_text(name): _three(q) for name, q in dict(of).items()}
        for unit, of in data["bands"].items()
    }
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
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise ValueError(f"{value!r:.60} is no number of this file")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 1000:
        raise ValueError(f"{value!r:.60} is no line of text")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"no list, or one of more than {most}")
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers rounded to five digits, infinite ones as null."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
