"""A series of scenes: translate them, stack their indices, take the statistics of places."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.errors import CrossbandError, InputError
from crossband.jobs.run import translate_tasks
from crossband.jobs.shards import Shard
from crossband.jobs.summary import FAILED, Line
from crossband.jobs.task import Tally, Task, Watcher
from crossband.model import Model
from crossband.raster.grid import Box, Grid
from crossband.raster.open import open_raster
from crossband.raster.warp import Readable, check_georeference
from crossband.raster.write import make_folder
from crossband.series import maps, measure, places, plan, stack, write
from crossband.series.options import SeriesOptions
from crossband.series.places import Found, Place
from crossband.series.plan import Item
from crossband.translate.options import TranslateOptions
from crossband.translate.provenance import synthetic_tags
from crossband.translate.stream import Progress

SCENES, TABLE, PICTURE = "scenes", "series.csv", "series.png"


@dataclass
class Series:
    """What a series has become.

    Attributes:
        folder: of the files.
        table: a row for each place and date, see `measure.COLUMNS`.
        files: what was written, but for the scenes.
        stacks: those of them that are rasters, by what they show, as `NDVI` or `NDVI_true`.
        labels: dates of the bands of the stacks.
        failed: scenes that could not be translated: input -> reason.
        masked: scenes in which every pixel is masked; they are gaps.
        without_truth: scenes that do not have the measured bands.
        nowhere: places in which no scene has a pixel.
        partly: places that reach beyond a scene.
        dates_from: what said the dates -> of how many scenes.
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
    dates_from: dict[str, int] = field(default_factory=dict)


def names_of(folder: Path, indices: Sequence[str], *, stacked: bool, compared: bool) -> list[Path]:
    """Return the files of a series, but for the scenes."""
    out = [folder / TABLE, *(picture(folder, indices, index) for index in indices)]
    kinds = ("", "_true", "_difference") if compared else ("",)
    if stacked:
        out += [folder / f"{index}{kind}.tif" for index in indices for kind in kinds]
    return out


def picture(folder: Path, indices: Sequence[str], index: str) -> Path:
    """Return the picture of an index: of several each has one."""
    return folder / (PICTURE if len(indices) == 1 else f"series_{index}.png")


def series(
    model: Model,
    inputs: Sequence[str | Path],
    folder: str | Path,
    options: TranslateOptions = TranslateOptions(),
    what: SeriesOptions = SeriesOptions(),
    *,
    indices: Sequence[str] = ("NDVI",),
    places: str | Path | Sequence[Place] | None = None,
    watcher: Watcher | None = None,
) -> Series:
    """Translate dated scenes, and write an index through time.

    Scenes go to the folder `scenes`; those that are there, made by the same model from the same
    source, are not made again. What was interrupted goes on when it is called again.

    Args:
        model: loaded model; its pixels must be the source's.
        inputs: what `jobs.sources` takes; NetCDF and Zarr stacks.
        folder: of the results.
        options: how scenes are read, computed and written; with `write.overwrite` results are
            replaced, and scenes that were made otherwise.
        what: dates, grid and files.
        indices: names of spectral indices that need a band which the model makes.
        places: GeoJSON of points and polygons, or `places.Place`s; the whole scene where None.
        watcher: is told how the translation goes.

    Raises:
        CrossbandError: something is wrong with inputs, dates, grids, places or options; nothing was
            done. Or no scene could be translated.
        Interrupted: Ctrl-C; finished scenes are kept.
    """
    folder, read = Path(folder), options.read
    outputs = names_of(folder, indices, stacked=what.stacked, compared=what.compared)
    plan.check(model, indices, outputs, overwrite=options.write.overwrite)
    if what.align is not None and not what.stacked:
        raise CrossbandError("--align is for the stack, and --no-stack leaves it out")
    every = plan.items(
        model,
        [str(i) for i in inputs],
        folder / SCENES,
        indices,
        dates=what.dates,
        pattern=what.date_pattern,
        apart=not what.stacked,
    )
    wanted = _places(places, what.place_name)
    grids = plan.grids(model, every, indices, read)
    onto = _onto(what.align)
    if what.stacked:
        plan.check_one_grid(every, grids, onto)
    for number, grid in grids.items():
        if any(p.geometry is not None for p in wanted):
            check_georeference(grid, every[number].dated.source.said)
    make_folder(folder)
    run = _Run(model, folder, every, grids, list(indices), wanted, options)
    with _copied(run):
        run.translate(watcher)
        found = run.measured()
        if what.stacked:
            run.stacks(found, onto, compared=what.compared)
    found.files.append(write.table(folder / TABLE, found.table))
    if what.drawn:
        from crossband.series.plot import seasons

        for index in indices:
            own = found.table[found.table["index"] == index]
            path = picture(folder, indices, index)
            found.files.append(seasons(path, own, index, title=f"{index} by {model.name}"))
    if not what.keep_scenes:
        run.remove_scenes()
    return found


