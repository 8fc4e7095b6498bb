"""Validate a network without weights, as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from crossband.core.signature import Signature
from crossband.errors import RecipeError
from crossband.networks import Generator, parameter_count
from crossband.training.losses.base import masked_mean
from crossband.training.methods.base import Method
from crossband.training.methods.batches import Batch
from crossband.training.methods.examples import part


class Untrained(Method):
    """A network that returns its input bands, as `Bicubic`; validated and saved like a trained one.

    Args:
        signature: bands, units and ranges; source and target must be the same.
        generator: a network without weights.
        max_steps: number of batches.
        log_every: batches between two lines of the log.
        pictures: validation windows whose images are logged.
    """

    examples = (
        {
            "signature": {
                "source": ["nir"],
                "target": ["nir"],
                "units": {
                    unit: {"source": [[0.0, 1.0]], "target": [[0.0, 1.0]]}
                    for unit in ("reflectance", "display")
                },
            },
            "generator": part("Bicubic", in_channels=1, out_channels=1, scale=1),
        },
    )

    def __init__(
        self,
        signature: Signature,
        generator: Generator,
        *,
        max_steps: int = 1,
        log_every: int = 50,
        pictures: int = 4,
    ) -> None:
        super().__init__(
            signature, generator, max_steps=max_steps, log_every=log_every, pictures=pictures
        )
        name = type(generator).__name__
        if parameter_count(generator):
            raise RecipeError(f"{name} has weights to learn: Untrained takes a network without")
        if signature.source != signature.target:
            raise RecipeError(
                f"{name} gives back its bands ({', '.join(signature.source)}), but the target is "
                f"{', '.join(signature.target)}"
            )
        for unit, ranges in signature.units.items():
            if list(ranges.source) != list(ranges.target):
                raise RecipeError(
                    f"{name} gives back its bands, but {unit} has other ranges for source and "
                    "target"
                )

    def parts(self) -> dict[str, tuple[OptimizerCallable, Sequence[nn.Module]]]:
        """Return nothing: there is nothing to train."""
        return {}

    def configure_optimizers(self) -> Any:
        """Return nothing."""

    @torch.no_grad()
    def backward_losses(self, batch: Batch, generator: bool) -> None:
        """Record the error of a batch."""
        p = self.predict_batch(self.generator, batch)
        with self.fp32():
            self.record_loss("L1", masked_mean((p.output - p.target).abs(), p.mask).mean())
