"""Collect the dated scenes of a series, and check them before any work is done."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossband.core.atomic import check_file
from crossband.core.dates import Date, cell_text
from crossband.errors import CrossbandError, InputError, ManifestError, OutputError
from crossband.jobs.dates import DatedScene, date_of_scene
from crossband.jobs.inputs import SceneInput, expand_inputs, stands_for_many
from crossband.jobs.task import Task
from crossband.model import Model
from crossband.raster.dataset import check_exists
from crossband.raster.grid import Grid
from crossband.raster.options import ReadOptions
from crossband.raster.output_paths import check_output
from crossband.series import cubes, maps
from crossband.series.index_stack import alignment
from crossband.translate.index_files import index_paths


@dataclass(frozen=True)
class DatedTask:
    """A dated scene of a series, and its translation.

    Attributes:
        dated: the scene and its date.
        task: the scene and the path of its result.
        indices: name -> path of the scene's index.
        part: the date of a data cube from which the scene is copied; None for other scenes.
    """

    dated: DatedScene
    task: Task
    indices: dict[str, Path]
    part: cubes.CubeSlice | None = None

    @property
    def label(self) -> str:
        """The date as text."""
        return str(self.dated.date)

    @property
    def scene(self) -> str:
        """The scene's name."""
        return self.dated.source.stem


def dated_tasks(
    model: Model,
    inputs: Sequence[str],
    folder: Path,
    copies: Path,
    indices: Sequence[str],
    *,
    dates: Sequence[Any] | None = None,
    pattern: str | None = None,
    same_times: bool = False,
    allow_local: bool = False,
) -> list[DatedTask]:
    """Return the scenes of a series, sorted by date.

    Args:
        model: that translates them.
        inputs: those of `jobs.inputs`, and data cubes (see `cubes`).
        folder: of the translated scenes.
        copies: folder to which dates of cubes are copied.
        indices: names.
        dates: one for each plain input.
        pattern: of dates in names, see `dates.in_name`.
        same_times: scenes of the same time are allowed, as they are not stacked.
        allow_local: a file on a server may refer to files of this machine.

    Raises:
        InputError: no input, a scene without a date, or two scenes of one time.
        CrossbandError: see `expand_inputs`.
    """
    plain = [i for i in inputs if not cubes.is_cube(i)]
    parts = [s for i in inputs if cubes.is_cube(i) for s in cubes.cube_slices(i, copies)]
    found = [
        (date_of_scene(s, pattern, allow_local=allow_local), None)
        for s in _plain(plain, dates, bool(parts))
    ]
    scenes = sorted([*found, *((p.dated, p) for p in parts)], key=lambda f: _order(f[0]))
    if not scenes:
        raise InputError("a series needs at least one scene")
    for (one, _), (other, _) in pairwise(scenes):
        if one.date.time == other.date.time and not same_times:
            both = f"both of {one.date}"
            if str(one.date) != str(other.date):
                both = f"of {one.date} and {other.date}, which are one time: a month is its middle"
            raise InputError(
                f"{one.source.label} and {other.source.label} are {both}; a stack "
                f"holds one scene of a time: say the time of day, mosaic them, or give --no-stack"
            )
    out, taken = [], dict[Path, DatedScene]()
    for dated, part in scenes:
        name = f"{dated.date.stem}_{dated.source.stem}_{'_'.join(model.signature.target)}.tif"
        path = folder / name
        if path in taken:
            raise OutputError(
                f"{dated.source.label} and {taken[path].source.label} have one date and one name; "
                f"rename one"
            )
        taken[path] = dated
        guide = replace(dated.source.guide, scene_datetime=str(dated.date))
        task = Task(replace(dated.source, guide=guide), path, name)
        out.append(DatedTask(dated, task, index_paths(path, indices), part))
    return out


def _order(dated: DatedScene) -> tuple[Date, str]:
    return dated.date, dated.source.stem


