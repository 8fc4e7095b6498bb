"""The parts of the server, each made when it is first needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import anyio.to_thread

from crossband.errors import CrossbandError, InputError
from crossband.web.guides import Guides
from crossband.web.jobs import Jobs
from crossband.web.layers import layers_of
from crossband.web.places import Places
from crossband.web.previews import Cell, Models, Previews
from crossband.web.scenes import BusyError, Choice, OpenResult, OpenScene, Scenes
from crossband.web.settings import Settings
from crossband.web.shown import Layer, Shown

T = TypeVar("T")
#: Seconds that a request waits for cells.
LONGEST_WAIT = 4.0


@dataclass
class Server:
    """What the answers are made from.

    Attributes:
        settings: of the server.
        results: open files of finished jobs.
    """

    settings: Settings
    results: dict[str, OpenResult] = field(default_factory=dict)

    @cached_property
    def places(self) -> Places:
        """Files that are offered."""
        return Places(self.settings)

    @cached_property
    def models(self) -> Models:
        """Models that are offered."""
        return Models(self.settings.models, self.settings.tile)

    @cached_property
    def scenes(self) -> Scenes:
        """Open scenes."""
        return Scenes(self.places, self.models.get)

    @cached_property
    def guides(self) -> Guides:
        """Open guides."""
        return Guides(self.places, self.settings.tile)

    @cached_property
    def previews(self) -> Previews:
        """Computes what is looked at."""
        return Previews(self.models, self.settings.tile)

    @cached_property
    def jobs(self) -> Jobs:
        """Whole scenes."""
        s = self.settings
        return Jobs(s.folder / "jobs", self.places, self.models, s.tile, s.keep)

    def start(self) -> tuple[Jobs, Previews]:
        """Make all parts, before two threads ask for them; return those that are to be closed."""
        _ = self.scenes, self.guides
        return self.jobs, self.previews

    def shown(self, choice: Choice) -> Shown:
        """Return a scene with its model, and the result of a job where one is chosen."""
        scene, model = self.scenes.get(choice), self.models.get(choice.model)
        result = self._result(choice, model.signature.target)
        guided = bool(choice.guide or model.signature.guide)
        guide = None
        if choice.guide:
            try:
                guide = self.guides.get(choice, scene, model)
            except CrossbandError:  # it may be deleted before the result
                if result is None:
                    raise
        return Shown(scene, model, self.previews, result, guide, guided)

    def _result(self, choice: Choice, bands: Sequence[str]) -> OpenResult | None:
        if not choice.job:
            return None
        try:
            job = self.jobs.get(choice.job)
        except InputError:  # a link lives longer than its job: the scene can still be seen
            return None
        if job.state != "done" or job.order.choice != replace(choice, job=""):
            return None
        if job.id not in self.results:
            while len(self.results) >= 8:
                self.results.pop(next(iter(self.results)), None)
            self.results[job.id] = OpenResult(self.jobs.file(job), bands)
        return self.results[job.id]

    def layer(self, choice: Choice, name: str) -> tuple[Shown, Layer]:
        """Return one layer of a scene."""
        shown = self.shown(choice)
        layers = layers_of(shown)
        if name not in layers:
            raise InputError(f"there is no layer {name[:60]!r} of this scene and model")
        return shown, layers[name]

    async def ready(self, scene: OpenScene, cells: Sequence[Cell]) -> bool:
        """Wait for cells to be computed, for a few seconds; return whether all are there."""
        try:
            futures = self.previews.ask(scene, cells)
        except BusyError:
            return False
        if not futures:
            return True
        waiting = [asyncio.wrap_future(future) for future in futures]
        end = time.monotonic() + LONGEST_WAIT
        while waiting:
            done, left = await asyncio.wait(waiting, timeout=max(end - time.monotonic(), 0.01))
            for one in done:
                if one.cancelled():
                    return False
                one.result()
            waiting = list(left)
            if waiting and time.monotonic() >= end:
                for one in waiting:
                    one.add_done_callback(_forget)
                return False
        return True


async def in_thread(call: Callable[[], T]) -> T:
    """Return what a call returns that takes time."""
    return await anyio.to_thread.run_sync(call)


async def clean(server: Server) -> None:
    """Delete what is too old, at the start and every ten minutes."""
    while True:
        for remove in (
            server.jobs.remove_old,
            lambda: server.places.remove_old(server.jobs.used_scenes()),
        ):
            with suppress(OSError):  # somebody else has deleted it at this moment
                await in_thread(remove)
        await asyncio.sleep(600)


def _forget(future: asyncio.Future[None]) -> None:
    """Take the error of a cell that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
