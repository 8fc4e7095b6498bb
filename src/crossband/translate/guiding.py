"""Guide a result by a measurement of the same place, so that their levels agree.

From colours alone nobody knows how bright the near infrared of a place is, and most of a network's
error is one constant for each place. Where the place was measured, at coarser pixels or at another
date, the result is corrected: see `correction`.

The windows are stored in float32 as the network computed them. After the last one the correction is
computed from them and applied. So a run can be interrupted at any time, and another guide can be
tried without computing the scene again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow
from torch import Tensor

from crossband.core.own_files import replace_own
from crossband.errors import CrossbandError, GuideError
from crossband.model import Model
from crossband.model.uncertain import GUIDED
from crossband.raster.blocks import BlockReader, ReadStats
from crossband.raster.encoding import Encoding
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box, Window
from crossband.raster.journal import Store
from crossband.raster.open import open_scene
from crossband.raster.output import OutputFile, write_error
from crossband.raster.remote import name_of
from crossband.raster.scene import Scene
from crossband.raster.vrt import OPTIONS, vrt
from crossband.translate.correction import GuideCorrection, check_guide_options
from crossband.translate.guide_file import date_of
from crossband.translate.guide_folder import choose_guide, is_guide_folder
from crossband.translate.options import GuideOptions, TileOptions
from crossband.translate.residual import Corrected
from crossband.translate.stream import compute_index_values
from crossband.translate.threads import Prefetcher
from crossband.translate.tiles import plan_tiles
from crossband.translate.trained_guide import TrainedGuide
from crossband.translate.uncertain_bands import PLAIN, FurtherBands, GuidedIntervals
from crossband.translate.width_files import GuidedWidths

#: Side in pixels of the windows that are corrected at once.
SIDE = 1024
#: Tag of a file that says which guide was used, how, and how well it agrees.
GUIDED_TAG = "CROSSBAND_GUIDED"
#: Name of the fact that says how values are encoded in the file.
ENCODING = "the encoding (--dtype, --out-scale, --out-offset, --nodata)"


class ResultFiles:
    """Writes the windows of a result as they are computed; use as a context manager.

    This one has no guide; those below correct the result by one.

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
    #: Names of the network's channels beside the result, which files are made of.
    further: tuple[str, ...] = ()
    #: What a network that takes a guide gets of it; see `SceneConditions`.
    inputs: Callable[[Sequence[Box]], Tensor] | None = None

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def calibrated_as(self) -> tuple[float, float] | None:
        """Return size of the guide's pixels and age in days, by which intervals are calibrated.

        None without a guide.

        Raises:
            CrossbandError: intervals are not calibrated for results that are guided like this.
        """
        return None

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


def guided(
    options: GuideOptions, model: Model, tile: TileOptions, scene: Scene, *, sure: bool = False
) -> ResultFiles:
    """Open the guide of a result, where the options name one.

    Args:
        options: the guide and how it is used.
        model: that computes the result.
        tile: how the model is run on the guide's own bands.
        scene: the source.
        sure: intervals or familiarity are written, too.

    Raises:
        CrossbandError: an option of a guide without a guide, or a guide that cannot be used; see
            `Guided`.
    """
    if options.guide is None:
        how = {
            "--guide-method": options.method,
            "--guide-sensor": options.sensor,
            "--guide-bands": options.bands,
            "--guide-days": options.days,
        }
        given = [flag for flag, value in how.items() if value is not None]
        if given:
            raise CrossbandError(f"{given[0]} says how to use a guide: give --guide, too")
        if model.signature.guide:
            raise CrossbandError(
                f"{model.name} takes a measurement of {', '.join(model.signature.guide)} as guide: "
                "give --guide"
            )
        return ResultFiles(model.signature.target_unit(scene.unit))
    if not model.signature.guide:
        check_guide_options(options)
    if is_guide_folder(options.guide):
        wanted = model.signature.guide or model.signature.target
        read = options.read_options.only(wanted)
        found = choose_guide(options.guide, scene, wanted, read, options.scene_datetime)
        date = None if found.date is None else str(found.date)
        options = replace(options, guide=found.path, datetime=date)
    if not model.signature.guide:
        return Guided(options, model, tile, scene)
    guide = TrainedGuide(options, model, scene, name_of(scene.path))
    # The interval of a pixel depends on whether the guide is valid there, which is looked at last.
    last = guide.corrects or sure
    return (CorrectedNetwork if last else GuidedByNetwork)(options, guide)


