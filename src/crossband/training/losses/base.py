"""The base class of losses, and the prediction that losses take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from crossband.core.registry import Registered
from crossband.core.signature import Signature


@dataclass(frozen=True)
class Prediction:
    """Source, output and target of one batch.

    `output`, `target` and `source` are normalised and fp32, also under autocast, because losses sum
    over thousands of pixels and bfloat16 has only three decimal digits.

    Attributes:
        output: [B, Ct, H * s, W * s], output of the generator.
        target: like `output`. Masked pixels hold any finite number, as those of a batch do: the
            gradient of a square of NaN is NaN, masked or not.
        source: [B, Cs, H, W].
        mask: bool [B, 1, H * s, W * s], True where source and target are valid.
        signature: bands, units, ranges.
        units: unit of the source, one name for each sample.
    """

    output: Tensor
    target: Tensor
    source: Tensor
    mask: Tensor
    signature: Signature
    units: list[str]

    @cached_property
    def physical_output(self) -> Tensor:
        """Output in physical units, not clipped."""
        return self.signature.denormalise(self.output, self.units, "target")

    @cached_property
    def physical_target(self) -> Tensor:
        """Target in physical units."""
        return self.signature.denormalise(self.target, self.units, "target")

    @cached_property
    def physical_source(self) -> Tensor:
        """Source in physical units."""
        return self.signature.denormalise(self.source, self.units, "source")


class Loss(Registered, nn.Module, family="Loss", package="crossband.training.losses"):
    """Base of the losses.

    A loss returns one value for each sample, the mean over its valid pixels (0 without any), and
    the method averages over samples. So accumulating two halves of a batch gives the gradient of
    the whole batch, whatever the masks.

    Attributes:
        weight: weight of this loss in the sum.
        label: name in logs and error messages.
    """

    weight: float = 1.0

    @property
    def label(self) -> str:
        """The class name, unless a subclass overrides it."""
        return type(self).__name__

    def forward(self, prediction: Prediction) -> Tensor:
        """Return one value for each sample, [B], without the weight."""
        raise NotImplementedError


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the valid pixels of each sample; 0 for a sample without any.

    Args:
        values: [B, C, H, W]; masked values have no effect, not even NaN.
        mask: bool [B, 1, H, W].

    Returns:
        [B].
    """
    total = values.masked_fill(~mask, 0.0).sum(dim=(1, 2, 3))
    return total / (mask.sum(dim=(1, 2, 3)) * values.shape[1]).clamp_min(1)
