"""Base of the methods for unpaired images: two generators and two discriminators."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Discriminator, Generator
from crossband.networks.layers.batch_layers import set_reference_batch
from crossband.networks.layout import laid_out, laid_out_for
from crossband.training.losses.adversarial import (
    GANLossName,
    PenaltyReduction,
    gan_loss,
    gradient_penalty,
    mean_over_discriminators,
    mean_score,
)
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch, normalise_batch
from crossband.training.methods.modules import frozen
from crossband.training.methods.replay import ReplayBuffer


@dataclass(frozen=True)
class UnpairedBatch:
    """Normalised sources and targets, which need not show the same places.

    Attributes:
        source: [B, Cs, H, W].
        source_mask: bool [B, 1, H, W], True where the source is valid.
        target: [B, Ct, H, W].
        target_mask: bool [B, 1, H, W], True where the target is valid.
    """

    source: Tensor
    source_mask: Tensor
    target: Tensor
    target_mask: Tensor


#: Outputs of the generators by name; always with the keys `target` and `source`.
Outputs = dict[str, Tensor]


class _UnpairedGAN(Method):
    """Base of the methods that train both directions at once from unpaired images.

    A subclass returns the generators' losses besides the adversarial ones from `generator_losses`.
    Source and target of a batch need not show the same place (`data.paired: false`). Each
    discriminator works on one domain: it sees real images of that domain and generated ones.

    Args:
        signature: bands, units and ranges of the translation.
        generator: source -> target, the network that becomes the model.
        back: target -> source.
        discriminator: discriminator of targets; it must be unconditional, as `PatchGAN` with
            `conditional: false`.
        back_discriminator: discriminator of sources, also unconditional.
        optimizer: optimiser of both generators.
        discriminator_optimizer: optimiser of both discriminators; by default `optimizer`.
        adversarial: the adversarial loss; see `crossband.training.losses.adversarial.GAN_LOSSES`.
            `relativistic` compares each output with a real image of another place.
        adversarial_weight: weight of the adversarial losses.
        smoothing: label smoothing of real images, for `bce` and `lsgan`.
        penalty: weight of the gradient penalty; `wasserstein` needs it, or weight_clip.
        penalty_reduction: see `PairedGAN`.
        replay: size of the replay buffers; 0 trains discriminators on the newest outputs only.
        options: see `Method`.
    """

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        back: Generator,
        discriminator: Discriminator,
        back_discriminator: Discriminator,
        optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable | None = None,
        adversarial: GANLossName = "lsgan",
        adversarial_weight: float = 1.0,
        smoothing: float = 0.0,
        penalty: float = 0.0,
        penalty_reduction: PenaltyReduction = "mean",
        replay: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, **options)
        kind = type(self).__name__
        bands = len(signature.source), len(signature.target)
        if (back.in_channels, back.out_channels) != bands[::-1]:
            raise RecipeError(
                f"method.back takes {back.in_channels} bands and gives {back.out_channels}; the "
                f"way back is from {bands[1]} to {bands[0]}"
            )
        if generator.scale != 1 or back.scale != 1:
            raise RecipeError(f"{kind} needs generators of scale 1")
        if generator.conditioned or back.conditioned:
            raise RecipeError(f"{kind} needs generators that take nothing but their source")
        if discriminator.conditional or back_discriminator.conditional:
            raise RecipeError(
                f"{kind} needs discriminators that judge alone, as with conditional: false: source "
                "and target are of different places"
            )
        if adversarial_weight <= 0 or replay < 0 or penalty < 0:
            raise RecipeError(
                f"{kind} needs adversarial_weight above 0, and penalty and replay of at least 0"
            )
        self.back = laid_out(back)
        self.discriminator = laid_out(discriminator)
        self.back_discriminator = laid_out(back_discriminator)
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        bounded = penalty > 0 or self.weight_clip > 0
        self.gan_loss = gan_loss(adversarial, smoothing, bounded)
        self.adversarial_weight, self.penalty = adversarial_weight, penalty
        self.penalty_reduction: PenaltyReduction = penalty_reduction
        self.replays = {"target": ReplayBuffer(replay), "source": ReplayBuffer(replay)}

    def generator_losses(
        self, batch: UnpairedBatch, outputs: Outputs
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the losses of the generators: name -> (weight, value)."""
        raise NotImplementedError

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return both generators as one part and both discriminators as another."""
        critics = [self.discriminator, self.back_discriminator]
        return {
            "generator": (self.optimizer, [self.generator, self.back]),
            "discriminator": (self.discriminator_optimizer, critics),
        }

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute the gradients of the generators, then of the discriminators."""
        source, target, mask, _ = normalise_batch(self.signature, batch)
        if source.shape[-2:] != target.shape[-2:]:
            name = type(self).__name__
            raise RecipeError(f"{name} needs data.context 0: both ways are of one size")
        known = batch.get("source_mask")
        if known is None:
            known = torch.ones_like(source[:, :1], dtype=torch.bool)
        data = UnpairedBatch(source, known, target, mask)
        with torch.set_grad_enabled(generator):
            outputs = self.forward_generators(data)
        if generator:
            self._backward_generators(data, outputs)
        self._backward_discriminators(data, outputs["target"].detach(), outputs["source"].detach())

    def forward_generators(self, batch: UnpairedBatch) -> Outputs:
        """Run each generator on its input domain.

        Masked pixels are 0 in outputs as in real images, or the discriminators learn the masks.
        """
        target = self.translate(self.generator, batch.source)
        source = self.translate(self.back, batch.target)
        return {
            "target": target.masked_fill(~batch.source_mask, 0.0),
            "source": source.masked_fill(~batch.target_mask, 0.0),
        }

    def translate(self, network: Generator, x: Tensor) -> Tensor:
        """Run a generator on normalised values; returns fp32."""
        with record_function("crossband/generator"):
            y: Tensor = network(laid_out_for(network, x)).float()
        return y

    def _backward_generators(self, batch: UnpairedBatch, outputs: Outputs) -> None:
        terms = self.generator_losses(batch, outputs)
        critics = (self.discriminator, self.back_discriminator)
        with frozen(*critics), record_function("crossband/discriminator"):
            scores = self.discriminator.features(batch.source, outputs["target"])
            scores_back = self.back_discriminator.features(batch.target, outputs["source"])
            # Only if the loss needs them: each forward pass updates, say, spectral norm's vectors.
            true, true_back = scores, scores_back
            if self.gan_loss.needs_target_scores:
                with torch.no_grad():
                    true = self.discriminator.features(batch.source, batch.target)
                    true_back = self.back_discriminator.features(batch.target, batch.source)
        with self.fp32(), record_function("crossband/losses"):
            for name, t, s in (
                ("adversarial", true, scores),
                ("adversarial_back", true_back, scores_back),
            ):
                value = mean_over_discriminators(self.gan_loss.generator, t, s).mean()
                terms[name] = self.adversarial_weight, value
            total = torch.stack([factor * value for factor, value in terms.values()]).sum()
        for name, (_, value) in terms.items():
            self.record_loss(name, value)
        self.record_loss("total", total)
        if self.is_log_step:
            self.record_spread(outputs["target"], batch.target)
        self.accumulate_gradients(total, self.generator, self.back)

    def _backward_discriminators(
        self, batch: UnpairedBatch, fake_target: Tensor, fake_source: Tensor
    ) -> None:
        source, target = batch.source, batch.target
        draws = self.uniform(len(source), 3, 2)
        fake_target = self.replays["target"].exchange(fake_target, draws[:, 0])
        fake_source = self.replays["source"].exchange(fake_source, draws[:, 1])
        total = source.new_zeros(())
        domains = (
            ("", self.discriminator, source, target, fake_target, draws[:, 2, 0]),
            ("_back", self.back_discriminator, target, source, fake_source, draws[:, 2, 1]),
        )
        for name, critic, other, real, fake, share in domains:
            set_reference_batch(critic, other, real)
            with record_function("crossband/discriminator"):
                scores, scores_fake = critic.features(other, real), critic.features(other, fake)
            side = self.gan_loss.discriminator
            value = mean_over_discriminators(side, scores, scores_fake).mean()
            self.record_loss(f"discriminator{name}", value)
            total = total + value
            if self.is_log_step and not name:
                self.record_value("score/target", mean_score(scores))
                self.record_value("score/output", mean_score(scores_fake))
            if self.penalty:
                slope = self._gradient_penalty(critic, other, real, fake, share)
                self.record_loss(f"penalty{name}", slope)
                total = total + self.penalty * slope
        self.accumulate_gradients(total, self.discriminator, self.back_discriminator)

    def _gradient_penalty(
        self, critic: Discriminator, other: Tensor, real: Tensor, fake: Tensor, share: Tensor
    ) -> Tensor:
        mix = share[:, None, None, None].to(real.device, non_blocking=True)
        with record_function("crossband/penalty"):
            mixed = torch.lerp(fake, real, mix)
            score = functools.partial(critic, other)
            return gradient_penalty(score, mixed, self.penalty_reduction).mean()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also store the replay buffers."""
        super().on_save_checkpoint(checkpoint)
        replays = {name: replay.state_dict() for name, replay in self.replays.items()}
        checkpoint["crossband"]["replays"] = replays

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the replay buffers."""
        super().on_load_checkpoint(checkpoint)
        for name, replay in self.replays.items():
            replay.load_state_dict(checkpoint["crossband"]["replays"][name], self.device)
