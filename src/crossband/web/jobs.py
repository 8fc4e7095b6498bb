"""Jobs: translate whole scenes one after the other; a killed job continues from its store.

A job is a folder: `job.json` says what is done, `out/` holds the files and, until they are
finished, the store of their windows (`raster.journal`).
"""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from crossband.core.atomic import write_text_atomically
from crossband.core.json_text import read_json
from crossband.core.memory import is_out_of_memory
from crossband.core.warned import collected_warnings
from crossband.errors import CrossbandError, InputError, OutputError
from crossband.jobs.run import check_options
from crossband.model import Model
from crossband.model.calibration import check_level
from crossband.translate.options import (
    GuideOptions,
    IntervalOptions,
    TileOptions,
    TranslateOptions,
    WriteOptions,
)
from crossband.translate.scene import check_scene, translate_scene
from crossband.translate.statistics import Statistics
from crossband.web.places import ID, Place, Places, new_id
from crossband.web.previews import Models
from crossband.web.scenes import Choice, number_of, own_words, visitors_words

#: Characters of a text, and indices of a job, at most.
LONGEST, MOST_INDICES = 4000, 20
#: Jobs that may wait.
MOST_JOBS = 20
#: States of a job; those of `OPEN` are taken up after a restart.
OPEN = ("waiting", "running")


@dataclass(frozen=True)
class Order:
    """What a visitor orders.

    Attributes:
        choice: scene, model and options of reading.
        indices: that are written beside the result.
        dtype: data type of the file; the source's where empty.
        interval: text of the level of intervals that are written beside it, or nothing.
        familiarity: familiarity is written beside it.
        promise: of the intervals; see `--promise`, or nothing.
    """

    choice: Choice
    indices: tuple[str, ...] = ()
    dtype: str = ""
    interval: str = ""
    familiarity: bool = False
    promise: str = ""

    @classmethod
    def of(cls, given: dict[str, Any]) -> Order:
        """Read an order from JSON.

        Raises:
            InputError: it is none.
        """
        known = {*(field.name for field in fields(Choice)), "dtype", "interval", "promise"}
        texts, indices = {k: v for k, v in given.items() if k in known}, given.get("indices", [])
        if unknown := sorted({*given} - known - {"indices", "familiarity"}):
            raise InputError(f"{unknown[0]!r:.60}: no option of a job")
        for name, value in texts.items():
            if not isinstance(value, str) or len(value) > LONGEST:
                raise InputError(f"{name}: a text of at most {LONGEST:,} characters is needed")
        if not isinstance(given.get("familiarity", False), bool):
            raise InputError("familiarity: true or false is needed")
        if not isinstance(indices, list) or not all(isinstance(i, str) for i in indices):
            raise InputError("the indices are no list of names")
        if len(indices) > MOST_INDICES:
            raise InputError(f"more than {MOST_INDICES} indices")
        try:
            "".join([*texts.values(), *indices]).encode()
        except UnicodeEncodeError as error:
            raise InputError("half of a character is no text") from error
        choice = replace(Choice.of(texts), job="")
        words = (texts.get(name, "").strip() for name in ("dtype", "interval", "promise"))
        dtype, interval, promise = words
        familiar = bool(given.get("familiarity", False))
        return cls(choice, tuple(indices), dtype, interval, familiar, promise)

    @property
    def intervals(self) -> IntervalOptions:
        """What is written beside the result on how sure it is.

        Raises:
            CrossbandError: a text that is no number.
        """
        level = number_of("--interval", self.interval)
        asked = self.promise if level is not None else ""  # the page always has one chosen
        return IntervalOptions(level, asked or IntervalOptions.promise, self.familiarity)


@dataclass
class Job:
    """One scene that is, will be or was translated.

    Attributes:
        id: that nobody guesses.
        order: what is to be done.
        name: of the scene, for people.
        state: waiting, running, done, failed or cancelled.
        error: why it failed, in one line.
        created: seconds since 1970.
        seconds: that it has computed, in all runs.
        resumed: tiles that an earlier run had finished.
        done: pixels.
        total: pixels in all; 0 before it is known.
        files: names of the finished files.
        warnings: what the command would have warned of.
    """

    id: str
    order: Order
    name: str
    state: str = "waiting"
    error: str = ""
    created: float = 0.0
    seconds: float = 0.0
    resumed: int = 0
    done: int = 0
    total: int = 0
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """Return what the page shows."""
        about = asdict(self)
        about["order"] = asdict(self.order)
        return about


