"""Checkpoints that survive a kill and a full disk: the last, the last few, and the best."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from crossband.errors import OutputError, RecipeError, TrainingError, UnreadableError, nearest
from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.methods.base import Method

LAST, BEST = "last.ckpt", "best.ckpt"
#: What torch.load raises for a file that is cut off, altered, or no checkpoint.
UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    zipfile.BadZipFile,
)


class Checkpoints(MethodCallback):
    """Keeps `last.ckpt`, `best.ckpt` and the last few `step-00001200.ckpt` in a folder.

    A checkpoint is written under a temporary name, flushed to the disk, then renamed, so that the
    last good one survives a kill and a full disk. It is only written between two generator steps
    and with finite losses.

    Args:
        folder: where they go; None keeps none, and only stops when asked to.
        every: generator steps between two checkpoints; there is also one after each validation.
        keep: how many checkpoints stay under the name of their step.
        monitor: the number of the validation that chooses `best.ckpt`.
        mode: whether it is best when it is lowest (`min`) or highest (`max`).
        stop_request: asks to stop; after the next step, saves and raises.

    Attributes:
        best: best value of the monitored number so far.
    """

    def __init__(
        self,
        folder: Path | None,
        every: int = 500,
        *,
        keep: int = 0,
        monitor: str = "val/score",
        mode: Literal["min", "max"] = "min",
        stop_request: StopRequest | None = None,
    ) -> None:
        if every < 1 or keep < 0:
            raise RecipeError("trainer.checkpoint_every must be at least 1, keep_last at least 0")
        self.folder, self.every, self.keep = folder, every, keep
        self.monitor, self.mode = monitor, mode
        self.stop_request = StopRequest() if stop_request is None else stop_request
        self.best: float | None = None
        self._seen: float | None = None  # of a validation that no checkpoint holds yet

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Flush what is written, and remove what a killed run left half-written."""
        trainer.strategy.checkpoint_io = FlushedCheckpointIO()
        if self.folder is not None and trainer.is_global_zero:
            for stale in self.folder.glob(".*.tmp"):
                stale.unlink(missing_ok=True)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """From here on our handlers have the signals, not Lightning's."""
        self.stop_request.install_handlers(trainer)

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Save every so many steps, and when asked to stop."""
        if not method.between_steps or trainer.is_last_batch:
            return  # after an epoch's last batch its validation comes first
        asked = self.stop_request.agreed(method.step)
        if asked or method.step % self.every == 0:
            self._save(trainer, method)
        if asked:
            raise self.stop_request.error(method.step)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Look the monitored number up; RecipeError where the validation has none of that name."""
        if trainer.sanity_checking or not trainer.callback_metrics:
            return  # nothing is held out
        if self.monitor not in trainer.callback_metrics:
            hint = nearest(self.monitor, trainer.callback_metrics)
            raise RecipeError(f"--trainer.monitor: validation has no {self.monitor!r}: {hint}")
        self._seen = float(trainer.callback_metrics[self.monitor])

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save after a validation; copy to `best.ckpt` where it is the best so far."""
        method = method_of(pl_module)
        if not method.between_steps:
            return
        better = self._seen is not None and self._is_better(self._seen)
        if better:
            self.best = self._seen
        self._seen = None
        self._save(trainer, method)
        if better and self.folder is not None and trainer.is_global_zero:
            self._write(
                self.folder / BEST, lambda: _link_or_copy(self.folder / LAST, self.folder / BEST)
            )
        if self.stop_request.agreed(method.step, now=True):
            raise self.stop_request.error(method.step)

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Save where a file of the data cannot be read: no weight is lost by it.

        Not where several processes train: those that read theirs are in the next step already.
        """
        method = method_of(pl_module)
        alone = trainer.world_size == 1
        if isinstance(exception, UnreadableError) and alone and method.between_steps:
            self._save(trainer, method)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return math.isfinite(value)
        return value < self.best if self.mode == "min" else value > self.best

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and of what."""
        return {"best": self.best, "monitor": self.monitor, "mode": self.mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`; the best of another number says nothing."""
        what = state_dict.get("monitor", self.monitor), state_dict.get("mode", self.mode)
        self.best = state_dict["best"] if what == (self.monitor, self.mode) else None

    def _save(self, trainer: lightning.Trainer, method: Method) -> None:
        method.check_finite()
        if self.folder is None:
            return
        last, temporary = self.folder / LAST, _temporary(self.folder / LAST)
        self._write(last, lambda: trainer.save_checkpoint(temporary))
        if not trainer.is_global_zero:
            return
        self._write(last, lambda: rename_and_sync(temporary, last))
        if self.keep:
            step = self.folder / f"step-{method.step:08d}.ckpt"
            self._write(step, lambda: _link_or_copy(last, step))
            for old in step_checkpoints(self.folder)[self.keep :]:
                old.unlink(missing_ok=True)

    def _write(self, path: Path, write: Any) -> None:
        """Do it; OutputError, and nothing half-written, where the disk refuses."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write()
        except OSError as error:
            with contextlib.suppress(OSError):
                _temporary(path).unlink(missing_ok=True)
            reason = error.strerror or error
            raise OutputError(f"{path}: cannot be written: {reason}") from error


class FlushedCheckpointIO(TorchCheckpointIO):
    """Writes straight to the path, and returns when the disk has it.

    Lightning's own serialises into memory and writes through the system's folder for temporary
    files: twice the memory, and a second disk that may be full.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; OSError where the disk refuses."""
        file = _ReportingFile(path)
        try:
            with file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            # torch speaks of a position in the file where the disk was full.
            raise file.refused or error from error


class _ReportingFile(io.FileIO):
    """A file that remembers why the disk refused."""

    def __init__(self, path: Any) -> None:
        super().__init__(path, "w")
        self.refused: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it: a nearly full disk takes a part without a word."""
        left = memoryview(data).cast("B")
        try:
            while len(left):
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.refused = error
            raise
        return memoryview(data).nbytes


