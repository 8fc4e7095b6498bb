"""Flow matching: learning the velocity field that transports noise to the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.profiler import record_function

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.networks.samplers.base import to_signed
from crossband.networks.samplers.flow import FlowSampler
from crossband.training.losses.base import masked_mean
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch, normalise_same_size
from crossband.training.methods.examples import FASTER, FIELD, part


class FlowMatching(Method):
    """Conditional flow matching along straight lines, given the source.

    Lipman et al. 2023, Flow matching for generative modeling, with the path of eq. 20 for
    sigma_min 0: x_t = (1 - t) x_0 + t x_1 from noise x_0 to target x_1, both about -1..1. The field
    predicts x_1 - x_0, with the mean squared error over the valid pixels. Training never runs the
    sampler; validation samples as the finished model does.

    Args:
        signature: bands, units and ranges of the translation.
        generator: a `FlowSampler`; its field is trained.
        optimizer: optimiser of the field.
        times: distribution of the times: `uniform` from 0 to 1, or `logit-normal`, which prefers
            the middle (Esser et al. 2024, Scaling rectified flow transformers, eq. 19, m 0, s 1).
        grid: train at the times 0, 1/grid, ..., (grid - 1)/grid only, each drawn time rounded
            down (flow matching on a discrete time grid). The sampler may then use only these times,
            as `euler` with `steps` equal to `grid` does. 0 trains at all times.
        options: see `Method`.
    """

    fidelity = ("velocity",)
    examples = (
        {"generator": part("FlowSampler", field=FIELD, steps=2), "optimizer": FASTER},
        {"times": "logit-normal"},
    )

    generator: FlowSampler

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        optimizer: OptimizerCallable,
        times: Literal["uniform", "logit-normal"] = "uniform",
        grid: int = 0,
        ema_decay: float = 0.999,
        **options: Any,
    ) -> None:
        super().__init__(signature, generator, ema_decay=ema_decay, **options)
        if not isinstance(generator, FlowSampler):
            raise RecipeError(
                f"FlowMatching trains a FlowSampler, not the generator {type(generator).__name__}"
            )
        if times not in ("uniform", "logit-normal") or grid < 0:
            raise RecipeError(
                "method.times must be uniform or logit-normal, method.grid at least 0"
            )
        for t in generator.times if grid else ():
            if t >= 1.0 or abs(t * grid - round(t * grid)) > 1e-6:
                raise RecipeError(
                    f"the sampler ({generator.solver}, {generator.steps} steps) asks at time "
                    f"{t:g}, which is not on method.grid {grid}: take euler with {grid} steps"
                )
        self.optimizer, self.times, self.grid = optimizer, times, grid

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return the field as the only part."""
        return {"generator": (self.optimizer, [self.generator])}

    def draw_times(self, count: int) -> Tensor:
        """Draw a time for each sample, [B] on the CPU, 0 to 1."""
        t = self.uniform(count)
        if self.times == "logit-normal":
            t = torch.sigmoid(torch.special.ndtri(t))
        return (t * self.grid).floor() / self.grid if self.grid else t

    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Compute the gradients of the field."""
        source, target, mask = normalise_same_size(self.signature, batch)
        target = to_signed(target)
        noise = self.normal(*target.shape).to(target.device, non_blocking=True)
        t = self.draw_times(len(target)).to(target.device, non_blocking=True)
        x = torch.lerp(noise, target, t[:, None, None, None])
        with record_function("crossband/generator"):
            velocity = self.generator.evaluate_field(x, t, to_signed(source)).float()
        with self.fp32(), record_function("crossband/losses"):
            loss = masked_mean((velocity - (target - noise)) ** 2, mask).mean()
        self.record_loss("velocity", loss)
        self.accumulate_gradients(loss, self.generator)
