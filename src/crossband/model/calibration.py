"""The calibration of a model, which its folder keeps as `calibration.json`.

It holds weights of a small head for the widths of intervals, the factors by which these widths are
multiplied at each level, and what surroundings were like at the places that it was fitted on. The
file is read in `calibration_file`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core import indices
from crossband.core.atomic import write_text_atomically
from crossband.core.conformal import PROMISES, Scores, highest_level, thresholds
from crossband.core.sensors import VALID_RANGE
from crossband.errors import CrossbandError
from crossband.model.files import CALIBRATION

FORMAT = 2
#: Levels of the stored factors; a level between two of them takes the higher one.
LEVELS = tuple(round(0.01 * n, 2) for n in range(5, 100))
#: Sides in pixels of the windows whose means are calibrated beside single pixels.
WINDOWS = (1, 10, 50)
#: Fewer places of a sensor than this share the calibration of all sensors.
OWN = 40
#: Upper end of the first class of guides' pixel sizes, and the largest size, in pixels.
FINEST, LARGEST_RATIO = 1.5, 2.0**16
#: Kinds of wrong and unusual inputs that familiarity is shown.
BANDS, OFFSET, HAZE, NIGHT = "bands", "offset", "haze", "night"
GUARANTEE = (
    "On average over places like those of the calibration, at least the stated share of a new "
    "place's pixels lies between lower and upper value; and no larger share of new places than may "
    "be missed misses more than twice as much (at 90 %: at most 10 % of places are covered to less "
    "than 80 %). Nothing is promised for one place, one pixel, or places unlike these."
)


@dataclass(frozen=True)
class GuideClass:
    """Guides whose results are calibrated together.

    Attributes:
        low: smallest size of a guide's pixels in pixels of the result.
        high: the largest one; it is not in the class.
        dated: whether the guides are of another date than the sources.
    """

    low: float
    high: float
    dated: bool

    @classmethod
    def of(cls, ratio: float, dated: bool) -> GuideClass:
        """Return the class of a guide: below 1.5, 1.5 to 3, 3 to 6, 6 to 12, and so on.

        Pixels of 30 m beside such of 10 m are 2.99 or 3.01 times as large, where the two grids are
        of other zones: the ratio is rounded first.

        >>> GuideClass.of(8.0, False), GuideClass.of(2.991, False) == GuideClass.of(3.0, False)
        (GuideClass(low=6.0, high=12.0, dated=False), True)
        """
        ratio, high = round(ratio, 1), FINEST
        while ratio >= high:
            high *= 2
        return cls(high / 2 if high > FINEST else 0.0, high, dated)

    @property
    def facts(self) -> tuple[float, float]:
        """What the head of guided results is given: the logarithm of the ratio, and the date."""
        return math.log2(max(self.high / 1.5, 1.0)), float(self.dated)

    @property
    def words(self) -> str:
        """The class in words."""
        size = f"{self.low:g} to {self.high:g} times larger" if self.low else "as large, about"
        return f"guide's pixels {size}, {'another' if self.dated else 'the same'} date"


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
        guide: the class of the guides; None for results without one.
    """

    quantity: str
    unit: str
    window: int
    group: str
    sensors: tuple[str, ...]
    places: int
    mean: tuple[float, ...]
    strict: tuple[float, ...]
    guide: GuideClass | None = None

    @classmethod
    def of(
        cls,
        quantity: str,
        unit: str,
        window: int,
        group: str,
        sensors: tuple[str, ...],
        scores: Scores,
        guide: GuideClass | None = None,
    ) -> Factors:
        """Return the factors that the scores of places give."""
        mean, strict = (tuple(thresholds(scores, LEVELS, promise)) for promise in PROMISES)
        places = sum(len(place) > 0 for place in scores)
        return cls(quantity, unit, window, group, sensors, places, mean, strict, guide)

    def at(self, level: float, promise: str) -> float:
        """Return the factor at a level; at the next higher one where it is not stored.

        Raises:
            CrossbandError: the level is outside of 0 to 1, or these places cannot promise it.
        """
        check_level(level, promise)
        factors = self.mean
        if promise != PROMISES[0]:  # of few places chance may make it smaller
            factors = tuple(map(max, self.mean, self.strict))
        for stored, factor in zip(LEVELS, factors, strict=True):
            if stored >= level - 1e-9 and math.isfinite(factor):
                return factor
        best = max((v for v, f in zip(LEVELS, factors, strict=True) if math.isfinite(f)), default=0)
        of = "" if self.guide is None else f" ({self.guide.words})"
        raise CrossbandError(
            f"--interval {level:g}: the calibration has {self.places} places of {self.quantity} in "
            f"{self.unit}{of}, which promise at most {best:g}{self._why(best)}"
        )

    def _why(self, best: float) -> str:
        """Return why no level above the best one can be promised, in brackets."""
        if best == max(LEVELS):
            return " (no higher level is calibrated)"
        return f" (level <= K / (K + 1) = {highest_level(self.places):.3f})" if best else ""


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
        guided: of the widths of guided results; its `cells` have further columns for
            `GuideClass.facts`. None where guided results were not calibrated.
    """

    weights: str
    quantities: tuple[str, ...]
    factors: tuple[Factors, ...]
    fitted: str
    sources: tuple[str, ...]
    head: Head | None = None
    familiar: Familiar | None = None
    guided: Head | None = None

    @property
    def needs_guide(self) -> bool:
        """Whether only results with a guide are calibrated: there is no interval elsewhere."""
        return bool(self.factors) and all(f.guide is not None for f in self.factors)

    @property
    def same_date_only(self) -> bool:
        """Whether results with a guide are calibrated, and all of these guides of the same date."""
        return {f.guide.dated for f in self.factors if f.guide is not None} == {False}

    def only(self, quantities: Sequence[str]) -> Calibration:
        """Return what gives the widths of some quantities; unknown ones are left out."""
        kept = tuple(q for q in self.quantities if q in quantities)
        rows = [2 * self.quantities.index(q) + n for q in kept for n in (0, 1)]
        head, guided = (
            None if h is None else replace(h, out=h.out[rows], out_bias=h.out_bias[rows])
            for h in (self.head, self.guided)
        )
        return replace(self, quantities=kept, head=head, guided=guided)

    def find(
        self,
        quantity: str,
        unit: str,
        sensor: str | None = None,
        window: int = 1,
        guide: GuideClass | None = None,
    ) -> list[Factors]:
        """Return the factors of a quantity: of the groups with places of a sensor, else of all.

        Raises:
            CrossbandError: it was not calibrated.
        """
        wanted = (quantity, unit, window, guide)
        found = [f for f in self.factors if (f.quantity, f.unit, f.window, f.guide) == wanted]
        if not found:
            of = [f for f in self.factors if (f.window, f.guide) == (1, guide)]
            known = sorted({f"{f.quantity} in {f.unit}" for f in of})
            raise CrossbandError(
                f"--interval: {quantity} of a {unit} source was not calibrated; this model has "
                f"{', '.join(known) or 'none'}; crossband calibrate --index adds an index"
            )
        if sensor is None:
            return found
        source = source_sensor(sensor)
        own = [f for f in found if f.group and source in map(source_sensor, f.sensors)]
        return own or found

    def factor(
        self,
        quantity: str,
        unit: str,
        level: float,
        promise: str = PROMISES[0],
        sensor: str | None = None,
        window: int = 1,
        guide: GuideClass | None = None,
    ) -> tuple[float, Factors]:
        """Return the factor of a scene, and whose places it is from.

        Where several groups could be meant, as for a sensor without places of its own, it is the
        largest: an interval that is too wide breaks no promise.

        Raises:
            CrossbandError: not calibrated, or not at this level; see `Factors.at`.
        """
        found, refused = [], []
        for factors in self.find(quantity, unit, sensor, window, guide):
            try:
                found.append((factors.at(level, promise), factors))
            except CrossbandError as error:
                refused.append(error)
        if not found:
            raise refused[-1]
        return max(found, key=lambda pair: pair[0])

    def guide_class(
        self,
        ratio: float,
        dated: bool,
        quantities: Sequence[str],
        unit: str,
        level: float,
        promise: str = PROMISES[0],
        sensor: str | None = None,
    ) -> GuideClass:
        """Return the calibrated class of a guide.

        If its own class has too few places for the level, it is the next one of larger pixels, with
        which results are worse: an interval that is too wide breaks no promise.

        Raises:
            CrossbandError: no class with pixels of this size or larger is calibrated at this level.
        """
        own = GuideClass.of(ratio, dated)
        known = {f.guide for f in self.factors if f.guide is not None and f.window == 1}
        fit = [c for c in known if c.dated == dated and c.high >= own.high]
        refused = None
        for guide in sorted(fit, key=lambda c: c.high):
            try:
                for name in quantities:
                    self.factor(name, unit, level, promise, sensor, guide=guide)
            except CrossbandError as error:
                refused = refused or error
            else:
                return guide
        if refused is not None:
            raise refused
        there = "; ".join(c.words for c in sorted(known, key=lambda c: (c.dated, c.high)))
        raise CrossbandError(
            f"--interval: results with a guide like this one ({own.words}) were not calibrated; "
            f"this model has {there or 'no calibration of guided results'}"
        )

    def save(self, folder: Path) -> Path:
        """Write `calibration.json`; an older one stays until this is whole."""
        path = folder / CALIBRATION
        write_text_atomically(path, self._text())
        return path

    @functools.cached_property
    def fact(self) -> str:
        """Words that change with any number of it."""
        return hashlib.blake2b(self._text().encode(), digest_size=12).hexdigest()

    def _text(self) -> str:
        own = asdict(self)
        for factors in own["factors"]:  # a smaller factor would cover less than was promised
            for promise in ("mean", "strict"):
                factors[promise] = [_not_below(value) for value in factors[promise]]
        data = {"format": FORMAT, "guarantee": GUARANTEE, **_plain(own)}
        return json.dumps(data, separators=(",", ":")) + "\n"


def check_level(level: float, promise: str) -> None:
    """Raise CrossbandError for a level outside of 0 to 1, or an unknown promise."""
    if promise not in PROMISES:
        raise CrossbandError(f"--promise {promise}: {' or '.join(PROMISES)}")
    if not 0 < level < 1:
        raise CrossbandError(f"--interval {level:g}: a share between 0 and 1, as 0.9")


def source_sensor(name: str) -> str:
    """Return the sensor of the source of pairs, which may be named as `naip to sentinel-2-l2a`."""
    return name.partition(" to ")[0]


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


def _not_below(value: float) -> float:
    """Return a number of five digits that is not below a positive one."""
    if not math.isfinite(value) or value <= 0:
        return value
    digits = 4 - math.floor(math.log10(value))
    rounded = float(f"{value:.5g}")
    return rounded if rounded >= value else float(f"{rounded + 10.0**-digits:.5g}")
