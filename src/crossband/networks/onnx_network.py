"""A generator whose graph ONNX Runtime computes, on the CPU in fp32.

The class is not registered: a model folder cannot name it, and it has no weights that torch knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossband.core.onnx_session import RUNTIME, import_runtime, open_session, run_session
from crossband.errors import ModelError
from crossband.networks.base import Generator, parameter_count

Range = NDArray[np.float32]


@dataclass(frozen=True)
class Geometry:
    """What tiles need to know of a network; see `Generator`."""

    in_channels: int
    out_channels: int
    margin: int | None
    stride: int
    scale: int
    origin: tuple[str, int] | None = None

    @classmethod
    def of(cls, network: Generator) -> Geometry:
        """Return that of a network."""
        return cls(
            network.in_channels,
            network.out_channels,
            network.margin,
            network.stride,
            network.scale,
            (type(network).__name__, parameter_count(network)),
        )


@dataclass(frozen=True)
class PhysicalRanges:
    """low and high - low of the source and the target, [C, 1, 1], of a graph of physical values."""

    source: tuple[Range, Range]
    target: tuple[Range, Range]


class _OnnxNetwork(Generator):
    """A graph in ONNX, from normalised source to normalised target like any other generator.

    Args:
        graph: the file's content, one that `model.onnx_file` has checked.
        geometry: bands, margin, stride and scale, and what the graph was made of.
        name: of the graph in messages.
        identity: what the graph was made of; results and caches are told apart by it.
        ranges: of a graph that takes and gives physical values; None for one of normalised values.
    """

    runtime = RUNTIME

    def __init__(
        self,
        graph: bytes,
        geometry: Geometry,
        *,
        name: str,
        identity: str,
        ranges: PhysicalRanges | None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = geometry.in_channels, geometry.out_channels
        self.margin, self.stride, self.scale = geometry.margin, geometry.stride, geometry.scale
        self.origin = geometry.origin
        self._graph, self._name, self._ranges = graph, name, ranges
        # In place of the graph itself, which is long.
        self.arguments = {"graph": identity, "runtime": f"{RUNTIME} {import_runtime().__version__}"}
        self._session  # noqa: B018, a graph that ONNX Runtime does not take is refused here

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the session, for workers and copies."""
        return {k: v for k, v in self.__dict__.items() if k != "_session"}

    @cached_property
    def _session(self) -> Any:
        session = open_session(self._graph, self._name)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        one = len(inputs) == len(outputs) == 1 and inputs[0].type == "tensor(float)"
        if not (one and len(inputs[0].shape) == 4):
            stated = "; ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"{self._name}: one input of float32 [N, C, H, W] and one output are needed, not "
                f"{stated} and {len(outputs)} outputs"
            )
        return session

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> float32 [B, Ct, H * scale, W * scale]."""
        values = np.ascontiguousarray(x.detach().float().cpu().numpy())
        if self._ranges is not None:
            low, span = self._ranges.source
            values = values * span + low
        feeds = {self._session.get_inputs()[0].name: values}
        found = run_session(self._session, feeds, self._name)[0]
        out: NDArray[np.float32] = np.asarray(found, np.float32)
        size = (x.shape[-2] * self.scale, x.shape[-1] * self.scale)
        if out.shape != (len(x), self.out_channels, *size):
            raise ModelError(
                f"{self._name}: of {list(x.shape)} it makes {list(out.shape)}, and "
                f"{[len(x), self.out_channels, *size]} is needed"
            )
        if self._ranges is not None:
            low, span = self._ranges.target
            out = (out - low) / span
        return torch.from_numpy(np.ascontiguousarray(out))


def onnx_network(
    graph: bytes, geometry: Geometry, *, name: str, identity: str, ranges: PhysicalRanges | None
) -> Generator:
    """Return a generator that ONNX Runtime computes; see `_OnnxNetwork`.

    Raises:
        CrossbandError: ONNX Runtime is not installed.
        ModelError: it does not take the graph.
    """
    return _OnnxNetwork(graph, geometry, name=name, identity=identity, ranges=ranges)