def _places(given: str | Path | Sequence[Place] | None, name: str | None) -> list[Place]:
    if given is None and name is not None:
        raise CrossbandError("--place-name is a property of --places: give these, too")
    if given is None:
        return [places.everywhere()]
    return places.read(given, name) if isinstance(given, str | Path) else list(given)


def _onto(align: str | Path | None) -> Grid | None:
    if align is None:
        return None
    with open_raster(align) as dataset:
        grid = Grid(dataset.height, dataset.width, dataset.transform, dataset.crs)
    check_georeference(grid, str(align))
    return grid


@contextmanager
def _copied(run: _Run) -> Iterator[None]:
    """Copy the dates of stacks into files, for as long as they are needed."""
    parts = [item.part for item in run.every if item.part is not None]
    try:
        for part in parts:
            stack.copy(part, run.bands_of(part), run.options.read)
        yield
    finally:
        for folder in {Path(p.dated.source.path).parent for p in parts}:
            shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """A series that is being made.

    Args:
        model, folder, options: see `series`.
        every: the dates.
        grids: of those that could be opened.
        indices: names.
        wanted: places.
    """

    def __init__(
        self,
        model: Model,
        folder: Path,
        every: list[Item],
        grids: dict[int, Grid],
        indices: list[str],
        wanted: list[Place],
        options: TranslateOptions,
    ) -> None:
        self.model, self.folder, self.every, self.grids = model, folder, every, grids
        self.indices, self.wanted, self.options = indices, wanted, options
        self.outcome: dict[str, Line] = {}

    def bands_of(self, part: stack.Slice) -> list[str]:
        """Return the bands that are copied of a stack: the model's, and measured ones."""
        source = list(self.model.signature.source)
        made = [b for i in self.indices for b in maps.needs(self.model, i)[0]]
        more = [b for b in dict.fromkeys(made) if stack.holds(part.array, [b], self.options.read)]
        return [*source, *(b for b in more if b not in source)]

    def translate(self, watcher: Watcher | None) -> None:
        """Translate what is not there; CrossbandError where nothing comes of it."""
        read = self.options.read.only(self.model.signature.source)
        write = replace(self.options.write, indices=self.indices)
        seen = _Collected(watcher or Watcher())
        translate_tasks(
            self.model,
            [item.task for item in self.every],
            self.folder / SCENES,
            replace(self.options, read=read, write=write),
            shard=Shard(),
            watcher=seen,
        )
        self.outcome = seen.lines
        if not any(self._is_there(item) for item in self.every):
            first = next(iter(seen.lines.values()))
            raise InputError(f"no scene could be translated; the first: {first.reason}")

    def _line(self, item: Item) -> Line:
        return self.outcome[item.task.name]

    def _is_masked(self, item: Item) -> bool:
        return self._line(item).error == "MaskedError"

    def _is_there(self, item: Item) -> bool:
        return self._line(item).status != FAILED

    def measured(self) -> Series:
        """Take the statistics of all places on all dates."""
        rows: list[dict[str, Any]] = []
        found = Series(self.folder, pd.DataFrame())
        where: dict[tuple[Any, ...], list[Found]] = {}
        for number, item in enumerate(self.every):
            said = item.dated.said_by
            found.dates_from[said] = found.dates_from.get(said, 0) + 1
            if not self._is_there(item):
                line = self._line(item)
                if not self._is_masked(item) or number not in self.grids:
                    found.failed[line.input] = str(line.reason)
                    continue
                found.masked.append(item.scene)
            for index in self.indices:
                with ExitStack() as files:
                    made = files.enter_context(self._synthetic(number, index))
                    true = maps.measured(item.dated.source, self.options.read, self.model, index)
                    if true is not None:
                        files.enter_context(true)
                    elif item.scene not in found.without_truth:
                        found.without_truth.append(item.scene)
                    grid = made.grid
                    key = (grid.height, grid.width, grid.transform, grid.crs)
                    if key not in where:
                        where[key] = self._located(grid, item)
                    for place in where[key]:
                        row = measure.row(place, item.label, item.scene, made, true)
                        if row is not None:
                            rows.append(row)
        found.labels = [i.label for i in self.every if self._is_there(i) or self._is_masked(i)]
        found.table = measure.table(rows, [p.name for p in self.wanted], self.indices)
        known = set(found.table["place"])
        beyond = {f.place.name for every in where.values() for f in every if f.total is not None}
        found.partly = [p.name for p in self.wanted if p.name in beyond & known]
        found.nowhere = [p.name for p in self.wanted if p.name not in known]
        return found

    def _located(self, grid: Grid, item: Item) -> list[Found]:
        said = item.dated.source.said
        found = [places.locate(place, grid, said) for place in self.wanted]
        return [f for f in found if f is not None]

    def _synthetic(self, number: int, index: str) -> AbstractContextManager[Readable]:
        """Open the index of a scene; it is blank where all of the scene is masked."""
        item = self.every[number]
        if self._is_masked(item):
            return nullcontext(maps.blank(index, self.grids[number]))
        return maps.opened(item.indices[index], index)

    @contextmanager
    def _true(self, number: int, index: str) -> Iterator[Readable]:
        """Open the measured index of a scene; it is blank where there is none."""
        source = self.every[number].dated.source
        found = maps.measured(source, self.options.read, self.model, index)
        if found is None:
            yield maps.blank(index, self.grids[number])
            return
        with found:
            yield found

    @contextmanager
    def _difference(self, number: int, index: str) -> Iterator[Readable]:
        with self._synthetic(number, index) as made, self._true(number, index) as true:

            def read(box: Box) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
                one, other = made.read(box), true.read(box)
                return one.values[0] - other.values[0], one.mask & other.mask

            yield maps.Values(index, made.grid, read)

    def stacks(self, found: Series, onto: Grid | None, *, compared: bool) -> None:
        """Write the rasters."""
        numbers = [
            n
            for n, item in enumerate(self.every)
            if self._is_there(item) or (self._is_masked(item) and n in self.grids)
        ]
        kinds: dict[str, Callable[[int, str], AbstractContextManager[Readable]]]
        kinds = {"": self._synthetic}
        if compared and len(found.without_truth) < len(numbers):
            kinds |= {"_true": self._true, "_difference": self._difference}
        for index in self.indices:
            for kind, opening in kinds.items():
                layers = [
                    write.Layer(
                        self.every[n].label,
                        self.every[n].scene,
                        lambda n=n, opening=opening, index=index: opening(n, index),  # type: ignore[misc]
                    )
                    for n in numbers
                ]
                path = self.folder / f"{index}{kind}.tif"
                grid = onto or self.grids[numbers[0]]
                tags = self._tags(index, kind, len(numbers))
                write.stack(path, grid, index, layers, tags, aligned=onto is not None)
                found.files.append(path)
                found.stacks[f"{index}{kind}"] = path

    def _tags(self, index: str, kind: str, dates: int) -> dict[str, str]:
        """Return the tags of a stack; of what was measured they do not say that it is synthetic."""
        tags = synthetic_tags(self.model, f"{dates} scenes")
        made = ", ".join(maps.needs(self.model, index)[0])
        words = f"{index} on {dates} dates"
        if kind == "_true":
            tags = {"TIFFTAG_SOFTWARE": tags["TIFFTAG_SOFTWARE"]}
            words += ", of measured bands"
        else:
            less = " less that of measured bands" if kind else ""
            words = f"SYNTHETIC {words}: of {made} made by {self.model.name}{less}, not measured"
        return {**tags, "TIFFTAG_IMAGEDESCRIPTION": words, "CROSSBAND_INDEX": index}

    def remove_scenes(self) -> None:
        """Remove the translated scenes; other files in their folder stay."""
        scenes = self.folder / SCENES
        for item in self.every:
            for path in (item.task.output, *item.indices.values()):
                path.unlink(missing_ok=True)
        (scenes / "summary.jsonl").unlink(missing_ok=True)
        plan.remove_empty(scenes)


class _Collected(Watcher):
    """Keeps the line of each scene, and hands on what it is told."""

    def __init__(self, other: Watcher) -> None:
        self._other = other
        self.lines: dict[str, Line] = {}

    def began(self, task: Task) -> Progress | None:
        """See `Watcher.began`."""
        return self._other.began(task)

    def ended(self, line: Line, tally: Tally) -> None:
        """See `Watcher.ended`."""
        self.lines[line.output] = line
        self._other.ended(line, tally)
