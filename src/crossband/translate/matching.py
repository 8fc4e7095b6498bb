"""Bring a result to the values of a reference acquisition, after it was computed.

A network that was trained on one sensor gives the right pattern on another one's pictures, and
often the wrong level and contrast. Where a measured band of the same place is at hand, the result
can be brought to its distribution of values: NIR-GAN does so with Sentinel-2 for the near infrared
of aerial photographs. See `raster.match` for the mappings, `raster.compare` for what is compared.

A `display` result measures nothing; matched, it is in the reference's unit, for the mapping is a
conversion into it. Any other result and its reference have one unit.

The windows are kept as the network gave them, in float32; after the last one the mapping is fitted
to them and the file is made. So a run may be interrupted anywhere, and another reference be tried
without computing the scene again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

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
from crossband.raster.remote import name_of
from crossband.raster.scene import Scene
from crossband.raster.vrt import OPTIONS, vrt
from crossband.raster.warp import check_georeference
from crossband.raster.write import Output, failed
from crossband.translate.options import MatchOptions
from crossband.translate.provenance import sources
from crossband.translate.stream import index_values
from crossband.translate.tiles import plan

#: Fewer common pixels than these do not tell a distribution.
FEWEST = 100
#: Side of the windows that are mapped at once.
SIDE = 1024
#: How a result is matched where nobody says it.
WAY = "histogram"
#: The fact that says how values become the file's numbers.
ENCODING = "the encoding (--dtype, --out-scale, --out-offset, --nodata)"


class Direct:
    """No reference: windows are written as they are computed.

    Args:
        unit: of what the network gives.

    Attributes:
        unit: of the result.
        facts: what is remembered of it with the windows; see `Store.open`.
        later: those of them on which the windows do not depend.
    """

    facts: Mapping[str, str] = {}
    later: Sequence[str] = ()

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def beside(self, outputs: Sequence[Output]) -> Sequence[Output]:
        """Return outputs that are kept for a while beside the ones that are wanted."""
        return []

    def begin(self, outputs: Sequence[Output], store: Store) -> Sequence[Output]:
        """Make the raw files; returns the outputs that take the windows."""
        for i, made in enumerate(outputs):
            made.begin(store, _name(i, made))
        return outputs

    def finish(self, outputs: Sequence[Output], source: Scene, store: Store) -> None:
        """Do what is left after the last window."""

    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def matching(
    options: MatchOptions, grid: Grid, bands: Sequence[str], unit: str, source: str | Path
) -> Direct:
    """Return how windows become a result.

    Args:
        options: the reference, or none.
        grid: of the result.
        bands: of the result.
        unit: of what the network gives.
        source: what it is made of.

    Raises:
        CrossbandError: an option of matching without a reference, or a reference that cannot be
            one; see `Matching`.
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
        return Direct(unit)
    return Matching(options.reference, options, grid, bands, unit, name_of(source))


class Matching(Direct):
    """The reference, opened; use as a context manager.

    Args:
        reference: raster of the same place, with the result's bands by common name.
        options: method, sensor and bands of the reference.
        grid: of the result.
        bands: of the result.
        unit: of what the network gives; the reference's, or `display`.
        name: what is said of the result in errors.

    Raises:
        InputError: no georeference, no common ground, too few valid pixels, a constant reference.
        BandError, UnitError: the reference has not the result's bands, or another unit, or does
            not say it.
    """

    later = ("--match-to", ENCODING)

    def __init__(
        self,
        reference: str | Path,
        options: MatchOptions,
        grid: Grid,
        bands: Sequence[str],
        unit: str,
        name: str,
    ) -> None:
        self._way, self._name = options.method or WAY, name
        self._what = f"--match-to {reference}"
        if self._way not in METHODS:
            raise CrossbandError(f"--match {options.method}: {nearest(self._way, METHODS)}")
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
                "--match-to": f"{self._way}, {name_of(opened.path)}, {sources(opened)}, {read}",
            }
            stack.pop_all()

    def beside(self, outputs: Sequence[Output]) -> Sequence[Output]:
        """Return the output that takes the windows as the network gives them."""
        plain = Encoding("float32", nodata=float("nan"))
        path = outputs[0].path.with_suffix(".tif")  # nothing is written there
        return [replace(outputs[0], path=path, encoding=plain, unit=self._given)]

    def begin(self, outputs: Sequence[Output], store: Store) -> Sequence[Output]:
        """Make the raw files; returns the outputs that take the windows."""
        self._kept = self.beside(outputs)
        self._kept[0].begin(store, "unmatched")
        for i, made in enumerate(outputs):
            made.begin(store, _name(i, made), again=True)
        return self._kept

    def finish(self, outputs: Sequence[Output], source: Scene, store: Store) -> None:
        """Fit the mapping, and write the matched result and its indices into their raw files.

        Raises:
            MatchError: too few pixels are valid in both, or a band of the result is constant.
        """
        (unmatched,) = self._kept
        assert unmatched.raw is not None
        path = unmatched.raw.path.with_suffix(".vrt")
        try:
            path.write_text(vrt(unmatched, unmatched.raw, masked=False), encoding="utf-8")
        except OSError as error:
            raise failed(unmatched.path, error) from error
        with gdal(**OPTIONS), open_scene(path, needed=unmatched.bands) as result:
            mapping, words = self._fit(result)
            for made in outputs:
                made.tags = {**made.tags, "CROSSBAND_MATCHED": words}
            _write(mapping, result, outputs, source)

    def close(self) -> None:
        """Close the reference."""
        self._scene.close()

    def _check_reference(self) -> None:
        """Look at the reference alone, as far as is needed to know that it can be matched to."""
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
        """Return the mapping, and what the tag says of it."""
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
        mapping = fit(self._way, x[:, None], y[:, None])
        words = [name_of(self._scene.path), self._way, f"{x.shape[1]} pixels"]
        if self._given != self.unit:
            words.append(f"{self._given} to {self.unit}")
        if self._way == "linear":
            for i, name in enumerate(result.bands):
                gain = mapping.slope[i]
                offset = mapping.reference[i][0] - gain * mapping.image[i][0]
                words.append(f"{name}: gain {gain:.6g} offset {offset:.6g}")
        return mapping, ", ".join(words)


def _write(mapping: Match, result: Scene, outputs: Sequence[Output], source: Scene) -> None:
    """Map all windows, a few at a time; write them, and the indices that follow from them."""
    grid = result.grid
    boxes = [tile.core for tile in plan(grid.height, grid.width, SIDE, 0, 1)]
    # An index needs source and result on one grid, which was checked; else nobody reads these.
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
        for made in outputs[1:]:
            made.write(box, *index_values(made.bands[0], known, mask))


def _name(number: int, made: Output) -> str:
    """Return the name of an output's raw file: the first one is the result, others are indices."""
    return made.bands[0] if number else "values"


def _opened(path: str | Path, target: Sequence[str], read: ReadOptions) -> Scene:
    """Open the reference; what is wrong with it is said in the names of its own options."""
    try:
        return open_scene(path, read, needed=target)
    except (BandError, UnitError) as error:
        words = str(error).replace("--sensor", "--match-sensor").replace("--bands", "--match-bands")
        words = words.replace(", or --match-sensor reflectance with --scale and --offset", "")
        raise type(error)(f"--match-to: {words}") from error
    except InputError as error:
        raise InputError(f"--match-to: {error}") from error


def _constant(bands: Sequence[str], low: NDArray[np.floating], high: NDArray[np.floating]) -> str:
    return next(name for name, a, b in zip(bands, low, high, strict=True) if not a < b)
