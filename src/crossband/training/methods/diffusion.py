"""Diffusion: learning to predict the noise in a noisy target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.profiler import record_function

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.networks.samplers.base import to_signed
from crossband.networks.samplers.diffusion import DiffusionSampler
from crossband.training.losses.base import masked_mean
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch, normalise_same_size
from crossband.training.methods.examples import FASTER, FIELD, part


class Diffusion(Method):
    """A diffusion model of the target, given the source.

    Ho et al. 2020, Denoising diffusion probabilistic models, eq. 14: at a uniformly drawn step, the
    network predicts the noise, or `v` (Salimans and Ho 2022), with the mean squared error over the
    valid pixels. The source is an additional input (Saharia et al. 2022, Palette). The sampler
    defines the noise schedule and what is predicted. Training never runs the sampler; validation
    samples as the finished model does.

    Args:
        signature: bands, units and ranges of the translation.
        generator: a `DiffusionSampler`; its field is trained.
        optimizer: optimiser of the field.
        options: see `Method`.
    """

    fidelity = ("v",)
    examples = ({"generator": part("DiffusionSampler", field=FIELD, steps=2), "optimizer": FASTER},)

    generator: DiffusionSampler

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        optimizer: OptimizerCallable,
        ema_decay: float = 0.999,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, ema_decay=ema_decay, **options)
        if not isinstance(generator, DiffusionSampler):
            raise RecipeError(
                f"Diffusion trains a DiffusionSampler, not the generator {type(generator).__name__}"
            )
        self.optimizer = optimizer

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return the field as the only part."""
        return {"generator": (self.optimizer, [self.generator])}

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute the gradients of the field."""
        network = self.generator
        source, target, mask = normalise_same_size(self.signature, batch)
        target = to_signed(target)
        noise = self.normal(*target.shape).to(target.device, non_blocking=True)
        step = (self.uniform(len(target)) * network.levels).long().clamp_max(network.levels - 1)
        step = step.to(target.device, non_blocking=True)
        signal, spread = (v[step, None, None, None] for v in (network.signal, network.spread))
        x = signal * target + spread * noise
        with record_function("crossband/generator"):
            prediction = network.evaluate_field(x, step, to_signed(source)).float()
        with self.fp32(), record_function("crossband/losses"):
            expected = signal * noise - spread * target if network.predicts == "v" else noise
            loss = masked_mean((prediction - expected) ** 2, mask).mean()
        self.record_loss(network.predicts, loss)
        self.accumulate_gradients(loss, network)
