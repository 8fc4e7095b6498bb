"""Write intervals and familiarity as files beside a translated scene."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from crossband.core.warned import warn
from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.calibration import GuideClass
from crossband.model.uncertain import (
    DISSIMILARITY,
    calibration_of,
    counts_as_dated,
    uncertain_model,
)
from crossband.raster.encoding import Encoding
from crossband.raster.output import OutputFile
from crossband.translate.options import IntervalOptions
from crossband.translate.provenance import tags_beside
from crossband.translate.uncertain_bands import (
    ABOVE_ONE,
    FAMILIARITY_BAND,
    FAMILIARITY_TAG,
    PLAIN,
    BandIntervals,
    Bounds,
    Content,
    FurtherBands,
    GuidedIntervals,
    interval_tags,
)
from crossband.translate.width_files import (
    FACTORS,
    GUIDED_BAND,
    GUIDED_FACTORS,
    GuidedWidths,
    calibrated_windows,
    widths_path,
)

#: What is said of a guide whose age is not known.
UNDATED = (
    "When guide or scene were taken is not known; --guide-days of translate, or the columns date "
    "and guide_datetime of a manifest, say it"
)


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
        warn(f"the interval is that of a guide of {of}. {UNDATED}")
    return guide


def interval_facts(
    model: Model, options: IntervalOptions, guide: GuideClass | None = None
) -> dict[str, str]:
    """Return what files depend on by these options; nothing where they ask for nothing."""
    if not options.wanted:
        return {}
    level = "none" if options.interval is None else f"{options.interval!r} ({options.promise})"
    parts = [level]
    if options.familiarity:
        parts.append("familiarity")
    if options.widths:
        parts.append("widths")
    if guide is not None:
        parts.append(guide.words)
    return {"--interval": ", ".join(parts), "the calibration": calibration_of(model).fact}


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
        said: list[dict[str, str]] = []
        for path, (quantities, of_unit) in zip(paths, groups, strict=False):
            how = (unit, options, sensor)
            bounds = tuple(Bounds.of(model, q, *how, guide) for q in quantities)
            names = tuple(f"{q}_{side}" for q in quantities for side in ("lower", "upper"))
            said.append(interval_tags(model, bounds, options))
            tags = {**result.tags, **said[-1]}
            content: Content = BandIntervals(bounds)
            if guide is not None:
                plain = None
                if not calibration_of(model).needs_guide:
                    plain = BandIntervals(tuple(Bounds.of(model, q, *how) for q in quantities))
                content = GuidedIntervals(BandIntervals(bounds), plain)
            outputs.append(_beside(result, path, names, of_unit, tags, content))
        result.tags = {**result.tags, **said[0]}
        for name, index in extra.items() if options.widths else ():
            of = (model, name, options, unit, sensor)
            tags = dict(result.tags)
            if not calibration_of(model).needs_guide:
                tags[FACTORS] = json.dumps(calibrated_windows(*of))
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
        tags = {**result.tags, FAMILIARITY_TAG: ABOVE_ONE}
        names = (DISSIMILARITY,)
        outputs.append(_beside(result, paths[-1], names, PLAIN, tags, FAMILIARITY_BAND))
    return outputs


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
        tags=tags_beside(tags, bands),
        cog=cog,
        content=content,
    )
