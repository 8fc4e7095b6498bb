"""DualGAN: dual learning with Wasserstein critics, from pictures without pairs."""

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

    Wasserstein critics, each of pictures of its own domain, with weights that are clipped as in the
    paper (`weight_clip` 0.01 to 0.1) or with a gradient penalty as in the seed; `critic_steps` 2 to
    4 of them for each step of the generators, RMSProp. L1 between a picture and its reconstruction.
    The paper's noise is dropout in the generators; here it is drawn while training only.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: source -> target, the network that becomes the model.
        adversarial: which game is played, `wasserstein` in the paper.
        cycle: factor of reconstructions of the source, lambda_U of the paper: 100 to 1000 there,
            where values are -1..1.
        cycle_back: of the target, lambda_V.
        weight_clip: largest weight of the critics, whatever the game; 0 has no bound, which
            `wasserstein` takes with `penalty` only.
        penalty: factor of the gradient penalty.
        options: back, discriminator, back_discriminator, optimizer, discriminator_optimizer,
            adversarial_weight, smoothing, replay: see `_UnpairedGAN`; see `Method` for the others.
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

    def generator_losses(self, d: UnpairedBatch, made: Outputs) -> dict[str, tuple[float, Tensor]]:
        """Reconstructions both ways."""
        again, again_target = (
            self.translate(self.back, made["target"]),
            self.translate(self.generator, made["source"]),
        )
        return {
            "cycle": (self.cycle, masked_mean((again - d.source).abs(), d.known).mean()),
            "cycle_back": (
                self.cycle_back,
                masked_mean((again_target - d.target).abs(), d.mask).mean(),
            ),
        }
