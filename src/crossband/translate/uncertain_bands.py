"""What the bands of intervals and familiarity hold, in files and in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossband.metrics.families.index import written_index
from crossband.model import Model
from crossband.model.calibration import GUARANTEE, Factors, GuideClass, indices_name, limits
from crossband.model.uncertain import DISSIMILARITY, calibration_of
from crossband.translate.options import IntervalOptions
from crossband.translate.width_files import GuidedWidths

#: Bounds and dissimilarities keep few digits: the others are noise, which files cannot compress.
#: Bounds are multiples of a power of two that is at most the interval's width over 2**WIDTH_BITS,
#: dissimilarities of STEP.
WIDTH_BITS, STEP = 8, np.float32(1 / 256)
#: Unit of what has none.
PLAIN = "1"
#: The tag that says what a dissimilarity means.
FAMILIARITY_TAG, ABOVE_ONE = "CROSSBAND_FAMILIARITY", "above 1: unlike the training places"
#: Names of the widths of a quantity end so.
SIDES = ("below", "above")
#: Widths below this one count as this one: the bounds are left as they are.
_LEAST_WIDTH = np.float32(1e-20)
#: The bits of a float32 that hold its exponent, which is above 23 others.
_EXPONENT = np.int32(0x7F800000)


@dataclass(frozen=True)
class Bounds:
    """The interval of one quantity.

    Attributes:
        quantity: a target band or an index.
        unit: of the result.
        channel: of its lower width among the further channels; the upper one is the next.
        factor: by which widths are multiplied.
        low: no interval goes below this.
        high: or above this.
        factors: whose places the factor is from.
    """

    quantity: str
    unit: str
    channel: int
    factor: float
    low: float
    high: float
    factors: Factors

    @classmethod
    def of(
        cls,
        model: Model,
        quantity: str,
        unit: str,
        options: IntervalOptions,
        sensor: str | None,
        guide: GuideClass | None = None,
    ) -> Bounds:
        """Return the interval of a quantity at the level of the options.

        Raises:
            CrossbandError: it was not calibrated, or not for this level.
        """
        calibration = calibration_of(model)
        assert options.interval is not None
        factor, factors = calibration.factor(
            quantity, unit, options.interval, options.promise, sensor, guide=guide
        )
        target_unit = model.signature.target_unit(unit)
        low, high = limits(quantity, target_unit)
        channel = 2 * calibration.quantities.index(quantity)
        if guide is not None:  # these widths follow those of results without a guide
            channel += 2 * len(calibration.quantities)
        return cls(quantity, target_unit, channel, factor, low, high, factors)

    def apply(
        self, values: NDArray[np.float32], further: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return lower and upper values [2, h, w] of values [h, w]."""
        below, above = further[self.channel : self.channel + 2] * np.float32(self.factor)
        return rounded_outwards(values - below, values + above, (self.low, self.high))


def rounded_outwards(
    lower: NDArray[np.float32], upper: NDArray[np.float32], ends: tuple[float, float]
) -> NDArray[np.float32]:
    """Return bounds [2, h, w] within the range of the quantity, with few digits.

    They hold what of `lower` to `upper` lies in the range. Intervals become wider by at most one
    part in 128, see `WIDTH_BITS`.
    """
    bounds = np.clip(np.stack([lower, upper]), *ends)
    width = np.maximum(bounds[1] - bounds[0], _LEAST_WIDTH)
    power = width.view(np.int32) & _EXPONENT  # of the largest power of two that is not above it
    step = (power - (WIDTH_BITS << 23)).view(np.float32)
    bounds /= step
    np.floor(bounds[0], out=bounds[0])
    np.ceil(bounds[1], out=bounds[1])
    bounds *= step
    return np.clip(bounds, *ends)


