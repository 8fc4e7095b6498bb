"""Many scenes with one model: what fails is reported, and the rest go on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from crossband.core import indices, sensors
from crossband.errors import Interrupted
from crossband.jobs import names, shards
from crossband.jobs.executor import FleetExecutor, LocalFleet
from crossband.jobs.shards import Shard
from crossband.jobs.summary import DONE, FAILED, SKIPPED, Summary, path_of
from crossband.jobs.task import Tally, Task, Watcher, plan_tasks
from crossband.model import Model
from crossband.raster.encoding import check_dtype
from crossband.raster.grid import Grid
from crossband.raster.write import Cog, make_folder
from crossband.translate.conditions import SceneConditions
from crossband.translate.options import TranslateOptions
from crossband.translate.tiling import Tiling


def translate_many(
    model: Model,
    inputs: Sequence[str | Path],
    folder: str | Path,
    options: TranslateOptions = TranslateOptions(),
    *,
    name: str = names.PATTERN,
    shard: Shard | str | None = None,
    watcher: Watcher | None = None,
    executor: FleetExecutor | None = None,
) -> Tally:
    """Translate many scenes into a folder; what is there already, and is the same, is skipped.

    Args:
        model: loaded model.
        inputs: see `jobs.sources`.
        folder: of the outputs and of the summary, see `jobs.summary`.
        options: how scenes are read (a manifest's row says it for its own), computed and written.
            With `write.overwrite` outputs that something else made are replaced; without it they
            fail. With `write.resume` a scene that was interrupted and has changed since is refused;
            without it, it starts anew. One that has not changed goes on in any case.
        name: see `jobs.names`.
        shard: the part of the list that is done here, as `3/10`; all of it where None.
        watcher: is told how it goes.
        executor: who does it; this process where None.

    Returns:
        How many scenes are done, skipped and failed.

    Raises:
        CrossbandError: something is wrong with the inputs, the names or the options as such;
            nothing was done.
        Interrupted: Ctrl-C; what is finished is in the summary.
    """
    folder = Path(folder)
    part = shards.parse(shard) if isinstance(shard, str) else shard or Shard()
    tasks = plan_tasks(model, inputs, folder, name=name, indices=options.write.indices)
    return translate_tasks(
        model, tasks, folder, options, shard=part, watcher=watcher, executor=executor
    )


def translate_tasks(
    model: Model,
    tasks: Sequence[Task],
    folder: Path,
    options: TranslateOptions,
    *,
    shard: Shard,
    watcher: Watcher | None = None,
    executor: FleetExecutor | None = None,
) -> Tally:
    """Translate the scenes of a list that is made already; see `translate_many`.

    Args:
        model: loaded model.
        tasks: all of them, also those of other shards.
        folder: of the summary.
        options: see `translate_many`.
        shard: the part that is done here.
        watcher: see `translate_many`.
        executor: see there.
    """
    check_options(model, options)
    watcher = watcher or Watcher()
    own = shard.of(tasks)
    tally = Tally(len(own), dict.fromkeys((DONE, SKIPPED, FAILED), 0), path_of(folder, shard))
    lines = (executor or LocalFleet()).scenes(model, own, options, watcher)
    make_folder(folder)
    with Summary(tally.summary) as summary, closing(lines):
        try:
            for line in lines:
                summary.add(line)
                tally.counts[line.status] += 1
                watcher.ended(line, tally)
        except (KeyboardInterrupt, Interrupted) as stop:
            raise Interrupted(
                f"{folder}: interrupted; {tally.ended} of {tally.total} scenes are in "
                f"{tally.summary.name}: the same command does the rest"
            ) from stop
    return tally


def check_options(model: Model, options: TranslateOptions) -> None:
    """Raise CrossbandError for options that no scene could be done with."""
    write, tile = options.write, options.tile
    if options.read.sensor is not None:
        sensors.get(options.read.sensor)
    if write.dtype is not None:
        check_dtype(write.dtype)
    Cog.of(write.compress, write.blocksize)
    for index in write.indices:
        indices.check(index, {*model.signature.source, *model.signature.target})
    Tiling.of(model, Grid(1, 1), tile)
    SceneConditions(model.network, Grid(1, 1), tile.seed)
