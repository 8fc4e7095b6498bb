"""The executor for `--engine dask`: many scenes, or the windows of one, on a cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from crossband.jobs.dask.client import Connection
from crossband.jobs.dask.scenes import Scenes
from crossband.jobs.run import Task, Watcher
from crossband.jobs.summary import Line
from crossband.model import Model


class Cluster(Connection):
    """The workers of a scheduler, for one scene or for many; see `Connection`."""

    def scenes(
        self, model: Model, tasks: Sequence[Task], options: Mapping[str, Any], watcher: Watcher
    ) -> Generator[Line, None, None]:
        """Do many scenes: each as a whole by one worker, or spread where it is huge.

        Workers write the outputs of the former: they must find the folder, too, under its path.
        """
        get = options.get
        wanted = self.ready(model, get("device", "auto"), get("precision", "auto")).wanted
        return Scenes(self, model, wanted, options, watcher).run(list(tasks))
