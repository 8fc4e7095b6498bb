"""A model made ready to compute: it normalises windows, runs the network and denormalises."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core.devices import limit_kernel_caches, resolve_for
from crossband.core.sensors import VALID_RANGE
from crossband.errors import ModelError
from crossband.model import Model, identity
from crossband.networks.conditions import Conditions
from crossband.networks.layout import laid_out, laid_out_for, order_of
from crossband.raster.grid import Window
from crossband.translate.conditions import SceneConditions
from crossband.translate.tiles import TileBatch


@dataclass(frozen=True)
class PreparedBatch:
    """A batch of tiles that is ready for the network.

    Attributes:
        batch: the tiles.
        cores: the kept part of each tile, in physical units.
        inputs: normalised source windows [B, C, H, W]; None where there is nothing to compute.
        conditions: what the network takes beside them.
    """

    batch: TileBatch
    cores: tuple[Window, ...]
    inputs: Tensor | None
    conditions: Conditions | None


@dataclass(frozen=True)
class EngineKey:
    """What an engine computes and how.

    Attributes:
        identity: hash of the model, see `model.identity`.
        device: cpu, cuda or mps; auto where it is not resolved yet.
        precision: fp32 or bf16; auto likewise.
    """

    identity: str
    device: str
    precision: str


class Engine:
    """A model made ready to compute: on its device, in its memory layout, in its precision.

    `prepare` and `physical` use NumPy, in one thread each, so that they may run in other threads
    beside `compute`.

    Args:
        model: loaded model.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.

    Attributes:
        gate: entered while the network computes; see `engine_cache`.

    Raises:
        ModelError: weights of half precision.
    """

    def __init__(self, model: Model, device: str = "auto", precision: str = "auto") -> None:
        limit_kernel_caches()
        for parameter in model.network.parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                raise ModelError(
                    f"{model.name}: its weights are {str(parameter.dtype).removeprefix('torch.')}; "
                    "scenes are translated with float32 ones: model.float()"
                )
        self.model = model
        self.gate: AbstractContextManager[object] = nullcontext()
        self.device, self.precision = resolve_for(model.network.runtime, device, precision)
        model.eval().to(self.device)
        laid_out(model.network, self.device)
        self._answers = False  # whether any prediction was finite
        self._ranges: dict[tuple[str, str], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    @cached_property
    def key(self) -> EngineKey:
        """Identity, device and precision; the weights are hashed once for many scenes."""
        return EngineKey(identity(self.model), self.device.type, self.precision)

    @property
    def channels(self) -> int:
        """Channels of the network's output: the target bands, widths and dissimilarity."""
        return len(self.model.signature.target) + int(getattr(self.model.network, "extra", 0))

    @property
    def _width_sets(self) -> Sequence[slice]:
        """Further channels that are widths, of results without a guide and of guided ones."""
        return getattr(self.model.network, "width_sets", ())

    @property
    def margin(self) -> int | None:
        """The network's margin in source pixels; None where it sees the whole image."""
        return self.model.network.margin

    def prepare(
        self, batch: TileBatch, windows: Sequence[Window], conditions: SceneConditions
    ) -> PreparedBatch:
        """Normalise the windows of a batch and draw its conditions.

        Args:
            batch: tiles of one shape.
            windows: the source window of each tile.
            conditions: noise, style and places of the scene.

        Returns:
            The batch, without inputs where no pixel that affects the result is valid.
        """
        cores = tuple(
            window.crop(tile.core.relative_to(tile.source))
            for window, tile in zip(windows, batch.tiles, strict=True)
        )
        # Tiles that are blended affect the result outside of their cores, too.
        affecting = cores if self.margin is not None else windows
        if not any(window.mask.any() for window in affecting):
            return PreparedBatch(batch, cores, None, None)
        unit = windows[0].unit
        low, span = self._range(unit, "source")
        shape = (len(windows), *windows[0].values.shape)
        inputs = torch.empty(shape, memory_format=order_of(self.model.network))
        for sample, window in zip(inputs.numpy(), windows, strict=True):
            with np.errstate(over="ignore"):  # the largest numbers of float32
                normal = window.values - low
                normal /= span
            # Masked pixels get each band's low value, so that overlapping tiles agree. Training
            # fills them with the same value.
            normal[:, ~window.mask] = 0.0
            sample[...] = normal
        return PreparedBatch(
            batch,
            cores,
            inputs,
            conditions.at([tile.source for tile in batch.tiles]),
        )

    def compute(self, prepared: PreparedBatch) -> Tensor | None:
        """Run the network; returns [B, `channels`, H * s, W * s] on the CPU.

        Raises:
            ModelError: no prediction of the first batch is finite.
        """
        if prepared.inputs is None:
            return None
        network: Any = self.model.network
        with self.gate, torch.inference_mode():
            inputs = laid_out_for(network, prepared.inputs.to(self.device))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                if prepared.conditions is None:
                    out = network(inputs)
                else:
                    conditions = _to_device(prepared.conditions, self.device)
                    out = network.forward_conditioned(inputs, conditions)
            # A constant network may return a parameter, which requires a gradient even here.
            prediction: Tensor = out.detach().cpu()
        if not self._answers:
            # Masked pixels have ordinary values here, so it is not the scene's fault.
            self._answers = bool(prediction.isfinite().any())
            if not self._answers:
                raise ModelError(
                    f"{self.model.name}: the model answers NaN or infinity in every pixel of the "
                    "first window, so its weights are damaged"
                )
        return prediction

    def physical(
        self, normal: NDArray[np.float32], mask: NDArray[np.bool_], unit: str
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Turn normalised predictions into physical values.

        Args:
            normal: predictions [C, h, w], further channels of an uncertain model included.
            mask: where the source is valid, [h, w].
            unit: of the source.

        Returns:
            Values [C, h, w], those of the target bands clipped to the unit's valid range, 0 where
            masked; and the mask, which also leaves out pixels whose prediction is not finite.
        """
        low, span = self._range(unit, "target")
        normal, further = normal[: len(span)], normal[len(span) :]
        with np.errstate(invalid="ignore", over="ignore"):
            values = normal * span
            values += low
        # Clipping would turn an infinite prediction into a value that looks valid.
        mask = mask & np.isfinite(values).all(axis=0)
        np.clip(values, *VALID_RANGE[self.model.signature.target_unit(unit)], out=values)
        if len(further):
            values = np.concatenate([values, further])
            for widths in self._width_sets:  # two of each band come first
                start = len(span) + widths.start
                values[start : start + 2 * len(span)] *= np.repeat(span, 2, axis=0)
        values[:, ~mask] = 0.0
        return values, mask

    def _range(self, unit: str, side: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return low and high - low as the signature has them, [C, 1, 1]."""
        if (unit, side) not in self._ranges:
            low, span = self.model.signature.ranges([unit], side, torch.zeros(0))
            self._ranges[unit, side] = low[0].numpy(), span[0].numpy()
        return self._ranges[unit, side]


def _to_device(conditions: Conditions, device: torch.device) -> Conditions:
    noise, style, places = conditions.noise, conditions.style, conditions.lattice
    guide = conditions.guide
    return replace(
        conditions,
        noise=None if noise is None else noise.to(device),
        style=None if style is None else style.to(device),
        guide=None if guide is None else guide.to(device),
        lattice=None if places is None else replace(places, lonlat=places.lonlat.to(device)),
    )
