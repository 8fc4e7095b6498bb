"""A progress bar over generator steps."""

from __future__ import annotations

import lightning
from tqdm import tqdm

from crossband.core.messages import printable, say
from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.methods.base import Method


class TrainingProgress(MethodCallback):
    """A progress bar with the time left; without a terminal, one line at each validation.

    Args:
        title: text before the bar.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: tqdm | None = None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the bar at the current step."""
        if trainer.is_global_zero:
            method = method_of(pl_module)
            self._bar = tqdm(
                total=method.max_steps,
                initial=method.step,
                desc=printable(self.title),
                unit="step",
                dynamic_ncols=True,
                disable=None,  # no bar if stderr is not a terminal
            )

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Update the bar."""
        if self._bar is None or self._bar.disable:
            return
        self._bar.update(method.step - self._bar.n)
        if method.step % method.log_every == 0:
            self._bar.set_postfix_str(self._text(method))

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Print or display step and score."""
        method = method_of(pl_module)
        if self._bar is None or trainer.sanity_checking:
            return
        if self._bar.disable:
            text = f"{self.title}: step {method.step}/{method.max_steps} {self._text(method)}"
            say(text, error=True)
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
        """Close the bar, so that the error message starts on a new line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
