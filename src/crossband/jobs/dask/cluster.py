"""The executor for `--engine dask`: many scenes, or the windows of one, on a cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from crossband.jobs.dask.client import Connection
from crossband.jobs.dask.scenes import Scenes
from crossband.jobs.summary import Line
from crossband.jobs.task import Task, Watcher
from crossband.model import Model
from crossband.translate.options import TranslateOptions


class Cluster(Connection):
    """The workers of a scheduler, for one scene or for many; see `Connection`."""

    def scenes(
        self, model: Model, tasks: Sequence[Task], options: TranslateOptions, watcher: Watcher
    ) -> Generator[Line, None, None]:
        """Do many scenes: each as a whole by one worker, or spread where it is huge.

        Workers write the outputs of the former: they must find the folder, too, under its path.
        """
        wanted = self.ready(model, options.tile).wanted
        return Scenes(self, model, wanted, options, watcher).run(list(tasks))
