"""Write and read checkpoints so that a kill or a full disk never destroys the last good one."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from crossband.core.messages import say
from crossband.errors import OutputError, RecipeError, TrainingError, UnreadableError, nearest
from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.methods.base import Method
from crossband.training.run_folder import forget_earlier

LAST, BEST = "last.ckpt", "best.ckpt"
#: Exceptions of torch.load for a truncated or altered file, or one that is no checkpoint.
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

    A checkpoint is written under a temporary name, flushed to the disk and renamed, so that a kill
    or a full disk leaves the previous one intact. Checkpoints are only written between two
    generator steps and after a check that all losses are finite.

    Args:
        folder: folder of the checkpoints; None writes none and only handles stop requests.
        every: generator steps between two checkpoints; there is also one after each validation.
        keep: number of checkpoints kept under the name of their step.
        monitor: the validation metric that selects `best.ckpt`.
        mode: whether lower (`min`) or higher (`max`) values of it are better.
        stop_request: after a request, the next step is followed by a checkpoint and an exception.

    Attributes:
        best: best value of the monitored metric so far.
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
        self._new_value: float | None = None  # of a validation without a checkpoint so far

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Install the flushing checkpoint IO."""
        trainer.strategy.checkpoint_io = FlushedCheckpointIO()

    def remove_temporary_files(self) -> None:
        """Delete what a run that was killed while it wrote a checkpoint has left."""
        if self.folder is not None:
            for stale in self.folder.glob(".*.ckpt.tmp"):
                stale.unlink(missing_ok=True)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Replace Lightning's signal handlers by ours; save a start that was validated."""
        self.stop_request.install_handlers(trainer)
        if self._new_value is not None:
            self._save_validated(trainer, method_of(pl_module))

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Save every `every` steps, and after a stop request."""
        if not method.between_steps or trainer.is_last_batch:
            return  # after the last batch of an epoch, validation comes first
        asked = self.stop_request.agreed(method.step)
        if asked or method.step % self.every == 0:
            self._save(trainer, method)
        if asked:
            raise self.stop_request.error(method.step)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Read the monitored metric; RecipeError if the validation does not log it."""
        if trainer.sanity_checking or not trainer.callback_metrics:
            return  # there is no validation data
        if self.monitor not in trainer.callback_metrics:
            hint = nearest(self.monitor, trainer.callback_metrics)
            raise RecipeError(f"--trainer.monitor: validation has no {self.monitor!r}: {hint}")
        self._new_value = float(trainer.callback_metrics[self.monitor])

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save after a validation; also as `best.ckpt` if it is the best so far."""
        method = method_of(pl_module)
        if not method.between_steps:
            return
        self._save_validated(trainer, method)
        if self.stop_request.agreed(method.step, now=True):
            raise self.stop_request.error(method.step)

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Save if training ends because a data file cannot be read.

        Not with several processes: the other ones may already be in the next step.
        """
        method = method_of(pl_module)
        alone = trainer.world_size == 1
        if isinstance(exception, UnreadableError) and alone and method.between_steps:
            self._save(trainer, method)

    def _save_validated(self, trainer: lightning.Trainer, method: Method) -> None:
        better = self._new_value is not None and self._is_better(self._new_value)
        if better:
            self.best = self._new_value
        self._new_value = None
        self._save(trainer, method, better=better)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return math.isfinite(value)
        return value < self.best if self.mode == "min" else value > self.best

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, the metric and the mode."""
        return {"best": self.best, "monitor": self.monitor, "mode": self.mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`; the best value of another metric is ignored."""
        what = state_dict.get("monitor", self.monitor), state_dict.get("mode", self.mode)
        self.best = state_dict["best"] if what == (self.monitor, self.mode) else None

    def _save(self, trainer: lightning.Trainer, method: Method, *, better: bool = False) -> None:
        """Save the last checkpoint, and before it its further names.

        It says which value was the best. So after a kill in between, the run that goes on from the
        checkpoint before it writes these names again.
        """
        method.check_finite()
        if self.folder is None:
            return
        last, temporary = self.folder / LAST, _temporary(self.folder / LAST)
        self._write(last, lambda: trainer.save_checkpoint(temporary))
        if not trainer.is_global_zero:
            return
        if better:
            best = self.folder / BEST
            self._write(best, lambda: _link_or_copy(temporary, best))
        if self.keep:
            step = self.folder / f"step-{method.step:08d}.ckpt"
            self._write(step, lambda: _link_or_copy(temporary, step))
        self._write(last, lambda: rename_and_sync(temporary, last))
        forget_earlier(self.folder.parent)
        if self.keep:
            for old in step_checkpoints(self.folder)[self.keep :]:
                old.unlink(missing_ok=True)

    def _write(self, path: Path, write: Any) -> None:
        """Call `write`; if the disk refuses, delete the temporary file and raise OutputError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write()
        except OSError as error:
            with contextlib.suppress(OSError):
                _temporary(path).unlink(missing_ok=True)
            reason = error.strerror or error
            raise OutputError(f"{path}: cannot be written: {reason}") from error


class FlushedCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint directly to its path and flushes it to the disk.

    Lightning's own class serialises into memory first and writes through the system's temporary
    folder, which needs twice the memory and space on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; OSError if the disk refuses."""
        file = _ReportingFile(path)
        try:
            with file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            # For a full disk torch only reports an unexpected position in the file.
            raise file.refused or error from error


class _ReportingFile(io.FileIO):
    """A file that stores the OSError of a failed write."""

    def __init__(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)  # of a write that failed
        super().__init__(path, "x")  # never through a link
        self.refused: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all data: on a nearly full disk a single write may be short without an error."""
        left = memoryview(data).cast("B")
        try:
            while len(left):
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.refused = error
            raise
        return memoryview(data).nbytes


def rename_and_sync(temporary: Path, final: Path) -> None:
    """Rename a flushed file to its final name, and flush the folder too."""
    os.replace(temporary, final)
    if os.name == "posix":  # on other systems a folder cannot be opened
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _link_or_copy(source: Path, final: Path) -> None:
    """Store a checkpoint under a second name: a hard link, or a copy without hard links.

    A link is as safe as a copy, because checkpoints are replaced and never modified.
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
    """Return the checkpoints that are named by their step, newest first."""
    found = [p for p in folder.glob("step-*.ckpt") if re.fullmatch(r"step-\d{8,}", p.stem)]
    return sorted(found, key=lambda p: int(p.stem[5:]), reverse=True)


def read(path: Path) -> dict[str, Any]:
    """Load a checkpoint to the CPU without running pickled code; TrainingError if it fails."""
    try:
        with zipfile.ZipFile(path) as parts:  # torch writes checksums, but does not check them
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
    """Return the checkpoint to resume from and its content; None if there is none yet.

    This is `last.ckpt`, or else the newest checkpoint that can be read, which is then reported on
    stderr. TrainingError if none can be read.
    """
    last, best = folder / LAST, folder / BEST
    if not any(path.is_file() for path in (last, best, *step_checkpoints(folder))):
        if not quiet:
            say(f"crossband: {folder}: no checkpoint yet; starting at step 0", error=True)
        return None
    try:
        return last, read(last)
    except TrainingError as error:
        why = error
    states: list[tuple[Path, dict[str, Any]]] = []
    # The name of best.ckpt does not contain its step, so it is always read.
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
        say(f"crossband: {why}; going on from {path.name}, step {step}", error=True)
    return path, state
