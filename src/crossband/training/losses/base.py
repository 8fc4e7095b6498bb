"""What a loss may look at, and what every loss says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from crossband.core.registry import Registered
from crossband.core.signature import Signature


@dataclass(frozen=True)
class Prediction:
    """One batch: what went in, what came out, what should have come out.

    `output`, `target` and `source` are normalised and fp32, also under autocast: losses are summed
    over thousands of pixels, and bfloat16 holds three digits.

    Attributes:
        output: [B, Ct, H * s, W * s], the generator's.
        target: like `output`.
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
    """One term of what training minimises.

    A loss gives one value for each sample of the batch, the mean over the sample's valid pixels (0
    where it has none), and the method takes their mean: so that half a batch accumulated twice
    gives the gradient of the whole, whatever the masks.

    Attributes:
        weight: factor of this term in the sum.
        label: name in logs and errors.
    """

    weight: float = 1.0

    @property
    def label(self) -> str:
        """The class name, unless a subclass says more."""
        return type(self).__name__

    def forward(self, prediction: Prediction) -> Tensor:
        """Return one value for each sample, [B], without the weight."""
        raise NotImplementedError


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid pixels of each sample; 0 for a sample without any.

    Args:
        values: [B, C, H, W]; what stands under the mask does not matter, even NaN.
        mask: bool [B, 1, H, W].

    Returns:
        [B].
    """
    total = values.masked_fill(~mask, 0.0).sum(dim=(1, 2, 3))
    return total / (mask.sum(dim=(1, 2, 3)) * values.shape[1]).clamp_min(1)