class GuidedByNetwork(ResultFiles):
    """Writes windows of a network that takes the guide as input.

    Args:
        options: the guide.
        guide: the same, open; it is closed with this.
    """

    def __init__(self, options: GuideOptions, guide: TrainedGuide) -> None:
        super().__init__(guide.unit)
        self._guide, self._measured = guide, guide.measured
        self.inputs = guide.at
        self.guide, self.guide_datetime = str(options.guide), date_of(options)
        self.guide_files = guide.files
        self.facts = {"--guide": guide.fact}

    def begin(self, outputs: Sequence[OutputFile], store: Store) -> Sequence[OutputFile]:
        """Compare guide and source, and create the raw files."""
        self._words = self._guide.check()
        for output in outputs:
            output.tags = {**output.tags, GUIDED_TAG: self._words}
        return super().begin(outputs, store)

    def calibrated_as(self) -> tuple[float, float]:
        """See `ResultFiles.calibrated_as`."""
        return self._guide.calibrated_as()

    def close(self) -> None:
        """Close the guide."""
        self._guide.close()


class _Corrected(ResultFiles):
    """Stores windows as they are computed, and corrects them at the end.

    Attributes:
        given: unit of the windows.
    """

    given: str
    #: Says which pixels of a rectangle the guide has measured.
    _measured: Callable[[Box], NDArray[np.bool_]]

    def intermediate(self, outputs: Sequence[OutputFile]) -> Sequence[OutputFile]:
        """Return the outputs that hold the windows as the network gives them."""
        plain = Encoding("float32", nodata=float("nan"))
        path = outputs[0].path.with_suffix(".tif")  # nothing is written there
        result = replace(outputs[0], path=path, encoding=plain, unit=self.given)
        if not self.further:
            return [result]
        every = FurtherBands(slice(None))
        return [result, replace(result, bands=self.further, unit=PLAIN, content=every)]

    def begin(self, outputs: Sequence[OutputFile], store: Store) -> Sequence[OutputFile]:
        """Create the raw files, and return the outputs into which the windows are written."""
        self._unguided = self.intermediate(outputs)
        names: Sequence[str] = ("unguided", "further")
        for output, name in zip(self._unguided, names, strict=False):
            output.begin(store, name)
        for i, output in enumerate(outputs):
            output.begin(store, _raw_name(i, output), rewritten=True)
        return self._unguided

    def finish(self, outputs: Sequence[OutputFile], source: Scene, store: Store) -> None:
        """Compute the correction, and write the corrected result and its indices.

        Raises:
            GuideError: the result cannot be corrected; see `_correct`.
        """
        paths = [_readable(output) for output in self._unguided]
        with gdal(**OPTIONS), ExitStack() as stack:
            result = stack.enter_context(open_scene(paths[0], needed=self._unguided[0].bands))
            corrected, words = self._correct(result, stack, store.folder)
            for output in outputs:
                output.tags = {**output.tags, GUIDED_TAG: words}
            further = None
            if self.further:
                further = stack.enter_context(rasterio.open(paths[1]))
            _write(corrected, outputs, source, further, self._measured)

    def _correct(self, result: Scene, stack: ExitStack, folder: Path) -> tuple[Corrected, str]:
        """Return the corrected result, and the words of its tag; see `GuideCorrection`."""
        raise NotImplementedError


class CorrectedNetwork(_Corrected, GuidedByNetwork):
    """Stores windows of a network that takes the guide, and corrects them by it at the end."""

    may_change = (ENCODING,)

    def __init__(self, options: GuideOptions, guide: TrainedGuide) -> None:
        super().__init__(options, guide)
        self.given = self.unit
        self.facts = {**self.facts, "how windows are kept": "as computed, for the correction"}

    def begin(self, outputs: Sequence[OutputFile], store: Store) -> Sequence[OutputFile]:
        """Compare guide and source, and create the raw files."""
        self._words = self._guide.check()
        return super().begin(outputs, store)

    def _correct(self, result: Scene, stack: ExitStack, folder: Path) -> tuple[Corrected, str]:
        corrected, words = self._guide.corrected(result, stack, folder)
        return corrected, self._words + words


