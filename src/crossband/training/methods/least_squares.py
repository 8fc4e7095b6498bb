"""Closed-form least squares, for networks that are linear per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch
from crossband.training.methods.examples import part


class LeastSquares(Method):
    """Least squares over the training samples, in float64: min over W of sum |features W - t|^2.

    Sums X^T X and X^T t over `max_steps` batches and solves for W at the end. Every sample has the
    same weight, however many valid pixels it has; with a balanced sampler so has every place.

    Args:
        signature: bands, units and ranges of the translation.
        generator: a network with `features` and `set_solution` (`networks/generators/per_pixel`).
        max_steps: number of batches.
        log_every: batches between two lines of the log.
        pictures: validation windows whose images are logged.
    """

    examples = ({"generator": part("PerPixelLinear")},)

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        max_steps: int = 200,
        log_every: int = 50,
        pictures: int = 4,
    ) -> None:
        super().__init__(
            signature, generator, max_steps=max_steps, log_every=log_every, pictures=pictures
        )
        if not hasattr(generator, "features") or not hasattr(generator, "set_solution"):
            raise RecipeError(
                f"{type(generator).__name__} is not linear per pixel, so LeastSquares cannot fit "
                f"it: use PerPixelLinear or PerPixelMean"
            )
        solved: Any = generator
        count = solved.features(torch.zeros(1, generator.in_channels, 1, 1)).shape[1]
        # On the CPU: float64 is not on every device.
        self._moments = torch.zeros(count, count, dtype=torch.float64)
        self._products = torch.zeros(count, generator.out_channels, dtype=torch.float64)

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return nothing: the solution has a closed form."""
        return {}

    def configure_optimizers(self) -> None:
        """Return nothing."""

    @torch.no_grad()
    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Add the sums of a batch."""
        with self.fp32():
            p = self.predict_batch(self.generator, batch)
            solved: Any = self.generator
            features = solved.features(p.source)
        mask = p.mask.flatten(2).cpu().double()
        weight = mask / mask.sum(dim=2, keepdim=True).clamp_min(1)
        x, t = features.flatten(2).cpu().double(), p.target.flatten(2).cpu().double()
        self._moments += torch.einsum("bip,bjp->ij", x * weight, x)
        self._products += torch.einsum("bip,bjp->ij", x * weight, t)
        error = ((p.output - p.target) ** 2).masked_fill(~p.mask, 0.0)
        self.record_loss("squares", error.mean())

    def finish(self) -> None:
        """Solve for W; with linearly dependent features, take the solution of least norm."""
        moments, products = self._moments, self._products
        if self.trainer.world_size > 1:
            moments = self.trainer.strategy.reduce(moments.to(self.device), reduce_op="sum").cpu()
            products = self.trainer.strategy.reduce(products.to(self.device), reduce_op="sum").cpu()
        solution = torch.linalg.lstsq(moments, products, driver="gelsd").solution
        solved: Any = self.generator
        solved.set_solution(solution.to(self.device, torch.float32))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also store the sums."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["crossband"]["moments"] = self._moments
        checkpoint["crossband"]["products"] = self._products

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums."""
        super().on_load_checkpoint(checkpoint)
        self._moments = checkpoint["crossband"]["moments"]
        self._products = checkpoint["crossband"]["products"]
