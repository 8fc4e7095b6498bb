"""The base class of all training methods.

Adversarial training needs Lightning's manual optimisation, which has known traps. This class
handles them for all methods:

- Lightning's `global_step` counts the steps of every optimiser. `step` counts generator steps only;
  budgets, schedules, logs and checkpoints use it.
- Optimisers are stepped through `self.optimizers()`. Stepping a raw optimiser would stop
  Lightning's checkpoints.
- Gradient clipping and accumulation are arguments of the method. The Trainer refuses its own in
  manual optimisation, and its validation would delete half-accumulated gradients.
- The DDP wrapper expects one backward pass a step, so gradients are averaged here (`parallel`).
- Random numbers of a step are a pure function of (seed, sample). The position in the data is one
  integer, counted here when a batch is consumed. So a resumed run repeats an uninterrupted one, and
  several processes repeat a single one.
- An invalid loss stops the run with the loss's name, without a device synchronisation in each step.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.registry import Examples, Registered
from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.generators.progressive import GrowingNetwork
from crossband.networks.layout import laid_out
from crossband.training.losses.base import Prediction
from crossband.training.methods.batches import Batch, conditions_of, predict
from crossband.training.methods.examples import OPTIMIZER, RESNET
from crossband.training.methods.modules import (
    add_orthogonal_gradient,
    clip_weights,
    update_ema,
)
from crossband.training.methods.optimisers import make_optimizer, set_learning_rate
from crossband.training.methods.parallel import average_gradients
from crossband.training.methods.schedules import Cosine, Schedule
from crossband.training.methods.tracking import TrackedModule

#: The part that is optimised once a step; the other parts are optimised `critic_steps` times.
GENERATOR = "generator"


class Method(
    Registered,
    TrackedModule,
    family="Method",
    package="crossband.training.methods",
    remember=False,  # the networks among the arguments are attributes already
):
    """Base of all methods; a subclass implements `parts` and `backward_losses`.

    Args:
        signature: bands, units and ranges of the translation.
        generator: the network that becomes the model.
        max_steps: generator steps of the whole training.
        schedule: learning rate over the steps; by default `Cosine`.
        ema_decay: the model is a running average of the generator over about 1 / (1 - ema_decay)
            steps; with 0 it has the last weights.
        clip: largest gradient norm of each part; 0 does not clip.
        weight_clip: largest absolute weight of the discriminators after each of their steps; 0 does
            not clip. Used by the first Wasserstein GAN (Arjovsky et al. 2017).
        orthogonal: strength of the orthogonal regularisation of the generator (Brock et al. 2019,
            1e-4); 0 turns it off.
        accumulate: batches whose gradients are accumulated for one optimiser step.
        critic_steps: discriminator steps for each generator step, each on a new batch; the last
            batch is also the generator's.
        patience: validations without a better score before training ends; 0 never ends it.
        on_nan: `stop` at an invalid loss, or `skip` the step. Skipping checks the losses in every
            step, which needs a device synchronisation on an accelerator.
        max_skips: skipped steps before training stops anyway.
        loss_limit: a loss above it is invalid; losses are of order 1 (normalised values).
        log_every: generator steps between two lines of the log.
        pictures: validation windows whose images are logged.

    Attributes:
        average: the running average of the generator; None without `ema_decay`.
        fidelity: names of the losses that fall when the network overfits one batch; empty where the
            error of its output does.

    `examples` are written as in a recipe. Code that builds one adds a signature of red, green, blue
    -> nir where the example has none.
    """

    examples: ClassVar[Examples] = ({"generator": RESNET, "optimizer": OPTIMIZER},)

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
        schedule = schedule or Cosine()
        super().__init__(
            schedule,
            max_steps=max_steps,
            patience=patience,
            on_nan=on_nan,
            max_skips=max_skips,
            loss_limit=loss_limit,
            log_every=log_every,
            pictures=pictures,
        )
        self.automatic_optimization = False
        fault = generator.fault(len(signature.source), len(signature.target), len(signature.guide))
        if fault is not None:
            raise RecipeError(f"the generator {fault}")
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
        self.generator = laid_out(generator)
        self.average: Generator | None = None
        if ema_decay:
            self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.ema_decay, self.clip = ema_decay, clip
        self.weight_clip, self.orthogonal = weight_clip, orthogonal
        self.accumulate, self.critic_steps = accumulate, critic_steps
        self._batches_in_step = 0

    # A subclass defines these.

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return name -> (optimiser, networks it optimises); one name is `generator`."""
        raise NotImplementedError

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute the losses, call `record_loss` for each, and `accumulate_gradients` for sums.

        Args:
            batch: stacked samples.
            generator: whether to train the generator on this batch, or the discriminators only.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Run once after the last step."""

    # Used by subclasses and by `training.run`.

    @property
    def model_network(self) -> Generator:
        """The generator that is validated and saved: the running average if there is one."""
        return self.generator if self.average is None else self.average

    @property
    def between_steps(self) -> bool:
        """Whether no gradients are half accumulated, so that a checkpoint holds the whole state."""
        return self._batches_in_step == 0

    def configure_optimizers(self) -> Any:
        """Return one optimiser for each part; RecipeError if a weight clip has nothing to clip."""
        if self.weight_clip and len(self.parts()) < 2:
            raise RecipeError("method.weight_clip is above 0, but there is no discriminator")
        return [make_optimizer(factory, *modules) for factory, modules in self.parts().values()]

    def predict_batch(self, network: Generator, batch: Batch) -> Prediction:
        """Run a generator on a batch; see `crossband.training.methods.batches.predict`.

        In training, new noise is drawn for each sample; in validation it is always the same.
        """
        normal = self.normal if self.training else None
        conditions = conditions_of(self.signature, network, batch, normal)
        return predict(self.signature, network, batch, conditions)

    def fp32(self) -> Any:
        """Return a context without autocast, for losses."""
        return torch.autocast(self.device.type, enabled=False)

    def accumulate_gradients(self, loss: Tensor, *modules: nn.Module, keep: bool = False) -> None:
        """Add the gradient of loss / accumulate to the weights of some modules.

        Args:
            loss: a scalar, of shape [].
            modules: the modules; no gradients are computed for other weights.
            keep: keep the graph for another backward pass.
        """
        trained = (p for m in modules for p in m.parameters() if p.requires_grad)
        wanted = list(dict.fromkeys(trained))  # networks may share weights
        with record_function("crossband/backward"):
            self.manual_backward(loss / self.accumulate, inputs=wanted, retain_graph=keep)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Draw [count, *shape] uniformly from 0..1, on the CPU; row i depends on sample i only."""
        return self._draw(torch.rand, 0, count, *shape)

    def normal(self, count: int, *shape: int) -> Tensor:
        """Draw [count, *shape] from the standard normal distribution; see `uniform`."""
        return self._draw(torch.randn, 1, count, *shape)

    def _draw(self, kind: Any, stream: int, count: int, *shape: int) -> Tensor:
        first = self.consumed + self.trainer.global_rank * count
        rows = []
        for position in range(first, first + count):
            seed = (self.seed + stream * 7919) * 1_000_003 + position
            rows.append(kind(shape, generator=torch.Generator().manual_seed(seed)))
        return torch.stack(rows)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move the tensors of a batch; Lightning would look at every name and unit of it, too."""
        return {
            key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate gradients; step the optimisers after every `accumulate` batches."""
        self._seed_step()
        self.start_clock()
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
        # On a CPU the check costs nothing; before the step, the weights are still valid.
        if (self.device.type == "cpu" or self.on_nan == "skip") and self.has_invalid_loss():
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
                self.log_line(parts)
        if self.step >= self.max_steps:
            self.trainer.should_stop = True

    def _seed_step(self) -> None:
        """Seed the random numbers that networks draw (dropout) by batch and process."""
        seed = (self.seed * 1_000_003 + self._batches) * 8191 + self.trainer.global_rank
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:  # seeds every kind of device; on a CPU alone that takes a millisecond for nothing
            torch.manual_seed(seed)

    def _skip_step(self, parts: dict[str, Any]) -> None:
        """Discard a step: its samples count as consumed, the next step gets its number."""
        for optimizer in parts.values():
            optimizer.zero_grad(set_to_none=True)
        self.step_log.discard_current()
        self._batches_in_step = 0
        self.skipped += 1

    # Validation.

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate a batch of validation windows with `model_network`."""
        prediction = self.predict_batch(self.model_network, batch)
        count = len(prediction.output)
        # A dataset without these keys has one group, and its windows are numbered in order.
        groups = [str(g) for g in batch.get("group", ["all"] * count)]
        first = batch_idx * count
        windows = [int(w) for w in batch.get("window", range(first, first + count))]
        with self.fp32():
            self.validation.add(prediction, groups, windows)

    def on_validation_model_zero_grad(self) -> None:
        """Keep gradients: an epoch may end between two batches of one step."""
