"""CycleGAN: two generators with cycle consistency, trained on unpaired images."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.training.losses.adversarial import GANLossName
from crossband.training.losses.base import masked_mean
from crossband.training.losses.structure import SpatialCorrelative
from crossband.training.methods.examples import BOTH_WAYS, RANDOM, part
from crossband.training.methods.unpaired import Outputs, UnpairedBatch, _UnpairedGAN


class CycleGAN(_UnpairedGAN):
    """Zhu et al. 2017: cycle consistency, identity loss, and a replay buffer for discriminators.

    Source and target of a batch need not show the same place (`data.paired: false`). Each generator
    runs once on its input domain and once on the other generator's output, and once more for the
    identity loss. As in the paper, discriminators are trained on a replay buffer of outputs.

    Args:
        signature: bands, units and ranges of the translation.
        generator: source -> target, the network that becomes the model.
        adversarial: the adversarial loss.
        cycle: weight of |back(generator(source)) - source| and of the reverse direction.
        identity: weight of |generator(target) - target| and of the reverse direction; needs as many
            target bands as source bands.
        structure: a loss between each output and its input, with its own weight.
        structure_back: whether that loss also compares outputs of `back` with their targets, or
            only outputs of `generator` with their sources.
        replay: size of the replay buffer; 0 trains discriminators on the newest outputs only.
        options: back, discriminator, back_discriminator, optimizer, discriminator_optimizer,
            adversarial_weight, smoothing, penalty, penalty_reduction: see `_UnpairedGAN`; see
            `Method` for the others.
    """

    fidelity = ("cycle", "cycle_back")
    examples = (
        {**BOTH_WAYS, "structure": part("SpatialCorrelative", queries=2, patch=8, weight=0.1)},
        {
            "generator": RANDOM,
            "replay": 3,
            "structure": part("SpatialCorrelative", queries=2, patch=8),
            "structure_back": False,
        },
    )

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        adversarial: GANLossName = "lsgan",
        cycle: float = 10.0,
        identity: float = 0.0,
        structure: SpatialCorrelative | None = None,
        structure_back: bool = True,
        replay: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, adversarial=adversarial, replay=replay, **options)
        bands = len(signature.source), len(signature.target)
        if identity and bands[0] != bands[1]:
            raise RecipeError(
                f"method.identity needs as many target bands as source bands, not {bands[1]} and "
                f"{bands[0]}: set it to 0"
            )
        if min(cycle, identity) < 0:
            raise RecipeError("CycleGAN needs cycle and identity of at least 0")
        if structure is not None and structure.against != "source":
            raise RecipeError(
                "method.structure must be against source: targets are of other places"
            )
        self.cycle, self.identity = cycle, identity
        self.structure, self.structure_back = structure, structure_back

    def generator_losses(
        self, batch: UnpairedBatch, outputs: Outputs
    ) -> dict[str, tuple[float, Tensor]]:
        """Return cycle, identity and structure losses in both directions."""
        again = self.translate(self.back, outputs["target"])
        again_target = self.translate(self.generator, outputs["source"])
        terms = {
            "cycle": (
                self.cycle,
                masked_mean((again - batch.source).abs(), batch.source_mask).mean(),
            ),
            "cycle_back": (
                self.cycle,
                masked_mean((again_target - batch.target).abs(), batch.target_mask).mean(),
            ),
        }
        if self.identity:
            same, same_back = (
                self.translate(self.generator, batch.target),
                self.translate(self.back, batch.source),
            )
            for name, x, y, mask in (
                ("identity", same, batch.target, batch.target_mask),
                ("identity_back", same_back, batch.source, batch.source_mask),
            ):
                terms[name] = self.identity, masked_mean((x - y).abs(), mask).mean()
        if self.structure is not None:
            pairs = [("structure", outputs["target"], batch.source, batch.source_mask)]
            if self.structure_back:
                pairs += [("structure_back", outputs["source"], batch.target, batch.target_mask)]
            with self.fp32():
                for name, x, y, mask in pairs:
                    terms[name] = self.structure.weight, self.structure.compare(x, y, mask).mean()
        return terms
