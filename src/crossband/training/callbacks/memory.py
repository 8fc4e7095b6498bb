"""A full memory, explained in one line with a setting that was seen to fit."""

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

from crossband.data.transforms import SPATIAL
from crossband.errors import CrossbandError, TrainingError
from crossband.networks import parameter_count
from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch

#: What libraries say that have no class for it: torch on CPU, MPS, cuDNN and cuBLAS, oneDNN.
OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|ALLOC_FAILED|bad_alloc", re.IGNORECASE
)
#: What is said where another process of a training has ended in the middle of a step.
PROCESS_LOST = re.compile(r"connection (was )?(closed|reset)|remote process exited", re.IGNORECASE)
#: A crop smaller than this teaches nothing about its surroundings.
SMALLEST_CROP = 16


@dataclass(frozen=True)
class Setting:
    """What of a step is in the memory at once.

    Attributes:
        batch: samples of a batch.
        crop: side of a crop, in source pixels.
        accumulate: batches of a step.
    """

    batch: int
    crop: int
    accumulate: int


class OutOfMemoryAdvice(MethodCallback):
    """When a training step does not fit the memory, finds the largest setting that does.

    It is measured: real steps on parts of the same batch, after everything of the failed one is
    freed. The weights that these steps move are of a run that has ended, and are never saved.

    Attributes:
        message: what to say; None while the memory suffices.
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
        """Keep the batch, to try parts of it."""
        self._batch = batch

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Let the batch go."""
        self._batch = None

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Explain a full memory."""
        if not is_out_of_memory(exception):
            return
        method, batch = method_of(pl_module), self._batch
        self._batch = None
        amount = memory_amounts(str(exception))
        # The frames of the failed step hold its activations.
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
        """Context that turns what a full memory raises into one line, in every process."""
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


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the memory is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None


def memory_amounts(message: str) -> str:
    """Return the amounts of memory requested and free, as far as an error message states them.

    >>> memory_amounts("Tried to allocate 2.00 GiB. GPU 0 has 8 GiB of which 512.00 MiB is free.")
    ', 2.00 GiB asked for, 512.00 MiB free'
    >>> memory_amounts("DefaultCPUAllocator: you tried to allocate 3145728 bytes.")
    ', 3.0 MiB asked for'
    >>> memory_amounts("std::bad_alloc")
    ''
    """
    text = ""
    if asked := re.search(r"[Tt]ried to allocate (\d+) bytes", message):
        text = f", {int(asked[1]) / 2**20:.1f} MiB asked for"
    elif asked := re.search(r"[Tt]ried to allocate ([\d.]+ [KMGT]i?B)", message):
        text = f", {asked[1]} asked for"
    if free := re.search(r"([\d.]+ [KMGT]i?B) is free", message):
        text += f", {free[1]} free"
    return text


def find_setting(trainer: lightning.Trainer, method: Method, batch: Batch) -> Setting | None:
    """Return the largest smaller setting whose steps fit; None where none does.

    The batch is halved first, because the gradient of as many accumulated parts is the same; then
    the crop of a single sample.
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
    """Return the first samples of a batch, their upper left corners."""
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
    """Say whether steps on such batches fit: two, because the optimisers' state comes with one.

    A step of accumulated batches is tried with two: the second has the gradients of the first
    beside it, and no later one has more.
    """
    precision = trainer.strategy.precision_plugin
    replays: dict[str, Any] = getattr(method, "replays", {})
    for replay in replays.values():
        replay.kept = []  # older outputs have the size of whole crops
    try:
        for _ in range(2):
            for _ in range(min(accumulate, 2)):
                with precision.train_step_context():
                    method.backward_losses(batch, True)
            for optimizer in trainer.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    except (RuntimeError, MemoryError, ValueError, CrossbandError) as error:
        # What cannot be computed at this size at all does not fit either.
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
        library.malloc_trim(0)  # glibc keeps what is freed, in pieces that a new size may not fit
