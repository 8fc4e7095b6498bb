"""Training without pairs: two generators, each of which must undo the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.errors import RecipeError
from crossband.losses.adversarial import objective
from crossband.losses.base import masked_mean
from crossband.methods.base import Method
from crossband.methods.batches import Batch, normalised
from crossband.methods.modules import channels_last, frozen
from crossband.methods.replay import Replay
from crossband.networks import Discriminator, Generator
from crossband.signature import Signature


class CycleGAN(Method):
    """Zhu et al. 2017: cycle consistency, identity loss, discriminators shown older outputs.

    Source and target of a batch need not be of the same place (`data.paired: false`). Each
    generator runs once on the other domain and once on the other's output; with the identity loss
    once more. As in the paper the discriminators see a replay of outputs; each step's first.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: source -> target, the network that becomes the model.
        back: target -> source.
        discriminator: of targets; it judges without the source, as `PatchGAN` with
            `conditional: false`.
        back_discriminator: of sources, likewise.
        optimizer: of both generators.
        discriminator_optimizer: of both discriminators; `optimizer` where None.
        adversarial: which game is played.
        adversarial_weight: factor of the adversarial terms.
        cycle: factor of |back(generator(source)) - source| and of the other way round.
        identity: factor of |generator(target) - target| and of the other way round; needs as many
            target bands as source bands.
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
        adversarial: Literal["lsgan", "bce", "hinge"] = "lsgan",
        adversarial_weight: float = 1.0,
        cycle: float = 10.0,
        identity: float = 0.0,
        replay: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, **options)
        bands = len(signature.source), len(signature.target)
        if (back.in_channels, back.out_channels) != bands[::-1]:
            raise RecipeError(
                f"method.back takes {back.in_channels} bands and gives {back.out_channels}; the "
                f"way back is from {bands[1]} to {bands[0]}"
            )
        if generator.scale != 1 or back.scale != 1:
            raise RecipeError("CycleGAN needs generators of scale 1")
        if identity and bands[0] != bands[1]:
            raise RecipeError(
                f"method.identity needs as many target bands as source bands, not {bands[1]} and "
                f"{bands[0]}: set it to 0"
            )
        weights = (adversarial_weight, cycle, identity, replay)
        if min(weights) < 0 or adversarial_weight == 0:
            raise RecipeError(
                "CycleGAN needs adversarial_weight above 0, and cycle, identity and replay of at "
                "least 0"
            )
        self.back = channels_last(back)
        self.discriminator = channels_last(discriminator)
        self.back_discriminator = channels_last(back_discriminator)
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        self.objective = objective(adversarial)
        self.adversarial_weight, self.cycle, self.identity = adversarial_weight, cycle, identity
        self.replays = {"target": Replay(replay), "source": Replay(replay)}

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Both generators together, both discriminators together."""
        critics = [self.discriminator, self.back_discriminator]
        return {
            "generator": (self.optimizer, [self.generator, self.back]),
            "discriminator": (self.discriminator_optimizer, critics),
        }

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Gradients of the generators, then of the discriminators."""
        source, target, mask, _ = normalised(self.signature, batch)
        if source.shape[-2:] != target.shape[-2:]:
            raise RecipeError("CycleGAN needs data.context 0: both ways are of one size")
        known = batch.get("source_mask")
        if known is None:
            known = torch.ones_like(source[:, :1], dtype=torch.bool)
        with torch.set_grad_enabled(generator):
            # What is masked must not tell an output from the real thing.
            made = self._run(self.generator, source).masked_fill(~known, 0.0)
            made_back = self._run(self.back, target).masked_fill(~mask, 0.0)
        if generator:
            self._generators(source, known, target, mask, made, made_back)
        self._discriminators(source, target, made.detach(), made_back.detach())

    def _run(self, network: Generator, x: Tensor) -> Tensor:
        with record_function("crossband/generator"):
            y: Tensor = network(x.contiguous(memory_format=torch.channels_last)).float()
        return y

    def _generators(
        self,
        source: Tensor,
        known: Tensor,
        target: Tensor,
        mask: Tensor,
        made: Tensor,
        made_back: Tensor,
    ) -> None:
        again, again_target = self._run(self.back, made), self._run(self.generator, made_back)
        critics = (self.discriminator, self.back_discriminator)
        with frozen(*critics), record_function("crossband/discriminator"):
            scores = self.discriminator(source, made)
            scores_back = self.back_discriminator(target, made_back)
        with self.fp32(), record_function("crossband/losses"):
            terms = {
                "adversarial": self.objective.generator(scores, scores).mean(),
                "adversarial_back": self.objective.generator(scores_back, scores_back).mean(),
                "cycle": masked_mean((again - source).abs(), known).mean(),
                "cycle_back": masked_mean((again_target - target).abs(), mask).mean(),
            }
            total = self.adversarial_weight * (terms["adversarial"] + terms["adversarial_back"])
            total = total + self.cycle * (terms["cycle"] + terms["cycle_back"])
        if self.identity:
            same, same_back = self._run(self.generator, target), self._run(self.back, source)
            with self.fp32():
                terms["identity"] = masked_mean((same - target).abs(), mask).mean()
                terms["identity_back"] = masked_mean((same_back - source).abs(), known).mean()
                total = total + self.identity * (terms["identity"] + terms["identity_back"])
        for name, value in terms.items():
            self.record(name, value)
        self.record("total", total)
        if self.looks:
            self.note_spread(made, target)
        self.backward_of(total, self.generator, self.back)

    def _discriminators(
        self, source: Tensor, target: Tensor, made: Tensor, made_back: Tensor
    ) -> None:
        draws = self.uniform(len(source), 2, 2)
        made = self.replays["target"].exchange(made, draws[:, 0])
        made_back = self.replays["source"].exchange(made_back, draws[:, 1])
        with record_function("crossband/discriminator"):
            true, false = self.discriminator(source, target), self.discriminator(source, made)
            true_back = self.back_discriminator(target, source)
            false_back = self.back_discriminator(target, made_back)
        value = self.objective.discriminator(true, false).mean()
        value_back = self.objective.discriminator(true_back, false_back).mean()
        self.record("discriminator", value)
        self.record("discriminator_back", value_back)
        if self.looks:
            self.note("score/target", true.float().mean())
            self.note("score/output", false.float().mean())
        self.backward_of(value + value_back, self.discriminator, self.back_discriminator)

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
