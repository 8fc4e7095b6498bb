"""How networks are trained: the base of all methods.

Lightning's Trainer brings loggers, callbacks, launchers and SLURM; adversarial training needs
manual optimisation, and that has traps. They are handled here, once:

- Lightning's `global_step` counts the steps of every optimiser; `step` counts the generator's, and
  drives budgets, schedules, logging and checkpoints.
- Optimisers are stepped through `self.optimizers()`: stepping a raw one stops checkpoints.
- Clipping and accumulation are arguments of the method: the Trainer refuses its own, and its
  validation would throw away gradients that are half accumulated.
- DDP's wrapper expects one backward pass a step: gradients are averaged here (`parallel`).
- What a step draws at random is a pure function of (seed, sample), and the data's position is one
  integer counted here, when a batch is consumed: a resumed run repeats an uninterrupted one, and
  several processes repeat one.
- A loss that breaks stops the run with its name, without waiting for the device each step.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import lightning
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.registry import Examples, Registered
from crossband.core.signature import Signature
from crossband.errors import RecipeError, TrainingError
from crossband.networks.base import Generator
from crossband.networks.generators.progressive import GrowingNetwork
from crossband.training.loggers import log_images
from crossband.training.losses.base import Prediction
from crossband.training.methods.batches import Batch, conditions_of, predict
from crossband.training.methods.examples import OPTIMIZER, RESNET
from crossband.training.methods.modules import (
    add_orthogonal_gradient,
    channels_last,
    clip_weights,
    update_ema,
)
from crossband.training.methods.optimisers import make_optimizer, set_learning_rate
from crossband.training.methods.parallel import any_process, average_gradients
from crossband.training.methods.schedules import Cosine, Schedule
from crossband.training.methods.step_log import StepLog
from crossband.training.methods.validation import Validation

#: The part that steps once a step; the other parts step `critic_steps` times.
GENERATOR = "generator"


class Method(
    Registered,
    lightning.LightningModule,
    family="Method",
    package="crossband.training.methods",
    remember=False,  # the networks among the arguments are attributes already
):
    """Base of all methods; a subclass names its `parts` and their losses, in `backward_losses`.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: the network that becomes the model.
        max_steps: generator steps of the whole training.
        schedule: learning rate over the steps; `Cosine` where None.
        ema_decay: the model is an average of the generator over about 1 / (1 - ema_decay) steps;
            0 takes the last weights instead.
        clip: largest norm of each part's gradient; 0 does not clip.
        accumulate: batches whose gradients make one step of an optimiser.
        weight_clip: largest weight of the discriminators after each of their steps; 0 has no
            bound. It makes scores a distance in the first Wasserstein GAN (Arjovsky et al. 2017).
        orthogonal: how strongly the generator's weights are pulled towards rows that are orthogonal
            (Brock et al. 2019, 1e-4); 0 does not.
        critic_steps: steps of the discriminators for each one of the generator, all on batches of
            their own; the last of them shares the generator's.
        patience: validations without a better score after which training ends; 0 never does.
        on_nan: `stop` at a loss that breaks, or `skip` its step. Skipping looks at the losses in
            each step, which on an accelerator costs a wait.
        max_skips: skipped steps of a training before it stops all the same.
        loss_limit: a loss beyond it has exploded; losses are of order 1 (normalised values).
        log_every: generator steps between two looks at the numbers.
        pictures: validation windows whose pictures go to the log.

    Attributes:
        step: generator steps done.
        consumed: training samples consumed, on all ranks together.
        seed: of everything random in a step.
        skipped: steps left out because a loss broke.
        latest: means of the last logged numbers.
        log_lines: how often `latest` was set.
        score: validation's mean over groups of the normalised absolute error; lower is better.
        stale: validations since the best score.
        fidelity: names of the losses that fall where a network overfits one batch; empty where the
            error of its output does.

    `examples` are in the words of a recipe. Whoever builds one adds a signature of red, green,
    blue -> nir where the example has none.
    """

    examples: ClassVar[Examples] = ({"generator": RESNET, "optimizer": OPTIMIZER},)

    seed: int = 0
    fidelity: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        max_steps: int = 1000,
        schedule: Schedule | None = None,
        ema_decay: float = 0.0,
        clip: float = 0.0,
        weight_clip: float = 0.0,
        orthogonal: float = 0.0,
        accumulate: int = 1,
        critic_steps: int = 1,
        patience: int = 0,
        on_nan: Literal["stop", "skip"] = "stop",
        max_skips: int = 20,
        loss_limit: float = 1e6,
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
        counts = {
            "max_steps": max_steps,
            "accumulate": accumulate,
            "critic_steps": critic_steps,
            "log_every": log_every,
        }
        for name, value in counts.items():
            if value < 1:
                raise RecipeError(f"method.{name} must be at least 1, not {value}")
        least = min(clip, weight_clip, orthogonal, patience, max_skips)
        if not 0.0 <= ema_decay < 1.0 or least < 0:
            raise RecipeError(
                "a method needs ema_decay of 0 to below 1, and clip, weight_clip, orthogonal, "
                "patience and max_skips of at least 0"
            )
        self.signature = signature
        self.generator = channels_last(generator)
        self.average: Generator | None = None
        if ema_decay:
            self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.max_steps = max_steps
        self.schedule = schedule or Cosine()
        self.ema_decay, self.clip = ema_decay, clip
        self.weight_clip, self.orthogonal = weight_clip, orthogonal
        self.accumulate, self.critic_steps = accumulate, critic_steps
        self.patience, self.on_nan, self.max_skips = patience, on_nan, max_skips
        self.log_every = log_every
        self.validation = Validation(pictures)
        self.step_log = StepLog(loss_limit)
        self.step = self.consumed = self.skipped = self.log_lines = self.stale = 0
        self.latest: dict[str, float] = {}
        self.score: float | None = None
        self._best: float | None = None
        self._batches = 0  # since the start of the training
        self._batches_in_step = 0  # batches into the current step
        self._clock: tuple[float, int] | None = None

    # What a subclass says.

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return what is optimised together: name -> optimiser, networks. One is `generator`."""
        raise NotImplementedError

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute losses, `record_loss` each under a name, and hand sums to `accumulate_gradients`.

        Args:
            batch: samples, stacked.
            generator: whether this batch is for the generator too, or for the discriminators only.
        """
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
        return self._batches_in_step == 0

    @property
    def finished(self) -> bool:
        """All steps are done, or validation has not become better for too long."""
        return self.step >= self.max_steps or bool(self.patience and self.stale >= self.patience)

    @property
    def is_log_step(self) -> bool:
        """The numbers of the current step will be looked at: time for the costlier ones."""
        return (self.step + 1) % self.log_every == 0 or self.step + 1 >= self.max_steps

    def configure_optimizers(self) -> Any:
        """One optimiser for each part."""
        if self.weight_clip and len(self.parts()) < 2:
            raise RecipeError("method.weight_clip is above 0, but there is no discriminator")
        return [make_optimizer(factory, *modules) for factory, modules in self.parts().values()]

    def predict_batch(self, network: Generator, batch: Batch) -> Prediction:
        """Run a generator on a batch; see `crossband.training.methods.batches.predict`.

        While training noise is drawn anew for each sample; in validation it is always the same.
        """
        normal = self.normal if self.training else None
        conditions = conditions_of(network, batch, normal)
        return predict(self.signature, network, batch, conditions)

    def fp32(self) -> Any:
        """Context in which autocast is off: for losses."""
        return torch.autocast(self.device.type, enabled=False)

    def record_loss(self, name: str, value: Tensor) -> None:
        """Note a loss of this step for the log and for the check that it has not broken."""
        self.step_log.add(f"loss/{name}", value)

    def record_value(self, key: str, value: Tensor) -> None:
        """Note another number of this step for the log, as in `score/target`."""
        self.step_log.add(key, value)

    def record_spread(self, output: Tensor, target: Tensor) -> None:
        """Note the mean standard deviation over the pixels of a sample: a collapse shows here."""
        with torch.no_grad():
            self.record_value("spread/output", output.flatten(2).std(dim=2).mean())
            self.record_value("spread/target", target.flatten(2).std(dim=2).mean())

    def accumulate_gradients(self, loss: Tensor, *modules: nn.Module, keep: bool = False) -> None:
        """Add the gradient of a loss, as a share of the whole step.

        Args:
            loss: a scalar.
            modules: whose weights get gradients; nothing is computed for any other.
            keep: keep the graph, for another loss over it.
        """
        trained = (p for m in modules for p in m.parameters() if p.requires_grad)
        wanted = list(dict.fromkeys(trained))  # networks may share weights
        with record_function("crossband/backward"):
            self.manual_backward(loss / self.accumulate, inputs=wanted, retain_graph=keep)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Draw from 0..1: [count, *shape] on the CPU, each row a pure function of its sample."""
        return self._draw(torch.rand, 0, count, *shape)

    def normal(self, count: int, *shape: int) -> Tensor:
        """Draw standard normal numbers, as `uniform` does."""
        return self._draw(torch.randn, 1, count, *shape)

    def _draw(self, kind: Any, stream: int, count: int, *shape: int) -> Tensor:
        first = self.consumed + self.trainer.global_rank * count
        rows = []
        for position in range(first, first + count):
            seed = (self.seed + stream * 7919) * 1_000_003 + position
            rows.append(kind(shape, generator=torch.Generator().manual_seed(seed)))
        return torch.stack(rows)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate gradients; at the last batch of a round, step the optimisers."""
        self._seed_step()
        if self._clock is None:
            self._clock = time.perf_counter(), self.consumed
        self.step_log.current.files += list(batch.get("name", ()))
        self._batches_in_step += 1
        for network in self.modules():
            if isinstance(network, GrowingNetwork):
                network.grow(self.step)
        last = self._batches_in_step > self.accumulate * (self.critic_steps - 1)
        self.backward_losses(batch, last)
        self.consumed += len(batch["source"]) * self.trainer.world_size
        self._batches += 1
        if self._batches_in_step % self.accumulate == 0:
            self._step_optimizers(last)

    def _step_optimizers(self, last: bool) -> None:
        parts: dict[str, Any] = {}
        if names := self.parts():
            found: Any = self.optimizers()
            parts = dict(zip(names, found if isinstance(found, list) else [found], strict=True))
        stepped = {name: o for name, o in parts.items() if last or name != GENERATOR}
        for name, optimizer in stepped.items():
            parameters = [p for g in optimizer.param_groups for p in g["params"]]
            average_gradients(parameters, self.trainer.world_size)
            if self.orthogonal and name == GENERATOR:
                add_orthogonal_gradient(self.orthogonal, names[name][1])
            grads = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(grads)
            self.record_value(f"gradient/{name}", norm)
            if self.clip:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        # On a CPU there is nothing to wait for, and the weights are still the last good ones.
        if (self.device.type == "cpu" or self.on_nan == "skip") and self._has_invalid_loss():
            self._skip_step(parts)
            return
        factor = self.schedule.factor(self.step, self.max_steps)
        with record_function("crossband/optimiser"):
            for name, optimizer in stepped.items():
                set_learning_rate(optimizer, factor)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if self.weight_clip and name != GENERATOR:
                    clip_weights(self.weight_clip, names[name][1])
        if last:
            self._end_step(stepped)

    def _end_step(self, parts: dict[str, Any]) -> None:
        self.step_log.end_step()
        self.step += 1
        self._batches_in_step = 0
        if self.average is not None:
            with record_function("crossband/average"):
                update_ema(self.average, self.generator, self.ema_decay, self.step)
        if self.step == self.max_steps:
            self.finish()
        if self.step % self.log_every == 0 or self.step >= self.max_steps:
            with record_function("crossband/log"):
                self._log(parts)
        if self.step >= self.max_steps:
            self.trainer.should_stop = True

    def _seed_step(self) -> None:
        """For what networks draw themselves (dropout): by batch and process."""
        rank = self.trainer.global_rank
        torch.manual_seed((self.seed * 1_000_003 + self._batches) * 8191 + rank)

    # What breaks.

    def _has_invalid_loss(self) -> bool:
        """Say whether a loss broke; raise where that is not to be skipped."""
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

    def _skip_step(self, parts: dict[str, Any]) -> None:
        """Leave out a step; its samples are consumed, its number is used by the next."""
        for optimizer in parts.values():
            optimizer.zero_grad(set_to_none=True)
        self.step_log.discard_current()
        self._batches_in_step = 0
        self.skipped += 1

    def check_finite(self) -> None:
        """Raise TrainingError at the first loss since the last look that broke."""
        self._has_invalid_loss()

    # The log.

    def _log(self, parts: dict[str, Any]) -> None:
        """Look at the numbers since the last time: the one place that waits for the device."""
        self._has_invalid_loss()
        lines, means = self.step_log.take(self.trainer.world_size)
        extra = {f"learning_rate/{n}": float(o.param_groups[0]["lr"]) for n, o in parts.items()}
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
        self._update_patience(self.score)
        self.log_dict(numbers, logger=False, sync_dist=False)
        self._write(numbers, self.step)
        for logger in self.trainer.loggers:
            log_images(logger, pictures, self.step)

    def _update_patience(self, score: float) -> None:
        """Count validations since the best score; end the training after `patience` of them."""
        self.schedule.record_score(score)
        better = self._best is None or score < self._best
        self._best, self.stale = (score, 0) if better else (self._best, self.stale + 1)
        if self.finished:
            self.trainer.should_stop = True

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the counters; plain numbers, so that the file opens with weights_only."""
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
        """Go on from the counters."""
        state = checkpoint["crossband"]
        if state["seed"] != self.seed:
            raise TrainingError(
                f"the checkpoint was made with seed {state['seed']}, this run has {self.seed}"
            )
        self.step, self.consumed = state["step"], state["consumed"]
        self._batches, self.skipped = state["batches"], state["skipped"]
        self._best, self.stale = state["best"], state["stale"]
        self.schedule.load_state_dict(state["schedule"])
        self.step_log.load_state_dict(state["log"], self.device)
