"""Write intervals and familiarity as files beside a translated scene."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from crossband.core import indices
from crossband.core.warned import warn
from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.calibration import GUARANTEE, Factors, GuideClass, limits
from crossband.model.uncertain import (
    DISSIMILARITY,
    calibration_of,
    counts_as_dated,
    uncertain_model,
)
from crossband.raster.encoding import Encoding
from crossband.raster.output import OutputFile
from crossband.translate.options import IntervalOptions
from crossband.translate.width_files import (
    FACTORS,
    GUIDED_BAND,
    GUIDED_FACTORS,
    GuidedWidths,
    calibrated_windows,
    widths_path,
)

#: Unit of what has none.
PLAIN = "1"
#: Bounds and dissimilarities keep so many digits, as the others are noise that takes half of the
#: time of making a file, and half of its bytes: bounds are multiples of a power of two that is at
#: most the interval's width over 2**WIDTH_BITS, dissimilarities of STEP.
WIDTH_BITS, STEP = 8, np.float32(1 / 256)
#: Widths below this one count as this one: the bounds are left as they are.
_LEAST_WIDTH = np.float32(1e-20)
#: The bits of a float32 that hold its exponent, which is above 23 others.
_EXPONENT = np.int32(0x7F800000)
#: What is said of a guide whose age is not known.
UNDATED = (
    "When guide or scene were taken is not known; --guide-days of translate, or the columns date "
    "and guide_datetime of a manifest, say it"
)


@dataclass(frozen=True)
class Bounds:
    """The interval of one quantity.

    Attributes:
        quantity: a target band or an index.
        channel: of its lower width among the further channels; the upper one is the next.
        factor: by which widths are multiplied.
        low: no interval goes below this.
        high: or above this.
        factors: whose places the factor is from.
    """

    quantity: str
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
        low, high = limits(quantity, model.signature.target_unit(unit))
        channel = 2 * calibration.quantities.index(quantity)
        if guide is not None:  # these widths follow those of results without a guide
            channel += 2 * len(calibration.quantities)
        return cls(quantity, channel, factor, low, high, factors)

    def apply(
        self, values: NDArray[np.float32], further: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return lower and upper values [2, h, w] of values [h, w]."""
        below, above = further[self.channel : self.channel + 2] * np.float32(self.factor)
        lower, upper = np.clip([values - below, values + above], self.low, self.high)
        return np.clip(rounded_outwards(lower, upper), self.low, self.high)


