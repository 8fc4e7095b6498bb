"""Training on pairs: pixel and index losses, with or without a discriminator."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from crossband.errors import RecipeError
from crossband.losses import Loss
from crossband.losses.adversarial import objective
from crossband.methods.base import Batch, Method, channels_last, frozen
from crossband.methods.optimisers import ScheduleName, make_optimizer
from crossband.networks import Discriminator, Generator
from crossband.signature import Signature


class PairedGAN(Method):
    """pix2pix and its relatives: a sum of losses, and adversarial_weight times a discriminator's.

    The generator runs once a step. Both gradients are taken at the weights before the step, then
    both optimisers step: so that accumulated batches give the same as one large batch. With
    adversarial_weight 0 there is no discriminator, and none of its work is done.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: the network that becomes the model.
        losses: terms, each with its weight.
        optimizer: the generator's.
        discriminator: needed where adversarial_weight is above 0.
        adversarial: `lsgan`, `bce` or `hinge`.
        adversarial_weight: factor of the adversarial term.
        discriminator_optimizer: the discriminator's; `optimizer` where None.
        max_steps: generator steps of the whole training.
        schedule: learning rate over the steps, `constant` or `cosine`.
        warmup: steps of a linear rise of the learning rate.
        ema_decay: the model is an average of the generator over about 1 / (1 - ema_decay) steps;
            0 takes the last weights instead.
        clip: largest norm of each optimiser's gradient; 0 does not clip.
        accumulate: batches whose gradients make one step.
        log_every: generator steps between two lines in the log.
        pictures: validation windows whose pictures go to TensorBoard.
    """

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        losses: list[Loss],
        # No default: jsonargparse would mix a default's arguments into another class's.
        optimizer: OptimizerCallable,
        discriminator: Discriminator | None = None,
        adversarial: Literal["lsgan", "bce", "hinge"] = "lsgan",
        adversarial_weight: float = 0.0,
        discriminator_optimizer: OptimizerCallable | None = None,
        max_steps: int = 1000,
        schedule: ScheduleName = "cosine",
        warmup: int = 0,
        ema_decay: float = 0.999,
        clip: float = 0.0,
        accumulate: int = 1,
        log_every: int = 50,
        pictures: int = 4,
    ) -> None:
        super().__init__(
            signature,
            generator,
            max_steps=max_steps,
            schedule=schedule,
            warmup=warmup,
            ema_decay=ema_decay,
            clip=clip,
            accumulate=accumulate,
            log_every=log_every,
            pictures=pictures,
        )
        if adversarial_weight < 0:
            raise RecipeError("method.adversarial_weight must not be negative")
        if adversarial_weight > 0 and discriminator is None:
            raise RecipeError(
                "method.adversarial_weight is above 0, but there is no discriminator: give "
                "method.discriminator, as in PatchGAN"
            )
        if not losses and not adversarial_weight:
            raise RecipeError("method.losses is empty and adversarial_weight is 0")
        self.losses = nn.ModuleList(losses)
        self.adversarial_weight = adversarial_weight
        self.objective = objective(adversarial)
        self.discriminator: Discriminator | None = None
        if discriminator is not None and adversarial_weight > 0:
            self.discriminator = channels_last(discriminator)
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer

    def configure_optimizers(self) -> list[Any]:
        """The generator's optimiser first, then the discriminator's."""
        optimizers = [make_optimizer(self.optimizer, self.generator)]
        if self.discriminator is not None:
            optimizers.append(make_optimizer(self.discriminator_optimizer, self.discriminator))
        return optimizers

    def backward_losses(self, batch: Batch) -> None:
        """Gradients of the generator, then of the discriminator."""
        p = self.predict_batch(self.generator, batch)
        total = p.output.new_zeros(())
        with self.fp32():
            for module in self.losses:
                assert isinstance(module, Loss)
                value = module(p).mean()
                self.record(module.label, value)
                total = total + module.weight * value
        if self.discriminator is None:
            self.record("total", total)
            self.backward_of(total)
            return
        # What is masked must not tell target from output.
        source = p.source.contiguous(memory_format=torch.channels_last)
        output, target = p.output.masked_fill(~p.mask, 0.0), p.target.masked_fill(~p.mask, 0.0)
        with frozen(self.discriminator):
            value = self.objective.generator(self.discriminator(source, output)).mean()
        self.record("adversarial", value)
        total = total + self.adversarial_weight * value
        self.record("total", total)
        self.backward_of(total)
        true = self.discriminator(source, target)
        made = self.discriminator(source, output.detach())
        value = self.objective.discriminator(true, made).mean()
        self.record("discriminator", value)
        self.backward_of(value)
