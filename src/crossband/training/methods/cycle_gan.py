"""CycleGAN: two generators, each of which must undo the other."""

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
    """Zhu et al. 2017: cycle consistency, identity loss, discriminators shown older outputs.

    Source and target of a batch need not be of the same place (`data.paired: false`). Each
    generator runs once on the other domain and once on the other's output; with the identity loss
    once more. As in the paper the discriminators see a replay of outputs; each step's first.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: source -> target, the network that becomes the model.
        adversarial: which game is played.
        cycle: factor of |back(generator(source)) - source| and of the other way round.
        identity: factor of |generator(target) - target| and of the other way round; needs as many
            target bands as source bands.
        structure: compares each output with what it was made of; its own weight is its factor.
        replay: outputs kept to be shown to the discriminators again; 0 shows the newest only.
        options: back, discriminator, back_discriminator, optimizer, discriminator_optimizer,
            adversarial_weight, smoothing, penalty: see `_UnpairedGAN`; see `Method` for the others.
    """

    fidelity = ("cycle", "cycle_back")
    examples = (
        {**BOTH_WAYS, "structure": part("SpatialCorrelative", queries=2, patch=8, weight=0.1)},
        {"generator": RANDOM, "replay": 3},
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
        self.cycle, self.identity, self.structure = cycle, identity, structure

    def generator_losses(self, d: UnpairedBatch, made: Outputs) -> dict[str, tuple[float, Tensor]]:
        """Cycles both ways, and what else has a factor."""
        again = self.translate(self.back, made["target"])
        again_target = self.translate(self.generator, made["source"])
        terms = {
            "cycle": (self.cycle, masked_mean((again - d.source).abs(), d.known).mean()),
            "cycle_back": (self.cycle, masked_mean((again_target - d.target).abs(), d.mask).mean()),
        }
        if self.identity:
            same, same_back = (
                self.translate(self.generator, d.target),
                self.translate(self.back, d.source),
            )
            for name, x, y, mask in (
                ("identity", same, d.target, d.mask),
                ("identity_back", same_back, d.source, d.known),
            ):
                terms[name] = self.identity, masked_mean((x - y).abs(), mask).mean()
        if self.structure is not None:
            with self.fp32():
                for name, x, y, mask in (
                    ("structure", made["target"], d.source, d.known),
                    ("structure_back", made["source"], d.target, d.mask),
                ):
                    terms[name] = self.structure.weight, self.structure.compare(x, y, mask).mean()
        return terms
