"""Many scenes, one after the other, with one model: what fails is reported, and the rest go on."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crossband.core import indices, sensors
from crossband.core.version import __version__
from crossband.errors import ChangedError, CrossbandError, Interrupted
from crossband.jobs import names, shards, sources
from crossband.jobs.shards import Shard
from crossband.jobs.sources import Source
from crossband.jobs.summary import DONE, FAILED, SKIPPED, Line, Summary, path_of
from crossband.raster.encoding import check_dtype
from crossband.raster.grid import Grid
from crossband.raster.journal import folder_of
from crossband.raster.write import Cog, make_folder
from crossband.translate.engine import Engine, Given
from crossband.translate.executor import Executor
from crossband.translate.scene import translate
from crossband.translate.stream import Progress
from crossband.translate.threads import Statistics
from crossband.translate.tiling import BATCH, Work

if TYPE_CHECKING:
    from crossband.model import Model


@dataclass(frozen=True)
class Task:
    """A scene of the list, and where its result goes.

    Attributes:
        source: the scene.
        output: path of the result.
        name: the same below the output folder, for the summary.
    """

    source: Source
    output: Path
    name: str


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        total: scenes of this shard.
        counts: how many there are of each status.
        summary: the file with a line for each.
    """

    total: int
    counts: dict[str, int]
    summary: Path

    @property
    def ended(self) -> int:
        """Scenes that have a line."""
        return sum(self.counts.values())


class Watcher:
    """Is told how it goes; one that says nothing. `cli_fleet` has one that prints."""

    def began(self, task: Task) -> Progress | None:
        """Return what is called with (pixels done, pixels in all) of a scene."""
        return None

    def ended(self, line: Line, tally: Tally) -> None:
        """Take note of what became of a scene."""


class SceneExecutor(Executor, Protocol):
    """What computes many scenes elsewhere."""

    def scenes(
        self, model: Model, tasks: Sequence[Task], options: Mapping[str, Any], watcher: Watcher
    ) -> Generator[Line, None, None]:
        """Do many scenes, and yield a line of each as it ends."""


def translate_many(
    model: Model,
    inputs: Sequence[str | Path],
    folder: str | Path,
    *,
    name: str = names.PATTERN,
    shard: Shard | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    watcher: Watcher | None = None,
    cluster: SceneExecutor | None = None,
    **options: Any,
) -> Tally:
    """Translate many scenes into a folder; what is there already, and is the same, is skipped.

    Args:
        model: loaded model.
        inputs: see `jobs.sources`.
        folder: of the outputs and of the summary, see `jobs.summary`.
        name: see `jobs.names`.
        shard: the part of the list that is done here, as `3/10`; all of it where None.
        overwrite: replace outputs that something else made; without it they fail.
        resume: refuse a scene that was interrupted and has changed since; without it, it starts
            anew. One that has not changed goes on in any case.
        watcher: is told how it goes.
        cluster: whose workers do it; this process where None.
        **options: of `translate`: how scenes are read (a manifest's row says it for its own),
            computed and written.

    Returns:
        How many scenes are done, skipped and failed.

    Raises:
        CrossbandError: something is wrong with the inputs, the names or the options as such;
            nothing was done.
        Interrupted: Ctrl-C; what is finished is in the summary.
    """
    folder = Path(folder)
    part = shards.parse(shard) if isinstance(shard, str) else shard or Shard()
    tasks = plan(model, inputs, folder, name=name, indices=options.get("indices", ()))
    return translate_tasks(
        model,
        tasks,
        folder,
        shard=part,
        overwrite=overwrite,
        resume=resume,
        watcher=watcher,
        cluster=cluster,
        **options,
    )


def translate_tasks(
    model: Model,
    tasks: Sequence[Task],
    folder: Path,
    *,
    shard: Shard,
    overwrite: bool = False,
    resume: bool = False,
    watcher: Watcher | None = None,
    cluster: SceneExecutor | None = None,
    **options: Any,
) -> Tally:
    """Translate the scenes of a list that is made already; see `translate_many`.

    Args:
        model: loaded model.
        tasks: all of them, also those of other shards.
        folder: of the summary.
        shard: the part that is done here.
        overwrite: see `translate_many`.
        resume: see there.
        watcher: see there.
        cluster: see there.
        **options: see there.
    """
    check_options(model, options)
    every = {**options, "overwrite": overwrite, "resume": resume}
    watcher = watcher or Watcher()
    own = shard.of(tasks)
    tally = Tally(len(own), dict.fromkeys((DONE, SKIPPED, FAILED), 0), path_of(folder, shard))
    if cluster is None:
        lines = _here(model, own, every, watcher)
    else:
        lines = cluster.scenes(model, own, every, watcher)
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