class Guided(_Corrected):
    """Stores windows as they are computed, and corrects them by a guide at the end.

    Args:
        options: the guide, and how it is used.
        model: that computes the result.
        tile: how it is run on the guide's own bands.
        source: the scene that is translated.

    Raises:
        CrossbandError: the guide cannot be used; see `GuideCorrection`.
    """

    @property
    def may_change(self) -> Sequence[str]:  # type: ignore[override]  # read only
        """See `ResultFiles`. Widths of guided results are computed for the guide."""
        of_guide = any(name.startswith(GUIDED) for name in self.further)
        return (ENCODING,) if of_guide else ("--guide", ENCODING)

    def __init__(
        self, options: GuideOptions, model: Model, tile: TileOptions, source: Scene
    ) -> None:
        self._correction = GuideCorrection(options, model, tile, source, name_of(source.path))
        super().__init__(self._correction.unit)
        self.given, self._measured = self._correction.given, self._correction.measured
        self.guide, self.guide_datetime = str(options.guide), date_of(options)
        self.guide_files = self._correction.files
        self.facts = {
            "how windows are kept": "as computed, for --guide",
            "--guide": self._correction.fact,
        }

    def _correct(self, result: Scene, stack: ExitStack, folder: Path) -> tuple[Corrected, str]:
        try:
            return self._correction.corrected(result, stack, folder)
        except GuideError as error:
            if "--guide" not in self.may_change:
                raise
            raise GuideError(
                f"{error}; the windows are kept: --resume with another --guide goes on"
            ) from error

    def calibrated_as(self) -> tuple[float, float]:
        """See `ResultFiles.calibrated_as`."""
        return self._correction.calibrated_as()

    def close(self) -> None:
        """Close the guide."""
        self._correction.close()


def _readable(output: OutputFile) -> Path:
    """Return a file by which GDAL reads the raw file of an output."""
    assert output.raw is not None
    path = output.raw.path.with_suffix(".vrt")
    try:
        replace_own(path, vrt(output, output.raw, masked=False))
    except OSError as error:
        raise write_error(output.path, error) from error
    return path


def _write(
    corrected: Corrected,
    outputs: Sequence[OutputFile],
    source: Scene,
    further: Any,
    measured: Callable[[Box], NDArray[np.bool_]],
) -> None:
    """Write the corrected values and what is made of them, window by window.

    Another thread reads the next windows, and so corrects them, meanwhile.

    Args:
        corrected: the result.
        outputs: the file of the result, followed by the others.
        source: the scene.
        further: the network's other channels, an open dataset; None where no file needs them.
        measured: says where the guide is valid.
    """
    read = _read_windows(corrected, outputs, source, further, measured)
    with Prefetcher(read, depth=1) as ready:
        for box, window, known, beside, there in ready:
            outputs[0].write(box, window.values, window.mask)
            for output in outputs[1:]:
                if output.content is None:
                    name = output.bands[0]
                    made = compute_index_values(name, known, window.mask, corrected.unit)
                elif isinstance(output.content, GuidedIntervals | GuidedWidths):
                    made = output.content(known, beside, window.mask, there)
                else:
                    made = output.content(known, beside, window.mask)
                output.write(box, *made)


def _read_windows(
    corrected: Corrected,
    outputs: Sequence[OutputFile],
    source: Scene,
    further: Any,
    measured: Callable[[Box], NDArray[np.bool_]],
) -> Generator[tuple[Box, Window, dict[str, NDArray[Any]], Any, Any], None, None]:
    """Yield rectangles, their corrected values, and what files beside the result are made of.

    These are the bands, the network's other channels, and where the guide is valid; None where no
    file needs them. See `_write` for the arguments.
    """
    grid = corrected.grid
    boxes = [tile.core for tile in plan_tiles(grid.height, grid.width, SIDE, 0, 1)]
    # Indices are computed from source and result; where that has finer pixels, from it alone.
    both = len(outputs) > 1 and grid.box == source.grid.box
    guided_too = any(isinstance(o.content, GuidedIntervals | GuidedWidths) for o in outputs)
    with gdal(**OPTIONS):
        windows = BlockReader(source, ReadStats()).windows(boxes) if both else None
        for box in boxes:
            window = corrected.read(box)
            known: dict[str, NDArray[Any]] = {}
            if windows is not None:
                seen = next(windows)
                known = dict(zip(seen.bands, seen.values, strict=True))
            known |= dict(zip(corrected.bands, window.values, strict=True))
            beside = None if further is None else further.read(window=at(box))
            yield box, window, known, beside, measured(box) if guided_too else None


def at(box: Box) -> RasterWindow:
    """Return a rectangle as rasterio takes it."""
    return RasterWindow(box.col, box.row, box.width, box.height)


def _raw_name(number: int, output: OutputFile) -> str:
    """Return the name of an output's raw file: the first is the result, the others are indices."""
    return output.bands[0] if number else "values"
