"""Trace a network into an ONNX graph with symbolic height and width, and compare it with torch.

torch has two exporters. The one that traces (`dynamo=False`) is used. Of the registered networks
with a finite margin it exports every one, in about a second, and every size gives torch's numbers.
The other one (`dynamo=True`, torch 2.13) takes 4 to 160 seconds for the same small networks, does
not export several of them, and one of its graphs works only for the size of the example. It needs
the package onnxscript, too.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from crossband.errors import ModelError
from crossband.model.onnx_file import import_onnx
from crossband.networks import Generator
from crossband.networks.onnx_network import Geometry, onnx_network

#: Opset and version of the format. ONNX Runtime 1.17 and later read both; QGIS plugins pin it.
OPSET, IR_VERSION = 17, 8
#: Largest difference from torch in normalised values. Rounding differs by about 1e-6.
FARTHEST = 1e-4
INPUT, OUTPUT = "source", "target"


def obstacle(network: Generator) -> str | None:
    """Return why a network is not one graph that other programs can run in tiles, if it is not."""
    if network.runtime is not None:
        return "it is a graph of ONNX already"
    if network.noise or network.style:
        return "it draws random numbers for each scene, and a graph has none"
    if network.located:
        return "it takes the place on Earth, and a graph has only its source"
    if network.guide:
        return "it takes a guide, and a graph has only its source"
    if network.margin is None:
        return (
            "each of its pixels depends on the whole image, so other programs' tiles would disagree"
        )
    return None


def check_exportable(name: str, network: Generator) -> None:
    """Raise ModelError with the reason for a network that is no graph; see `obstacle`."""
    reason = obstacle(network)
    if reason is not None:
        raise ModelError(f"{name}: {type(network).__name__} cannot be exported to ONNX: {reason}")


def trace(
    module: nn.Module,
    network: Generator,
    name: str,
    *,
    example: Tensor | None = None,
    outputs: Sequence[str] = (OUTPUT,),
) -> Any:
    """Return the ModelProto of a module, with symbolic batch, height and width.

    Args:
        module: what is traced: the network, or the network in physical units.
        network: says of which size the example is.
        name: of the model, for messages.
        example: an input whose sizes are those of the graph, which then has no symbols.
        outputs: names of the results.

    Raises:
        ModelError: the network has an operation that ONNX has not.
    """
    onnx = import_onnx()
    file: Any = io.BytesIO()  # whose type the hints of torch do not have
    # Neither side is a multiple of the stride, so that padding is recorded.
    odd = torch.rand(
        2, network.in_channels, 2 * network.stride + 5, 3 * network.stride + 3, dtype=torch.float32
    )
    sizes = {0: "batch", 2: "height", 3: "width"}
    enlarged = {0: "batch", 2: "target_height", 3: "target_width"}
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            torch.onnx.export(
                _plain(module).eval(),
                (odd if example is None else example,),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_axes={INPUT: sizes, OUTPUT: enlarged} if example is None else None,
            )
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name}: {type(network).__name__} cannot be exported to ONNX: {first[:200]}"
        ) from error
    graph = onnx.load_from_string(file.getvalue())
    graph.ir_version = IR_VERSION
    return graph


def traced_network(network: Generator, name: str, identity: str) -> Generator:
    """Return a network as one that ONNX Runtime computes, of normalised values.

    Args:
        network: the network.
        name: of the model, for messages.
        identity: of the model that the network is of.

    Raises:
        ModelError: it cannot be exported, or its graph gives other numbers than torch.
    """
    check_exportable(name, network)
    content = trace(network, network, name).SerializeToString(deterministic=True)
    traced = onnx_network(content, Geometry.of(network), name=name, identity=identity, ranges=None)
    check_same(network, network, traced, name)
    return traced


@torch.inference_mode()
def check_same(
    network: Generator, torch_of: Callable[[Tensor], Tensor], traced: Generator, name: str
) -> None:
    """Raise ModelError where a graph gives other numbers than the network, at two odd shapes.

    A network whose Python branches on sizes would otherwise be exported wrong without a word.

    Args:
        network: says how wide a stride is.
        torch_of: what torch computes, of normalised values.
        traced: the graph, of normalised values too.
        name: of the model, for messages.
    """
    side, draw = network.stride, torch.Generator().manual_seed(0)
    for height, width in ((side + 1, 4 * side + 7), (5 * side + 2, 3 * side)):
        x = torch.rand(1, network.in_channels, height, width, generator=draw)
        expected = torch_of(x).float()
        worst = float((traced(x) - expected).abs().max())
        if not worst <= FARTHEST:
            raise ModelError(
                f"{name}: {type(network).__name__} cannot be exported to ONNX: the graph differs "
                f"from torch by {worst:.2g} at {height} x {width} pixels"
            )


def _plain(module: nn.Module) -> nn.Module:
    """Return a copy on the CPU whose weights are plain ones, as those of spectral norms."""
    plain = copy.deepcopy(module).cpu().float()
    for part in plain.modules():
        for tensor in list(getattr(part, "parametrizations", {})):
            parametrize.remove_parametrizations(part, tensor)
    return plain


class PhysicalUnits(nn.Module):
    """A network of physical values: normalised, computed, brought back and clipped.

    A pixel that is NaN or infinite in a band counts as masked: the network sees the low value of
    each band there, as in a translated scene, and the result is NaN.

    Args:
        network: of normalised values.
        source: low and high - low of each band, [1, Cs, 1, 1].
        target: the same of the result.
        valid: what the result is clipped to.
    """

    low: Tensor
    span: Tensor
    target_low: Tensor
    target_span: Tensor

    def __init__(
        self,
        network: Generator,
        source: tuple[Tensor, Tensor],
        target: tuple[Tensor, Tensor],
        valid: tuple[float, float],
    ) -> None:
        super().__init__()
        self.network, self.valid = network, valid
        for name, value in zip(
            ("low", "span", "target_low", "target_span"), (*source, *target), strict=True
        ):
            self.register_buffer(name, value)

    def normalised(self, x: Tensor) -> Tensor:
        """Compute `forward` of normalised values, and normalise the result."""
        out: Tensor = (self(x * self.span + self.low) - self.target_low) / self.target_span
        return out

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> [B, Ct, H * scale, W * scale]."""
        # NaN and infinity are the numbers whose difference from themselves is not 0.
        lost = ((x - x) != 0).float().amax(dim=1, keepdim=True)
        normal = torch.where(lost > 0, torch.zeros_like(x), (x - self.low) / self.span)
        out = self.network(normal) * self.target_span + self.target_low
        out = out.clamp(*self.valid)
        if self.network.scale > 1:
            lost = nn.functional.interpolate(lost, scale_factor=float(self.network.scale))
        return torch.where(lost > 0, torch.full_like(out, float("nan")), out)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it warns of each size that a trace holds as a constant, as is meant.

    Of a network that it cannot export it prints the whole graph, thousands of lines.
    """
    logger, private = logging.getLogger("torch.onnx"), "_jit_onnx_log"
    level, log = logger.level, getattr(torch._C, private, None)
    logger.setLevel(logging.CRITICAL)
    setattr(torch._C, private, lambda *_: None)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
        setattr(torch._C, private, log)
