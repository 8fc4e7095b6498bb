"""Translate many scenes with one model; a scene that fails is reported, the others continue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Unpack

from crossband.core import indices, sensors
from crossband.core.python_words import public
from crossband.errors import Interrupted
from crossband.jobs import names
from crossband.jobs.fleet_executor import FleetExecutor, LocalFleet
from crossband.jobs.shards import Shard, parse_shard
from crossband.jobs.summary import DONE, FAILED, SKIPPED, SummaryFile, summary_path
from crossband.jobs.task import FleetObserver, FleetStatus, Task, plan_tasks
from crossband.model import Model
from crossband.raster.cog import Cog
from crossband.raster.dataset import check_exists
from crossband.raster.encoding import check_dtype
from crossband.raster.grid import Grid
from crossband.raster.output_paths import make_folder
from crossband.translate.conditions import SceneConditions
from crossband.translate.correction import check_guide_options
from crossband.translate.options import CLASSES, TranslateKeywords, TranslateOptions
from crossband.translate.tiling import Tiling


@public(*CLASSES)
def translate_many(
    model: Model,
    inputs: Sequence[str | Path],
    folder: str | Path,
    *,
    name: str = names.PATTERN,
    shard: Shard | str | None = None,
    observer: FleetObserver | None = None,
    cluster: FleetExecutor | None = None,
    **options: Unpack[TranslateKeywords],
) -> FleetStatus:
    """Translate many scenes into a folder; files that are up to date are skipped.

    Args:
        model: loaded model.
        inputs: files, patterns, lists, manifests and collections, see `jobs.inputs`.
        folder: of the outputs and of the summary, see `jobs.summary`.
        name: pattern of the outputs' names, see `jobs.names`.
        shard: the part of the list to translate, as `3/10`; by default all of it.
        observer: is notified of each scene.
        cluster: whose workers translate the scenes, see `jobs.dask`; by default this process.
        **options: those of `Model.translate`, for all scenes. A row of a manifest overrides them
            for its scene. Files that were made otherwise fail without `overwrite`. An interrupted
            scene is continued; if it has changed since, it is started anew, or fails with `resume`.

    Returns:
        How many scenes are done, skipped and failed.

    Raises:
        CrossbandError: inputs, names or options are wrong as such; nothing was done.
        Interrupted: Ctrl-C; the summary lists the finished scenes.
    """
    given = TranslateOptions.of(**options)
    tasks = plan_tasks(
        model, inputs, Path(folder), name=name, indices=given.write.indices, sure=given.interval
    )
    return translate_tasks(
        model, tasks, Path(folder), given, shard=shard, observer=observer, executor=cluster
    )


def translate_tasks(
    model: Model,
    tasks: Sequence[Task],
    folder: Path,
    options: TranslateOptions,
    *,
    shard: Shard | str | None = None,
    observer: FleetObserver | None = None,
    executor: FleetExecutor | None = None,
) -> FleetStatus:
    """Translate the scenes of a list; see `translate_many` for results and errors.

    Args:
        model: loaded model.
        tasks: all scenes, those of other shards included.
        folder: of the summary.
        options: how scenes are translated.
        shard: see `translate_many`.
        observer: see `translate_many`.
        executor: translates the scenes; by default this process.

    Returns:
        The outcome of each scene of the shard.

    Raises:
        Interrupted: Ctrl-C; finished windows are kept.
        CrossbandError: see `translate_many`.
    """
    part = parse_shard(shard) if isinstance(shard, str) else shard or Shard()
    check_options(model, options)
    observer = observer or FleetObserver()
    own = part.of(tasks)
    status = FleetStatus(
        len(own), dict.fromkeys((DONE, SKIPPED, FAILED), 0), summary_path(folder, part)
    )
    lines = (executor or LocalFleet()).scenes(model, own, options, observer)
    make_folder(folder)
    with SummaryFile(status.summary) as summary, closing(lines):
        try:
            for line in lines:
                summary.add(line)
                status.counts[line.status] += 1
                observer.on_scene_end(line, status)
        except (KeyboardInterrupt, Interrupted) as stop:
            raise Interrupted(
                f"{folder}: interrupted; {status.finished} of {status.total} scenes are in "
                f"{status.summary.name}: the same command does the rest"
            ) from stop
    return status


def check_options(model: Model, options: TranslateOptions) -> None:
    """Raise CrossbandError for options with which no scene can be translated."""
    write, tile = options.write, options.tile
    if options.read.sensor is not None:
        sensors.get(options.read.sensor)
    check_guide_options(options.guide)
    if options.guide.guide is not None:
        check_exists(options.guide.guide)
    if write.dtype is not None:
        check_dtype(write.dtype)
    Cog.of(write.compress, write.blocksize)
    for index in write.indices:
        indices.check(index, {*model.signature.source, *model.signature.target})
    Tiling.of(model, Grid(1, 1), tile)
    SceneConditions(model.network, Grid(1, 1), tile.seed)
