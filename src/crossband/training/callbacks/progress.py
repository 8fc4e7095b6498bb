"""A progress bar over generator steps."""

from __future__ import annotations

import time
from typing import Any

import lightning
from tqdm import tqdm

from crossband.core.messages import duration, printable, say
from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.methods.base import Method

#: Longest time between two lines without a terminal.
LINE_SECONDS = 20.0


class TrainingProgress(MethodCallback):
    """A progress bar with the time left; without a terminal, lines.

    There is a line at each validation, and one after every `LINE_SECONDS`, so that nobody takes a
    long phase for one that hangs.

    Args:
        title: text before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: tqdm | None = None
        self._first, self._begun, self._printed = 0, 0.0, 0.0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the bar at the current step."""
        if trainer.is_global_zero:
            method = method_of(pl_module)
            self._first, self._begun = method.step, time.monotonic()
            self._printed = self._begun
            self._bar = tqdm(
                total=method.max_steps,
                initial=method.step,
                desc=printable(self.title),
                unit="step",
                dynamic_ncols=True,
                disable=None,  # no bar if stderr is not a terminal
            )
            if method.step == 0 and method.score is not None:
                self._show_validation(method)

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Update the bar."""
        if self._bar is None:
            return
        if self._bar.disable:
            if self._is_due():
                self._print(
                    f"{self._step(method)} {self._text(method)}".rstrip() + self._left(method)
                )
            return
        self._bar.update(method.step - self._bar.n)
        if method.step % method.log_every == 0:
            self._bar.set_postfix_str(self._text(method))

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if a validation takes long."""
        if self._bar is not None and self._bar.disable and self._is_due():
            windows = sum(int(count) for count in trainer.num_val_batches)
            step = self._step(method_of(pl_module))
            self._print(f"{step}, validation window {batch_idx + 1}/{windows}")

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Print or display step and score."""
        method = method_of(pl_module)
        if self._bar is None or trainer.sanity_checking:
            return
        self._show_validation(method)

    def _show_validation(self, method: Method) -> None:
        assert self._bar is not None
        if self._bar.disable:
            self._print(f"{self._step(method)} {self._text(method)}".rstrip())
        else:
            self._bar.set_postfix_str(self._text(method))

    def _is_due(self) -> bool:
        return time.monotonic() - self._printed >= LINE_SECONDS

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        say(f"{self.title}: {text}", error=True)

    def _step(self, method: Method) -> str:
        return f"step {method.step}/{method.max_steps}"

    def _left(self, method: Method) -> str:
        """Return the time left; nothing before the first step."""
        done = method.step - self._first
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self._begun) / done * (method.max_steps - method.step)
        return f", {duration(seconds)} left"

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
        """Close the bar, so that the error message starts on a new line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
