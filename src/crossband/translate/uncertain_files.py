"""Write intervals and familiarity as files beside a translated scene."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossband.core import indices
from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.calibration import GUARANTEE, Factors, limits
from crossband.model.uncertain import DISSIMILARITY, calibration_of, uncertain_model
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Window
from crossband.raster.output import OutputFile
from crossband.translate.options import IntervalOptions

#: Unit of what has none.
PLAIN = "1"


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
        cls, model: Model, quantity: str, unit: str, options: IntervalOptions, sensor: str | None
    ) -> Bounds:
        """Return the interval of a quantity at the level of the options.

        Raises:
            CrossbandError: it was not calibrated, or not for this level.
        """
        calibration = calibration_of(model)
        assert options.interval is not None
        factor, factors = calibration.factor(
            quantity, unit, options.interval, options.promise, sensor
        )
        low, high = limits(quantity, model.signature.target_unit(unit))
        channel = 2 * calibration.quantities.index(quantity)
        return cls(quantity, channel, factor, low, high, factors)

    def apply(
        self, values: NDArray[np.float32], further: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return lower and upper values [2, h, w] of values [h, w]."""
        below, above = further[self.channel : self.channel + 2] * np.float32(self.factor)
        bounds = np.stack([values - below, values + above])
        return np.asarray(np.clip(bounds, self.low, self.high), np.float32)


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
class FamiliarityBand:
    """The content of a familiarity file: dissimilarity in units of its limit."""

    def __call__(
        self,
        known: Mapping[str, NDArray[np.float32]],
        further: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return values [1, h, w] and the mask."""
        return np.where(mask, further[-1:], np.float32(0)), mask


def ready_model(
    model: Model, options: IntervalOptions, unit: str, guide: str | Path | None = None
) -> Model:
    """Return the model that computes what the options ask for, of sources in a unit.

    Raises:
        CrossbandError: the model has no calibration, or knows no familiarity; or there is a guide.
    """
    if not options.wanted:
        return model
    if guide is not None:
        raise CrossbandError(
            "--interval and --familiarity: models are calibrated without --guide; leave one out"
        )
    familiar = calibration_of(model).familiar
    if options.familiarity and familiar is None:
        raise CrossbandError(f"--familiarity: {model.name} was calibrated without it")
    return uncertain_model(model, unit)


def interval_facts(options: IntervalOptions) -> dict[str, str]:
    """Return what files depend on by these options; nothing where they ask for nothing."""
    if not options.wanted:
        return {}
    return {"--interval": f"{options.interval} {options.promise} {options.familiarity}"}


def uncertain_paths(
    output: Path, extra: Mapping[str, Path], options: IntervalOptions
) -> list[Path]:
    """Return the files beside a result: `nir.interval.tif`, those of indices, familiarity."""
    named = [output, *extra.values()] if options.interval is not None else []
    paths = [path.with_name(f"{path.stem}.interval.tif") for path in named]
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
) -> list[OutputFile]:
    """Return the outputs of `uncertain_paths`, and add the level to the tags of the result.

    Args:
        model: calibrated.
        result: the output that they lie beside.
        extra: index -> path.
        options: level, promise, familiarity.
        unit: of the source.
        sensor: of the source, where it was declared.
    """
    paths, outputs = uncertain_paths(result.path, extra, options), []
    if options.interval is not None:
        groups = [(tuple(model.signature.target), result.unit)]
        groups += [((name,), PLAIN) for name in extra]
        for path, (quantities, of_unit) in zip(paths, groups, strict=False):
            bounds = tuple(Bounds.of(model, q, unit, options, sensor) for q in quantities)
            names = tuple(f"{q}_{side}" for q in quantities for side in ("lower", "upper"))
            tags = {**result.tags, **interval_tags(model, bounds, options)}
            content = BandIntervals(bounds)
            outputs.append(_beside(result, path, names, of_unit, tags, content))
        result.tags = {**result.tags, **outputs[0].tags}
    familiar = calibration_of(model).familiar if options.familiarity else None
    if familiar is not None:
        tags = {**result.tags, "CROSSBAND_FAMILIARITY": "above 1: unlike the training places"}
        band = FamiliarityBand()
        outputs.append(_beside(result, paths[-1], (DISSIMILARITY,), PLAIN, tags, band))
    return outputs


def with_intervals(
    model: Model, result: Window, unit: str, options: IntervalOptions, sensor: str | None
) -> tuple[Window, dict[str, str]]:
    """Return a window with the bounds of each band as further bands, and the tags of these.

    Args:
        model: from `ready_model`.
        result: of `translate_window`, with the model's further channels.
        unit: of the source.
        options: level, promise, familiarity.
        sensor: of the source, where it was declared.
    """
    count = len(model.signature.target)
    names, further = list(result.bands[:count]), result.values[count:]
    parts, tags = [result.values[:count]], dict[str, str]()
    if options.interval is not None:
        bounds = tuple(Bounds.of(model, q, unit, options, sensor) for q in result.bands[:count])
        known = dict(zip(names, result.values, strict=False))
        parts.append(BandIntervals(bounds)(known, further, result.mask)[0])
        names += [f"{b.quantity}_{side}" for b in bounds for side in ("lower", "upper")]
        tags = interval_tags(model, bounds, options)
    familiar = calibration_of(model).familiar if options.familiarity else None
    if familiar is not None:
        parts.append(FamiliarityBand()({}, further, result.mask)[0])
        names.append(DISSIMILARITY)
    return replace(result, values=np.concatenate(parts), bands=tuple(names)), tags


def _beside(
    result: OutputFile,
    path: Path,
    bands: tuple[str, ...],
    unit: str,
    tags: Mapping[str, str],
    content: BandIntervals | FamiliarityBand,
) -> OutputFile:
    plain = Encoding("float32", nodata=float("nan"))
    return replace(
        result, path=path, bands=bands, unit=unit, encoding=plain, tags=tags, content=content
    )


def interval_tags(
    model: Model, bounds: Sequence[Bounds], options: IntervalOptions
) -> dict[str, str]:
    """Return the tags that say what an interval promises, and by how many places."""
    of = {
        b.quantity: {"places": b.factors.places, "group": b.factors.group or "all places"}
        for b in bounds
    }
    return {
        "CROSSBAND_INTERVAL": f"{options.interval:g}",
        "CROSSBAND_INTERVAL_PROMISE": options.promise,
        "CROSSBAND_INTERVAL_CALIBRATION": json.dumps(of),
        "CROSSBAND_INTERVAL_GUARANTEE": GUARANTEE,
        "CROSSBAND_INTERVAL_ERRORS": calibration_of(model).fitted,
    }
