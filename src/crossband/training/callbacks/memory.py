"""Explain an out-of-memory error in one line, with a batch size that was tested to fit."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch

from crossband.core.memory import is_out_of_memory, memory_words
from crossband.data.transforms import SPATIAL
from crossband.errors import CrossbandError, TrainingError
from crossband.networks import parameter_count
from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch

#: Messages that appear when another process of the training ended during a step.
PROCESS_LOST = re.compile(r"connection (was )?(closed|reset)|remote process exited", re.IGNORECASE)
#: Smallest crop to suggest; smaller crops have too little context.
SMALLEST_CROP = 16


@dataclass(frozen=True)
class Setting:
    """The settings that determine the memory of a step.

    Attributes:
        batch: samples of a batch.
        crop: side of a crop, in source pixels.
        accumulate: accumulated batches of a step.
    """

    batch: int
    crop: int
    accumulate: int


class OutOfMemoryAdvice(MethodCallback):
    """When a training step runs out of memory, finds the largest setting that fits.

    The settings are tested: real steps on parts of the same batch, after the memory of the failed
    step is freed. These steps change the weights, but the run has ended and the weights are not
    saved.

    Attributes:
        message: the message to print; None as long as the memory suffices.
    """

    def __init__(self) -> None:
        self.message: str | None = None
        self._batch: Batch | None = None

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the batch, to test parts of it."""
        self._batch = batch

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Drop the batch."""
        self._batch = None

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Create the message for an out-of-memory error."""
        if not is_out_of_memory(exception):
            return
        method, batch = method_of(pl_module), self._batch
        self._batch = None
        amount = memory_words(str(exception))
        # The stack frames of the failed step keep its activations alive.
        traceback.clear_frames(exception.__traceback__)
        method.zero_grad(set_to_none=True)
        _free(method)
        if batch is None or not isinstance(batch.get("source"), torch.Tensor):
            self.message = (
                f"after step {method.step}: out of memory outside of a training step{amount}; "
                f"lower --data.val_tile (validation) or --data.cache_mb (decoded scenes)"
            )
            return
        size, side = len(batch["source"]), batch["source"].shape[-1]
        found = find_setting(trainer, method, batch)
        count = parameter_count(method.generator)
        self.message = (
            f"step {method.step + 1}: out of memory: a batch of {size} crops of {side} x {side} "
            f"pixels, a generator of {count:,} parameters{amount}; {_advice(found, side)}"
        )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Return a context that turns out-of-memory errors into one line, in every process."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if self.message is None and PROCESS_LOST.search(str(error)):
                raise TrainingError("another process of the training ended; it says why") from error
            if self.message is None and not is_out_of_memory(error):
                raise
            raise TrainingError(self.message or f"out of memory: {error}") from None


def _advice(found: Setting | None, side: int) -> str:
    if found is None:
        return (
            "no smaller batch or crop fits either: take a smaller network or a device with more "
            "memory"
        )
    fits = f"--data.batch {found.batch} --method.accumulate {found.accumulate}"
    if found.crop != side:
        return f"not even one crop fits; --data.crop {found.crop} {fits} was tried and fits"
    return f"{fits} was tried, fits, and gives the same gradient"


def find_setting(trainer: lightning.Trainer, method: Method, batch: Batch) -> Setting | None:
    """Return the largest smaller setting whose steps fit; None if there is none.

    The batch is divided first, because accumulating the parts gives the same gradient; then the
    crop of a single sample is halved.
    """
    size, side = len(batch["source"]), batch["source"].shape[-1]
    whole = size * method.accumulate
    setting = Setting(size, side, method.accumulate)
    while True:
        if setting.batch > 1:
            # A divisor, so that the parts make up the whole batch.
            parts = [b for b in range(1, setting.batch // 2 + 1) if size % b == 0]
            setting = replace(setting, batch=parts[-1], accumulate=whole // parts[-1])
        elif setting.crop // 2 >= SMALLEST_CROP:
            setting = replace(setting, crop=setting.crop // 2)
        else:
            return None
        if steps_fit(
            trainer, method, cut_batch(batch, setting.batch, setting.crop), setting.accumulate
        ):
            return setting


def cut_batch(batch: Batch, size: int, crop: int) -> Batch:
    """Return the first samples of a batch, cropped to their upper left corners."""
    count, side = len(batch["source"]), batch["source"].shape[-1]
    small: Batch = {}
    for key, value in batch.items():
        small[key] = value
        if isinstance(value, torch.Tensor | list) and len(value) == count:
            small[key] = value[:size]
        if key in SPATIAL:
            high, wide = (max(n * crop // side, 1) for n in value.shape[-2:])
            small[key] = small[key][..., :high, :wide]
    return small


def steps_fit(trainer: lightning.Trainer, method: Method, batch: Batch, accumulate: int) -> bool:
    """Return whether two steps fit: the first one allocates the state of the optimisers.

    At most two batches are accumulated in the test: the second one has the gradients of the first
    in memory, and later ones need no more.
    """
    precision = trainer.strategy.precision_plugin
    replays: dict[str, Any] = getattr(method, "replays", {})
    for replay in replays.values():
        replay.kept = []  # stored outputs have the size of the whole crops
    try:
        for _ in range(2):
            for _ in range(min(accumulate, 2)):
                with precision.train_step_context():
                    method.backward_losses(batch, True)
            for optimizer in trainer.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    except (RuntimeError, MemoryError, ValueError, CrossbandError) as error:
        # A size that the networks cannot process does not count as fitting.
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        method.zero_grad(set_to_none=True)
        _free(method)
    return True


def _free(method: Method) -> None:
    gc.collect()
    if method.device.type == "cuda":
        torch.cuda.empty_cache()
    elif method.device.type == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)  # glibc keeps freed blocks, which may not fit the new sizes
