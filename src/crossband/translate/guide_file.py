"""Open the file of a guide, as its options say; how old it is, and where it is valid."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np

from crossband.core.dates import Date, days_apart
from crossband.core.sensors import KELVIN, VALID_RANGE
from crossband.core.warned import warn
from crossband.errors import BandError, CrossbandError, InputError, UnitError
from crossband.raster.acquired import acquisition_date
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import is_one_unnamed_band, open_scene
from crossband.raster.remote import is_remote
from crossband.raster.scene import Scene
from crossband.raster.warp import Readable, read_averaged, read_extended, read_padded
from crossband.translate.familiarity import sample_boxes
from crossband.translate.options import GuideOptions
from crossband.translate.provenance import SYNTHETIC_TAG

#: Below this correlation of result and guide (see `agreement.Agreement`) the run ends with a line.
POOR = 0.1
#: Days between a guide and a scene, at most: a century.
MOST_DAYS = 36_525
#: A guide whose pixels are below this size in pixels of the source is averaged.
FINER = 2 / 3
#: How the reader advises to state scale and offset.
_SCALE = re.compile(r"give --(scale|offset)( and --offset)?(, too)?")
#: A value further beyond the range of its unit than this part of the range is a fill value.
_BEYOND = 0.25
#: Over water an atmospheric correction may leave numbers below the range, by this part of it.
_SLACK = 0.01
#: No place on the Earth is mostly colder than this, in kelvin; degrees Celsius are.
_COLDEST = 150.0


def open_guide_file(
    options: GuideOptions,
    target: Sequence[str],
    source: Sequence[str],
    also: Sequence[str] = (),
) -> Scene:
    """Open the guide; errors name the options of the guide, as --guide-sensor.

    Args:
        options: the guide, and how it is read.
        target: bands that it must have.
        source: bands of the model, which the options may name.
        also: bands that are taken too, if it has all of them.
    """
    assert options.guide is not None
    path, read = options.guide, options.read_options

    def opened_alone() -> Scene:
        try:
            return opened(target)
        except BandError:
            # One band can only be the one that is asked for.
            if len(target) > 1 or read.bands:
                raise
            if not is_one_unnamed_band(path, read.sensor, options.opened):
                raise
            named = replace(read, bands={target[0]: 1})
            return open_scene(path, named, needed=target, opened=options.opened)

    def opened(wanted: Sequence[str]) -> Scene:
        # A name that the model does not know stays, and is refused.
        unknown = set(read.bands or ()) - {*source, *target}
        only = read.only({*wanted, *unknown})
        return open_scene(path, only, needed=wanted, opened=options.opened)

    def opened_with_own_bands() -> Scene:
        wanted = tuple(dict.fromkeys((*also, *target)))
        if len(wanted) > len(target):
            try:
                return opened(wanted)
            except BandError:  # without the model's own bands; those that are named must be there
                named = [band for band in also if band in (read.bands or {})]
                if named:
                    opened(tuple(dict.fromkeys((*named, *target)))).close()
        return opened_alone()

    with options_of_the_guide():
        guide = opened_with_own_bands()
        if guide.tag(SYNTHETIC_TAG) == "YES":
            guide.close()
            raise InputError(f"{path} was made by a model, and a guide is a measurement")
        return guide


@contextmanager
def options_of_the_guide() -> Iterator[None]:
    """Name the options of the guide in errors of its file, as --guide-sensor."""
    try:
        yield
    except (BandError, UnitError) as error:
        words = str(error).replace("--sensor", "--guide-sensor").replace("--bands", "--guide-bands")
        words = words.replace(", or --guide-sensor reflectance with --scale and --offset", "")
        # A guide has no such options: its file says its scale.
        words = _SCALE.sub("write them into the file: gdal_edit -scale and -offset", words)
        raise type(error)(f"--guide: {words}") from error
    except InputError as error:
        raise InputError(f"--guide: {error}") from error


def correlation_words(value: float) -> str:
    """Return the correlation of two structures for a message."""
    return "not defined, as one of them is constant" if math.isnan(value) else f"{value:.2f}"


def check_numbers(guide: Scene, what: str) -> None:
    """Take numbers far outside the range of a guide's unit as no data, and say so.

    Such are fill values that the file does not declare: else -9999 would count as measured.

    Args:
        guide: is read in a few windows that are spread over it, if it is local.
        what: names it in the message.

    Raises:
        UnitError: most numbers of a local guide are none of its unit.
    """
    low, high = VALID_RANGE[guide.unit]
    beyond = _BEYOND * (high - low)
    limits = low - beyond, high + beyond
    slack = _SLACK * (high - low)
    if guide.unit == KELVIN:
        low = _COLDEST
    if is_remote(guide.path):
        guide.limits = limits
        return
    guide.limits, guide.told = None, True  # people are told below
    windows = [guide.read(box) for box in sample_boxes(guide.grid)]
    values = np.concatenate([w.values[:, w.mask] for w in windows], axis=1)
    for name, band in zip(guide.bands, values, strict=True):
        usual = float(np.median(band)) if band.size else low
        if not low - slack <= usual <= high:
            side = "above" if usual > high else "below"
            raise UnitError(
                f"{what}: half of its {name} is {side} {usual:.4g}, and {guide.unit} is {low:g} to "
                f"{high:g}; --guide-sensor names a sensor whose scale is known, and gdal_edit "
                f"-a_nodata a number that stands for no data"
            )
    guide.limits = limits
    far = (values < limits[0]) | (values > limits[1])
    if far.any():
        number = float(values[far][0])
        warn(
            f"{what}: {far.any(axis=0).mean():.1%} of what was looked at is far from {guide.unit}, "
            f"as {number:.4g}, and is taken as no data; gdal_edit -a_nodata declares it",
        )


def on_pixels_of(guide: Readable, grid: Grid, ratio: float) -> Window:
    """Read a guide on the pixels of a source.

    Args:
        guide: an open raster.
        grid: of the source.
        ratio: size of a pixel of the guide in pixels of the source.
    """
    if ratio < FINER:
        return read_averaged(guide, grid)
    if (grid.crs, grid.transform) == (guide.grid.crs, guide.grid.transform):
        return read_padded(guide, Box(0, 0, grid.height, grid.width))
    return read_extended(guide, grid)


def date_of(options: GuideOptions) -> str | None:
    """Return when a guide was taken, as the options or its metadata say; None where neither do."""
    if options.datetime or options.guide is None:
        return options.datetime
    with suppress(InputError):  # what is no date is refused where days are needed
        return None if (found := acquisition_date(options.guide)) is None else str(found)
    return None


def days_between(options: GuideOptions, source: Readable) -> float:
    """Return the days between guide and scene; NaN where they are not known, see `days_apart`.

    Raises:
        CrossbandError: a number of days that cannot be.
    """
    if options.days is not None:
        if options.days < 0 or options.days > MOST_DAYS:  # NaN: not known
            raise CrossbandError(f"--guide-days {options.days:g}: 0 to {MOST_DAYS:,}")
        return options.days
    path = getattr(source, "path", None)
    taken = [
        Date.parse(stated) if stated else (None if file is None else acquisition_date(file))
        for stated, file in ((options.datetime, options.guide), (options.scene_datetime, path))
    ]
    if taken[0] is None or taken[1] is None:
        return math.nan
    return days_apart(taken[0], taken[1])
