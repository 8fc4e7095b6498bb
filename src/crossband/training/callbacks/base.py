"""The base class of callbacks that run after each batch of a method."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from crossband.training.methods.base import Method


class MethodCallback(Callback):
    """A callback with `after_batch`, a shorter form of Lightning's `on_train_batch_end`."""

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Call `after_batch`."""
        self.after_batch(trainer, method_of(pl_module))

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Run after each training batch."""
        raise NotImplementedError


def method_of(module: lightning.LightningModule) -> Method:
    """Return the module, typed as a method."""
    assert isinstance(module, Method)
    return module
