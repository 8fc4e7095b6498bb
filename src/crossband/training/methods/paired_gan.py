"""PairedGAN: supervised training on pairs, with or without a discriminator."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Discriminator, Generator
from crossband.networks.layers.batch_layers import set_reference_batch
from crossband.networks.layout import laid_out
from crossband.training.losses import Loss
from crossband.training.losses.adversarial import (
    GANLossName,
    PenaltyReduction,
    feature_matching,
    gan_loss,
    gradient_penalty,
    mean_over_discriminators,
    mean_score,
)
from crossband.training.losses.base import Prediction
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch
from crossband.training.methods.examples import OPTIMIZERS, RANDOM, RESNET, critic, part


class PairedGAN(Method):
    """pix2pix and its relatives: a weighted sum of losses plus an adversarial loss.

    In each step the generator and the discriminator run once on the batch; the same discriminator
    scores give both gradients. Both gradients are taken at the weights before the step, then both
    optimisers step, so that accumulated batches give the same result as one large batch. With
    adversarial_weight 0 the discriminator is neither kept nor run.

    Args:
        signature: bands, units and ranges of the translation.
        generator: the network that becomes the model.
        losses: the losses, each with its weight.
        optimizer: optimiser of the generator.
        discriminator: needed where adversarial_weight is above 0.
        adversarial: the adversarial loss; see `crossband.training.losses.adversarial.GAN_LOSSES`.
        adversarial_weight: weight of the adversarial loss.
        penalty: weight of the gradient penalty (Gulrajani et al. 2017); `wasserstein` needs it, or
            weight_clip.
        penalty_reduction: whether the penalty is on the gradient of the mean of the patches' scores
            or of their sum, as in published code; see `gradient_penalty`. With N scores, `sum`
            makes the adversarial loss about N times weaker beside the other losses.
        smoothing: label smoothing of targets, for `bce` and `lsgan`; usually 0.1 (Salimans et al.
            2016).
        mismatched: also train the discriminator on mismatched pairs, a source with the target of
            another sample, as fake pairs (Reed et al. 2016, Generative adversarial text to image
            synthesis, algorithm 1). Needs a conditional discriminator and at least two samples in a
            batch.
        feature_matching: weight of the feature matching loss (Wang et al. 2018); needs a
            discriminator that returns its features, as `MultiScalePatchGAN`.
        discriminator_optimizer: optimiser of the discriminator; by default `optimizer`.
        options: see `Method`.
    """

    examples = (
        {
            **OPTIMIZERS,
            "generator": RESNET,
            "losses": [part("L1", weight=100.0)],
            "discriminator": critic(3, 1),
            "adversarial_weight": 1.0,
        },
        {
            "generator": RANDOM,
            "losses": [part("L1"), part("IndexLoss", weight=0.3)],
            "schedule": part("Plateau", patience=1),
        },
        {
            "adversarial": "wasserstein",
            "penalty": 1.0,
            "penalty_reduction": "sum",
            "critic_steps": 2,
        },
        {
            "feature_matching": 2.0,
            "discriminator": part("MultiScalePatchGAN", width=4, layers=1, norm="none"),
        },
        {
            "generator": part("ProgressiveUNet", width=2, levels=2, grown=10),
            "discriminator": part("ProgressiveCritic", width=2, levels=2, grown=10),
            "adversarial": "wasserstein",
            "penalty": 1.0,
        },
        {
            "generator": part("ResNet", width=4, blocks=1, attention=True, spectral=True),
            "discriminator": part(
                "PatchCritic",
                width=4,
                strided=2,
                norm="virtual",
                spectral=True,
                minibatch="discrimination",
                attention=1,
            ),
            "adversarial": "bce",
            "smoothing": 0.1,
            "mismatched": True,
            "orthogonal": 1e-3,
        },
        {
            "generator": part("StyleResNet", width=2, blocks=1, style=3, codes=4, depth=1),
            "discriminator": part("PatchCritic", width=4, strided=2, norm="none", minibatch="std"),
            "adversarial": "relativistic",
        },
    )

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        losses: list[Loss],
        # No default: jsonargparse would mix the default's arguments with those of another class.
        optimizer: OptimizerCallable,
        discriminator: Discriminator | None = None,
        adversarial: GANLossName = "lsgan",
        adversarial_weight: float = 0.0,
        penalty: float = 0.0,
        penalty_reduction: PenaltyReduction = "mean",
        smoothing: float = 0.0,
        mismatched: bool = False,
        feature_matching: float = 0.0,
        discriminator_optimizer: OptimizerCallable | None = None,
        ema_decay: float = 0.999,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, ema_decay=ema_decay, **options)
        if min(adversarial_weight, penalty, feature_matching) < 0:
            raise RecipeError(
                "method.adversarial_weight, penalty and feature_matching must not be negative"
            )
        if adversarial_weight > 0 and discriminator is None:
            raise RecipeError(
                "method.adversarial_weight is above 0, but there is no discriminator: give "
                "method.discriminator, as in PatchGAN"
            )
        for loss in losses:
            if not (math.isfinite(loss.weight) and loss.weight >= 0):
                raise RecipeError(f"{loss.label}: weight must be 0 or more, not {loss.weight}")
        if not losses and not adversarial_weight:
            raise RecipeError("method.losses is empty and adversarial_weight is 0")
        if mismatched and discriminator is not None and not discriminator.conditional:
            raise RecipeError("method.mismatched needs a discriminator that sees the source")
        if feature_matching > 0 and adversarial_weight == 0:
            raise RecipeError("method.feature_matching is above 0, but adversarial_weight is 0")
        shown = Discriminator.features if discriminator is None else type(discriminator).features
        if feature_matching > 0 and shown is Discriminator.features:
            raise RecipeError(
                f"method.feature_matching is above 0, but {type(discriminator).__name__} does not "
                "show its layers: take PatchGAN or MultiScalePatchGAN"
            )
        if self.critic_steps > 1 and adversarial_weight == 0:
            raise RecipeError("method.critic_steps is above 1, but adversarial_weight is 0")
        self.losses = nn.ModuleList(losses)
        self.adversarial_weight, self.penalty = adversarial_weight, penalty
        self.penalty_reduction: PenaltyReduction = penalty_reduction
        self.feature_matching = feature_matching
        bounded = penalty > 0 or self.weight_clip > 0 or adversarial_weight == 0
        self.gan_loss, self.mismatched = gan_loss(adversarial, smoothing, bounded), mismatched
        self.discriminator: Discriminator | None = None
        if discriminator is not None and adversarial_weight > 0:
            self.discriminator = laid_out(discriminator)
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return the generator, and the discriminator if there is one."""
        parts: dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]] = {
            "generator": (self.optimizer, [self.generator])
        }
        if self.discriminator is not None:
            parts["discriminator"] = (self.discriminator_optimizer, [self.discriminator])
        return parts

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute the gradients of the generator, then of the discriminator."""
        with torch.set_grad_enabled(generator):
            p = self.predict_batch(self.generator, batch)
        total = p.output.new_zeros(())
        if generator:
            with self.fp32(), record_function("crossband/losses"):
                for module in self.losses:
                    assert isinstance(module, Loss)
                    value = module(p).mean()
                    self.record_loss(module.label, value)
                    total = total + module.weight * value
            if self.is_log_step:
                self.record_spread(p.output, p.target)
        if self.discriminator is not None:
            self._backward_adversarial(self.discriminator, p, total, generator)
        elif generator:
            self.record_loss("total", total)
            self.accumulate_gradients(total, self.generator)

    def _backward_adversarial(
        self, critic: Discriminator, p: Prediction, total: Tensor, generator: bool
    ) -> None:
        """Score target and output once each, and compute the gradients of both networks."""
        # Zero masked pixels in both, or the discriminator learns the mask.
        output, target = p.output.masked_fill(~p.mask, 0.0), p.target.masked_fill(~p.mask, 0.0)
        set_reference_batch(critic, p.source, target)
        with record_function("crossband/discriminator"):
            of_output = critic.features(p.source, output)
            of_target = critic.features(p.source, target)
        if generator:
            # The scores of the target have gradients for the discriminator only.
            fixed = [[layer.detach() for layer in features] for features in of_target]
            value = mean_over_discriminators(self.gan_loss.generator, fixed, of_output).mean()
            self.record_loss("adversarial", value)
            total = total + self.adversarial_weight * value
            if self.feature_matching:
                value = feature_matching(fixed, of_output).mean()
                self.record_loss("feature_matching", value)
                total = total + self.feature_matching * value
            self.record_loss("total", total)
            self.accumulate_gradients(total, self.generator, keep=True)
        value = mean_over_discriminators(self.gan_loss.discriminator, of_target, of_output).mean()
        if self.mismatched:
            value = 0.5 * (value + self._mismatched(critic, p, of_target))
        self.record_loss("discriminator", value)
        if self.is_log_step:
            self.record_value("score/target", mean_score(of_target))
            self.record_value("score/output", mean_score(of_output))
        if self.penalty:
            mix = self.uniform(len(target), 1, 1, 1).to(target.device, non_blocking=True)
            with record_function("crossband/penalty"):
                mixed = torch.lerp(output.detach(), target, mix)
                score = functools.partial(critic, p.source)
                slope = gradient_penalty(score, mixed, self.penalty_reduction).mean()
            self.record_loss("penalty", slope)
            value = value + self.penalty * slope
        self.accumulate_gradients(value, critic)

    def _mismatched(
        self, critic: Discriminator, p: Prediction, of_target: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """Return the discriminator's loss for each source paired with the next sample's target."""
        if len(p.target) < 2:
            raise RecipeError("method.mismatched needs data.batch of at least 2")
        # Zero the masked pixels of both, or the discriminator detects mismatches by the mask.
        known = p.mask & p.mask.roll(1, 0)
        with record_function("crossband/discriminator"):
            wrong = critic.features(p.source, p.target.roll(1, 0).masked_fill(~known, 0.0))
        self.record_value("score/mismatched", mean_score(wrong))
        return mean_over_discriminators(self.gan_loss.discriminator, of_target, wrong).mean()
