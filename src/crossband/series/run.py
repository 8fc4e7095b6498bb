"""Time series of scenes: translate them, stack their indices, compute the statistics of places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.core.atomic import up_to_date, write_text_atomically
from crossband.core.hidden_folder import NEW, folder_of, remove_leftovers
from crossband.core.json_text import read_json
from crossband.core.made_from import make_fingerprint
from crossband.errors import CrossbandError, InputError
from crossband.jobs.run import translate_tasks
from crossband.jobs.shards import Shard
from crossband.jobs.summary import FAILED, SummaryLine
from crossband.jobs.task import FleetObserver, FleetStatus, Task
from crossband.model import Model, identity
from crossband.raster.grid import Box, Grid
from crossband.raster.journal import names_being_placed, recorded
from crossband.raster.open import open_raster
from crossband.raster.output_paths import make_folder
from crossband.raster.warp import Readable, check_georeference
from crossband.series import cubes, index_stack, maps, measure, places, preparation
from crossband.series.options import SeriesOptions
from crossband.series.places import LocatedPlace, Place
from crossband.series.preparation import DatedTask
from crossband.translate.options import TranslateOptions
from crossband.translate.provenance import synthetic_tags
from crossband.translate.stream import Progress

SCENES, TABLE, PICTURE, RECORD = "scenes", "series.csv", "series.png", "series.json"
#: Of the hidden folder that a running series locks.
NAME = "series"


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
    dates_from: dict[str, int] = field(default_factory=dict)


def series_files(
    folder: Path, indices: Sequence[str], *, stacked: bool, compared: bool
) -> list[Path]:
    """Return the paths of the files of a series, except the scenes."""
    out = [folder / TABLE, *(plot_path(folder, indices, index) for index in indices)]
    kinds = ("", "_true", "_difference") if compared else ("",)
    if stacked:
        out += [folder / f"{index}{kind}.tif" for index in indices for kind in kinds]
    return [*out, folder / RECORD]


def plot_path(folder: Path, indices: Sequence[str], index: str) -> Path:
    """Return the path of the plot of an index; each of several indices has its own."""
    return folder / (PICTURE if len(indices) == 1 else f"series_{index}.png")


def series(
    model: Model,
    inputs: Sequence[str | Path],
    folder: str | Path,
    options: TranslateOptions = TranslateOptions(),
    series_options: SeriesOptions = SeriesOptions(),
    *,
    indices: Sequence[str] = ("NDVI",),
    places: str | Path | Sequence[Place] | None = None,
    observer: FleetObserver | None = None,
) -> Series:
    """Translate dated scenes, and write spectral indices through time.

    Scenes are translated into the folder `scenes`; those that are up to date are not translated
    again. After an interruption, the same call continues. The last file that is written,
    `series.json`, says what the series was made from.

    Args:
        model: loaded model, whose pixels have the size of the source's.
        inputs: those of `jobs.inputs`, and NetCDF and Zarr data cubes.
        folder: of the results.
        options: how scenes are read, computed and written. With `write.overwrite`, results and
            scenes that are not up to date are replaced.
        series_options: dates, grid and files of the series.
        indices: names of spectral indices that need a band which the model makes.
        places: GeoJSON of points and polygons, or `places.Place`s; the whole scene where None.
        observer: is notified of each translated scene.

    Raises:
        UpToDate: the series was made of the same files in the same way, and no scene failed.
        CrossbandError: inputs, dates, grids, places or options are wrong, and nothing was done; or
            no scene could be translated.
        Interrupted: Ctrl-C; finished scenes are kept.
    """
    folder, read = Path(folder), options.read
    outputs = series_files(
        folder, indices, stacked=series_options.stacked, compared=series_options.compared
    )
    record = folder / NAME  # no file has this name: only the hidden folder
    preparation.check_indices(model, indices)
    if series_options.align is not None and not series_options.stacked:
        raise CrossbandError("--align is for the stack, and --no-stack leaves it out")
    tasks = preparation.dated_tasks(
        model,
        [str(i) for i in inputs],
        folder / SCENES,
        folder_of(record) / NEW,
        indices,
        dates=series_options.dates,
        pattern=series_options.date_pattern,
        same_times=not series_options.stacked,
        allow_local=options.read.allow_local_references,
    )
    facts = _facts(model, inputs, indices, places, options, series_options)
    given = [p for p in (places, series_options.align) if isinstance(p, str | Path)]
    given += [i for i in inputs if cubes.is_cube(str(i))]
    made_from = make_fingerprint(facts, [*_files(tasks), *given])
    facts["the files"] = made_from
    placed = names_being_placed(record, facts)
    if not options.write.overwrite and not placed:
        placed = _check_finished(folder, made_from, outputs)
    preparation.check_outputs(outputs, overwrite=options.write.overwrite, placed=placed)
    wanted = _places(places, series_options.place_name)
    grids = preparation.scene_grids(model, tasks, indices, read)
    onto = _onto(series_options.align)
    if series_options.stacked:
        preparation.check_one_grid(tasks, grids, onto)
    for number, grid in grids.items():
        if any(p.geometry is not None for p in wanted):
            check_georeference(grid, tasks[number].dated.source.label)
    make_folder(folder)
    run = _SeriesRun(model, folder, tasks, grids, list(indices), wanted, options)
    with recorded(record, facts, outputs, placed):
        run.copy_cubes()
        run.translate(observer)
        result = run.statistics()
        if series_options.stacked:
            run.stacks(result, onto, compared=series_options.compared)
        result.files.append(index_stack.write_table(folder / TABLE, result.table))
        if series_options.drawn:
            from crossband.series.plot import plot_series

            for index in indices:
                own = result.table[result.table["index"] == index]
                path = plot_path(folder, indices, index)
                result.files.append(plot_series(path, own, index, title=f"{index} by {model.name}"))
        if not series_options.keep_scenes:
            run.remove_scenes()
        said = {"made_from": made_from, "failed": result.failed, "dates": result.labels}
        write_text_atomically(folder / RECORD, json.dumps(said, indent=1) + "\n")
    return result


def _check_finished(folder: Path, made_from: str, outputs: Sequence[Path]) -> set[Path]:
    """Raise UpToDate where the same series is finished.

    Returns:
        Its files where scenes of it have failed: these are tried again, and the files are its own.
    """
    try:
        said = read_json(folder / RECORD)
        if said["made_from"] != made_from:
            return set()
        failed = bool(said["failed"])
    except (InputError, TypeError, LookupError):
        return set()
    if failed or not (folder / TABLE).exists():
        return set(outputs)
    remove_leftovers(folder / NAME)
    raise up_to_date(folder)


def _files(tasks: Sequence[DatedTask]) -> Iterator[str]:
    """Yield the files of the scenes, and those of measured bands that a manifest names."""
    for item in tasks:
        if item.part is None:
            yield str(item.dated.source.path)
        if item.dated.source.row.get("target"):
            yield str(item.dated.source.row["target"])


def _facts(
    model: Model,
    inputs: Sequence[str | Path],
    indices: Sequence[str],
    places: str | Path | Sequence[Place] | None,
    options: TranslateOptions,
    series_options: SeriesOptions,
) -> dict[str, str]:
    """Return what tells this series from another one in its folder, as name -> value."""
    options = replace(options, write=replace(options.write, overwrite=False))
    return {
        "the model": identity(model),
        "the inputs": repr([str(i) for i in inputs]),
        "--index": repr(list(indices)),
        "--places": str(places) if isinstance(places, str | Path) else repr(places),
        "the options": repr((options, series_options)),
    }


def _places(given: str | Path | Sequence[Place] | None, name: str | None) -> list[Place]:
    if given is None and name is not None:
        raise CrossbandError("--place-name is a property of --places: give these, too")
    if given is None:
        return [places.everywhere()]
    return places.read_places(given, name) if isinstance(given, str | Path) else list(given)


def _onto(align: str | Path | None) -> Grid | None:
    if align is None:
        return None
    with open_raster(align) as dataset:
        grid = Grid(dataset.height, dataset.width, dataset.transform, dataset.crs)
    check_georeference(grid, str(align))
    return grid


class _SeriesRun:
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
        made = [b for i in self.indices for b in maps.split_bands(self.model, i)[0]]
        more = [
            b for b in dict.fromkeys(made) if cubes.has_bands(part.array, [b], self.options.read)
        ]
        return [*source, *(b for b in more if b not in source)]

    def translate(self, observer: FleetObserver | None) -> None:
        """Translate the scenes that are not up to date; InputError where none succeeds."""
        read = self.options.read.only(self.model.signature.source)
        write = replace(self.options.write, indices=self.indices)
        seen = _LineCollector(observer or FleetObserver())
        translate_tasks(
            self.model,
            [item.task for item in self.tasks],
            self.folder / SCENES,
            replace(self.options, read=read, write=write),
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
        result = Series(self.folder, pd.DataFrame())
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
                    for place in where[key]:
                        row = measure.place_row(place, item.label, item.scene, made, true)
                        if row is not None:
                            rows.append(row)
        result.labels = [
            i.label for i in self.tasks if self._is_translated(i) or self._is_masked(i)
        ]
        result.table = measure.place_table(rows, [p.name for p in self.wanted], self.indices)
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
            for path in (item.task.output, *item.indices.values()):
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
