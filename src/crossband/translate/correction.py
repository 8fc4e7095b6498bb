"""Correct a result by a guide: open it, check that it fits, and compute the correction.

- `residual` adds what the measurement says more than the model; see `residual`. A guide may be of
  another date if it has the bands which the model takes;
- `difference` does the same, and takes any guide for one of the same date;
- `linear` and `histogram` map the values of the whole result by one curve; see `raster.match`. So
  NIR-GAN maps the near infrared of aerial photographs to that of Sentinel-2.

A `display` result has no physical unit. It is converted to the unit of the guide. Any other result
must have the unit of its guide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from crossband.core import sensors
from crossband.core.sensors import DISPLAY
from crossband.core.warned import warn
from crossband.errors import (
    CrossbandError,
    GuideError,
    InputError,
    UnitError,
    nearest,
)
from crossband.model import Model
from crossband.raster.compare import Overlap
from crossband.raster.grid import Box
from crossband.raster.match import METHODS, Match, fit
from crossband.raster.members import member_files
from crossband.raster.open import open_scene
from crossband.raster.remote import name_of
from crossband.raster.scene import Scene
from crossband.raster.warp import BandView, Readable, check_georeference, same_grid
from crossband.translate.agreement import Agreement
from crossband.translate.guide_file import (
    POOR,
    check_numbers,
    correlation_words,
    days_between,
    on_pixels_of,
    open_guide_file,
)
from crossband.translate.model_error import MeasuredError
from crossband.translate.options import GuideOptions, TileOptions
from crossband.translate.provenance import source_fingerprint
from crossband.translate.residual import Corrected, Difference, OwnBands, Residual

#: The default method, and the one that does not look at the guide's other bands.
RESIDUAL, DIFFERENCE = "residual", "difference"
#: All methods, with the least number of common pixels: a curve needs more than a difference.
FEWEST = {RESIDUAL: 16, DIFFERENCE: 16, "histogram": 100, "linear": 100}
#: Largest gain, and the inverse of the smallest, by which a display result gets its guide's unit.
LARGEST_GAIN = 4.0


def check_guide_options(options: GuideOptions) -> None:
    """Raise CrossbandError for options with which no guide can be used."""
    if options.method is not None and options.method not in FEWEST:
        raise CrossbandError(f"--guide-method {options.method}: {nearest(options.method, FEWEST)}")
    if options.sensor is not None:
        sensors.get(options.sensor)


class GuideCorrection:
    """An open guide that fits a source, and the correction of a result by it.

    Use as a context manager.

    Args:
        options: the guide, a raster of the same place with the result's bands by common name, its
            method, sensor and bands.
        model: that computes the result.
        tile: how it is run on the guide's own bands.
        source: what is translated, with the model's source bands in their order.
        name: of the source, for messages.

    Attributes:
        guide: the measured bands of the result.
        ground: the overlap of result and guide.
        unit: of the corrected result.
        given: unit of the result as the network gives it.
        days: between guide and source; NaN where unknown.
        fact: the guide, how it is read and used, in words that change with each of these.
        files: that the guide is read from.

    Raises:
        InputError: no georeference, no common ground, too few valid pixels, a constant guide where
            the method needs one that is not.
        BandError: the guide does not have the result's bands.
        UnitError: the guide has another unit, or states none.
    """

    def __init__(
        self, options: GuideOptions, model: Model, tile: TileOptions, source: Readable, name: str
    ) -> None:
        check_guide_options(options)
        assert options.guide is not None
        self._method, self._name = options.method or RESIDUAL, name
        self._source = source
        self._what = f"--guide {options.guide}"
        grid, bands = source.grid.zoom(model.network.scale), tuple(model.signature.target)
        self._grid = grid
        self.given = model.signature.target_unit(source.unit)
        with ExitStack() as stack:
            # A model of a band that it takes, as one that makes it finer, cannot be judged so.
            own = tuple(model.signature.source)
            alone = self._method != RESIDUAL or set(bands) & set(own) or model.network.scale != 1
            self._compares_colours = not alone
            wanted = () if alone or options.beside is not None else own
            opened = stack.enter_context(open_guide_file(options, bands, own, wanted))
            self.days = days_between(options, source)
            if self.given not in (DISPLAY, opened.unit):
                raise UnitError(
                    f"{self._what}: it is {opened.unit}, the result is {self.given}; their units "
                    f"must agree"
                )
            check_numbers(opened, self._what)
            opened.warn_of_bands("--guide-bands")
            self.unit = opened.unit
            check_georeference(grid, name)
            check_georeference(opened.grid, self._what)
            try:
                self.ground = Overlap.of(grid, opened.grid)
            except InputError as error:
                raise InputError(f"{self._what}, with {name}: {error}") from error
            self.guide = BandView(opened, bands)
            self._file, scenes = name_of(opened.path), [opened]
            then: Readable | None = None
            if wanted and set(wanted) <= set(opened.bands):
                then = opened
            elif options.beside is not None and not alone:
                then = _opened_beside(options, own, opened, stack)
                scenes.append(then)
            self._own: OwnBands | None = None
            if then is not None and self.given == opened.unit and then.unit == source.unit:
                judged = MeasuredError(model, then, self.guide, tile)
                self._own = OwnBands(judged, judged.source, BandView(source, own))
            elif self._method == RESIDUAL:
                self._method = DIFFERENCE
            self._check_guide()
            parts = [
                f"{name_of(s.path)}, {source_fingerprint(s)}, ({s.numbers!r}, "
                f"{s.radiometry.fact()})"
                for s in scenes
            ]
            self.fact = ", ".join((self._method, *parts))
            self.files = [name for s in scenes for name in member_files(s.files)]
            self._open = stack.pop_all()

    def corrected(self, result: Readable, stack: ExitStack, folder: Path) -> tuple[Corrected, str]:
        """Return the corrected result, and the words of its tag.

        Args:
            result: as the network computed it.
            stack: closes what is needed while the corrected result is read.
            folder: on whose disk differences lie until then.

        Raises:
            GuideError: too few pixels are valid in both, or a band of the result is constant where
                the method needs one that is not.
        """
        if self._method not in METHODS:
            return self._by_residual(result, stack, folder)
        mapping, words = self._mapping(result, self._method)
        return Corrected(result, lambda _, x: mapping.apply(x), self.unit), words

    @property
    def method(self) -> str:
        """How the result is corrected; see the module."""
        return self._method

    @property
    def ratio(self) -> float:
        """Size of a pixel of the guide in pixels of the result."""
        return self.ground.ratio if self.ground.coarser else 1 / self.ground.ratio

    def calibrated_as(self) -> tuple[float, float]:
        """Return the size of the guide's pixels and its age in days, for intervals.

        Raises:
            CrossbandError: intervals are not calibrated for results that are corrected like this.
        """
        if self._method in METHODS:
            raise CrossbandError(
                f"--interval: results of --guide-method {self._method} are not calibrated; "
                f"those of {RESIDUAL} can be"
            )
        if self.given != self.unit:
            raise CrossbandError(
                f"--interval: a {self.given} result that gets the unit of its guide is not "
                "calibrated"
            )
        if self._method == DIFFERENCE and self.days != 0:
            when = "not known to be of the same date"
            when = when if math.isnan(self.days) else "of another date"
            lack, advice = (
                ("has not all bands that the model takes", "give a guide with these bands, or ")
                if self._compares_colours
                else ("its colours are not compared", "")
            )
            raise CrossbandError(
                f"--interval: {self._what} is {when}, and {lack}, so the result is not "
                f"calibrated; {advice}say that it is of the same date: --guide-days 0 of "
                "translate, or the columns date and guide_datetime of a manifest"
            )
        return self.ratio, self.days

    def measured(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of a rectangle of the result lie on valid pixels of the guide."""
        return on_pixels_of(self.guide, self._grid.crop(box), self.ratio).mask

    def difference(self, result: Readable) -> Difference | None:
        """Return what is to be added to any part of a result, without computing all of it.

        None where the correction depends on the whole result.
        """
        if self._method in METHODS or self.given != self.unit:
            return None
        return Difference(result, self.guide, self.ratio, self._own)

    def close(self) -> None:
        """Close the guide."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_guide(self) -> None:
        """Raise InputError for too few valid pixels, or a constant band that is to be mapped."""
        bands, fewest = self.guide.bands, FEWEST[self._method]
        count = 0
        low = np.full(len(bands), np.inf)
        high = -low
        for part in self.ground.blocks():
            window = self.ground.window(self.guide, 1, part)
            at = self.ground.thinned(part)
            values = window.values[:, *at][:, window.mask[at]]
            if values.size:
                count += values.shape[1]
                low = np.minimum(low, values.min(axis=1))
                high = np.maximum(high, values.max(axis=1))
            if count >= fewest and (self._method not in METHODS or np.all(low < high)):
                return
        if count < fewest:
            raise InputError(
                f"{self._what}: it has {count} valid pixels where {self._name} "
                f"lies; {self._method} needs {fewest}"
            )
        raise InputError(
            f"{self._what}: its band {_constant(bands, low, high)} is constant "
            f"where {self._name} lies; there is nothing to map to"
        )

    def _by_residual(
        self, result: Readable, stack: ExitStack, folder: Path
    ) -> tuple[Corrected, str]:
        """Return the result with the enlarged difference, and the words of the tag."""
        converted: Readable = result
        words = [self._file, self._method]
        if self.given != self.unit:
            mapping = self._mapping(result, "linear")[0]
            # A guide of which little is valid must not blow the contrast up.
            slope = tuple(float(np.clip(s, 1 / LARGEST_GAIN, LARGEST_GAIN)) for s in mapping.slope)
            bounded = replace(mapping, slope=slope)
            converted = Corrected(result, lambda _, x: bounded.apply(x), self.unit)
        residual = Residual(converted, self.guide, self.ratio, self._own, folder)
        stack.callback(residual.close)
        if residual.count < FEWEST[self._method]:
            raise self._too_few(residual.count)
        corrected = Corrected(converted, residual.apply, self.unit)
        words.append(f"{residual.count} pixels")
        if self.given != self.unit:
            words.append(f"{self.given} to {self.unit}")
        words.append(self._agreement_words(residual.agreement))
        words.append(residual.remaining_words(corrected))
        return corrected, ", ".join(words)

    def _agreement_words(self, correlation: float) -> str:
        """Return the words of the tag for an agreement, and warn of a poor one."""
        if not correlation >= POOR:  # NaN where one of them is constant
            warn(
                f"{self._what}: the correlation of its structure with the result's is "
                f"{correlation_words(correlation)}; a guide of the same place and band has "
                f"mostly more than 0.2. Is it of another place, shifted, cloudy, or another band?",
            )
        return f"agreement {correlation:.2f}"

    def _too_few(self, count: int) -> GuideError:
        return GuideError(
            f"{self._what}: {count} pixels are valid in it and in the result, "
            f"{self._method} needs {FEWEST[self._method]}"
        )

    def _mapping(self, result: Readable, method: str) -> tuple[Match, str]:
        """Fit the mapping; return it and the words of the tag."""
        agreement = Agreement()
        x, y = self.ground.pixels(
            result, self.guide, lambda a, b: agreement.add(a.values, b.values, a.mask & b.mask)
        )
        if x.shape[1] < FEWEST[self._method]:
            raise self._too_few(x.shape[1])
        for of, values in ((f"of the result of {self._name}", x), ("of it", y)):
            low, high = values.min(axis=1), values.max(axis=1)
            if method in METHODS and not np.all(low < high):
                raise GuideError(
                    f"{self._what}: band {_constant(result.bands, low, high)} {of} is constant in "
                    f"their {x.shape[1]} common pixels, there is nothing to map"
                )
        mapping = fit(method, x[:, None], y[:, None])
        words = [self._file, method, f"{x.shape[1]} pixels"]
        if self.given != self.unit:
            words.append(f"{self.given} to {self.unit}")
        if method == "linear":
            for i, name in enumerate(result.bands):
                gain = mapping.slope[i]
                offset = mapping.reference[i][0] - gain * mapping.image[i][0]
                words.append(f"{name}: gain {gain:.6g} offset {offset:.6g}")
        if self._method in METHODS:
            words.append(self._agreement_words(agreement.correlation))
        return mapping, ", ".join(words)


def _opened_beside(
    options: GuideOptions, source: Sequence[str], guide: Scene, stack: ExitStack
) -> Scene:
    """Open the raster with the bands that the model takes, on the grid of the guide."""
    assert options.beside is not None
    path, read = options.beside
    scene: Scene = stack.enter_context(open_scene(path, read.only(source), needed=source))
    if not same_grid(scene.grid, guide.grid):
        raise InputError(f"--guide {options.guide}: {path} is not on its grid")
    check_numbers(scene, f"{path}, beside --guide {options.guide}")
    return scene


def _constant(bands: Sequence[str], low: NDArray[np.floating], high: NDArray[np.floating]) -> str:
    """Return the name of the first band whose values are all equal."""
    return next(name for name, a, b in zip(bands, low, high, strict=True) if not a < b)
