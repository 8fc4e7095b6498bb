"""ThermalGAN: several plausible thermal images of one colour image, in two steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Discriminator, Generator
from crossband.networks.generators.thermal_gan import Encoder, TwoStepThermal
from crossband.networks.layers.batch_layers import set_reference_batch
from crossband.networks.layout import laid_out
from crossband.training.losses.adversarial import GANLossName, gan_loss
from crossband.training.losses.base import masked_mean
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch, normalise_batch
from crossband.training.methods.examples import OPTIMIZERS, critic, part
from crossband.training.methods.modules import frozen
from crossband.training.methods.regions import region_means


class ThermalGAN(Method):
    """Kniaz et al. 2018: colour -> one of many temperatures of each region -> relative contrasts.

    The first step is a BicycleGAN (Zhu et al. 2017, Toward multimodal image-to-image translation)
    from the colour image and a style to the mean temperatures. With the style that the encoder
    computes from the true mean temperatures, it must reproduce them. With a random style, the
    encoder must recover the style from the output. The second step is a pix2pix from the colour
    image and the true mean temperatures to the contrasts, L1 100. Both steps are trained at the
    same time; no gradient passes from one to the other.

    In the paper, regions are annotated by hand; here they are clusters of similar temperature
    within one image (`region_means`). Needs pairs.

    Args:
        signature: bands, units and ranges of the translation.
        generator: both steps, a `TwoStepThermal`; it becomes the model.
        encoder: mean temperatures -> style.
        discriminator: discriminator of mean temperatures, conditioned on the source.
        contrast_discriminator: discriminator of targets, conditioned on source and mean
            temperatures, so that its source has the bands of both.
        optimizer: optimiser of the generator and the encoder.
        discriminator_optimizer: optimiser of both discriminators; by default `optimizer`.
        adversarial: the adversarial loss of mean temperatures, `lsgan` in BicycleGAN;
            `wasserstein` needs weight_clip, here and below.
        adversarial_contrasts: the adversarial loss of contrasts, `bce` in pix2pix.
        smoothing: label smoothing of real images in both losses, for `bce` and `lsgan`.
        classes: number of different temperatures in an image.
        regions: weight of |S - true S| with the encoder's style.
        contrasts: weight of |S + R - target|.
        latent: weight of |recovered style - random style|.
        divergence: weight of the divergence of styles from a standard normal distribution.
        options: see `Method`.
    """

    fidelity = ("regions", "contrasts")
    examples = (
        {
            **OPTIMIZERS,
            "generator": part(
                "TwoStepThermal",
                width=8,
                levels=2,
                contrast_levels=2,
                style=2,
                norm="instance",
                dropout=0.0,
            ),
            "encoder": part("StyleEncoder", style=2, width=4, layers=2),
            "discriminator": critic(3, 1),
            "contrast_discriminator": critic(4, 1),
        },
        {
            "generator": part(
                "TwoStepThermal", width=4, levels=2, contrast_levels=2, style=2, norm="none"
            ),
        },
    )

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        encoder: Encoder,
        discriminator: Discriminator,
        contrast_discriminator: Discriminator,
        optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable | None = None,
        adversarial: GANLossName = "lsgan",
        adversarial_contrasts: GANLossName = "bce",
        smoothing: float = 0.0,
        classes: int = 8,
        regions: float = 10.0,
        contrasts: float = 100.0,
        latent: float = 0.5,
        divergence: float = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, **options)
        if not isinstance(generator, TwoStepThermal):
            raise RecipeError(
                f"ThermalGAN needs a generator of two steps, as TwoStepThermal, not "
                f"{type(generator).__name__}"
            )
        if encoder.style != generator.style:
            raise RecipeError(
                f"method.encoder has a style of {encoder.style}, method.generator of "
                f"{generator.style}"
            )
        if classes < 1 or min(regions, contrasts, latent, divergence) < 0:
            raise RecipeError("ThermalGAN needs classes of at least 1 and no factor below 0")
        self.encoder = laid_out(encoder)
        self.discriminator = laid_out(discriminator)
        self.contrast_discriminator = laid_out(contrast_discriminator)
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        self.classes, self.regions, self.contrasts = classes, regions, contrasts
        self.latent, self.divergence = latent, divergence
        names, bounded = (adversarial, adversarial_contrasts), self.weight_clip > 0
        self.gan_losses = tuple(gan_loss(name, smoothing, bounded) for name in names)

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return generator and encoder as one part, both discriminators as another."""
        critics = [self.discriminator, self.contrast_discriminator]
        return {
            "generator": (self.optimizer, [self.generator, self.encoder]),
            "discriminator": (self.discriminator_optimizer, critics),
        }

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute the gradients of generator and encoder, then of the discriminators."""
        source, target, mask, _ = normalise_batch(self.signature, batch)
        if source.shape[-2:] != target.shape[-2:]:
            raise RecipeError("ThermalGAN needs data.context 0")
        truth = region_means(target, mask, self.classes)
        with torch.set_grad_enabled(generator):
            outputs = self._run_both_steps(source, truth, mask)
        if generator:
            self._backward_generator(source, truth, target, mask, outputs)
        read, drawn, final = (outputs[k].detach() for k in ("read", "drawn", "final"))
        both = torch.cat([source, truth], dim=1)
        total = self._discriminator_loss("", 0, source, truth, [read, drawn])
        total = total + self._discriminator_loss("_contrasts", 1, both, target, [final])
        self.accumulate_gradients(total, self.discriminator, self.contrast_discriminator)

    def _run_both_steps(self, source: Tensor, truth: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Run both steps; masked pixels are 0, as in the truth."""
        network = self.generator
        assert isinstance(network, TwoStepThermal)
        mean, log_variance = (x.float() for x in self.encoder(truth))
        noise = self.normal(len(truth), 2, network.style).to(truth.device, non_blocking=True)
        style = mean + noise[:, 0] * (0.5 * log_variance).exp()
        with record_function("crossband/generator"):
            read = network.regions(source, style).float()
            drawn = network.regions(source, noise[:, 1]).float()
            contrasts = network.contrasts(source, truth).float()
        return {
            "mean": mean,
            "log_variance": log_variance,
            "style": noise[:, 1],
            "read": read.masked_fill(~mask, 0.0),
            "drawn": drawn.masked_fill(~mask, 0.0),
            "final": (truth + contrasts).masked_fill(~mask, 0.0),
        }

    def _backward_generator(
        self,
        source: Tensor,
        truth: Tensor,
        target: Tensor,
        mask: Tensor,
        outputs: dict[str, Tensor],
    ) -> None:
        both = torch.cat([source, truth], dim=1)
        first, second = self.gan_losses
        # The encoder gets no gradient from generated temperatures, as in BicycleGAN. Otherwise it
        # could help the generator to hide the style in them, and the style would have no effect.
        critics = (self.discriminator, self.contrast_discriminator)
        with frozen(*critics, self.encoder), record_function("crossband/discriminator"):
            scores = [self.discriminator(source, outputs[k]) for k in ("read", "drawn")]
            scores_final = self.contrast_discriminator(both, outputs["final"])
            again, _ = self.encoder(outputs["drawn"])
            # The scores of the target are computed only if a loss needs them.
            true, true_final = scores[0], scores_final
            if first.needs_target_scores:
                true = self.discriminator(source, truth).detach()
            if second.needs_target_scores:
                true_final = self.contrast_discriminator(both, target).detach()
        with self.fp32(), record_function("crossband/losses"):
            mean, log_variance = outputs["mean"], outputs["log_variance"]
            apart = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance)
            terms = {
                "regions": (
                    self.regions,
                    masked_mean((outputs["read"] - truth).abs(), mask).mean(),
                ),
                "contrasts": (
                    self.contrasts,
                    masked_mean((outputs["final"] - target).abs(), mask).mean(),
                ),
                "latent": (self.latent, (again.float() - outputs["style"]).abs().mean()),
                "divergence": (self.divergence, apart.sum(dim=1).mean()),
                "adversarial": (1.0, sum(first.generator(true, s).mean() for s in scores)),
                "adversarial_contrasts": (
                    1.0,
                    second.generator(true_final, scores_final).mean(),
                ),
            }
            total = torch.stack([torch.as_tensor(f * v) for f, v in terms.values()]).sum()
        for name, (_, value) in terms.items():
            self.record_loss(name, torch.as_tensor(value))
        self.record_loss("total", total)
        if self.is_log_step:
            self.record_spread(outputs["final"], target)
        self.accumulate_gradients(total, self.generator, self.encoder)

    def _discriminator_loss(
        self, name: str, step: int, given: Tensor, true: Tensor, outputs: list[Tensor]
    ) -> Tensor:
        """Return the loss of one discriminator, averaged over the kinds of outputs."""
        critic = (self.discriminator, self.contrast_discriminator)[step]
        set_reference_batch(critic, given, true)
        with record_function("crossband/discriminator"):
            scores = critic(given, true)
            others = [critic(given, x) for x in outputs]
        values = [self.gan_losses[step].discriminator(scores, s).mean() for s in others]
        value = torch.stack(values).mean()
        self.record_loss(f"discriminator{name}", value)
        if self.is_log_step and step == 1:
            self.record_value("score/target", scores.float().mean())
            self.record_value("score/output", others[0].float().mean())
        return value
