"""The scenes of a list with their outputs, and the observer of their translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossband.jobs import names
from crossband.jobs.inputs import SceneInput, expand_inputs
from crossband.jobs.summary import SummaryLine
from crossband.model import Model
from crossband.translate.options import NO_INTERVALS, IntervalOptions
from crossband.translate.stream import Progress


@dataclass(frozen=True)
class Task:
    """A scene of the list, and the path of its result.

    Attributes:
        source: the scene.
        output: path of the result.
        name: path of the result relative to the output folder, for the summary.
    """

    source: SceneInput
    output: Path
    name: str


@dataclass
class FleetStatus:
    """How many scenes of a run are done, skipped and failed.

    Attributes:
        total: scenes of this shard.
        counts: status -> number of scenes.
        summary: path of the summary.
    """

    total: int
    counts: dict[str, int]
    summary: Path

    @property
    def finished(self) -> int:
        """Number of scenes that have ended."""
        return sum(self.counts.values())


class FleetObserver:
    """Is notified of each scene; this one ignores it. `cli.fleet` has one that prints."""

    def on_scene_start(self, task: Task) -> Progress | None:
        """Return a function that is called with (pixels done, pixels in all) of the scene."""
        return None

    def on_scene_end(self, line: SummaryLine, status: FleetStatus) -> None:
        """Handle the outcome of a scene."""


def plan_tasks(
    model: Model,
    inputs: Sequence[str | Path],
    folder: Path,
    *,
    name: str = names.PATTERN,
    indices: Mapping[str, str | Path] | Sequence[str] = (),
    sure: IntervalOptions = NO_INTERVALS,
) -> list[Task]:
    """Return all scenes with their outputs, sorted by output, so that all shards see one order.

    Raises:
        CrossbandError: an input that cannot be expanded; two outputs of one name.
    """
    found = expand_inputs([str(i) for i in inputs])
    paths = names.output_paths(
        found,
        folder,
        model=model.name,
        target=model.signature.target,
        pattern=name,
        indices=indices,
        sure=sure,
    )
    tasks = [
        Task(source, path, path.relative_to(folder).as_posix())
        for source, path in zip(found, paths, strict=True)
    ]
    return sorted(tasks, key=lambda task: task.name)
