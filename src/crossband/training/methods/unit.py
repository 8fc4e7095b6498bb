"""UNIT: two variational autoencoders with one latent space, from pictures without pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.networks.generators.unit import _LatentGenerator, share_latent_layers
from crossband.training.losses.adversarial import GANLossName
from crossband.training.losses.base import masked_mean
from crossband.training.methods.examples import OPTIMIZERS, part
from crossband.training.methods.unpaired import Outputs, UnpairedBatch, _UnpairedGAN


class UNIT(_UnpairedGAN):
    """Liu, Breuel and Kautz 2017, Unsupervised image-to-image translation networks, section 3.

    A picture of either domain is encoded as a normal distribution of latent pictures, with the
    encoder's answer as its mean and a variance of 1. Decoded to its own domain it must come back;
    decoded to the other one it is the translation, which is encoded and decoded back once more.
    The layers next to the latent picture are shared, which ties the two domains together. Means of
    squares and of absolute errors stand for the sums of eq. 4 to 6. A finished model takes the
    mean of the latent picture and draws nothing.

    Args:
        signature: bands, units, ranges of what is learned.
        generator: source -> target, as `UNITResNet` or `UNITViT`; it becomes the model.
        back: target -> source, of the same form; what is shared it takes from `generator`.
        adversarial: which game is played, `bce` in the paper.
        adversarial_weight: lambda_0 of the paper.
        divergence: factor of the divergence of latent pictures from a standard normal distribution,
            lambda_1 and lambda_3, which are equal: that of a picture's own counts for both.
        reconstruction: factor of |decoded - encoded picture|, lambda_2.
        cycle: factor of the same after a translation and back, lambda_4.
        options: discriminator, back_discriminator, optimizer, discriminator_optimizer, smoothing,
            penalty, replay: see `_UnpairedGAN`; see `Method` for the others.
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

    def outputs(self, d: UnpairedBatch) -> Outputs:
        """Encode both, add noise, decode each to both domains."""
        forth, back = self._networks()
        if any(n % forth.stride or n < forth.least for n in d.source.shape[-2:]):
            raise RecipeError(
                f"UNIT needs data.crop to be a multiple of {forth.stride}, and at least "
                f"{forth.least}"
            )
        mean, mean_back = self._encode(forth, d.source), self._encode(back, d.target)
        # Of one draw for each sample: two latent pictures now, two of the translations later.
        noise = self.normal(len(mean), 4, *mean.shape[1:]).to(mean.device, non_blocking=True)
        latent, latent_back = mean + noise[:, 0], mean_back + noise[:, 1]
        return {
            "target": self._decode(forth, latent).masked_fill(~d.known, 0.0),
            "source": self._decode(back, latent_back).masked_fill(~d.mask, 0.0),
            "same": self._decode(back, latent),
            "same_target": self._decode(forth, latent_back),
            "mean": mean,
            "mean_back": mean_back,
            "noise": noise,
        }

    def generator_losses(self, d: UnpairedBatch, made: Outputs) -> dict[str, tuple[float, Tensor]]:
        """Reconstruction, cycle and divergence, both ways."""
        forth, back = self._networks()
        again_mean, again_mean_back = (
            self._encode(back, made["target"]),
            self._encode(forth, made["source"]),
        )
        again = self._decode(back, again_mean + made["noise"][:, 2])
        again_target = self._decode(forth, again_mean_back + made["noise"][:, 3])

        def apart(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            return masked_mean((x - y).abs(), mask).mean()

        with self.fp32():
            means = (made["mean"], made["mean_back"], again_mean, again_mean_back)
            # Of N(mean, 1) from N(0, 1), for each number of the latent picture. Those of the
            # pictures themselves stand in eq. 4 and again in eq. 6, those of translations there.
            times = (2.0, 2.0, 1.0, 1.0)
            apart_from_normal = [
                n * 0.5 * m.float().square().mean() for n, m in zip(times, means, strict=True)
            ]
        return {
            "reconstruction": (self.reconstruction, apart(made["same"], d.source, d.known)),
            "reconstruction_back": (
                self.reconstruction,
                apart(made["same_target"], d.target, d.mask),
            ),
            "cycle": (self.cycle, apart(again, d.source, d.known)),
            "cycle_back": (self.cycle, apart(again_target, d.target, d.mask)),
            "divergence": (self.divergence, torch.stack(apart_from_normal).sum()),
        }

    def _networks(self) -> tuple[_LatentGenerator, _LatentGenerator]:
        assert isinstance(self.generator, _LatentGenerator)  # `share_latent_layers` checks it
        assert isinstance(self.back, _LatentGenerator)
        return self.generator, self.back

    def _encode(self, network: _LatentGenerator, x: Tensor) -> Tensor:
        return network.encode(x.contiguous(memory_format=torch.channels_last))

    def _decode(self, network: _LatentGenerator, latent: Tensor) -> Tensor:
        return network.decode(latent).float()
