"""A model made ready to compute: windows go in normalised, answers come out in physical units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core.devices import limit_kernel_caches, resolve_device, resolve_precision
from crossband.core.sensors import VALID_RANGE
from crossband.model import Model, identity
from crossband.networks.conditions import Conditions
from crossband.raster.grid import Window
from crossband.translate.conditions import SceneConditions
from crossband.translate.tiles import Job


@dataclass(frozen=True)
class Prepared:
    """A job that is ready for the network.

    Attributes:
        job: its tiles.
        cores: the kept part of each tile, in physical units.
        batch: normalised [B, C, H, W]; None where nothing is to compute.
        conditions: what the network takes beside it.
    """

    job: Job
    cores: tuple[Window, ...]
    batch: Tensor | None
    conditions: Conditions | None


class Engine:
    """A model made ready to compute: on its device, in its memory layout, in its precision.

    `prepare` and `physical` work with NumPy, in one thread each: they may run beside `compute`
    without taking its processors.

    Args:
        model: loaded model.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
    """

    def __init__(self, model: Model, device: str = "auto", precision: str = "auto") -> None:
        limit_kernel_caches()
        self.model = model
        self.device = resolve_device(device)
        self.precision = resolve_precision(self.device, precision)
        model.eval().to(self.device)
        network: Any = model.network
        network.to(memory_format=torch.channels_last)
        self._ranges: dict[tuple[str, str], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    @cached_property
    def identity(self) -> str:
        """What tells the model from another; its weights are read once for many scenes."""
        return identity(self.model)

    @property
    def margin(self) -> int | None:
        """How far the network sees, in source pixels; None where it sees everything."""
        return self.model.network.margin

    def prepare(self, job: Job, windows: Sequence[Window], conditions: SceneConditions) -> Prepared:
        """Normalise the windows of a job and draw its conditions.

        Where no pixel that counts is valid, nothing is left to compute.
        """
        cores = tuple(
            window.crop(tile.core.relative_to(tile.source))
            for window, tile in zip(windows, job.tiles, strict=True)
        )
        # A tile that fades into others counts where it is not kept, too.
        counted = cores if self.margin is not None else windows
        if not any(window.mask.any() for window in counted):
            return Prepared(job, cores, None, None)
        unit = windows[0].unit
        low, span = self._range(unit, "source")
        shape = windows[0].values.shape
        batch = np.empty((len(windows), *shape[1:], shape[0]), np.float32)  # channels last
        for sample, window in zip(batch, windows, strict=True):
            normal = window.values - low
            normal /= span
            # Masked pixels go in as each band's low value, everywhere and always the same, so
            # that tiles agree; training fills them in the same way.
            normal[:, ~window.mask] = 0.0
            sample[...] = normal.transpose(1, 2, 0)
        return Prepared(
            job,
            cores,
            torch.from_numpy(batch).permute(0, 3, 1, 2),
            conditions.at([tile.source for tile in job.tiles]),
        )

    def compute(self, prepared: Prepared) -> Tensor | None:
        """Run the network; returns normalised [B, Ct, H * s, W * s] on the CPU."""
        if prepared.batch is None:
            return None
        network: Any = self.model.network
        with torch.inference_mode():
            batch = prepared.batch.to(self.device, memory_format=torch.channels_last)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                if prepared.conditions is None:
                    out = network(batch)
                else:
                    out = network.forward_conditioned(batch, _to(prepared.conditions, self.device))
            # A constant answer may be a parameter, which wants its gradient even here.
            answer: Tensor = out.detach().cpu()
        return answer

    def physical(
        self, normal: NDArray[np.float32], mask: NDArray[np.bool_], unit: str
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Turn normalised answers [Ct, h, w] into physical values, 0 where masked.

        Args:
            normal: answers.
            mask: where the source is valid, [h, w].
            unit: of the source.

        Returns:
            Values inside the unit's valid range, and the mask without what is not finite.
        """
        low, span = self._range(unit, "target")
        with np.errstate(invalid="ignore", over="ignore"):
            values = normal * span
            values += low
        # What a network answers with NaN or infinity is no value, and must not become one.
        mask = mask & np.isfinite(values).all(axis=0)
        np.clip(values, *VALID_RANGE[self.model.signature.target_unit(unit)], out=values)
        values[:, ~mask] = 0.0
        return values, mask

    def _range(self, unit: str, side: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return low and high - low as the signature has them, [C, 1, 1]."""
        if (unit, side) not in self._ranges:
            low, span = self.model.signature.ranges([unit], side, torch.zeros(0))
            self._ranges[unit, side] = low[0].numpy(), span[0].numpy()
        return self._ranges[unit, side]


def _to(conditions: Conditions, device: torch.device) -> Conditions:
    noise, style, places = conditions.noise, conditions.style, conditions.lattice
    return replace(
        conditions,
        noise=None if noise is None else noise.to(device),
        style=None if style is None else style.to(device),
        lattice=None if places is None else replace(places, lonlat=places.lonlat.to(device)),
    )