class _Stopped(CrossbandError):
    """A job is cancelled, or the server ends; its windows are kept."""


class Jobs:
    """The jobs of the server, and the thread that works on them.

    Args:
        folder: of the jobs.
        places: finds scenes.
        models: whose networks compute.
        tile: options of the computation.
        keep: hours after which finished and failed jobs are deleted.
    """

    def __init__(
        self, folder: Path, places: Places, models: Models, tile: TileOptions, keep: float
    ) -> None:
        self._folder, self._places, self._models = folder, places, models
        self._tile, self._keep = tile, keep
        self._jobs: dict[str, Job] = {}
        self._queue: deque[str] = deque()
        self._cancelled: set[str] = set()
        self._changed, self._closed = threading.Condition(), False
        folder.mkdir(parents=True, exist_ok=True)
        for job in sorted(self._stored(), key=lambda j: j.created):
            self._jobs[job.id] = job
            if job.state in OPEN:
                job.state = "waiting"
                self._queue.append(job.id)
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def add(self, order: Order) -> Job:
        """Queue a job.

        Raises:
            OutputError: too many wait.
            CrossbandError: an order that cannot be carried out.
        """
        place = self._places.find(order.choice.scene)
        model = self._models.get(order.choice.model)
        if model.signature.guide and not order.choice.guide:
            bands = ", ".join(model.signature.guide)
            raise InputError(f"{model.name} takes a measurement of {bands} as guide: choose one")
        named = [self._places.find(name) for name in (order.choice.guide,) if name]
        try:
            self._check(order, model, place)
        except CrossbandError as error:
            raise own_words(error, place, *named) from error
        job = Job(new_id(), order, place.name, created=time.time())
        with self._changed:
            self._check_room()
            try:
                (self._folder / job.id / "out").mkdir(parents=True)
                self._store(job)
            except BaseException:
                shutil.rmtree(self._folder / job.id, ignore_errors=True)
                raise
            self._jobs[job.id] = job
            self._queue.append(job.id)
            self._changed.notify()
        return job

    def _check_room(self) -> None:
        if len(self._queue) >= MOST_JOBS:
            raise OutputError("too many jobs wait; try again later")

    def _check(self, order: Order, model: Model, place: Place) -> None:
        """Raise CrossbandError for an order that would fail as soon as its turn comes."""
        options = self._options(order)
        check_options(model, options)
        if (level := order.intervals.interval) is not None:
            check_level(level, order.intervals.promise)
        with collected_warnings():
            check_scene(model, place.path, options)

    def get(self, text: str) -> Job:
        """Return a job.

        Raises:
            InputError: there is none of this name.
        """
        job = self._jobs.get(text) if ID.fullmatch(text) else None
        if job is None:
            raise InputError("there is no such job: it may have been deleted")
        return job

    def cancel(self, text: str) -> Job:
        """Stop a job; what it has computed is kept."""
        job = self.get(text)
        with self._changed:
            if job.state == "running":
                self._cancelled.add(job.id)
            elif job.state == "waiting":
                self._queue.remove(job.id)
                job.state = "cancelled"
                self._remember(job)
        return job

    def resume(self, text: str) -> Job:
        """Go on with a job that was cancelled or has failed.

        Raises:
            OutputError: too many wait.
        """
        job = self.get(text)
        with self._changed:
            if job.state in ("cancelled", "failed"):
                self._check_room()
                self._store(replace(job, state="waiting", error=""))  # the disk may be full
                job.state, job.error = "waiting", ""
                self._queue.append(job.id)
                self._changed.notify()
        return job

    def file(self, job: Job, name: str = "") -> Path:
        """Return a finished file of a job: the result, or the one of this name.

        Raises:
            InputError: there is none.
        """
        name = name or (job.files[0] if job.files else "")
        if job.state != "done" or name not in job.files:
            raise InputError("the job has no such file")
        return self._folder / job.id / "out" / name

    def used_scenes(self) -> set[str]:
        """Return the scenes that unfinished jobs need."""
        with self._changed:
            open_jobs = [j.order for j in self._jobs.values() if j.state != "done"]
        return {o.choice.scene for o in open_jobs} | {o.choice.guide for o in open_jobs}

    def remove_old(self) -> None:
        """Delete jobs that ended before the hours that they are kept, and folders of no job."""
        oldest = time.time() - self._keep * 3600
        with self._changed:
            for job in list(self._jobs.values()):
                if job.state not in OPEN and self._ended(job) < oldest:
                    del self._jobs[job.id]
                    shutil.rmtree(self._folder / job.id, ignore_errors=True)
            for path in self._folder.iterdir():
                if path.name not in self._jobs and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Stop the running job after its window; it goes on after the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._jobs[self._queue.popleft()]
                job.state = "running"
                self._remember(job)
            self._run(job)

    def _run(self, job: Job) -> None:
        """Translate the scene of a job, and record how it ended."""
        started, before, statistics = time.time(), job.seconds, Statistics()

        def progress(done: int, total: int) -> None:
            job.done, job.total, job.seconds = done, total, before + time.time() - started
            if self._closed or job.id in self._cancelled:
                raise _Stopped("stopped")

        state, words, files, heard = "done", "", list[str](), list[str]()
        named: list[Place] = []
        try:
            choice = job.order.choice
            named = [self._places.find(name) for name in (choice.scene, choice.guide) if name]
            place = named[0]
            model = self._models.get(job.order.choice.model)
            target = model.signature.target
            what = target[0] if len(target) == 1 else model.name
            output = self._folder / job.id / "out" / f"{Path(place.path).stem}_{what}.tif"
            with collected_warnings() as heard:
                translate_scene(
                    model,
                    place.path,
                    output,
                    self._options(job.order),
                    executor=self._models,
                    progress=progress,
                    statistics=statistics,
                )
            files = [path.name for path in statistics.files]
        except _Stopped:
            state = "waiting" if self._closed else "cancelled"
        except CrossbandError as error:
            state = "failed"
            words = str(error)
        except Exception as error:  # noqa: BLE001 (the thread must live; the visitor is told)
            state = "failed"
            words = "out of memory" if is_out_of_memory(error) else f"a fault of Crossband: {error}"

        def told(text: str) -> str:
            """Return words that name files as their visitor knows them."""
            text = text.replace(str(self._folder / job.id / "out") + "/", "")
            return visitors_words(text, *named)

        with self._changed:
            self._cancelled.discard(job.id)
            job.state, job.error, job.files = state, told(words), files
            job.warnings = [told(line) for line in heard]
            job.resumed = max(job.resumed, statistics.resumed)
            job.seconds = before + time.time() - started
            self._remember(job)

    def _options(self, order: Order) -> TranslateOptions:
        place = self._places.find(order.choice.scene)
        self._places.check_declared(place)
        guide = GuideOptions()
        if order.choice.guide:
            other = self._places.find(order.choice.guide)
            self._places.check_declared(other)
            guide = order.choice.guide_options(other.path, self_contained=other.self_contained)
        return TranslateOptions(
            order.choice.read_options(self_contained=place.self_contained),
            self._tile,
            WriteOptions(dtype=order.dtype or None, indices=order.indices, resume=True),
            guide,
            order.intervals,
        )

    def _stored(self) -> Iterator[Job]:
        for path in self._folder.glob("*/job.json"):
            try:
                job = _parsed(read_json(path))
            except (CrossbandError, KeyError, TypeError, ValueError, AttributeError):
                continue  # of another version, or half of one: it is deleted with the others
            if job.id == path.parent.name:
                yield job

    def _remember(self, job: Job) -> None:
        """Store a job where the disk has room; on a full one the thread goes on all the same."""
        with suppress(CrossbandError):
            self._store(job)

    def _ended(self, job: Job) -> float:
        """Return when a job ended, which is when it was last stored, in seconds since 1970."""
        try:
            return (self._folder / job.id / "job.json").stat().st_mtime
        except OSError:
            return job.created

    def _store(self, job: Job) -> None:
        write_text_atomically(
            self._folder / job.id / "job.json", json.dumps(job.describe(), indent=1)
        )


def _parsed(said: dict[str, Any]) -> Job:
    """Return a job as it was stored.

    Raises:
        CrossbandError, KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    order = dict(said.pop("order"))
    said["order"] = Order.of({**order.pop("choice"), **order})
    texts = {said["id"], said["name"], said["state"], said["error"], *said["files"]}
    if not all(isinstance(text, str) for text in (*texts, *said["warnings"])):
        raise ValueError("a text that is none")
    numbers = [said[name] for name in ("created", "done", "total", "seconds", "resumed")]
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ValueError("a number that is none")
    if not ID.fullmatch(said["id"]) or any(Path(name).name != name for name in said["files"]):
        raise ValueError("a file elsewhere")
    return Job(**{field.name: said[field.name] for field in fields(Job)})