@dataclass(frozen=True)
class BandIntervals:
    """The content of an interval file: lower and upper values of quantities.

    Attributes:
        bounds: of each quantity.
    """

    bounds: tuple[Bounds, ...]

    def __call__(
        self,
        known: Mapping[str, NDArray[np.float32]],
        further: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return values [2 x quantities, h, w] and where they are defined."""
        parts = []
        for bound in self.bounds:
            values = known.get(bound.quantity)
            if values is None:
                values, defined = written_index(bound.quantity, known, bound.unit)
                mask = mask & defined
            parts.append(bound.apply(values, further))
        out = np.concatenate(parts)
        return np.where(mask, out, np.float32(0)), mask


@dataclass(frozen=True)
class GuidedIntervals:
    """The content of an interval file of a guided result.

    Attributes:
        guided: intervals where the guide is valid.
        plain: those elsewhere: there nothing was measured. None leaves these pixels out.
    """

    guided: BandIntervals
    plain: BandIntervals | None

    def __call__(
        self,
        known: Mapping[str, NDArray[np.float32]],
        further: NDArray[np.float32],
        mask: NDArray[np.bool_],
        measured: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return values [2 x quantities, h, w] and where they are defined.

        Args:
            known: bands, corrected by the guide.
            further: further channels of the network.
            mask: where the result is valid.
            measured: where the guide is.
        """
        if self.plain is None:
            return self.guided(known, further, mask & measured)
        values, defined = self.guided(known, further, mask)
        plain, _ = self.plain(known, further, mask)
        return np.where(measured, values, plain), defined


@dataclass(frozen=True)
class FurtherBands:
    """The content of a file of further channels as they are: widths before any factor, familiarity.

    Attributes:
        channels: which ones.
        step: values become multiples of it; None leaves them as they are.
    """

    channels: slice
    step: np.float32 | None = None

    def __call__(
        self,
        known: Mapping[str, NDArray[np.float32]],
        further: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return values [channels, h, w] and the mask."""
        values = further[self.channels]
        if self.step is not None:
            values = np.round(values / self.step) * self.step
        return np.where(mask, values, np.float32(0)), mask


#: What a file beside a result holds.
Content = BandIntervals | GuidedIntervals | FurtherBands | GuidedWidths
#: Dissimilarity in units of its limit.
FAMILIARITY_BAND = FurtherBands(slice(-1, None), STEP)


@dataclass(frozen=True)
class SureBands:
    """The bands of a result in memory: the target's, the bounds of each, and the dissimilarity.

    Attributes:
        target: bands that the model makes.
        bounds: of each of them; none without intervals.
        familiarity: whether the dissimilarity follows.
        tags: of the bounds.
        widths: quantity -> channel of its lower width, of which intervals of means are made: these
            widths come last, before any factor.
    """

    target: tuple[str, ...]
    bounds: tuple[Bounds, ...]
    familiarity: bool
    tags: Mapping[str, str]
    widths: Mapping[str, int]

    @classmethod
    def of(
        cls,
        model: Model,
        options: IntervalOptions,
        unit: str,
        sensor: str | None,
        widths: Sequence[str] = (),
    ) -> Self:
        """Return the bands that the options ask for.

        Args:
            model: from `ready_model`.
            options: level, promise, familiarity.
            unit: of the source.
            sensor: of the source, where it was declared.
            widths: calibrated quantities whose widths follow in place of the bounds.

        Raises:
            CrossbandError: a band was not calibrated, or not for this level.
        """
        target, bounds, tags = tuple(model.signature.target), tuple[Bounds, ...](), {}
        channels = {}
        if widths:
            quantities = calibration_of(model).quantities
            channels = {name: 2 * quantities.index(name) for name in widths}
        elif options.interval is not None:
            bounds = tuple(Bounds.of(model, q, unit, options, sensor) for q in target)
            tags = interval_tags(model, bounds, options)
        return cls(target, bounds, options.familiarity, tags, channels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the bands."""
        sides = [f"{b.quantity}_{side}" for b in self.bounds for side in ("lower", "upper")]
        widths = [f"{name}_{side}" for name in self.widths for side in SIDES]
        return (*self.target, *sides, *([DISSIMILARITY] if self.familiarity else []), *widths)

    def attributes(self, unit: str) -> dict[str, Any]:
        """Return the attributes of an array of these bands, whose target is in a unit.

        `units` is a list, one of each band, where they differ, as rioxarray has it.
        """
        units = [unit] * len(self.names)
        if self.familiarity:
            units[self.names.index(DISSIMILARITY)] = PLAIN
        for name in self.widths:
            if indices_name(name) is not None:
                for side in SIDES:
                    units[self.names.index(f"{name}_{side}")] = PLAIN
        words = {FAMILIARITY_TAG: ABOVE_ONE} if self.familiarity else {}
        return {"units": unit if {*units} == {unit} else units, **self.tags, **words}

    def apply(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the bands [n, h, w] of all channels [C, h, w] of the model's output."""
        made, further = values[: len(self.target)], values[len(self.target) :]
        parts = [made]
        if self.bounds:
            known = dict(zip(self.target, made, strict=True))
            parts.append(BandIntervals(self.bounds)(known, further, mask)[0])
        if self.familiarity:
            parts.append(FAMILIARITY_BAND({}, further, mask)[0])
        parts += [further[channel : channel + 2] for channel in self.widths.values()]
        return np.concatenate(parts)


def interval_tags(
    model: Model, bounds: Sequence[Bounds], options: IntervalOptions
) -> dict[str, str]:
    """Return the tags that say what an interval promises, and by how many places."""
    of = {
        b.quantity: {
            "places": b.factors.places,
            "group": b.factors.group or "all places",
            **({} if b.factors.guide is None else {"guide": b.factors.guide.words}),
        }
        for b in bounds
    }
    return {
        "CROSSBAND_INTERVAL": f"{options.interval:g}",
        "CROSSBAND_INTERVAL_PROMISE": options.promise,
        "CROSSBAND_INTERVAL_CALIBRATION": json.dumps(of),
        "CROSSBAND_INTERVAL_GUARANTEE": GUARANTEE,
        "CROSSBAND_INTERVAL_ERRORS": calibration_of(model).fitted,
    }
