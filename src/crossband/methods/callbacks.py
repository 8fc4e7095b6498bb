"""What watches a training: checkpoints that survive a kill, and a bar with the time left."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from crossband.errors import Interrupted, OutputError
from crossband.methods.base import Method

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoints(Callback):
    """Keeps `last.ckpt` and `best.ckpt` in a folder.

    A checkpoint is written under a temporary name, flushed to the disk, then renamed, so that the
    last good one survives a kill and a full disk. It is only written between two generator steps
    and with finite losses.

    Args:
        folder: where they go; None keeps none, and only stops when asked to.
        every: generator steps between two checkpoints; there is also one after each validation.

    Attributes:
        stop: set by a signal; after the next step, saves and raises Interrupted.
        best: lowest validation score so far.
    """

    def __init__(self, folder: Path | None, every: int = 500) -> None:
        self.folder, self.every = folder, every
        self.stop = False
        self.best: float | None = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save every so many steps, and when asked to stop."""
        method = _method(pl_module)
        if not method.between_steps or trainer.is_last_batch:
            return  # after an epoch's last batch its validation comes first
        if self.stop or method.step % self.every == 0:
            self._save(trainer, method)
        self._stop_if_asked(method)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save after a validation; copy to `best.ckpt` where it is the best so far."""
        method = _method(pl_module)
        if not method.between_steps:
            return
        better = method.score is not None and (self.best is None or method.score < self.best)
        if better:
            self.best = method.score
        self._save(trainer, method)
        if better and self.folder is not None and trainer.is_global_zero:
            temporary = self.folder / f".{BEST}.tmp"
            shutil.copyfile(self.folder / LAST, temporary)
            _replace(temporary, self.folder / BEST)
        self._stop_if_asked(method)

    def _stop_if_asked(self, method: Method) -> None:
        if self.stop:
            raise Interrupted(f"stopped after step {method.step}; go on with --resume")

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.best = state_dict["best"]

    def _save(self, trainer: lightning.Trainer, method: Method) -> None:
        method.check_finite()
        if self.folder is None:
            return
        temporary = self.folder / f".{LAST}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                _replace(temporary, self.folder / LAST)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(
                f"{self.folder / LAST}: cannot be written: {error.strerror or error}"
            ) from error


def _replace(temporary: Path, final: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)


def _method(module: lightning.LightningModule) -> Method:
    assert isinstance(module, Method)
    return module


class Progress(Callback):
    """A bar over generator steps with the time left; a line at each validation without a terminal.

    Args:
        title: what stands before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: tqdm | None = None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the bar at the step that is already done."""
        if trainer.is_global_zero:
            method = _method(pl_module)
            self._bar = tqdm(
                total=method.max_steps,
                initial=method.step,
                desc=self.title,
                unit="step",
                dynamic_ncols=True,
                disable=None,  # no bar where stderr is no terminal
            )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move on."""
        method = _method(pl_module)
        if self._bar is None or self._bar.disable:
            return
        self._bar.update(method.step - self._bar.n)
        if method.step % method.log_every == 0:
            self._bar.set_postfix_str(self._text(method))

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Say where training is."""
        method = _method(pl_module)
        if self._bar is None or trainer.sanity_checking:
            return
        if self._bar.disable:
            text = f"{self.title}: step {method.step}/{method.max_steps} {self._text(method)}"
            sys.stderr.write(text + "\n")
        else:
            self._bar.set_postfix_str(self._text(method))

    def _text(self, method: Method) -> str:
        parts = []
        if "loss/total" in method.latest:
            parts.append(f"loss {method.latest['loss/total']:.4f}")
        if method.score is not None:
            parts.append(f"val {method.score:.4f}")
        return " ".join(parts)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
