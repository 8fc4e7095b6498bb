"""How networks are trained: the base of all methods.

Lightning's Trainer brings loggers, DDP, callbacks and SLURM; adversarial training needs manual
optimisation, and that has traps. They are handled here, once:

- Lightning's `global_step` counts the steps of every optimiser; `step` counts the generator's, and
  drives budgets, schedules, logging and checkpoints.
- Optimisers are stepped through `self.optimizers()`: stepping a raw one stops checkpoints.
- Clipping and accumulation are arguments of the method: the Trainer refuses its own, and its
  validation would throw away gradients that are half accumulated.
- What a step draws at random is a pure function of (seed, step, rank), and the data's position is
  one integer counted here, when a batch is consumed: a resumed run repeats an uninterrupted one.
- A loss that is not finite stops the run with its name, without waiting for the device each step.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import lightning
import torch
from torch import Tensor, nn

from crossband.errors import RecipeError, TrainingError
from crossband.losses.base import Prediction
from crossband.methods.optimisers import Schedule, ScheduleName
from crossband.methods.validation import Validation
from crossband.networks.base import Generator
from crossband.signature import Signature

Batch = dict[str, Any]
N = TypeVar("N", bound=nn.Module)


class Method(lightning.LightningModule):
    """Base of all methods; a subclass says what its losses are, in `backward_losses`.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: the network that becomes the model.
        max_steps: generator steps of the whole training.
        schedule: learning rate over the steps, `constant` or `cosine`.
        warmup: steps of a linear rise of the learning rate.
        ema_decay: the model is an average of the generator over about 1 / (1 - ema_decay) steps;
            0 takes the last weights instead.
        clip: largest norm of each optimiser's gradient; 0 does not clip.
        accumulate: batches whose gradients make one step.
        log_every: generator steps between two lines in the log.
        pictures: validation windows whose pictures go to TensorBoard.

    Attributes:
        step: generator steps done.
        consumed: training samples consumed, on all ranks together.
        seed: of everything random in a step.
        latest: the last logged numbers.
        score: validation's mean over groups of the normalised absolute error; lower is better.
    """

    seed: int = 0

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        max_steps: int = 1000,
        schedule: ScheduleName = "cosine",
        warmup: int = 0,
        ema_decay: float = 0.0,
        clip: float = 0.0,
        accumulate: int = 1,
        log_every: int = 50,
        pictures: int = 4,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        bands = (len(signature.source), len(signature.target))
        if (generator.in_channels, generator.out_channels) != bands:
            raise RecipeError(
                f"the generator takes {generator.in_channels} bands and gives "
                f"{generator.out_channels}, the signature says {bands[0]} and {bands[1]}"
            )
        if accumulate < 1 or log_every < 1:
            raise RecipeError("a method needs accumulate and log_every of at least 1")
        if not 0.0 <= ema_decay < 1.0 or clip < 0:
            raise RecipeError("a method needs ema_decay in 0..1 (below 1) and clip of at least 0")
        self.signature = signature
        self.generator = channels_last(generator)
        self.average: Generator | None = None
        if ema_decay:
            self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.max_steps = max_steps
        self.schedule = Schedule(schedule, warmup, max_steps)
        self.ema_decay, self.clip, self.accumulate = ema_decay, clip, accumulate
        self.log_every = log_every
        self.validation = Validation(pictures)
        self.step = self.consumed = self._batches = 0
        self.latest: dict[str, float] = {}
        self.score: float | None = None
        self._sums: dict[str, Tensor] = {}  # of this step, over accumulated batches
        self._pending: list[tuple[int, dict[str, Tensor]]] = []  # steps not looked at yet
        self._rows: list[int] = []
        self._clock: tuple[float, int] | None = None

    # What a subclass says.

    def backward_losses(self, batch: Batch) -> None:
        """Compute losses, `record` each under a name, and hand sums to `self.backward_of`."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what is left after the last step."""

    # What every method has.

    @property
    def model_network(self) -> Generator:
        """The generator as it is validated and saved: the average where there is one."""
        return self.generator if self.average is None else self.average

    @property
    def between_steps(self) -> bool:
        """No gradient is half accumulated, so that a checkpoint holds the whole state."""
        return self._batches % self.accumulate == 0

    def predict_batch(self, network: nn.Module, batch: Batch) -> Prediction:
        """Run a generator on a batch; everything in the result is normalised and fp32.

        A batch needs `source` and `target` in physical units; `mask` is everywhere and `unit` the
        signature's first where they are missing.
        """
        source, target = batch["source"], batch["target"]
        units = list(batch.get("unit") or [next(iter(self.signature.units))] * len(source))
        mask = batch.get("mask")
        if mask is None:
            mask = torch.ones_like(target[:, :1], dtype=torch.bool)
        source = self.signature.normalise(source, units, "source")
        target = self.signature.normalise(target, units, "target").masked_fill(~mask, 0.0)
        output = network(source.contiguous(memory_format=torch.channels_last)).float()
        return Prediction(output, target, source, mask, self.signature, units)

    def fp32(self) -> Any:
        """Context in which autocast is off: for losses."""
        return torch.autocast(self.device.type, enabled=False)

    def record(self, name: str, value: Tensor) -> None:
        """Note a loss of this step for the log and for the check that it is finite."""
        value = value.detach().float() / self.accumulate
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def backward_of(self, loss: Tensor) -> None:
        """Add the gradient of a loss, as a share of the whole step."""
        self.manual_backward(loss / self.accumulate)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate gradients; at the last batch of a step, step every optimiser."""
        self._seed_step()
        if self._clock is None:
            self._clock = time.perf_counter(), self.consumed
        if "row" in batch:
            self._rows = (self._rows if not self.between_steps else []) + batch["row"].tolist()
        self.backward_losses(batch)
        self.consumed += len(batch["source"]) * self.trainer.world_size
        self._batches += 1
        if self.between_steps:
            self._step_all()

    def _step_all(self) -> None:
        found: Any = self.optimizers()
        optimizers = found if isinstance(found, list) else [found]
        for number, optimizer in enumerate(optimizers):
            parameters = [p for g in optimizer.param_groups for p in g["params"]]
            grads = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            self._sums[f"gradient_{number}"] = norm
            if self.clip:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        self._pending.append((self.step + 1, self._sums))
        self._sums = {}
        if self.device.type == "cpu":
            self.check_finite()  # nothing to wait for: the weights are still the last good ones
        factor = self.schedule.factor(self.step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        if self.step == self.max_steps:
            self.finish()
        if self.step % self.log_every == 0 or self.step >= self.max_steps:
            self._log_losses(factor)
        if self.step >= self.max_steps:
            self.trainer.should_stop = True

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move it: average += (1 - d) (weights - average).

        d = min(decay, (1 + step) / (10 + step)): smaller in the first steps, which forgets the
        random start (TensorFlow's ExponentialMovingAverage with num_updates).
        """
        if self.average is None:
            return
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        mean, now = (list(tensors) for tensors in zip(*pairs, strict=True))
        torch._foreach_lerp_(mean, now, 1.0 - decay)
        for old, new in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            old.copy_(new)

    def _seed_step(self) -> None:
        rank = self.trainer.global_rank
        torch.manual_seed((self.seed * 1_000_003 + self._batches) * 8191 + rank)

    def check_finite(self) -> None:
        """Raise TrainingError at the first loss since the last look that is not finite."""
        for step, losses in self._pending:
            for name, value in losses.items():
                if not bool(torch.isfinite(value)):
                    rows = ", ".join(map(str, sorted(set(self._rows)))) or "unknown"
                    raise TrainingError(
                        f"step {step}: {name} is {float(value)} (manifest rows of the last "
                        f"batch: {rows}); lower the learning rate, or set method.clip"
                    )

    def _log_losses(self, factor: float) -> None:
        """Look at the losses since the last time: the one place that waits for the device."""
        self.check_finite()
        numbers: dict[str, float] = {}
        for name in {n: None for _, losses in self._pending for n in losses}:
            values = torch.stack([losses[name] for _, losses in self._pending if name in losses])
            numbers[f"loss/{name}"] = float(values.mean())
        self._pending = []
        numbers["learning_rate_factor"] = factor
        now = time.perf_counter()
        if self._clock is not None and now > self._clock[0]:
            numbers["samples_per_second"] = (self.consumed - self._clock[1]) / (
                now - self._clock[0]
            )
        self._clock = now, self.consumed
        self.latest = numbers
        self._write(numbers)

    def _write(self, numbers: dict[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(numbers, step=self.step)

    # Validation.

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure one window with the averaged generator."""
        prediction = self.predict_batch(self.model_network, batch)
        count = len(prediction.output)
        # A dataset that does not say so gets one group, and windows numbered as they come.
        groups = [str(g) for g in batch.get("group", ["all"] * count)]
        first = batch_idx * count
        windows = [int(w) for w in batch.get("window", range(first, first + count))]
        with self.fp32():
            self.validation.add(prediction, groups, windows)

    def on_validation_model_zero_grad(self) -> None:
        """Keep gradients: an epoch may end between two batches of one step."""

    def on_validation_epoch_end(self) -> None:
        """Log the errors by unit, the score, and a few pictures."""
        numbers, pictures = self.validation.finish(self.trainer.world_size)
        self._clock = None  # the time of a validation is not the time of a step
        if not numbers or self.trainer.sanity_checking:
            return
        self.score = numbers["val/score"]
        self.log_dict(numbers, logger=False, sync_dist=False)
        self._write(numbers)
        for logger in self.trainer.loggers:
            board: Any = getattr(logger, "experiment", None)
            if hasattr(board, "add_image"):
                for name, picture in pictures.items():
                    board.add_image(name, picture, self.step)

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the counters; plain numbers, so that the file opens with weights_only."""
        checkpoint["crossband"] = {
            "step": self.step,
            "consumed": self.consumed,
            "batches": self._batches,
            "seed": self.seed,
            # Losses since the last line in the log, so that the next line is the same.
            "pending": [(s, {n: float(v) for n, v in d.items()}) for s, d in self._pending],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the counters."""
        state = checkpoint["crossband"]
        self.step, self.consumed = state["step"], state["consumed"]
        self._batches = state["batches"]
        self._pending = [
            (s, {n: torch.tensor(v, device=self.device) for n, v in d.items()})
            for s, d in state["pending"]
        ]
        if state["seed"] != self.seed:
            raise TrainingError(
                f"the checkpoint was made with seed {state['seed']}, this run has {self.seed}"
            )


def channels_last(network: N) -> N:
    """Lay the weights out as the fast convolutions of CPU and GPU want them."""
    moved: Any = network
    moved.to(memory_format=torch.channels_last)
    return network


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients of a network's weights; gradients pass through it all the same."""
    trained = [p for p in network.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
