"""The state of a training: counters, the log, the validation score, the checkpoint."""

from __future__ import annotations

import time
from typing import Any, Literal

import lightning
import torch
from torch import Tensor

from crossband.errors import TrainingError
from crossband.training.loggers import log_images
from crossband.training.methods.parallel import any_process
from crossband.training.methods.schedules import Schedule
from crossband.training.methods.step_log import StepLog
from crossband.training.methods.validation import Validation


class TrackedModule(lightning.LightningModule):
    """A LightningModule with its own step counter, log, early stopping and checkpoint state.

    Args:
        schedule: learning rate over the steps.
        max_steps: generator steps of the whole training.
        patience: validations without a better score before training ends; 0 never ends it.
        on_nan: `stop` or `skip` a step with an invalid loss.
        max_skips: skipped steps before training stops anyway.
        loss_limit: a loss above it is invalid.
        log_every: generator steps between two lines of the log.
        pictures: validation windows whose images are logged.

    Attributes:
        step: generator steps done.
        consumed: training samples consumed by all processes together.
        seed: seed of all random numbers of a step.
        skipped: steps skipped because of an invalid loss.
        latest: the values of the last line of the log.
        log_lines: number of lines logged so far.
        score: mean over groups of the normalised absolute validation error; lower is better.
        stale: validations since the best score.
        seconds_before: how long the processes took that the training was resumed from.
    """

    seed: int = 0

    def __init__(
        self,
        schedule: Schedule,
        *,
        max_steps: int,
        patience: int,
        on_nan: Literal["stop", "skip"],
        max_skips: int,
        loss_limit: float,
        log_every: int,
        pictures: int,
    ) -> None:
        super().__init__()
        self.schedule, self.max_steps, self.log_every = schedule, max_steps, log_every
        self.patience, self.on_nan, self.max_skips = patience, on_nan, max_skips
        self.validation = Validation(pictures)
        self.step_log = StepLog(loss_limit)
        self.step = self.consumed = self.skipped = self.log_lines = self.stale = 0
        self.latest: dict[str, float] = {}
        self.score: float | None = None
        self._best: float | None = None
        self._batches = 0  # since the start of the training
        self._clock: tuple[float, int] | None = None  # time and samples at the last line of the log
        self.seconds_before, self._built = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the training has taken, all processes that it was resumed from included."""
        return self.seconds_before + time.monotonic() - self._built

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the score has not improved for `patience` validations."""
        return self.step >= self.max_steps or bool(self.patience and self.stale >= self.patience)

    @property
    def is_log_step(self) -> bool:
        """Whether the current step is logged; expensive values are only computed then."""
        return (self.step + 1) % self.log_every == 0 or self.step + 1 >= self.max_steps

    # The log.

    def start_clock(self) -> None:
        """Start measuring images per second, unless the clock runs already."""
        if self._clock is None:
            self._clock = time.perf_counter(), self.consumed

    def record_loss(self, name: str, value: Tensor) -> None:
        """Record a loss of this step, to log it and to check that it is valid."""
        self.step_log.add(f"loss/{name}", value)

    def record_value(self, key: str, value: Tensor) -> None:
        """Record another value of this step for the log, as `score/target`."""
        self.step_log.add(key, value)

    def record_spread(self, output: Tensor, target: Tensor) -> None:
        """Record the mean standard deviation over the pixels of each sample: shows a collapse."""
        with torch.no_grad():
            for name, values in (("output", output), ("target", target)):
                pixels = values.flatten(2)
                correction = min(pixels.shape[2] - 1, 1)  # of one pixel it is 0
                spread = pixels.std(dim=2, correction=correction).mean()
                self.record_value(f"spread/{name}", spread)

    def log_line(self, optimizers: dict[str, Any]) -> None:
        """Log the steps since the last line; the only place that waits for the device.

        Args:
            optimizers: name -> optimiser, for the learning rates.
        """
        self.check_finite()
        lines, means = self.step_log.take(self.trainer.world_size)
        rates = {n: float(o.param_groups[0]["lr"]) for n, o in optimizers.items()}
        extra = {f"learning_rate/{name}": rate for name, rate in rates.items()}
        extra["skipped"] = float(self.skipped)
        now = time.perf_counter()
        if self._clock is not None and now > self._clock[0]:
            images = self.consumed - self._clock[1]
            extra["images_per_second"] = images / (now - self._clock[0])
        self._clock = now, self.consumed
        self.latest = means | extra
        self.log_lines += 1
        for step, numbers in lines[:-1]:
            self._write(numbers, step)
        self._write((lines[-1][1] if lines else {}) | extra, self.step)

    def _write(self, numbers: dict[str, float], step: int) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(numbers, step=step)

    # Invalid losses.

    def has_invalid_loss(self) -> bool:
        """Return whether to skip the step; raise TrainingError if it must not be skipped."""
        found = self.step_log.first_invalid()
        if not any_process(found is not None, self.trainer.world_size, self.device):
            return False
        if self.on_nan == "skip" and self.skipped < self.max_skips:
            return True
        if found is None:
            raise TrainingError(f"step {self.step + 1}: a loss broke in another process")
        advice = "lower the learning rate, or set method.clip or method.on_nan skip"
        if self.on_nan == "skip":
            advice = f"{self.skipped} steps were skipped before it (method.max_skips)"
        raise TrainingError(f"{found}; {advice}")

    def check_finite(self) -> None:
        """Raise TrainingError for the first invalid loss since the last check."""
        self.has_invalid_loss()

    # Validation.

    def on_validation_epoch_end(self) -> None:
        """Log the errors by unit, the score, and a few images."""
        numbers, images = self.validation.finish(self.trainer.world_size)
        self._clock = None  # the time of a validation does not count as time of steps
        if not numbers or self.trainer.sanity_checking:
            return
        self.score = numbers["val/score"]
        self._update_patience(self.score)
        self.log_dict(numbers, logger=False, sync_dist=False)
        self._write(numbers, self.step)
        for logger in self.trainer.loggers:
            log_images(logger, images, self.step)

    def _update_patience(self, score: float) -> None:
        """Count validations since the best score; end the training after `patience` of them."""
        self.schedule.record_score(score)
        better = self._best is None or score < self._best
        self._best, self.stale = (score, 0) if better else (self._best, self.stale + 1)
        if self.finished:
            self.trainer.should_stop = True

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the counters as plain numbers, so that the file opens with weights_only."""
        checkpoint["seconds"] = self.seconds  # beside the counters, which a resumed run repeats
        checkpoint["crossband"] = {
            "step": self.step,
            "consumed": self.consumed,
            "batches": self._batches,
            "seed": self.seed,
            "skipped": self.skipped,
            "best": self._best,
            "stale": self.stale,
            "schedule": self.schedule.state_dict(),
            "log": self.step_log.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counters."""
        state = checkpoint["crossband"]
        self.seconds_before = float(checkpoint.get("seconds", 0.0))  # older files do not have it
        if state["seed"] != self.seed:
            raise TrainingError(
                f"the checkpoint was made with seed {state['seed']}, this run has {self.seed}"
            )
        self.step, self.consumed = state["step"], state["consumed"]
        self._batches, self.skipped = state["batches"], state["skipped"]
        self._best, self.stale = state["best"], state["stale"]
        self.schedule.load_state_dict(state["schedule"])
        self.step_log.load_state_dict(state["log"], self.device)
