"""What methods without pairs share: two generators, one each way, and a discriminator for each."""

from __future__ import annotations

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
from crossband.training.losses.adversarial import (
    GANLossName,
    gan_loss,
    gradient_penalty,
    mean_over_discriminators,
    mean_score,
)
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch, normalise_batch
from crossband.training.methods.modules import channels_last, frozen
from crossband.training.methods.replay import ReplayBuffer


@dataclass(frozen=True)
class UnpairedBatch:
    """A batch of sources and one of targets, which need not be of the same places; normalised.

    Attributes:
        source: [B, Cs, H, W].
        known: bool [B, 1, H, W], where the source is valid.
        target: [B, Ct, H, W].
        mask: bool [B, 1, H, W], where the target is valid.
    """

    source: Tensor
    known: Tensor
    target: Tensor
    mask: Tensor


#: Outputs of both generators by name; `target` and `source` are always there.
Outputs = dict[str, Tensor]


class _UnpairedGAN(Method):
    """Base of the methods that train both directions at once from unpaired images.

    A subclass returns the generators' losses besides the adversarial ones from `generator_losses`.
    Source and target of a batch need not show the same place (`data.paired: false`). Each
    discriminator works on one domain: it sees real images of that domain and generated ones.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: source -> target, the network that becomes the model.
        back: target -> source.
        discriminator: of targets; it judges without the source, as `PatchGAN` with
            `conditional: false`, and one that does not is refused.
        back_discriminator: of sources, likewise.
        optimizer: of both generators.
        discriminator_optimizer: of both discriminators; `optimizer` where None.
        adversarial: which game is played; see `crossband.training.losses.adversarial.GAN_LOSSES`.
            `relativistic` compares each output with a true picture of its domain, of another place.
        adversarial_weight: factor of the adversarial terms.
        smoothing: of the label of true pictures, for `bce` and `lsgan`.
        penalty: factor of the gradient penalty; `wasserstein` needs it, or weight_clip.
        replay: outputs kept to be shown to the discriminators again; 0 shows the newest only.
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
        self.back = channels_last(back)
        self.discriminator = channels_last(discriminator)
        self.back_discriminator = channels_last(back_discriminator)
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        bounded = penalty > 0 or self.weight_clip > 0
        self.gan_loss = gan_loss(adversarial, smoothing, bounded)
        self.adversarial_weight, self.penalty = adversarial_weight, penalty
        self.replays = {"target": ReplayBuffer(replay), "source": ReplayBuffer(replay)}

    def generator_losses(self, d: UnpairedBatch, made: Outputs) -> dict[str, tuple[float, Tensor]]:
        """Return what the generators minimise: name -> factor, value."""
        raise NotImplementedError

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Both generators together, both discriminators together."""
        critics = [self.discriminator, self.back_discriminator]
        return {
            "generator": (self.optimizer, [self.generator, self.back]),
            "discriminator": (self.discriminator_optimizer, critics),
        }

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Gradients of the generators, then of the discriminators."""
        source, target, mask, _ = normalise_batch(self.signature, batch)
        if source.shape[-2:] != target.shape[-2:]:
            name = type(self).__name__
            raise RecipeError(f"{name} needs data.context 0: both ways are of one size")
        known = batch.get("source_mask")
        if known is None:
            known = torch.ones_like(source[:, :1], dtype=torch.bool)
        d = UnpairedBatch(source, known, target, mask)
        with torch.set_grad_enabled(generator):
            made = self.outputs(d)
        if generator:
            self._backward_generators(d, made)
        self._backward_discriminators(d, made["target"].detach(), made["source"].detach())

    def outputs(self, d: UnpairedBatch) -> Outputs:
        """Run each generator on the other domain.

        What is masked must not tell an output from the real thing, and is 0 in both.
        """
        return {
            "target": self.translate(self.generator, d.source).masked_fill(~d.known, 0.0),
            "source": self.translate(self.back, d.target).masked_fill(~d.mask, 0.0),
        }

    def translate(self, network: Generator, x: Tensor) -> Tensor:
        """Run a generator on normalised values; fp32 comes out."""
        with record_function("crossband/generator"):
            y: Tensor = network(x.contiguous(memory_format=torch.channels_last)).float()
        return y

    def _backward_generators(self, d: UnpairedBatch, made: Outputs) -> None:
        terms = self.generator_losses(d, made)
        critics = (self.discriminator, self.back_discriminator)
        with frozen(*critics), record_function("crossband/discriminator"):
            scores = self.discriminator.features(d.source, made["target"])
            scores_back = self.back_discriminator.features(d.target, made["source"])
            # Only where they count: each look moves what a spectral norm, say, keeps of it.
            true, true_back = scores, scores_back
            if self.gan_loss.needs_target_scores:
                with torch.no_grad():
                    true = self.discriminator.features(d.source, d.target)
                    true_back = self.back_discriminator.features(d.target, d.source)
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
            self.record_spread(made["target"], d.target)
        self.accumulate_gradients(total, self.generator, self.back)

    def _backward_discriminators(self, d: UnpairedBatch, made: Tensor, made_back: Tensor) -> None:
        draws = self.uniform(len(d.source), 3, 2)
        made = self.replays["target"].exchange(made, draws[:, 0])
        made_back = self.replays["source"].exchange(made_back, draws[:, 1])
        total = made.new_zeros(())
        # Each judges pictures of its own domain.
        sides = (
            ("", self.discriminator, d.source, d.target, made, draws[:, 2, 0]),
            ("_back", self.back_discriminator, d.target, d.source, made_back, draws[:, 2, 1]),
        )
        for name, critic, given, true, false, share in sides:
            set_reference_batch(critic, given, true)
            with record_function("crossband/discriminator"):
                scores, scores_made = critic.features(given, true), critic.features(given, false)
            side = self.gan_loss.discriminator
            value = mean_over_discriminators(side, scores, scores_made).mean()
            self.record_loss(f"discriminator{name}", value)
            total = total + value
            if self.is_log_step and not name:
                self.record_value("score/target", mean_score(scores))
                self.record_value("score/output", mean_score(scores_made))
            if self.penalty:
                total = total + self.penalty * self._gradient_penalty(
                    critic, given, true, false, share, name
                )
        self.accumulate_gradients(total, self.discriminator, self.back_discriminator)

    def _gradient_penalty(
        self,
        critic: Discriminator,
        given: Tensor,
        true: Tensor,
        false: Tensor,
        share: Tensor,
        name: str,
    ) -> Tensor:
        mix = share[:, None, None, None].to(true.device, non_blocking=True)
        with self.fp32(), record_function("crossband/penalty"):
            mixed = torch.lerp(false, true, mix)
            slope = gradient_penalty(lambda x: critic(given, x), mixed).mean()
        self.record_loss(f"penalty{name}", slope)
        return slope

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the replayed outputs too."""
        super().on_save_checkpoint(checkpoint)
        replays = {name: replay.state_dict() for name, replay in self.replays.items()}
        checkpoint["crossband"]["replays"] = replays

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the replayed outputs."""
        super().on_load_checkpoint(checkpoint)
        for name, replay in self.replays.items():
            replay.load_state_dict(checkpoint["crossband"]["replays"][name], self.device)
