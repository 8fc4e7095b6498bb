"""UNIT: two variational autoencoders with a shared latent space, from unpaired images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.networks.generators.unit import _LatentGenerator, share_latent_layers
from crossband.networks.layout import laid_out_for
from crossband.training.losses.adversarial import GANLossName
from crossband.training.losses.base import masked_mean
from crossband.training.methods.examples import OPTIMIZERS, part
from crossband.training.methods.unpaired import Outputs, UnpairedBatch, _UnpairedGAN


class UNIT(_UnpairedGAN):
    """Liu, Breuel and Kautz 2017, Unsupervised image-to-image translation networks, section 3.

    An encoder maps an image to a normal distribution of latent maps with variance 1; its output is
    the mean. Decoding a latent map in the same domain must reproduce the image. Decoding it in the
    other domain gives the translation, which is encoded and decoded back again. The layers next to
    the latent map are shared by both domains. The sums of eq. 4 to 6 are replaced by means of
    squares and absolute errors. A finished model decodes the mean and draws no noise.

    Args:
        signature: bands, units and ranges of the translation.
        generator: source -> target, as `UNITResNet` or `UNITViT`; it becomes the model.
        back: target -> source, of the same architecture; it uses the shared layers of `generator`.
        adversarial: the adversarial loss, `bce` in the paper.
        adversarial_weight: lambda_0 of the paper.
        divergence: weight of the divergence of latent maps from a standard normal distribution,
            lambda_1 and lambda_3 of the paper, which are equal.
        reconstruction: weight of |decoded image - image|, lambda_2.
        cycle: weight of the same distance after translating there and back, lambda_4.
        options: discriminator, back_discriminator, optimizer, discriminator_optimizer, smoothing,
            penalty, penalty_reduction, replay: see `_UnpairedGAN`; see `Method` for the others.
    """

    fidelity = ("reconstruction", "reconstruction_back")
    examples = (
        {
            **OPTIMIZERS,
            "generator": part("UNITResNet", width=8, blocks=2),
            "back": part("UNITResNet", in_channels=1, out_channels=3, width=8, blocks=2),
            "discriminator": part("UNITCritic", width=4, layers=2),
            "back_discriminator": part(
                "UNITCritic", source_channels=1, target_channels=3, width=4, layers=2
            ),
        },
    )

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        back: Generator,
        adversarial: GANLossName = "bce",
        adversarial_weight: float = 10.0,
        divergence: float = 0.1,
        reconstruction: float = 100.0,
        cycle: float = 100.0,
        **options: Any,
    ) -> None:
        share_latent_layers(generator, back)
        super().__init__(
            signature,
            generator,
            back=back,
            adversarial=adversarial,
            adversarial_weight=adversarial_weight,
            **options,
        )
        if min(divergence, reconstruction, cycle) < 0:
            raise RecipeError("UNIT needs divergence, reconstruction and cycle of at least 0")
        self.divergence, self.reconstruction, self.cycle = divergence, reconstruction, cycle

    def forward_generators(self, batch: UnpairedBatch) -> Outputs:
        """Encode both images, add noise, and decode each latent map in both domains."""
        forth, back = self._networks()
        if any(n % forth.stride or n < forth.least for n in batch.source.shape[-2:]):
            raise RecipeError(
                f"UNIT needs data.crop to be a multiple of {forth.stride}, and at least "
                f"{forth.least}"
            )
        mean, mean_back = self._encode(forth, batch.source), self._encode(back, batch.target)
        # One draw for each sample: for two latent maps now, and for two of the translations later.
        noise = self.normal(len(mean), 4, *mean.shape[1:]).to(mean.device, non_blocking=True)
        latent, latent_back = mean + noise[:, 0], mean_back + noise[:, 1]
        return {
            "target": self._decode(forth, latent).masked_fill(~batch.source_mask, 0.0),
            "source": self._decode(back, latent_back).masked_fill(~batch.target_mask, 0.0),
            "same": self._decode(back, latent),
            "same_target": self._decode(forth, latent_back),
            "mean": mean,
            "mean_back": mean_back,
            "noise": noise,
        }

    def generator_losses(
        self, batch: UnpairedBatch, outputs: Outputs
    ) -> dict[str, tuple[float, Tensor]]:
        """Return reconstruction, cycle and divergence losses in both directions."""
        forth, back = self._networks()
        again_mean, again_mean_back = (
            self._encode(back, outputs["target"]),
            self._encode(forth, outputs["source"]),
        )
        again = self._decode(back, again_mean + outputs["noise"][:, 2])
        again_target = self._decode(forth, again_mean_back + outputs["noise"][:, 3])

        def apart(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            return masked_mean((x - y).abs(), mask).mean()

        with self.fp32():
            means = (outputs["mean"], outputs["mean_back"], again_mean, again_mean_back)
            # Divergence of N(mean, 1) from N(0, 1) for each value of a latent map. That of the
            # images is in eq. 4 and in eq. 6, that of the translations only in eq. 6.
            times = (2.0, 2.0, 1.0, 1.0)
            apart_from_normal = [
                n * 0.5 * m.float().square().mean() for n, m in zip(times, means, strict=True)
            ]
        return {
            "reconstruction": (
                self.reconstruction,
                apart(outputs["same"], batch.source, batch.source_mask),
            ),
            "reconstruction_back": (
                self.reconstruction,
                apart(outputs["same_target"], batch.target, batch.target_mask),
            ),
            "cycle": (self.cycle, apart(again, batch.source, batch.source_mask)),
            "cycle_back": (self.cycle, apart(again_target, batch.target, batch.target_mask)),
            "divergence": (self.divergence, torch.stack(apart_from_normal).sum()),
        }

    def _networks(self) -> tuple[_LatentGenerator, _LatentGenerator]:
        assert isinstance(self.generator, _LatentGenerator)  # `share_latent_layers` checks it
        assert isinstance(self.back, _LatentGenerator)
        return self.generator, self.back

    def _encode(self, network: _LatentGenerator, x: Tensor) -> Tensor:
        return network.encode(laid_out_for(network, x))

    def _decode(self, network: _LatentGenerator, latent: Tensor) -> Tensor:
        return network.decode(latent).float()
