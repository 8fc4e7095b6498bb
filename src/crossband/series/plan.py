"""What a series is made of, and what is wrong with it, before any work is done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from crossband.errors import CrossbandError, InputError, ManifestError, OutputError
from crossband.jobs import sources
from crossband.jobs.task import Task
from crossband.model import Model
from crossband.raster.dataset import check_exists
from crossband.raster.grid import Grid
from crossband.raster.options import ReadOptions
from crossband.raster.write import check_output
from crossband.series import maps, stack
from crossband.series.dates import Date, Dated, told
from crossband.series.write import aligning
from crossband.translate.index_files import index_paths


@dataclass(frozen=True)
class Item:
    """A date of a series.

    Attributes:
        dated: the scene and its date.
        task: its translation.
        indices: the files of its indices, by name.
        part: the date of a stack that the scene is copied from; None elsewhere.
    """

    dated: Dated
    task: Task
    indices: dict[str, Path]
    part: stack.Slice | None = None

    @property
    def label(self) -> str:
        """The date in words."""
        return str(self.dated.date)

    @property
    def scene(self) -> str:
        """The scene's name."""
        return self.dated.source.stem


def items(
    model: Model,
    inputs: Sequence[str],
    folder: Path,
    indices: Sequence[str],
    *,
    dates: Sequence[Any] | None = None,
    pattern: str | None = None,
    apart: bool = False,
) -> list[Item]:
    """Return the dates of a series in order.

    Args:
        model: what translates.
        inputs: what `jobs.sources` takes, and stacks (see `stack`).
        folder: of the translated scenes; copies of stacks go to the hidden folder beside it.
        indices: names.
        dates: of plain inputs, one each.
        pattern: see `dates.in_name`.
        apart: two scenes may have one time: they are not stacked.

    Raises:
        InputError: no input, a scene without a date, or two of one time.
        CrossbandError: what `sources.expand` raises.
    """
    plain = [i for i in inputs if not stack.is_stack(i)]
    copies = folder.with_name(f".{folder.name}-of-stacks")
    parts = [s for i in inputs if stack.is_stack(i) for s in stack.slices(i, copies)]
    found = [(told(s, pattern), None) for s in _plain(plain, dates, bool(parts))]
    every = sorted([*found, *((p.dated, p) for p in parts)], key=lambda f: _order(f[0]))
    if not every:
        raise InputError("a series needs at least one scene")
    for (one, _), (other, _) in pairwise(every):
        if one.date.time == other.date.time and not apart:
            raise InputError(
                f"{one.source.said} and {other.source.said} are both of {one.date}; a stack holds "
                f"one scene of a time: say the time of day, mosaic them, or give --no-stack"
            )
    out, taken = [], dict[Path, Dated]()
    for dated, part in every:
        name = f"{dated.date.stem}_{dated.source.stem}_{'_'.join(model.signature.target)}.tif"
        path = folder / name
        if path in taken:
            raise OutputError(
                f"{dated.source.said} and {taken[path].source.said} have one date and one name; "
                f"rename one"
            )
        taken[path] = dated
        task = Task(dated.source, path, name)
        out.append(Item(dated, task, index_paths(path, indices), part))
    return out


def _order(dated: Dated) -> tuple[Date, str]:
    return dated.date, dated.source.stem


def _plain(
    inputs: Sequence[str], dates: Sequence[Any] | None, others: bool
) -> list[sources.Source]:
    """Return the scenes of inputs that are no stacks."""
    if dates is None:
        found = sources.expand(inputs) if inputs else []
        _check_rows(found)
        return found
    if others or any(sources.is_many(i) for i in inputs) or len(dates) != len(inputs):
        raise CrossbandError(
            f"dates: one for each scene, of {len(inputs)} files there are {len(dates)}; patterns, "
            f"lists, manifests and stacks say theirs"
        )
    out = []
    for text, date in zip(inputs, dates, strict=True):
        (source,) = sources.expand([text])
        own = pd.Timestamp(date).isoformat() if not isinstance(date, str) else date
        whole = own.removesuffix("T00:00:00")  # of a date without time of day
        out.append(sources.Source(source.path, source.stem, source.said, row={"date": whole}))
    return out


def _check_rows(found: Sequence[sources.Source]) -> None:
    """Raise ManifestError for a target that is not there."""
    for source in found:
        target = source.row.get("target")
        if isinstance(target, str):
            try:
                check_exists(target)
            except InputError as error:
                raise ManifestError(f"{source.said}: target: {error}") from error


def check(
    model: Model, indices: Sequence[str], outputs: Sequence[Path], *, overwrite: bool
) -> None:
    """Raise CrossbandError for what no scene could be done with, and for results that are there."""
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
        maps.needs(model, index)
    for path in outputs:
        if path.suffix.lower() in (".tif", ".png"):
            check_output(path, overwrite)
        elif path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already; give --overwrite to replace it")


def grids(
    model: Model, every: Sequence[Item], indices: Sequence[str], options: ReadOptions
) -> dict[int, Grid]:
    """Return the grids of the scenes that can be opened, by their place in the series.

    One that cannot be opened is left to the translation, which reports it.

    Raises:
        CrossbandError: a scene that can be opened has a target that does not fit.
    """
    found: dict[int, Grid] = {}
    wanted = list(model.signature.source)
    for number, item in enumerate(every):
        if item.part is not None:
            found[number] = stack.grid_of(item.part, wanted, options)
            continue
        with (
            suppress(CrossbandError),
            maps.open_source(item.dated.source, options, wanted) as scene,
        ):
            found[number] = scene.grid
        if number in found:
            for index in indices:
                with maps.measured(item.dated.source, options, model, index) or nullcontext():
                    pass
    return found


def check_one_grid(every: Sequence[Item], found: Mapping[int, Grid], onto: Grid | None) -> None:
    """Raise InputError where scenes cannot be stacked.

    Args:
        every: the series.
        found: see `grids`.
        onto: what they are aligned to; None where they must lie on one grid.
    """
    numbers = sorted(found)
    for number in numbers:
        said = every[number].dated.source.said
        if onto is not None:
            try:
                aligning(found[number], onto)
            except InputError as error:
                raise InputError(f"--align: {said}: {error}") from error
            continue
        why = maps.apart(found[numbers[0]], found[number])
        if why is not None:
            first = every[numbers[0]].dated.source.said
            raise InputError(
                f"{first} and {said} lie on different grids ({why}); --align RASTER brings all "
                f"onto one, --no-stack leaves the stack out"
            )


def remove_empty(folder: Path) -> None:
    """Remove a folder where nothing is in it."""
    with suppress(OSError):
        os.rmdir(folder)
