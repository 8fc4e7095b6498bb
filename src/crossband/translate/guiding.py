"""Guide a result by a measurement of the same place: its values become those of the measurement.

From colours alone nobody knows how bright the near infrared of a place is, and most of a network's
error is one constant for each place. Where the place was measured, at coarser pixels or at another
date, the result is corrected:

- `residual` adds what the measurement says more than the model; see `residual`. A guide may be of
  another date if it has the bands which the model takes;
- `difference` does the same, and takes any guide for one of the same date;
- `linear` and `histogram` map the values of the whole result by one curve; see `raster.match`. So
  NIR-GAN maps the near infrared of aerial photographs to that of Sentinel-2.

A `display` result has no physical unit. It is converted to the unit of the guide. Any other result
must have the unit of its guide.

The windows are stored in float32 as the network computed them. After the last one the correction is
computed from them and applied. So a run can be interrupted at any time, and another guide can be
tried without computing the scene again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossband.core import sensors
from crossband.core.own_files import replace_own
from crossband.core.sensors import DISPLAY
from crossband.errors import (
    BandError,
    CrossbandError,
    CrossbandWarning,
    GuideError,
    InputError,
    UnitError,
    nearest,
)
from crossband.model import Model
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.compare import Overlap
from crossband.raster.encoding import Encoding
from crossband.raster.gdal import gdal
from crossband.raster.journal import Store
from crossband.raster.match import METHODS, Match, fit
from crossband.raster.members import member_files
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.output import OutputFile, write_error
from crossband.raster.remote import name_of
from crossband.raster.scene import Scene
from crossband.raster.vrt import OPTIONS, vrt
from crossband.raster.warp import BandView, Readable, check_georeference
from crossband.translate.guide_folder import choose_guide, is_guide_folder
from crossband.translate.model_error import ModelError
from crossband.translate.options import GuideOptions, TileOptions
from crossband.translate.provenance import source_fingerprint
from crossband.translate.residual import Corrected, OwnBands, Residual
from crossband.translate.stream import compute_index_values
from crossband.translate.tiles import plan_tiles

#: The default method, and the one that does not look at the guide's other bands.
RESIDUAL, DIFFERENCE = "residual", "difference"
#: All methods, with the least number of common pixels: a curve needs more than a difference.
FEWEST = {RESIDUAL: 16, DIFFERENCE: 16, "histogram": 100, "linear": 100}
#: Side in pixels of the windows that are corrected at once.
SIDE = 1024
#: Largest gain, and the inverse of the smallest, by which a display result gets its guide's unit.
LARGEST_GAIN = 4.0
#: Below this correlation of result and guide (see `Residual.agreement`) the run ends with a line.
POOR = 0.1
#: Tag of a file that says which guide was used, how, and how well it agrees.
GUIDED_TAG = "CROSSBAND_GUIDED"
#: Name of the fact that says how values are encoded in the file.
ENCODING = "the encoding (--dtype, --out-scale, --out-offset, --nodata)"


class Unguided:
    """Writes windows as they are computed, without a guide; use as a context manager.

    Args:
        unit: of what the network gives.

    Attributes:
        unit: of the result.
        guide: path of the guide; None without one.
        guide_datetime: when it was taken; None where that is not known.
        guide_files: all files that it is read from.
        facts: on which the result depends; see `Store.open`.
        may_change: names of facts on which the windows do not depend, so that they may differ when
            the run is resumed.
    """

    guide: str | None = None
    guide_datetime: str | None = None
    guide_files: Sequence[str] = ()
    facts: Mapping[str, str] = {}
    may_change: Sequence[str] = ()

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def intermediate(self, outputs: Sequence[OutputFile]) -> Sequence[OutputFile]:
        """Return outputs that are needed only until the files are finished."""
        return []

    def begin(self, outputs: Sequence[OutputFile], store: Store) -> Sequence[OutputFile]:
        """Create the raw files, and return the outputs into which the windows are written."""
        for i, output in enumerate(outputs):
            output.begin(store, _raw_name(i, output))
        return outputs

    def finish(self, outputs: Sequence[OutputFile], source: Scene, store: Store) -> None:
        """Complete the outputs after the last window was written."""

    def close(self) -> None:
        """Close the files that are open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def guided(options: GuideOptions, model: Model, tile: TileOptions, scene: Scene) -> Unguided:
    """Open the guide of a result, where the options name one.

    Args:
        options: the guide and how it is used.
        model: that computes the result.
        tile: how the model is run on the guide's own bands.
        scene: the source.

    Raises:
        CrossbandError: an option of a guide without a guide, or a guide that cannot be used; see
            `Guided`.
    """
    if options.guide is None:
        how = {
            "--guide-method": options.method,
            "--guide-sensor": options.sensor,
            "--guide-bands": options.bands,
        }
        given = [flag for flag, value in how.items() if value is not None]
        if given:
            raise CrossbandError(f"{given[0]} says how to use a guide: give --guide, too")
        return Unguided(model.signature.target_unit(scene.unit))
    check_guide_options(options)
    if is_guide_folder(options.guide):
        read = ReadOptions(options.bands, options.sensor).only(model.signature.target)
        found = choose_guide(
            options.guide, scene, model.signature.target, read, options.scene_datetime
        )
        date = None if found.date is None else str(found.date)
        options = replace(options, guide=found.path, datetime=date)
    return Guided(options, model, tile, scene)


