"""Who computes the windows of a scene: this process, or the workers of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from crossband.model import Model
from crossband.raster.grid import Box
from crossband.raster.journal import Store
from crossband.raster.write import Output
from crossband.translate.stream import Progress
from crossband.translate.threads import Statistics
from crossband.translate.tiling import Work


class Workers(Protocol):
    """Workers with one model, ready to compute."""

    @property
    def device(self) -> torch.device:
        """Return what they compute on."""

    @property
    def precision(self) -> str:
        """Return in which precision."""

    @property
    def identity(self) -> str:
        """Return what tells the model from another."""

    def order(
        self,
        source: str | Path,
        reading: Mapping[str, Any],
        window: Box | None,
        facts: Mapping[str, str],
        work: Work,
        seed: int | None,
        outputs: Sequence[Output],
    ) -> Any:
        """Return the whole of a scene as one part, for `run`."""

    def run(
        self,
        order: Any,
        outputs: Sequence[Output],
        store: Store,
        statistics: Statistics,
        progress: Progress | None = None,
    ) -> None:
        """Compute what is missing of a scene, and write it into its store."""


class Executor(Protocol):
    """What computes scenes elsewhere."""

    def ready(self, model: Model, device: str = "auto", precision: str = "auto") -> Workers:
        """See that the workers can load a model, and what they compute it on."""
