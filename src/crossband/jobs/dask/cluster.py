"""The executor of `--engine dask`."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from crossband.jobs.dask.client import Connection
from crossband.jobs.dask.scenes import ClusterFleet
from crossband.jobs.summary import SummaryLine
from crossband.jobs.task import FleetObserver, Task
from crossband.model import Model
from crossband.translate.options import TranslateOptions


class Cluster(Connection):
    """Translates one scene or many on the workers of a scheduler; see `Connection`."""

    def scenes(
        self,
        model: Model,
        tasks: Sequence[Task],
        options: TranslateOptions,
        observer: FleetObserver,
    ) -> Generator[SummaryLine, None, None]:
        """Translate many scenes: each on one worker, or over all workers where it is huge.

        Workers write the outputs of scenes that they translate alone, so they must find the output
        folder under its path. See `FleetExecutor.scenes` for the arguments.
        """
        reference = self.ready(model, options.tile).reference
        return ClusterFleet(self, model, reference, options, observer).run(list(tasks))
