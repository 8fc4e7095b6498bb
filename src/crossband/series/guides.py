"""Guides among the dates of a series: the nearest earlier measured date guides each date.

A date is measured if its scene has all bands that the model gives: its own, or the target of its
row in a manifest. A date never guides itself, as its measured bands are what its synthetic ones are
compared with; and a later date does not, so that a series goes on as dates arrive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from crossband.data.rows import row_options
from crossband.errors import CrossbandError, InputError
from crossband.jobs.inputs import SceneInput
from crossband.model import Model
from crossband.raster.grid import Box, Grid
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.warp import coverage
from crossband.series import maps
from crossband.series.options import EARLIER
from crossband.series.preparation import DatedTask
from crossband.translate.options import GuideOptions

#: Pixels that must be valid on both dates: a residual needs 16 whose neighbours are valid, too.
_COMMON = 100
#: Side of the windows in which they are counted.
_SIDE = 1024
#: Share of a scene that an earlier one on another grid covers at least.
_COVER = 0.5


def check_earlier(guide: GuideOptions) -> None:
    """Raise CrossbandError for options that say how measured dates are read."""
    given = {"--guide-sensor": guide.sensor, "--guide-bands": guide.bands}
    flag = next((name for name, value in given.items() if value is not None), None)
    if guide.guide == EARLIER and flag is not None:
        raise CrossbandError(f"--guide {EARLIER} reads dates as scenes: {flag} is for a raster")


def guided_by_earlier(
    model: Model,
    tasks: Sequence[DatedTask],
    grids: Mapping[int, Grid],
    read: ReadOptions,
    method: str | None,
) -> tuple[list[DatedTask], list[str]]:
    """Give each date its guide; return them with those that have none, by their names.

    A row that names a guide keeps it.

    Args:
        model: that translates the dates.
        tasks: the dates, in order.
        grids: of those that can be opened, by their number.
        read: how scenes are read.
        method: of all guides; see `GuideOptions`.

    Raises:
        InputError: no date has a guide.
    """
    measured = {n: _measured(tasks[n].task.source, read, model) for n in grids}
    out, without = [], []
    for number, item in enumerate(tasks):
        source = item.task.source
        guide: GuideOptions | None = source.guide
        if source.guide.guide is None:
            guide = _nearest(model, tasks, grids, read, measured, number)
        if guide is None:
            without.append(item.scene)
            out.append(item)
            continue
        own = replace(source, guide=replace(guide, method=method))
        out.append(replace(item, task=replace(item.task, source=own)))
    if len(without) == len(out):
        bands = ", ".join(model.signature.target)
        raise InputError(
            f"--guide {EARLIER}: no date has another before it on which {bands} was measured, and "
            f"{_COMMON} pixels that are valid on both"
        )
    return out, without


def _measured(source: SceneInput, options: ReadOptions, model: Model) -> GuideOptions | None:
    """Return a date as a guide; None where it was not measured."""
    target = list(model.signature.target)
    read = source.read if source.complete else source.read.over(options)
    row = maps.target_row(source, options)
    if row is not None:
        known = row_options(row, "target", target)
        return GuideOptions(row["target"], read=known, beside=(source.path, read))
    if not maps.has_bands(source, options, target):
        return None
    return GuideOptions(source.path, read=read)


def _nearest(
    model: Model,
    tasks: Sequence[DatedTask],
    grids: Mapping[int, Grid],
    read: ReadOptions,
    measured: Mapping[int, GuideOptions | None],
    number: int,
) -> GuideOptions | None:
    """Return the guide of a date: the last one before it that was measured and fits."""
    if number not in grids:
        return None
    date = tasks[number].dated.date
    for other in range(number - 1, -1, -1):
        guide, before = measured.get(other), tasks[other].dated.date
        if guide is None or before.time >= date.time:
            continue
        if maps.grid_difference(grids[number], grids[other]) is not None:
            fits = _covers(grids[other], grids[number])
        else:
            fits = _have_common(model, tasks[number].task.source, read, guide)
        if fits:
            return replace(guide, datetime=str(before), scene_datetime=str(date))
    return None


def _covers(guide: Grid, grid: Grid) -> bool:
    """Return whether a scene on another grid covers enough of one."""
    both = (guide, grid)
    if any(g.crs is None or g.transform.is_identity for g in both):
        return False
    return coverage(grid, guide) >= _COVER


def _have_common(model: Model, source: SceneInput, read: ReadOptions, guide: GuideOptions) -> bool:
    """Return whether enough pixels are valid in a scene and in a guide on its grid."""
    target = list(model.signature.target)
    with ExitStack() as files:
        one = files.enter_context(maps.open_source(source, read, list(model.signature.source)))
        path = guide.guide
        assert path is not None
        other = open_scene(path, guide.read_options.only(target), needed=target)
        files.enter_context(other)
        count, whole = 0, one.grid.box
        for row in range(0, whole.height, _SIDE):
            for col in range(0, whole.width, _SIDE):
                box = Box(row, col, _SIDE, _SIDE).intersection(whole)
                count += int((one.read(box).mask & other.read(box).mask).sum())
                if count >= _COMMON:
                    return True
    return False
