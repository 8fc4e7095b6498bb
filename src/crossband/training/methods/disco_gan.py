"""DiscoGAN: relations between two domains, learned from unpaired images."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.training.losses.adversarial import GANLossName
from crossband.training.losses.base import masked_mean
from crossband.training.methods.examples import BOTH_WAYS
from crossband.training.methods.unpaired import Outputs, UnpairedBatch, _UnpairedGAN


class DiscoGAN(_UnpairedGAN):
    """Kim et al. 2017, Learning to discover cross-domain relations, section 2.3.

    In both directions, the loss is the distance between an image and its reconstruction plus the
    non-saturating adversarial loss. The discriminators see the newest outputs. The original
    thermal code has further terms that compare an output with the target of another place; they
    carry no information and are left out.

    Args:
        signature: bands, units and ranges of the translation.
        generator: source -> target, the network that becomes the model.
        adversarial: the adversarial loss, `bce` in the paper.
        distance: distance of reconstructions, `mse` as in the paper's code, or `l1`.
        cycle: weight of that distance.
        options: back, discriminator, back_discriminator, optimizer, discriminator_optimizer,
            adversarial_weight, smoothing, penalty, penalty_reduction, replay: see `_UnpairedGAN`;
            see `Method` for the others.
    """

    fidelity = ("cycle", "cycle_back")
    examples = ({**BOTH_WAYS, "distance": "l1", "cycle": 10.0},)

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        adversarial: GANLossName = "bce",
        distance: Literal["mse", "l1"] = "mse",
        cycle: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, adversarial=adversarial, **options)
        if cycle < 0:
            raise RecipeError("DiscoGAN needs cycle of at least 0")
        self.distance, self.cycle = distance, cycle

    def generator_losses(
        self, batch: UnpairedBatch, outputs: Outputs
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the reconstruction losses in both directions."""
        losses = {}
        for name, network, x, truth, mask in (
            ("cycle", self.back, outputs["target"], batch.source, batch.source_mask),
            ("cycle_back", self.generator, outputs["source"], batch.target, batch.target_mask),
        ):
            apart = self.translate(network, x) - truth
            each = apart.square() if self.distance == "mse" else apart.abs()
            losses[name] = self.cycle, masked_mean(each, mask).mean()
        return losses
