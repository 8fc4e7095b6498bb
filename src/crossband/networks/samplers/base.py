"""The base class of samplers: generators that evaluate a field repeatedly, starting from noise.

Inside, noise, source and state are about -1..1; normalised values x become 2 x - 1. The field is
evaluated on images padded to its stride.

Only the noise is random, and it is a function of the position in the scene. All tiles and scenes
use the same time steps, except a complete image in `FlowSampler`, which may adapt its steps.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from crossband.core.registry import build
from crossband.errors import CrossbandError, nearest
from crossband.networks.base import Generator
from crossband.networks.conditions import Conditions
from crossband.networks.layers.convolution import Interval, margin_of
from crossband.networks.samplers.vector_field import Field, VectorFieldUNet

#: Steps of a sampler, at most.
MOST_STEPS = 1000
#: Small fields, for `examples`: one with an infinite and one with a finite receptive field.
SMALL_FIELD = {"arguments": VectorFieldUNet.examples[0]}
LOCAL_FIELD = {"arguments": {**VectorFieldUNet.examples[0], "norm": "none"}}


class _Sampler(Generator):
    """Base of the samplers; a subclass implements the integration and calls `_set` in `__init__`.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        field: `class` and `arguments` of the field, without the numbers of bands.
    """

    CHOICES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, in_channels: int, out_channels: int, field: dict[str, Any] | None) -> None:
        super().__init__()
        parts = {"class": "VectorFieldUNet", "arguments": {}} | (field or {})
        if set(parts) != {"class", "arguments"} or not isinstance(parts["arguments"], dict):
            raise CrossbandError(
                f"a field has a class and arguments, not {', '.join(parts)}; give the arguments of "
                "its network as field.arguments.NAME"
            )
        bands = {"source_channels": in_channels, "target_channels": out_channels}
        self.in_channels, self.out_channels = in_channels, out_channels
        self.field: Field = build(Field, str(parts["class"]), parts["arguments"] | bands)
        self.stride = self.field.stride

    @property
    def _sequential_evaluations(self) -> int:
        """Number of field evaluations in which each uses the result of the previous one."""
        raise NotImplementedError

    def _sample(self, noise: Tensor, source: Tensor, whole: bool) -> Tensor:
        """Return the target, about -1..1, for noise [B, self.noise, H, W] and source."""
        raise NotImplementedError

    def choose(self, **options: Any) -> None:
        """Change the sampling options, as `choose(steps=10)`; the weights stay the same.

        Args:
            options: constructor arguments that concern sampling (`CHOICES`).

        Raises:
            CrossbandError: an unknown option or a wrong value; nothing is changed.
        """
        for name in options:
            if name not in self.CHOICES:
                raise CrossbandError(f"unknown option {name!r}: {nearest(name, self.CHOICES)}")
        before = {name: getattr(self, name) for name in options}
        try:
            self._set(options)
        except (CrossbandError, TypeError, ValueError) as error:
            self._set(before)
            raise CrossbandError(f"{type(self).__name__}: {error}") from error
        self.arguments.update(options)

    def _set(self, options: dict[str, Any]) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        self._check()
        self._update_margin()

    def _check(self) -> None:
        """Check the combination of options; raises ValueError or CrossbandError."""
        raise NotImplementedError

    def _update_margin(self) -> None:
        """Compute the margin: the field's receptive field, applied once for each evaluation."""
        if self.field.receptive_field((0, 0)) is None:
            self.margin = None
            return

        # Most phases of the stride soon see the same interval; a thousand steps take a second.
        field = functools.cache(self.field.receptive_field)

        def repeated(interval: Interval) -> Interval:
            for _ in range(self._sequential_evaluations):
                once = field(interval)
                assert once is not None
                interval = min(interval[0], once[0]), max(interval[1], once[1])
            return interval

        self.margin = margin_of(repeated, self.stride)

    def evaluate_field(self, x: Tensor, time: Tensor, source: Tensor) -> Tensor:
        """Evaluate the field on an image of any size; float32, of x's shape. See `Field`."""
        height, width = x.shape[-2:]
        right, bottom = -width % self.stride, -height % self.stride
        if right or bottom:
            x, source = (functional.pad(v, (0, right, 0, bottom), "replicate") for v in (x, source))
        out: Tensor = self.field(x, time, source)
        return out[..., :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] normalised -> float32 [B, Ct, H, W] normalised, with noise 0."""
        return self.forward_conditioned(x, Conditions())

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Transform the noise to the target."""
        noise = conditions.noise
        if noise is None:
            noise = x.new_zeros(len(x), self.noise, *x.shape[-2:])
        target = self._sample(noise.float(), to_signed(x.float()), conditions.whole)
        return 0.5 + 0.5 * target


def to_signed(values: Tensor) -> Tensor:
    """Map 0..1 to -1..1, the range in which samplers work and fields are trained."""
    return 2.0 * values - 1.0


def one_time(time: float, like: Tensor) -> Tensor:
    """Return the same time for all samples of a batch, [B]."""
    return torch.full((len(like),), time, dtype=torch.float32, device=like.device)