def check_guide_options(options: GuideOptions) -> None:
    """Raise CrossbandError for options with which no guide can be used."""
    if options.method is not None and options.method not in FEWEST:
        raise CrossbandError(f"--guide-method {options.method}: {nearest(options.method, FEWEST)}")
    if options.sensor is not None:
        sensors.get(options.sensor)


class Guided(Unguided):
    """Stores windows as they are computed, and corrects them by a guide at the end.

    Args:
        options: the guide, a raster of the same place with the result's bands by common name, its
            method, sensor and bands.
        model: that computes the result.
        tile: how it is run on the guide's own bands.
        source: the scene that is translated.

    Raises:
        InputError: no georeference, no common ground, too few valid pixels, a constant guide where
            the method needs one that is not.
        BandError: the guide does not have the result's bands.
        UnitError: the guide has another unit, or states none.
    """

    may_change = ("--guide", ENCODING)

    def __init__(
        self,
        options: GuideOptions,
        model: Model,
        tile: TileOptions,
        source: Scene,
    ) -> None:
        assert options.guide is not None
        self.guide, self.guide_datetime = str(options.guide), options.datetime
        self._method, self._name = options.method or RESIDUAL, name_of(source.path)
        self._what = f"--guide {self.guide}"
        grid, bands = source.grid.zoom(model.network.scale), tuple(model.signature.target)
        unit = model.signature.target_unit(source.unit)
        with ExitStack() as stack:
            # A model of a band that it takes, as one that makes it finer, cannot be judged so.
            own = tuple(model.signature.source)
            alone = self._method != RESIDUAL or set(bands) & set(own) or model.network.scale != 1
            wanted = () if alone else own
            read_options = ReadOptions(options.bands, options.sensor)
            opened = _opened(self.guide, bands, own, wanted, read_options)
            self._scene = stack.enter_context(opened)
            self.guide_files = member_files(opened.files)
            if unit not in (DISPLAY, opened.unit):
                raise UnitError(
                    f"{self._what}: it is {opened.unit}, the result is {unit}; their units must "
                    f"agree"
                )
            super().__init__(opened.unit)
            self._given = unit
            check_georeference(grid, self._name)
            check_georeference(opened.grid, self._what)
            try:
                self._ground = Overlap.of(grid, opened.grid)
            except InputError as error:
                raise InputError(f"{self._what}: {self._name} and it: {error}") from error
            self._measured = BandView(opened, bands)
            self._own: OwnBands | None = None
            if wanted and set(wanted) <= set(opened.bands) and unit == opened.unit:
                judged = ModelError(model, opened, tile)
                self._own = OwnBands(judged, judged.source, BandView(source, wanted))
            elif self._method == RESIDUAL:
                self._method = DIFFERENCE
            self._check_guide()
            read = f"({opened.numbers!r}, {opened.radiometry.fact()})"
            self.facts = {
                "how windows are kept": "as computed, for --guide",
                "--guide": (
                    f"{self._method}, {name_of(opened.path)}, {source_fingerprint(opened)}, {read}"
                ),
            }
            stack.pop_all()

    def intermediate(self, outputs: Sequence[OutputFile]) -> Sequence[OutputFile]:
        """Return the output that holds the windows as the network gives them."""
        plain = Encoding("float32", nodata=float("nan"))
        path = outputs[0].path.with_suffix(".tif")  # nothing is written there
        return [replace(outputs[0], path=path, encoding=plain, unit=self._given)]

    def begin(self, outputs: Sequence[OutputFile], store: Store) -> Sequence[OutputFile]:
        """Create the raw files, and return the output into which the windows are written."""
        self._unguided = self.intermediate(outputs)
        self._unguided[0].begin(store, "unguided")
        for i, output in enumerate(outputs):
            output.begin(store, _raw_name(i, output), rewritten=True)
        return self._unguided

    def finish(self, outputs: Sequence[OutputFile], source: Scene, store: Store) -> None:
        """Compute the correction, and write the corrected result and its indices.

        Raises:
            GuideError: too few pixels are valid in both, or a band of the result is constant where
                the method needs one that is not.
        """
        (unguided,) = self._unguided
        assert unguided.raw is not None
        path = unguided.raw.path.with_suffix(".vrt")
        try:
            replace_own(path, vrt(unguided, unguided.raw, masked=False))
        except OSError as error:
            raise write_error(unguided.path, error) from error
        with gdal(**OPTIONS), ExitStack() as stack:
            result = stack.enter_context(open_scene(path, needed=unguided.bands))
            if self._method not in METHODS:
                corrected, words = self._by_residual(result, stack, store.folder)
            else:
                mapping, words = self._mapping(result, self._method)
                corrected = Corrected(result, lambda _, x: mapping.apply(x), self.unit)
            for output in outputs:
                output.tags = {**output.tags, GUIDED_TAG: words}
            _write(corrected, outputs, source)

    def close(self) -> None:
        """Close the guide."""
        self._scene.close()

    def _check_guide(self) -> None:
        """Raise InputError for too few valid pixels, or a constant band that is to be mapped."""
        bands, fewest = self._measured.bands, FEWEST[self._method]
        count = 0
        low = np.full(len(bands), np.inf)
        high = -low
        for part in self._ground.blocks():
            window = self._ground.window(self._measured, 1, part)
            at = self._ground.thinned(part)
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

    def _by_residual(self, result: Scene, stack: ExitStack, folder: Path) -> tuple[Corrected, str]:
        """Return the result with the enlarged difference, and the words of the tag."""
        converted: Readable = result
        words = [name_of(self._scene.path), self._method]
        if self._given != self.unit:
            mapping = self._mapping(result, "linear")[0]
            # A guide of which little is valid must not blow the contrast up.
            slope = tuple(float(np.clip(s, 1 / LARGEST_GAIN, LARGEST_GAIN)) for s in mapping.slope)
            bounded = replace(mapping, slope=slope)
            converted = Corrected(result, lambda _, x: bounded.apply(x), self.unit)
        ratio = self._ground.ratio if self._ground.coarser else 1 / self._ground.ratio
        try:
            residual = Residual(converted, self._measured, ratio, self._own, folder)
        except OSError as error:  # the disk is full
            raise write_error(folder, error) from error
        stack.callback(residual.close)
        if residual.count < FEWEST[self._method]:
            raise self._too_few(residual.count)
        corrected = Corrected(converted, residual.apply, self.unit)
        words.append(f"{residual.count} pixels")
        if self._given != self.unit:
            words.append(f"{self._given} to {self.unit}")
        words.append(f"agreement {residual.agreement:.2f}")
        words.append(f"remaining difference {residual.remaining(corrected):.2g}")
        if residual.agreement < POOR:
            warnings.warn(
                f"{self._what}: the correlation of its structure with the result's is "
                f"{residual.agreement:.2f}; a guide of the same place and band has 0.2 to 1. Is it "
                f"of another place, shifted, cloudy, or another band?",
                CrossbandWarning,
                stacklevel=4,
            )
        return corrected, ", ".join(words)

    def _too_few(self, count: int) -> GuideError:
        return GuideError(
            f"{self._what}: {count} pixels are valid in it and in the result, "
            f"{self._method} needs {FEWEST[self._method]}; {_KEPT}"
        )

    def _mapping(self, result: Scene, method: str) -> tuple[Match, str]:
        """Fit the mapping; return it and the words of the tag."""
        x, y = self._ground.pixels(result, self._measured)
        if x.shape[1] < FEWEST[self._method]:
            raise self._too_few(x.shape[1])
        for of, values in ((f"of the result of {self._name}", x), ("of it", y)):
            low, high = values.min(axis=1), values.max(axis=1)
            if method in METHODS and not np.all(low < high):
                raise GuideError(
                    f"{self._what}: band {_constant(result.bands, low, high)} {of} is constant in "
                    f"their {x.shape[1]} common pixels, there is nothing to map; {_KEPT}"
                )
        mapping = fit(method, x[:, None], y[:, None])
        words = [name_of(self._scene.path), method, f"{x.shape[1]} pixels"]
        if self._given != self.unit:
            words.append(f"{self._given} to {self.unit}")
        if method == "linear":
            for i, name in enumerate(result.bands):
                gain = mapping.slope[i]
                offset = mapping.reference[i][0] - gain * mapping.image[i][0]
                words.append(f"{name}: gain {gain:.6g} offset {offset:.6g}")
        return mapping, ", ".join(words)