def rounded_outwards(lower: NDArray[np.float32], upper: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return bounds [2, h, w] with few digits; they hold `lower` and `upper`.

    Intervals become wider by at most one part in 128, and by 0.2 % on average; see `WIDTH_BITS`.
    """
    width = np.maximum(upper - lower, _LEAST_WIDTH)
    power = width.view(np.int32) & _EXPONENT  # of the largest power of two that is not above it
    step = (power - (WIDTH_BITS << 23)).view(np.float32)
    bounds = np.stack([lower, upper])
    bounds /= step
    np.floor(bounds[0], out=bounds[0])
    np.ceil(bounds[1], out=bounds[1])
    bounds *= step
    return bounds


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
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    values = np.asarray(indices.compute(bound.quantity, dict(known)), np.float32)
                mask = mask & np.isfinite(values)
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


def ready_model(
    model: Model,
    options: IntervalOptions,
    unit: str,
    guide: GuideClass | None = None,
    extra: Sequence[str] = (),
) -> Model:
    """Return the model that computes what the options ask for, of sources in a unit.

    Args:
        model: loaded model.
        options: level, promise, familiarity.
        unit: of the source.
        guide: the class of the guide, see `guide_class`.
        extra: indices that get intervals, too.

    Raises:
        CrossbandError: the model has no calibration, or knows no familiarity.
    """
    if not options.wanted:
        return model
    familiar = calibration_of(model).familiar
    if options.familiarity and familiar is None:
        raise CrossbandError(f"--familiarity: {model.name} was calibrated without it")
    wanted = () if options.interval is None else (*model.signature.target, *extra)
    return uncertain_model(model, unit, guide, wanted)


def guide_class(
    model: Model,
    options: IntervalOptions,
    found: tuple[float, float] | None,
    unit: str,
    sensor: str | None,
    extra: Sequence[str] = (),
) -> GuideClass | None:
    """Return the calibrated class of a guide; None where no interval is asked for, or no guide.

    A guide whose age is not known counts as one of another date, see `counts_as_dated`.

    Args:
        model: calibrated.
        options: level and promise.
        found: size of the guide's pixels in those of the result, and its age in days or NaN.
        unit: of the source.
        sensor: of the source, where it was declared.
        extra: indices that get intervals, too.

    Raises:
        CrossbandError: guided results like this one were not calibrated, or not at this level.
    """
    if options.interval is None or found is None:
        return None
    ratio, days = found
    quantities = (*model.signature.target, *extra)
    how = (quantities, unit, options.interval, options.promise, sensor)
    dated = counts_as_dated(model, days)
    try:
        guide = calibration_of(model).guide_class(ratio, dated, *how)
    except CrossbandError as error:
        if math.isnan(days):
            raise CrossbandError(f"{error}. {UNDATED}") from error
        raise
    if math.isnan(days):
        of = "another date" if dated else "the same date"
        warn(f"the interval is that of a guide of {of}. {UNDATED}", stacklevel=4)
    return guide


def interval_facts(options: IntervalOptions, guide: GuideClass | None = None) -> dict[str, str]:
    """Return what files depend on by these options; nothing where they ask for nothing."""
    if not options.wanted:
        return {}
    widths = " widths" if options.widths else ""
    of = "" if guide is None else f" {guide.words}"
    how = f"{options.interval} {options.promise} {options.familiarity}{widths}{of}"
    return {"--interval": how}


def uncertain_paths(
    output: Path, extra: Mapping[str, Path], options: IntervalOptions
) -> list[Path]:
    """Return the files beside a result: `nir.interval.tif`, those of indices, familiarity."""
    named = [output, *extra.values()] if options.interval is not None else []
    paths = [path.with_name(f"{path.stem}.interval.tif") for path in named]
    if options.widths:
        paths += [widths_path(path) for path in extra.values()]
    if options.familiarity:
        paths.append(output.with_name(f"{output.stem}.familiarity.tif"))
    return paths


def uncertain_outputs(
    model: Model,
    result: OutputFile,
    extra: Mapping[str, Path],
    options: IntervalOptions,
    unit: str,
    sensor: str | None,
    guide: GuideClass | None = None,
) -> list[OutputFile]:
    """Return the outputs of `uncertain_paths`, and add the level to the tags of the result.

    Args:
        model: calibrated.
        result: the output that they lie beside.
        extra: index -> path.
        options: level, promise, familiarity.
        unit: of the source.
        sensor: of the source, where it was declared.
        guide: the class of the guide.
    """
    paths, outputs = uncertain_paths(result.path, extra, options), []
    if options.interval is not None:
        groups = [(tuple(model.signature.target), result.unit)]
        groups += [((name,), PLAIN) for name in extra]
        for path, (quantities, of_unit) in zip(paths, groups, strict=False):
            how = (unit, options, sensor)
            bounds = tuple(Bounds.of(model, q, *how, guide) for q in quantities)
            names = tuple(f"{q}_{side}" for q in quantities for side in ("lower", "upper"))
            tags = {**result.tags, **interval_tags(model, bounds, options)}
            content: Content = BandIntervals(bounds)
            if guide is not None:
                plain = None
                if not calibration_of(model).needs_guide:
                    plain = BandIntervals(tuple(Bounds.of(model, q, *how) for q in quantities))
                content = GuidedIntervals(BandIntervals(bounds), plain)
            outputs.append(_beside(result, path, names, of_unit, tags, content))
        result.tags = {**result.tags, **outputs[0].tags}
        for name, index in extra.items() if options.widths else ():
            of = (model, name, options, unit, sensor)
            tags = {**result.tags, FACTORS: json.dumps(calibrated_windows(*of))}
            names = (f"{name}_below", f"{name}_above")
            quantities = calibration_of(model).quantities
            first = 2 * quantities.index(name)
            channels = slice(first, first + 2)
            widths: Content = FurtherBands(channels)
            if guide is not None:  # these widths follow those of results without a guide
                first += 2 * len(quantities)
                widths = GuidedWidths(slice(first, first + 2), channels)
                tags[GUIDED_FACTORS] = json.dumps(calibrated_windows(*of, guide))
                names = (*names, GUIDED_BAND)
            outputs.append(_beside(result, widths_path(index), names, PLAIN, tags, widths))
    familiar = calibration_of(model).familiar if options.familiarity else None
    if familiar is not None:
        tags = {**result.tags, "CROSSBAND_FAMILIARITY": "above 1: unlike the training places"}
        names = (DISSIMILARITY,)
        outputs.append(_beside(result, paths[-1], names, PLAIN, tags, FAMILIARITY_BAND))
    return outputs


@dataclass(frozen=True)
class SureBands:
    """The bands of a result in memory: the target's, the bounds of each, and the dissimilarity.

    Attributes:
        target: bands that the model makes.
        bounds: of each of them; none without intervals.
        familiarity: whether the dissimilarity follows.
        tags: of the bounds.
    """

    target: tuple[str, ...]
    bounds: tuple[Bounds, ...]
    familiarity: bool
    tags: Mapping[str, str]

    @classmethod
    def of(cls, model: Model, options: IntervalOptions, unit: str, sensor: str | None) -> Self:
        """Return the bands that the options ask for.

        Args:
            model: from `ready_model`.
            options: level, promise, familiarity.
            unit: of the source.
            sensor: of the source, where it was declared.

        Raises:
            CrossbandError: a band was not calibrated, or not for this level.
        """
        target, bounds, tags = tuple(model.signature.target), tuple[Bounds, ...](), {}
        if options.interval is not None:
            bounds = tuple(Bounds.of(model, q, unit, options, sensor) for q in target)
            tags = interval_tags(model, bounds, options)
        return cls(target, bounds, options.familiarity, tags)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the bands."""
        sides = [f"{b.quantity}_{side}" for b in self.bounds for side in ("lower", "upper")]
        return (*self.target, *sides, *([DISSIMILARITY] if self.familiarity else []))

    def apply(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the bands [n, h, w] of all channels [C, h, w] of the model's output."""
        made, further = values[: len(self.target)], values[len(self.target) :]
        parts = [made]
        if self.bounds:
            known = dict(zip(self.target, made, strict=True))
            parts.append(BandIntervals(self.bounds)(known, further, mask)[0])
        if self.familiarity:
            parts.append(FAMILIARITY_BAND({}, further, mask)[0])
        return np.concatenate(parts)


def _beside(
    result: OutputFile,
    path: Path,
    bands: tuple[str, ...],
    unit: str,
    tags: Mapping[str, str],
    content: Content,
) -> OutputFile:
    plain = Encoding("float32", nodata=float("nan"))
    cog = replace(result.cog, quick=True)
    return replace(
        result,
        path=path,
        bands=bands,
        unit=unit,
        encoding=plain,
        tags=tags,
        cog=cog,
        content=content,
    )


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
