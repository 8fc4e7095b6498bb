"""Match a result to the values of a reference acquisition of the same place.

A network that was trained on one sensor often gives the right pattern on images of another sensor,
but the wrong level and contrast. Where the same place was measured, the result can be mapped to the
distribution of the measured values: NIR-GAN does so with Sentinel-2 for the near infrared of aerial
photographs. The mappings are in `raster.match`; `raster.compare` says which pixels are compared.

A `display` result has no physical unit. Matching converts it to the unit of the reference. Any
other result must have the unit of its reference.

The windows are stored in float32 as the network computed them. After the last one the mapping is
fitted to them and applied. So a run can be interrupted at any time, and another reference can be
tried without computing the scene again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossband.core.own_files import replace_own
from crossband.core.sensors import DISPLAY, VALID_RANGE
from crossband.errors import BandError, CrossbandError, InputError, MatchError, UnitError, nearest
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.compare import Overlap
from crossband.raster.encoding import Encoding
from crossband.raster.gdal import gdal
from crossband.raster.grid import Grid
from crossband.raster.journal import Store
from crossband.raster.match import METHODS, Match, fit
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.output import OutputFile, write_error
from crossband.raster.remote import name_of
from crossband.raster.scene import Scene
from crossband.raster.vrt import OPTIONS, vrt
from crossband.raster.warp import check_georeference
from crossband.translate.options import MatchOptions
from crossband.translate.provenance import source_fingerprint
from crossband.translate.stream import compute_index_values
from crossband.translate.tiles import plan_tiles

#: Least number of common pixels to which a mapping is fitted.
FEWEST = 100
#: Side in pixels of the windows that are mapped at once.
SIDE = 1024
#: Method of matching by default.
DEFAULT_METHOD = "histogram"
#: Name of the fact that says how values are encoded in the file.
ENCODING = "the encoding (--dtype, --out-scale, --out-offset, --nodata)"


class NoMatching:
    """Writes windows as they are computed, without a reference; use as a context manager.

    Args:
        unit: of what the network gives.

    Attributes:
        unit: of the result.
        facts: on which the result depends; see `Store.open`.
        may_change: names of facts on which the windows do not depend, so that they may differ when
            the run is resumed.
    """

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


def matching(
    options: MatchOptions, grid: Grid, bands: Sequence[str], unit: str, source: str | Path
) -> NoMatching:
    """Open the reference of a result, where the options name one.

    Args:
        options: the reference and how it is matched.
        grid: of the result.
        bands: of the result.
        unit: of what the network gives.
        source: path of the scene, for messages.

    Raises:
        CrossbandError: an option of matching without a reference, or a reference that cannot be
            used; see `Matching`.
    """
    if options.reference is None:
        how = {
            "--match": options.method,
            "--match-sensor": options.sensor,
            "--match-bands": options.bands,
        }
        given = [flag for flag, value in how.items() if value is not None]
        if given:
            raise CrossbandError(f"{given[0]} says how to match: give --match-to, too")
        return NoMatching(unit)
    return Matching(options.reference, options, grid, bands, unit, name_of(source))


class Matching(NoMatching):
    """Stores windows as they are computed, and matches them to a reference at the end.

    Args:
        reference: raster of the same place, with the result's bands by common name.
        options: method, sensor and bands of the reference.
        grid: of the result.
        bands: of the result.
        unit: of what the network gives; the reference's, or `display`.
        name: of the result in messages.

    Raises:
        InputError: no georeference, no common ground, too few valid pixels, a constant reference.
        BandError: the reference does not have the result's bands.
        UnitError: the reference has another unit, or states none.
    """

    may_change = ("--match-to", ENCODING)

    def __init__(
        self,
        reference: str | Path,
        options: MatchOptions,
        grid: Grid,
        bands: Sequence[str],
        unit: str,
        name: str,
    ) -> None:
        self._method, self._name = options.method or DEFAULT_METHOD, name
        self._what = f"--match-to {reference}"
        if self._method not in METHODS:
            raise CrossbandError(f"--match {options.method}: {nearest(self._method, METHODS)}")
        with ExitStack() as stack:
            opened = _opened(reference, bands, ReadOptions(options.bands, options.sensor))
            self._scene = stack.enter_context(opened)
            if unit not in (DISPLAY, opened.unit):
                raise UnitError(
                    f"{self._what}: it is {opened.unit}, the result is {unit}; their units must "
                    f"agree"
                )
            super().__init__(opened.unit)
            self._given = unit
            check_georeference(grid, name)
            check_georeference(opened.grid, self._what)
            try:
                self._ground = Overlap.of(grid, opened.grid)
            except InputError as error:
                raise InputError(f"{self._what}: {name} and it: {error}") from error
            self._check_reference()
            read = f"({opened.numbers!r}, {opened.radiometry.fact()})"
            self.facts = {
                "how windows are kept": "as computed, for --match-to",
                "--match-to": (
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
        self._unmatched = self.intermediate(outputs)
        self._unmatched[0].begin(store, "unmatched")
        for i, output in enumerate(outputs):
            output.begin(store, _raw_name(i, output), rewritten=True)
        return self._unmatched

    def finish(self, outputs: Sequence[OutputFile], source: Scene, store: Store) -> None:
        """Fit the mapping, and write the matched result and its indices.

        Raises:
            MatchError: too few pixels are valid in both, or a band of the result is constant.
        """
        (unmatched,) = self._unmatched
        assert unmatched.raw is not None
        path = unmatched.raw.path.with_suffix(".vrt")
        try:
            replace_own(path, vrt(unmatched, unmatched.raw, masked=False))
        except OSError as error:
            raise write_error(unmatched.path, error) from error
        with gdal(**OPTIONS), open_scene(path, needed=unmatched.bands) as result:
            mapping, words = self._fit(result)
            for output in outputs:
                output.tags = {**output.tags, "CROSSBAND_MATCHED": words}
            _write(mapping, result, outputs, source)

    def close(self) -> None:
        """Close the reference."""
        self._scene.close()

    def _check_reference(self) -> None:
        """Raise InputError for too few valid pixels, or a constant band, of the reference."""
        count = 0
        low = np.full(len(self._scene.bands), np.inf)
        high = -low
        for part in self._ground.blocks():
            window = self._ground.window(self._scene, 1, part)
            at = self._ground.thinned(part)
            values = window.values[:, *at][:, window.mask[at]]
            if values.size:
                count += values.shape[1]
                low = np.minimum(low, values.min(axis=1))
                high = np.maximum(high, values.max(axis=1))
            if count >= FEWEST and np.all(low < high):
                return
        if count < FEWEST:
            raise InputError(
                f"{self._what}: it has {count} valid pixels where {self._name} "
                f"lies; matching needs {FEWEST}"
            )
        raise InputError(
            f"{self._what}: its band {_constant(self._scene.bands, low, high)} is constant "
            f"where {self._name} lies; there is nothing to match to"
        )

    def _fit(self, result: Scene) -> tuple[Match, str]:
        """Fit the mapping; return it and its description for the tag."""
        x, y = self._ground.pixels(result, self._scene)
        kept = "the windows are kept: --resume with another --match-to goes on"
        if x.shape[1] < FEWEST:
            raise MatchError(
                f"{self._what}: {x.shape[1]} pixels are valid in it and in the result, matching "
                f"needs {FEWEST}; {kept}"
            )
        for of, values in ((f"of the result of {self._name}", x), ("of it", y)):
            low, high = values.min(axis=1), values.max(axis=1)
            if not np.all(low < high):
                raise MatchError(
                    f"{self._what}: band {_constant(result.bands, low, high)} {of} is constant in "
                    f"their {x.shape[1]} common pixels, there is nothing to match; {kept}"
                )
        mapping = fit(self._method, x[:, None], y[:, None])
        words = [name_of(self._scene.path), self._method, f"{x.shape[1]} pixels"]
        if self._given != self.unit:
            words.append(f"{self._given} to {self.unit}")
        if self._method == "linear":
            for i, name in enumerate(result.bands):
                gain = mapping.slope[i]
                offset = mapping.reference[i][0] - gain * mapping.image[i][0]
                words.append(f"{name}: gain {gain:.6g} offset {offset:.6g}")
        return mapping, ", ".join(words)


def _write(mapping: Match, result: Scene, outputs: Sequence[OutputFile], source: Scene) -> None:
    """Apply the mapping window by window; write the matched values and the indices of them."""
    grid = result.grid
    boxes = [tile.core for tile in plan_tiles(grid.height, grid.width, SIDE, 0, 1)]
    # Indices are computed from source and result, which `check_indices` found to be on one grid.
    windows = BlockReader(source, ReadStats()).windows(boxes) if len(outputs) > 1 else None
    for box in boxes:
        window = result.read(box)
        values = np.clip(mapping.apply(window.values), *VALID_RANGE[outputs[0].unit])
        mask = window.mask & np.isfinite(values).all(axis=0)
        outputs[0].write(box, values, mask)
        if windows is None:
            continue
        seen = next(windows)
        known: dict[str, NDArray[Any]] = dict(zip(seen.bands, seen.values, strict=True))
        known |= dict(zip(result.bands, values, strict=True))
        for output in outputs[1:]:
            output.write(box, *compute_index_values(output.bands[0], known, mask))


def _raw_name(number: int, output: OutputFile) -> str:
    """Return the name of an output's raw file: the first is the result, the others are indices."""
    return output.bands[0] if number else "values"


def _opened(path: str | Path, target: Sequence[str], read: ReadOptions) -> Scene:
    """Open the reference; errors name the options of the reference, as --match-sensor."""
    try:
        return open_scene(path, read, needed=target)
    except (BandError, UnitError) as error:
        words = str(error).replace("--sensor", "--match-sensor").replace("--bands", "--match-bands")
        words = words.replace(", or --match-sensor reflectance with --scale and --offset", "")
        raise type(error)(f"--match-to: {words}") from error
    except InputError as error:
        raise InputError(f"--match-to: {error}") from error


def _constant(bands: Sequence[str], low: NDArray[np.floating], high: NDArray[np.floating]) -> str:
    """Return the name of the first band whose values are all equal."""
    return next(name for name, a, b in zip(bands, low, high, strict=True) if not a < b)
