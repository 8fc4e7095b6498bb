"""DualGAN: dual learning with Wasserstein critics, from unpaired images."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.training.losses.adversarial import GANLossName
from crossband.training.losses.base import masked_mean
from crossband.training.methods.examples import BOTH_WAYS
from crossband.training.methods.unpaired import Outputs, UnpairedBatch, _UnpairedGAN


class DualGAN(_UnpairedGAN):
    """Yi et al. 2017, DualGAN: unsupervised dual learning, section 3.

    One Wasserstein critic for each domain, with weights clipped as in the paper (`weight_clip` 0.01
    to 0.1) or with a gradient penalty; 2 to 4 `critic_steps` for each generator step; RMSProp; L1
    between an image and its reconstruction. The noise of the paper is dropout in the generators;
    here it is active in training only.

    Args:
        signature: bands, units and ranges of the translation.
        generator: source -> target, the network that becomes the model.
        adversarial: the adversarial loss, `wasserstein` in the paper.
        cycle: weight of the reconstruction of the source, lambda_U of the paper: 100 to 1000 there,
            where values are -1..1.
        cycle_back: weight of the reconstruction of the target, lambda_V.
        weight_clip: largest absolute weight of the critics, for any adversarial loss; 0 does not
            clip, then `wasserstein` needs `penalty`.
        penalty: weight of the gradient penalty.
        options: back, discriminator, back_discriminator, optimizer, discriminator_optimizer,
            adversarial_weight, smoothing, penalty_reduction, replay: see `_UnpairedGAN`; see
            `Method` for the others.
    """

    fidelity = ("cycle", "cycle_back")
    examples = (BOTH_WAYS, {"critic_steps": 2})

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        adversarial: GANLossName = "wasserstein",
        cycle: float = 500.0,
        cycle_back: float = 500.0,
        weight_clip: float = 0.01,
        penalty: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(
            signature,
            generator,
            adversarial=adversarial,
            weight_clip=weight_clip,
            penalty=penalty,
            **options,
        )
        if min(cycle, cycle_back) < 0:
            raise RecipeError("DualGAN needs cycle and cycle_back of at least 0")
        self.cycle, self.cycle_back = cycle, cycle_back

    def generator_losses(
        self, batch: UnpairedBatch, outputs: Outputs
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the reconstruction losses in both directions."""
        again, again_target = (
            self.translate(self.back, outputs["target"]),
            self.translate(self.generator, outputs["source"]),
        )
        return {
            "cycle": (
                self.cycle,
                masked_mean((again - batch.source).abs(), batch.source_mask).mean(),
            ),
            "cycle_back": (
                self.cycle_back,
                masked_mean((again_target - batch.target).abs(), batch.target_mask).mean(),
            ),
        }
