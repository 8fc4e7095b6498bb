"""Judge intervals by place: coverage, width, interval score, and error by familiarity.

A place is a group of the manifest in one unit. Each place has the same weight, whatever number of
pixels it has, as in the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core.conformal import interval_score, poor_below
from crossband.errors import CrossbandError
from crossband.evaluation.evaluation import allowed_indices, index_maps, sensor_name, valid_mask
from crossband.evaluation.intervals import MIN_GROUPS, bootstrap_weights, percentile_interval
from crossband.model import Model
from crossband.model.calibration import WINDOWS, Factors, GuideClass, limits
from crossband.model.uncertain import calibration_of, uncertain_model
from crossband.raster.grid import Window
from crossband.translate.options import IntervalOptions, TileOptions
from crossband.translate.uncertain_bands import rounded_outwards
from crossband.translate.window import translate_window

Array = NDArray[np.float64]
#: Levels at which the observed share is held against the nominal one.
TEN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Ends of the classes of dissimilarity, in units of its limit.
ENDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
#: Smallest share of valid pixels of a window whose mean is judged.
FILLED = 0.9
#: What is summarised: unit of the source, quantity, side of the windows, and class of the guides.
_Kind = tuple[str, str, int, GuideClass | None]


@dataclass
class _Place:
    """Sums over the pixels, or windows, of one place.

    Attributes:
        sensor: of its first row.
        calibrated: number of places of the calibration.
        n: pixels or windows.
        sums: coverage at the level, width and interval score.
        covered: how many are covered at each of `TEN`; NaN where a level cannot be promised.
        error: sum of absolute errors in each class of dissimilarity.
        inside: how many are covered at the level in each class.
        counts: pixels in each class.
    """

    sensor: str
    calibrated: int
    n: int = 0
    sums: Array = field(default_factory=lambda: np.zeros(3))
    covered: Array = field(default_factory=lambda: np.zeros(len(TEN)))
    error: Array = field(default_factory=lambda: np.zeros(len(ENDS) + 1))
    inside: Array = field(default_factory=lambda: np.zeros(len(ENDS) + 1))
    counts: Array = field(default_factory=lambda: np.zeros(len(ENDS) + 1))


@dataclass(frozen=True)
class Widths:
    """The widths of the errors of one quantity, before any factor.

    Attributes:
        maps: [2, h, w], below and above the output.
        guide: the class whose factors multiply them; None for a result without a guide.
        measured: [h, w], where the guide is valid: elsewhere both widths and factors are those of a
            result without a guide. None for such a result.
    """

    maps: NDArray[np.float32]
    guide: GuideClass | None = None
    measured: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SureOutput:
    """The output for a pair, with what is known of its errors.

    Attributes:
        output: the target bands.
        widths: of each quantity that has intervals.
        far: [h, w], the dissimilarity; None where it is not known.
    """

    output: Window
    widths: Mapping[str, Widths]
    far: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Errors:
    """Truth, output and widths of one quantity, of n pixels or windows.

    `measured` says which have the factor of a guide; it is None without one. `far` may be unknown.
    """

    truth: Array
    made: Array
    below: Array
    above: Array
    measured: NDArray[np.bool_] | None
    far: Array | None


class PlaceIntervals:
    """Holds the intervals of a model against the truth, row by row.

    Args:
        model: with a calibration.
        options: level and promise.
        device: auto, cpu, cuda, mps.
        precision: of the model.

    Raises:
        CrossbandError: the model has no calibration.
    """

    def __init__(
        self, model: Model, options: IntervalOptions, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.model, self.options = model, options
        self.calibration = calibration_of(model)
        self._tile = TileOptions(device=device, precision=precision)
        self._places: dict[tuple[_Kind, str], _Place] = {}

    def translate(self, source: Window) -> tuple[Window, NDArray[np.float32]]:
        """Return the output of a source, and its further channels."""
        sure = uncertain_model(self.model, source.unit)
        made, count = translate_window(sure, source, self._tile), self.bands
        names = tuple(self.model.signature.target)
        return replace(made, values=made.values[:count], bands=names), made.values[count:]

    @property
    def bands(self) -> int:
        """Number of target bands."""
        return len(self.model.signature.target)

    def sure(self, row: Mapping[str, Any], source: Window) -> SureOutput:
        """Return the output for a pair, with the widths of its errors."""
        output, further = self.translate(source)
        names = enumerate(self.calibration.quantities)
        return SureOutput(
            output,
            {name: Widths(further[2 * n : 2 * n + 2]) for n, name in names},
            None if self.calibration.familiar is None else further[-1],
        )

    def add(self, row: Mapping[str, Any], source: Window, target: Window) -> None:
        """Add a pair.

        Raises:
            CrossbandError: a band was not calibrated in this unit, or not for this level.
        """
        found = self.sure(row, source)
        output, far, names = found.output, found.far, self.calibration.quantities
        allowed = allowed_indices(names[self.bands :], source, target)
        for number, name in enumerate(names):
            widths = found.widths.get(name)
            if widths is None:
                continue
            mask = valid_mask(source, target) & output.mask
            if widths.measured is not None and self.calibration.needs_guide:
                mask &= widths.measured
            if number < self.bands:
                truth, made = target.values[number], output.values[number]
            elif name in allowed:
                truth, made, defined = index_maps(name, source, target, output)
                mask &= defined & np.isfinite(made)
            else:
                continue
            low, high = limits(name, target.unit)
            maps = (np.clip(truth, low, high), np.clip(made, low, high), *widths.maps)
            for side in WINDOWS:
                # Far pixels are classes of pixels: a mean over a window has none.
                errors = _errors(maps, widths.measured, far if side == 1 else None, mask, side)
                if len(errors.truth):
                    kind = source.unit, name, side, widths.guide
                    self._add(kind, row, errors, (low, high))

    def maps(
        self, row: Mapping[str, Any], source: Window
    ) -> dict[str, tuple[NDArray[np.float32], float]]:
        """Return the width of the interval of each band, and the dissimilarity of each pixel."""
        found = self.sure(row, source)
        output, level, maps = found.output, self.options.interval, {}
        assert level is not None
        for number, band in enumerate(output.bands):
            widths = found.widths.get(band)
            if widths is None:
                continue
            kind = source.unit, band, 1, widths.guide
            factor, _ = self._factor(kind, level, row, widths.measured)
            ends = limits(band, output.unit)
            below, above = widths.maps
            low, high = _bounds(output.values[number], below, above, factor, ends)
            width = np.asarray(high - low, np.float32)
            seen = width[output.mask & np.isfinite(width)]
            top = float(np.quantile(seen, 0.98)) if len(seen) else 1.0
            maps[f"{band}: width of the {level:.0%} interval, up to {top:.3g}"] = width, top
        if found.far is not None:
            maps["unfamiliar above 1 (half of the colours)"] = found.far, 2.0
        return maps

    def _factor(
        self,
        kind: _Kind,
        level: float,
        row: Mapping[str, Any],
        measured: NDArray[np.bool_] | None,
    ) -> tuple[float | Array, Factors]:
        """Return what widths are multiplied by, of each pixel with a guide, and whose it is.

        Raises:
            CrossbandError: not calibrated, or not at this level.
        """
        unit, name, side, guide = kind
        how = (name, unit, level, self.options.promise, sensor_name(row), side)
        if guide is None or measured is None:
            return self.calibration.factor(*how)
        own, factors = self.calibration.factor(*how, guide)
        plain = math.nan if self.calibration.needs_guide else self.calibration.factor(*how)[0]
        return np.where(measured, own, plain), factors

    def _add(
        self,
        kind: _Kind,
        row: Mapping[str, Any],
        errors: _Errors,
        ends: tuple[float, float],
    ) -> None:
        assert self.options.interval is not None
        try:
            factor, factors = self._factor(kind, self.options.interval, row, errors.measured)
        except CrossbandError:
            if kind[2] == 1:
                raise
            return  # means over windows were not calibrated
        new = _Place(sensor_name(row), factors.places)
        place = self._places.setdefault((kind, str(row["group"])), new)
        parts = errors.made, errors.below, errors.above
        low, high = _bounds(*parts, factor, ends)
        if kind[2] == 1:  # as a file has them
            low, high = rounded_outwards(low.astype(np.float32), high.astype(np.float32), ends)
        inside = (low <= errors.truth) & (errors.truth <= high)
        score = interval_score(low, high, errors.truth, self.options.interval)
        place.n += len(inside)
        place.sums += [inside.sum(), (high - low).sum(), score.sum()]
        for number, level in enumerate(TEN):
            try:
                own, _ = self._factor(kind, level, row, errors.measured)
                bounds = _bounds(*parts, own, ends)
                covered = (bounds[0] <= errors.truth) & (errors.truth <= bounds[1])
                place.covered[number] += covered.sum()
            except CrossbandError:
                place.covered[number] = math.nan
        if errors.far is not None:
            at, size = np.searchsorted(ENDS, errors.far, side="right"), len(ENDS) + 1
            place.error += np.bincount(at, np.abs(errors.truth - errors.made), size)
            place.inside += np.bincount(at, inside, size)
            place.counts += np.bincount(at, minlength=size)

    def record(self) -> dict[str, Any]:
        """Return the record for metrics.json; see docs/metrics-schema.md."""
        kinds = sorted(dict.fromkeys(kind for kind, _ in self._places), key=_size)
        return {
            "level": self.options.interval,
            "promise": self.options.promise,
            "levels": list(TEN),
            "quantities": [self._summary(kind) for kind in kinds],
            "familiarity": [found for kind in kinds if (found := self._familiarity(kind))],
            "places": [_place_record(key, place) for key, place in self._places.items()],
        }

    def _of(self, kind: _Kind) -> list[_Place]:
        return [place for (own, _), place in self._places.items() if own == kind]

    def _summary(self, kind: _Kind) -> dict[str, Any]:
        """Return the means over places of a quantity."""
        assert self.options.interval is not None
        places, (unit, name, side, guide) = self._of(kind), kind
        means = np.stack([p.sums / p.n for p in places])
        calibrated = min(p.calibrated for p in places)
        levels = [
            _at_level(np.array([p.covered[n] / p.n for p in places]), level, calibrated)
            for n, level in enumerate(TEN)
        ]
        return {
            "quantity": name,
            "unit": unit,
            "error_unit": self._error_unit(name, unit),
            "window": side,
            **_words(guide),
            "n_places": len(places),
            "n_calibrated": calibrated,
            "coverage": float(means[:, 0].mean()),
            "interval": _interval(means[:, 0]),
            "under": float(np.mean(means[:, 0] < poor_below(self.options.interval) - 1e-9)),
            "width": float(means[:, 1].mean()),
            "score": float(means[:, 2].mean()),
            "levels": [found for found in levels if found is not None],
        }

    def _error_unit(self, quantity: str, unit: str) -> str:
        signature = self.model.signature
        return signature.target_unit(unit) if quantity in signature.target else "1"

    def _familiarity(self, kind: _Kind) -> dict[str, Any] | None:
        """Return error and coverage by class of dissimilarity, means over places."""
        places, (unit, name, side, guide) = self._of(kind), kind
        counts = np.stack([p.counts for p in places])
        if side != 1 or not counts.any():
            return None
        errors, inside = (
            _means(np.stack(values), counts)
            for values in ([p.error for p in places], [p.inside for p in places])
        )
        return {
            "quantity": name,
            "unit": unit,
            **_words(guide),
            "error_unit": self._error_unit(name, unit),
            "ends": list(ENDS),
            "n_places": (counts > 0).sum(axis=0).tolist(),
            "n": counts.sum(axis=0).astype(int).tolist(),
            "mae": errors.tolist(),
            "coverage": inside.tolist(),
        }


def _errors(
    maps: Sequence[NDArray[Any]],
    measured: NDArray[np.bool_] | None,
    far: NDArray[np.float32] | None,
    mask: NDArray[np.bool_],
    side: int,
) -> _Errors:
    """Return truth, output and widths of valid pixels, or means over windows of `side` pixels.

    With a guide, windows are those on its valid pixels, as in the calibration.
    """
    if side == 1:
        values = [np.asarray(a[mask], np.float64) for a in maps]
    else:
        mask = mask if measured is None else mask & measured
        counts = _block_sums(mask.astype(np.float64), side)
        kept = counts >= FILLED * side * side
        values = [_block_sums(np.where(mask, a, 0.0), side)[kept] / counts[kept] for a in maps]
    truth, made, below, above = values
    seen = None if far is None else np.asarray(far[mask], np.float64)
    guided = None if measured is None else measured[mask]
    if guided is not None and side > 1:
        guided = np.ones(len(truth), bool)
    return _Errors(truth, made, below, above, guided, seen)


def _block_sums(values: NDArray[Any], side: int) -> Array:
    """Return the sums over squares of `side` pixels; what is left at the borders is cut."""
    down, across = (length // side for length in values.shape)
    cut = np.asarray(values[: down * side, : across * side], np.float64)
    return np.asarray(cut.reshape(down, side, across, side).sum(axis=(1, 3)))


def _bounds(
    made: NDArray[Any],
    below: NDArray[Any],
    above: NDArray[Any],
    factor: float | Array,
    ends: tuple[float, float],
) -> tuple[Array, Array]:
    """Return lower and upper values, within the range of the quantity."""
    low, high = made - factor * below, made + factor * above
    return np.clip(low, *ends), np.clip(high, *ends)


def _at_level(shares: Array, level: float, calibrated: int) -> dict[str, Any] | None:
    """Return what was observed at a level, and what chance alone would allow.

    The mean over K places of the calibration varies as that over the judged ones does, so the band
    of chance is 1.96 standard deviations of places x sqrt(1 / judged + 1 / K).
    """
    if not np.isfinite(shares).all():
        return None
    spread = float(shares.std(ddof=1)) if len(shares) > 1 else math.nan
    chance = 1.96 * spread * math.sqrt(1 / len(shares) + 1 / calibrated)
    return {
        "level": level,
        "observed": float(shares.mean()),
        "chance": [max(level - chance, 0.0), min(level + chance, 1.0)],
        "places": [float(q) for q in np.quantile(shares, [0.1, 0.9])],
    }


def _interval(values: Array) -> tuple[float, float] | None:
    if len(values) < MIN_GROUPS:
        return None
    return percentile_interval(bootstrap_weights(len(values)) @ values / len(values))


def _means(values: Array, counts: Array) -> Array:
    """Return the mean over places of the mean of each class; NaN for a class without places."""
    known = counts > 0
    shares = np.where(known, values / np.where(known, counts, 1), 0.0)
    total = known.sum(axis=0)
    return np.where(total > 0, shares.sum(axis=0) / np.maximum(total, 1), np.nan)


def _size(kind: _Kind) -> tuple[bool, float]:
    """Return by what kinds are sorted: the date of their guides, and the size of the pixels."""
    guide = kind[3]
    return (False, 0.0) if guide is None else (guide.dated, guide.high)


def _words(guide: GuideClass | None) -> dict[str, str]:
    """Return the key of records that names the class of the guides; none without guides."""
    return {} if guide is None else {"guide": guide.words}


def _place_record(key: tuple[_Kind, str], place: _Place) -> Mapping[str, Any]:
    (unit, name, side, guide), group = key
    coverage, width, score = (place.sums / place.n).tolist()
    total = place.counts.sum()
    return {
        "group": group,
        "sensor": place.sensor,
        "unit": unit,
        "quantity": name,
        "window": side,
        **_words(guide),
        "n": place.n,
        "coverage": coverage,
        "width": width,
        "score": score,
        "unfamiliar": float(place.counts[ENDS.index(1.0) + 1 :].sum() / total) if total else None,
    }