def rename_and_sync(temporary: Path, final: Path) -> None:
    """Give a flushed file its name, and flush the folder, which holds the name."""
    os.replace(temporary, final)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _link_or_copy(source: Path, final: Path) -> None:
    """Give a checkpoint a second name: a hard link, or a flushed copy where there are none.

    A link is as good as a copy: a checkpoint is replaced, never written over.
    """
    temporary = _temporary(final)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    rename_and_sync(temporary, final)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def step_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints under the names of their steps, the newest first."""
    found = [p for p in folder.glob("step-*.ckpt") if re.fullmatch(r"step-\d{8,}", p.stem)]
    return sorted(found, key=lambda p: int(p.stem[5:]), reverse=True)


def read(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU; runs no pickle. TrainingError if it cannot."""
    try:
        with zipfile.ZipFile(path) as parts:  # torch does not look at the checksums it writes
            if (altered := parts.testzip()) is not None:
                raise ValueError(f"{altered} was altered")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state["crossband"]["step"], int):
            raise ValueError("no checkpoint of Crossband")
        return state
    except UNREADABLE as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainingError(f"{path}: cannot be read: {first[:120]}") from error


def newest(folder: Path, *, quiet: bool = False) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint to go on from, and what it holds; None where none was saved yet.

    That is `last.ckpt`; where it cannot be read, the newest other one that can. What is not
    `last.ckpt` is said on stderr. TrainingError where none can be read.
    """
    last, best = folder / LAST, folder / BEST
    if not any(path.is_file() for path in (last, best, *step_checkpoints(folder))):
        if not quiet:
            sys.stderr.write(f"crossband: {folder}: no checkpoint yet; starting at step 0\n")
        return None
    try:
        return last, read(last)
    except TrainingError as error:
        why = error
    states: list[tuple[Path, dict[str, Any]]] = []
    # best.ckpt does not say its step in its name, so it is read in any case.
    for path in [best, *step_checkpoints(folder)]:
        with contextlib.suppress(TrainingError):
            states.append((path, read(path)))
        if states and states[-1][0] != best:
            break
    if not states:
        raise why
    path, state = max(states, key=lambda s: s[1]["crossband"]["step"])
    if not quiet:
        step = state["crossband"]["step"]
        sys.stderr.write(f"crossband: {why}; going on from {path.name}, step {step}\n")
    return path, state
