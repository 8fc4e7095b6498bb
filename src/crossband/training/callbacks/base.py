"""A callback that watches a method: Lightning's hook, without the arguments that nobody reads."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from crossband.training.methods.base import Method


class MethodCallback(Callback):
    """Base of the callbacks that look after each batch."""

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
        """Look at a method that has done another batch."""
        raise NotImplementedError


def method_of(module: lightning.LightningModule) -> Method:
    """Return the module as the method that it is."""
    assert isinstance(module, Method)
    return module
