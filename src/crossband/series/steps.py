"""The steps of a series: translate its scenes, measure its places, stack its indices."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.errors import InputError
from crossband.jobs.run import translate_tasks
from crossband.jobs.shards import Shard
from crossband.jobs.summary import FAILED, SummaryLine
from crossband.jobs.task import FleetObserver, FleetStatus, Task
from crossband.model import Model
from crossband.raster.grid import Box, Grid
from crossband.raster.warp import Readable
from crossband.series import cubes, index_stack, maps, measure, places, preparation
from crossband.series.field_widths import FieldWidths
from crossband.series.guides import guided_by_earlier
from crossband.series.options import EARLIER
from crossband.series.places import LocatedPlace, Place
from crossband.series.preparation import DatedTask
from crossband.series.record import SCENES
from crossband.translate.options import GuideOptions, TranslateOptions
from crossband.translate.provenance import synthetic_tags
from crossband.translate.stream import Progress
from crossband.translate.uncertain_files import uncertain_paths
from crossband.translate.width_files import widths_path


@dataclass
class Series:
    """The result of a series.

    Attributes:
        folder: of the files.
        table: a row for each place and date, see `measure.COLUMNS`.
        files: all files that were written, except the scenes.
        stacks: the raster stacks among them, as `NDVI` or `NDVI_true` -> path.
        labels: dates of the bands of the stacks.
        failed: scenes that could not be translated, as input -> reason.
        masked: scenes in which every pixel is masked; they are gaps.
        without_truth: scenes without measured bands.
        nowhere: places in which no scene has a pixel.
        partly: places that reach beyond a scene.
        unguided: scenes without an earlier measured one, where others are guided by theirs.
        dates_from: where dates were found -> number of scenes.
    """

    folder: Path
    table: pd.DataFrame
    files: list[Path] = field(default_factory=list)
    stacks: dict[str, Path] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    masked: list[str] = field(default_factory=list)
    without_truth: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    unguided: list[str] = field(default_factory=list)
    dates_from: dict[str, int] = field(default_factory=dict)


class SeriesSteps:
    """The steps of a series.

    Args:
        model: see `series`.
        folder: see `series`.
        tasks: the dated scenes.
        grids: of those that could be opened, by their number.
        indices: names.
        wanted: the places.
        options: see `series`.
    """

    def __init__(
        self,
        model: Model,
        folder: Path,
        tasks: list[DatedTask],
        grids: dict[int, Grid],
        indices: list[str],
        wanted: list[Place],
        options: TranslateOptions,
    ) -> None:
        self.model, self.folder, self.tasks, self.grids = model, folder, tasks, grids
        self.indices, self.wanted, self.options = indices, wanted, options
        self.outcome: dict[str, SummaryLine] = {}
        self.unguided: list[str] = []

    def copy_cubes(self) -> None:
        """Copy the dates of data cubes to files, anew after an interruption."""
        parts = [item.part for item in self.tasks if item.part is not None]
        for folder in {Path(part.dated.source.path).parent for part in parts}:
            shutil.rmtree(folder, ignore_errors=True)
        for part in parts:
            cubes.copy_slice(part, self.bands_of(part), self.options.read)

    def bands_of(self, part: cubes.CubeSlice) -> list[str]:
        """Return the bands to copy of a data cube: the model's source bands, and measured ones."""
        source = list(self.model.signature.source)
        made = self.model.signature.target
        more = [b for b in made if cubes.has_bands(part.array, [b], self.options.read)]
        return [*source, *(b for b in more if b not in source)]

    def translate(self, observer: FleetObserver | None) -> None:
        """Translate the scenes that are not up to date; InputError where none succeeds."""
        read, guide = self.options.read, self.options.guide
        if guide.guide == EARLIER:
            self.tasks, self.unguided = guided_by_earlier(
                self.model, self.tasks, self.grids, read, guide.method
            )
            guide = GuideOptions()
        read = read.only(self.model.signature.source)
        write = replace(self.options.write, indices=self.indices)
        seen = _LineCollector(observer or FleetObserver())
        translate_tasks(
            self.model,
            [item.task for item in self.tasks],
            self.folder / SCENES,
            replace(self.options, read=read, write=write, guide=guide),
            shard=Shard(),
            observer=seen,
        )
        self.outcome = seen.lines
        if not any(self._is_translated(item) for item in self.tasks):
            first = next(iter(seen.lines.values()))
            raise InputError(f"no scene could be translated; the first: {first.reason}")

    def _line(self, item: DatedTask) -> SummaryLine:
        return self.outcome[item.task.name]

    def _is_masked(self, item: DatedTask) -> bool:
        return self._line(item).error == "MaskedError"

    def _is_translated(self, item: DatedTask) -> bool:
        return self._line(item).status != FAILED

    def statistics(self) -> Series:
        """Compute the statistics of all places on all dates."""
        rows: list[dict[str, Any]] = []
        result = Series(self.folder, pd.DataFrame(), unguided=self.unguided)
        where: dict[tuple[Any, ...], list[LocatedPlace]] = {}
        for number, item in enumerate(self.tasks):
            label = item.dated.date_source
            result.dates_from[label] = result.dates_from.get(label, 0) + 1
            if not self._is_translated(item):
                line = self._line(item)
                if not self._is_masked(item) or number not in self.grids:
                    result.failed[line.input] = str(line.reason)
                    continue
                result.masked.append(item.scene)
            for index in self.indices:
                with ExitStack() as files:
                    made = files.enter_context(self._synthetic(number, index))
                    true = maps.open_measured(
                        item.dated.source, self.options.read, self.model, index
                    )
                    if true is not None:
                        files.enter_context(true)
                    elif item.scene not in result.without_truth:
                        result.without_truth.append(item.scene)
                    grid = made.grid
                    key = (grid.height, grid.width, grid.transform, grid.crs)
                    if key not in where:
                        where[key] = self._located(grid, item)
                    widths = files.enter_context(self._widths(item, index))
                    for place in where[key]:
                        row = measure.place_row(place, item.label, item.scene, made, true, widths)
                        if row is not None:
                            rows.append(row)
        result.labels = [
            i.label for i in self.tasks if self._is_translated(i) or self._is_masked(i)
        ]
        sure = self.options.interval.interval is not None
        names = [p.name for p in self.wanted]
        result.table = measure.place_table(rows, names, self.indices, bounds=sure)
        known = set(result.table["place"])
        beyond = {
            f.place.name for located in where.values() for f in located if f.total is not None
        }
        result.partly = [p.name for p in self.wanted if p.name in beyond & known]
        result.nowhere = [p.name for p in self.wanted if p.name not in known]
        return result

    def _located(self, grid: Grid, item: DatedTask) -> list[LocatedPlace]:
        label = item.dated.source.label
        found = [places.locate_place(place, grid, label) for place in self.wanted]
        return [f for f in found if f is not None]

    def _widths(self, item: DatedTask, index: str) -> AbstractContextManager[FieldWidths | None]:
        """Open the widths of an index; None without intervals, and for a masked scene."""
        if self.options.interval.interval is None or self._is_masked(item):
            return nullcontext()
        return FieldWidths.open(widths_path(item.indices[index]), index)

    def _synthetic(self, number: int, index: str) -> AbstractContextManager[Readable]:
        """Open the index of a scene; all of it is masked where the scene is."""
        item = self.tasks[number]
        if self._is_masked(item):
            return nullcontext(maps.masked_index(index, self.grids[number]))
        return maps.open_index(item.indices[index], index)

    @contextmanager
    def _true(self, number: int, index: str) -> Iterator[Readable]:
        """Open the measured index of a scene; all of it is masked where there is none."""
        source = self.tasks[number].dated.source
        measured = maps.open_measured(source, self.options.read, self.model, index)
        if measured is None:
            yield maps.masked_index(index, self.grids[number])
            return
        with measured:
            yield measured

    @contextmanager
    def _difference(self, number: int, index: str) -> Iterator[Readable]:
        with self._synthetic(number, index) as made, self._true(number, index) as true:

            def read(box: Box) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
                one, other = made.read(box), true.read(box)
                return one.values[0] - other.values[0], one.mask & other.mask

            yield maps.ComputedIndex(index, made.grid, read)

    def stacks(self, result: Series, onto: Grid | None, *, compared: bool) -> None:
        """Write the raster stacks."""
        numbers = [
            n
            for n, item in enumerate(self.tasks)
            if self._is_translated(item) or (self._is_masked(item) and n in self.grids)
        ]
        kinds: dict[str, Callable[[int, str], AbstractContextManager[Readable]]]
        kinds = {"": self._synthetic}
        if compared and len(result.without_truth) < len(numbers):
            kinds |= {"_true": self._true, "_difference": self._difference}
        for index in self.indices:
            for kind, opening in kinds.items():
                layers = [
                    index_stack.DateLayer(
                        self.tasks[n].label,
                        self.tasks[n].scene,
                        partial(opening, n, index),
                    )
                    for n in numbers
                ]
                path = self.folder / f"{index}{kind}.tif"
                grid = onto or self.grids[numbers[0]]
                tags = self._tags(index, kind, len(numbers))
                index_stack.write_index_stack(
                    path, grid, index, layers, tags, aligned=onto is not None
                )
                result.files.append(path)
                result.stacks[f"{index}{kind}"] = path

    def _tags(self, index: str, kind: str, dates: int) -> dict[str, str]:
        """Return the tags of a stack; that of measured bands is not tagged as synthetic."""
        tags = synthetic_tags(self.model, f"{dates} scenes")
        made = ", ".join(maps.split_bands(self.model, index)[0])
        words = f"{index} on {dates} dates"
        if kind == "_true":
            tags = {"TIFFTAG_SOFTWARE": tags["TIFFTAG_SOFTWARE"]}
            words += ", of measured bands"
        else:
            less = " less that of measured bands" if kind else ""
            words = f"SYNTHETIC {words}: of {made} made by {self.model.name}{less}, not measured"
        return {**tags, "TIFFTAG_IMAGEDESCRIPTION": words, "CROSSBAND_INDEX": index}

    def remove_scenes(self) -> None:
        """Remove the translated scenes; other files in their folder are kept."""
        scenes = self.folder / SCENES
        for item in filter(self._is_translated, self.tasks):
            beside = uncertain_paths(item.task.output, item.indices, self.options.interval)
            for path in (item.task.output, *item.indices.values(), *beside):
                path.unlink(missing_ok=True)
        (scenes / "summary.jsonl").unlink(missing_ok=True)
        preparation.remove_if_empty(scenes)


class _LineCollector(FleetObserver):
    """Keeps the summary line of each scene, and notifies another observer."""

    def __init__(self, other: FleetObserver) -> None:
        self._other = other
        self.lines: dict[str, SummaryLine] = {}

    def on_scene_start(self, task: Task) -> Progress | None:
        """See `FleetObserver.on_scene_start`."""
        return self._other.on_scene_start(task)

    def on_scene_end(self, line: SummaryLine, status: FleetStatus) -> None:
        """See `FleetObserver.on_scene_end`."""
        self.lines[line.output] = line
        self._other.on_scene_end(line, status)