def _plain(inputs: Sequence[str], dates: Sequence[Any] | None, others: bool) -> list[SceneInput]:
    """Return the scenes of inputs that are not data cubes."""
    if dates is None:
        found = expand_inputs(inputs) if inputs else []
        _check_rows(found)
        return found
    if others or any(stands_for_many(i) for i in inputs) or len(dates) != len(inputs):
        raise CrossbandError(
            f"dates: one for each scene, of {len(inputs)} files there are {len(dates)}; patterns, "
            f"lists, manifests and stacks say theirs"
        )
    out = []
    for text, date in zip(inputs, dates, strict=True):
        (source,) = expand_inputs([text])
        out.append(SceneInput(source.path, source.stem, source.label, row={"date": _text(date)}))
    return out


def _text(date: Any) -> str:
    """Return a date as a manifest states it; CrossbandError for what is none.

    A number is one of digits, as 20240501: pandas takes it for nanoseconds since 1970.
    """
    if isinstance(date, Real) and not isinstance(date, bool | np.timedelta64):
        return cell_text(date)
    try:
        own = date if isinstance(date, str) else pd.Timestamp(date).isoformat()
    except (TypeError, ValueError) as error:
        raise CrossbandError(f"dates: {date!r:.60} is no date") from error
    return own.removesuffix("T00:00:00")  # of a date without time of day


def _check_rows(found: Sequence[SceneInput]) -> None:
    """Raise ManifestError for a target that does not exist."""
    for source in found:
        target = source.row.get("target")
        if isinstance(target, str):
            try:
                check_exists(target)
            except InputError as error:
                raise ManifestError(f"{source.label}: target: {error}") from error


def check_indices(model: Model, indices: Sequence[str]) -> None:
    """Raise CrossbandError for indices that no scene could give."""
    if not indices:
        raise CrossbandError("a series needs an index, as --index NDVI")
    twice = next((n for n in indices if list(indices).count(n) > 1), None)
    if twice is not None:
        raise CrossbandError(f"--index {twice} is given twice")
    if model.network.scale != 1:
        raise CrossbandError(
            f"{model.name} makes pixels {model.network.scale} times finer: an index needs source "
            f"and target on one grid"
        )
    for index in indices:
        maps.split_bands(model, index)


def check_outputs(
    outputs: Sequence[Path], *, overwrite: bool, placed: Container[Path] = ()
) -> None:
    """Raise OutputError for results that exist or cannot be written.

    Args:
        outputs: the files of the series, except the scenes.
        overwrite: they may exist.
        placed: those that an interrupted run of this series has written.
    """
    for path in outputs:
        check = check_output if path.suffix.lower() in (".tif", ".png") else check_file
        check(path, overwrite or path in placed)


def scene_grids(
    model: Model, scenes: Sequence[DatedTask], indices: Sequence[str], options: ReadOptions
) -> dict[int, Grid]:
    """Return the grids of the scenes that can be opened, by their number in the series.

    The translation reports those that cannot be opened.

    Raises:
        CrossbandError: the target of a scene does not fit the scene.
    """
    found: dict[int, Grid] = {}
    wanted = list(model.signature.source)
    for number, item in enumerate(scenes):
        if item.part is not None:
            found[number] = cubes.slice_grid(item.part, wanted, options)
            continue
        with (
            suppress(CrossbandError),
            maps.open_source(item.dated.source, options, wanted) as scene,
        ):
            found[number] = scene.grid
        if number in found:
            for index in indices:
                with maps.open_measured(item.dated.source, options, model, index) or nullcontext():
                    pass
    return found


def check_one_grid(
    scenes: Sequence[DatedTask], found: Mapping[int, Grid], onto: Grid | None
) -> None:
    """Raise InputError where scenes cannot be stacked.

    Args:
        scenes: the series.
        found: see `scene_grids`.
        onto: the grid that they are resampled to; None where they must share one grid.
    """
    numbers = sorted(found)
    for number in numbers:
        label = scenes[number].dated.source.label
        if onto is not None:
            try:
                alignment(found[number], onto)
            except InputError as error:
                raise InputError(f"--align: {label}: {error}") from error
            continue
        why = maps.grid_difference(found[numbers[0]], found[number])
        if why is not None:
            first = scenes[numbers[0]].dated.source.label
            raise InputError(
                f"{first} and {label} lie on different grids ({why}); --align RASTER brings all "
                f"onto one, --no-stack leaves the stack out"
            )


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with suppress(OSError):
        os.rmdir(folder)
