"""The scenes of a list with their outputs, and who is told how the list goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossband.jobs import names, sources
from crossband.jobs.sources import Source
from crossband.jobs.summary import Line
from crossband.model import Model
from crossband.translate.stream import Progress


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


def plan_tasks(
    model: Model,
    inputs: Sequence[str | Path],
    folder: Path,
    *,
    name: str = names.PATTERN,
    indices: Mapping[str, str | Path] | Sequence[str] = (),
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
        indices=list(indices),
    )
    tasks = [
        Task(source, path, path.relative_to(folder).as_posix())
        for source, path in zip(found, paths, strict=True)
    ]
    return sorted(tasks, key=lambda task: task.name)