def plan(
    model: Model,
    inputs: Sequence[str | Path],
    folder: Path,
    *,
    name: str = names.PATTERN,
    indices: Sequence[str] = (),
) -> list[Task]:
    """Return all scenes with their outputs, sorted by these: every shard sees the same list.

    Raises:
        CrossbandError: an input that cannot be expanded; two outputs of one name.
    """
    found = sources.expand([str(i) for i in inputs])
    paths = names.outputs(
        found,
        folder,
        model=model.name,
        target=model.signature.target,
        pattern=name,
        indices=indices,
    )
    tasks = [
        Task(source, path, path.relative_to(folder).as_posix())
        for source, path in zip(found, paths, strict=True)
    ]
    return sorted(tasks, key=lambda task: task.name)


def check_options(model: Model, options: Mapping[str, Any]) -> None:
    """Raise CrossbandError for options that no scene could be done with."""
    get = options.get
    if get("sensor") is not None:
        sensors.get(options["sensor"])
    if get("dtype") is not None:
        check_dtype(options["dtype"])
    Cog(get("compress") or "deflate", 512 if get("blocksize") is None else options["blocksize"])
    for index in get("indices", ()):
        indices.check(index, {*model.signature.source, *model.signature.target})
    cut = get("tile"), get("batch", BATCH), get("overlap")
    Work.of(model, Grid(1, 1), *cut, whole=get("whole", False))
    Given(model.network, Grid(1, 1), get("seed"))


def _here(
    model: Model, tasks: Sequence[Task], options: Mapping[str, Any], watcher: Watcher
) -> Generator[Line, None, None]:
    """Do the scenes in this process, one after the other."""
    engine = Engine(model, options.get("device", "auto"), options.get("precision", "auto"))
    return (
        attempt(model, task, {**options, "engine": engine, "progress": watcher.began(task)})
        for task in tasks
    )


def attempt(model: Model, task: Task, options: Mapping[str, Any]) -> Line:
    """Translate a scene and say how it went, whatever happens.

    Raises:
        Interrupted, KeyboardInterrupt: nothing else.
    """
    start, found = time.perf_counter(), Statistics()
    error: Exception | None = None
    try:
        _translate(model, task, {**options, "statistics": found})
    except Interrupted:
        raise
    except Exception as caught:  # noqa: BLE001 - a fleet of days must not end with one scene
        error = caught
    return line_of(model, task, found, time.perf_counter() - start, error)


def line_of(
    model: Model, task: Task, found: Statistics, seconds: float, error: Exception | None
) -> Line:
    """Return the line of the summary for a scene that ended, with an error where it failed."""
    reason = None
    if error is not None:
        reason = str(error)
        if not isinstance(error, CrossbandError):  # it names no file, and may have many lines
            words = " ".join(reason.split()) or type(error).__name__
            reason = f"{task.source.said}: {words}"
    status = FAILED if error is not None else SKIPPED if found.skipped else DONE
    return Line(
        output=task.name,
        input=task.source.path,
        status=status,
        reason=reason,
        error=None if error is None else type(error).__name__,
        pixels=found.pixels if status == DONE else 0,
        seconds=round(seconds, 3),
        model=model.name,
        version=__version__,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def reading_of(model: Model, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `translate` that say how a scene is read."""
    names = ("bands", "sensor", "scale", "offset", "source_nodata", "window")
    reading = {name: options[name] for name in names if name in options} | task.source.reading
    if "bands" in task.source.reading:  # a manifest may name more bands than this model takes
        wanted = model.signature.source
        reading["bands"] = {k: v for k, v in reading["bands"].items() if k in wanted}
    return reading


def _translate(model: Model, task: Task, options: Mapping[str, Any]) -> None:
    """Translate a scene, unless it is there; what was begun of it goes on."""
    every: dict[str, Any] = {**options, **reading_of(model, task, options), "skip": True}
    task.output.parent.mkdir(parents=True, exist_ok=True)
    begun = folder_of(task.output).is_dir()
    going_on = {**every, "resume": every["resume"] or begun}
    try:
        translate(model, task.source.path, task.output, **going_on)
    except ChangedError:
        if every["resume"] or not begun:
            raise
        translate(model, task.source.path, task.output, **every)