_KEPT = "the windows are kept: --resume with another --guide goes on"


def _write(corrected: Corrected, outputs: Sequence[OutputFile], source: Scene) -> None:
    """Write the corrected values and the indices of them, window by window."""
    grid = corrected.grid
    boxes = [tile.core for tile in plan_tiles(grid.height, grid.width, SIDE, 0, 1)]
    # Indices are computed from source and result, which `check_indices` found to be on one grid.
    windows = BlockReader(source, ReadStats()).windows(boxes) if len(outputs) > 1 else None
    for box in boxes:
        window = corrected.read(box)
        outputs[0].write(box, window.values, window.mask)
        if windows is None:
            continue
        seen = next(windows)
        known: dict[str, NDArray[Any]] = dict(zip(seen.bands, seen.values, strict=True))
        known |= dict(zip(corrected.bands, window.values, strict=True))
        for output in outputs[1:]:
            output.write(box, *compute_index_values(output.bands[0], known, window.mask))


def _raw_name(number: int, output: OutputFile) -> str:
    """Return the name of an output's raw file: the first is the result, the others are indices."""
    return output.bands[0] if number else "values"


def _opened(
    path: str,
    target: Sequence[str],
    source: Sequence[str],
    also: Sequence[str],
    read: ReadOptions,
) -> Scene:
    """Open the guide; errors name the options of the guide, as --guide-sensor.

    Args:
        path: of the guide.
        target: bands that it must have.
        source: bands of the model, which the options may name.
        also: bands that are taken too, if it has all of them.
        read: how it is read.
    """

    def opened(wanted: Sequence[str]) -> Scene:
        # A name that the model does not know stays, and is refused.
        unknown = set(read.bands or ()) - {*source, *target}
        return open_scene(path, read.only({*wanted, *unknown}), needed=wanted)

    wanted = tuple(dict.fromkeys((*also, *target)))
    try:
        if len(wanted) > len(target):
            try:
                return opened(wanted)
            except BandError:
                pass  # without the model's own bands
        return opened(target)
    except (BandError, UnitError) as error:
        words = str(error).replace("--sensor", "--guide-sensor").replace("--bands", "--guide-bands")
        words = words.replace(", or --guide-sensor reflectance with --scale and --offset", "")
        raise type(error)(f"--guide: {words}") from error
    except InputError as error:
        raise InputError(f"--guide: {error}") from error


def _constant(bands: Sequence[str], low: NDArray[np.floating], high: NDArray[np.floating]) -> str:
    """Return the name of the first band whose values are all equal."""
    return next(name for name, a, b in zip(bands, low, high, strict=True) if not a < b)
