"""Feature extractors for FID, KID, precision, recall, Inception Score and LPIPS.

`load` opens an extractor by name or from a file of its weights. `collect` returns a collector of
images that computes the metrics. `crossband.metrics.distances` has the formulas on given features.
Importing this package imports neither torch nor the optional package of an extractor.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossband.metrics.extractors.base import Distance, Extractor
    from crossband.metrics.extractors.channels import Channels
    from crossband.metrics.extractors.sets import DistanceSet, FeatureSet, collect

__all__ = ["Channels", "DistanceSet", "FeatureSet", "collect", "load", "names"]

#: Extractors by name, and their descriptions. A new one also needs a line in `_named`.
NAMES = {
    "inception": "FID's Inception-v3, our own, with the published weights in torch.hub's folder",
    "lpips": "LPIPS, of pairs; needs crossband[lpips]",
    "torch-fidelity": "torch-fidelity's Inception-v3; needs crossband[fidelity]",
}
#: Suffixes of files with the weights of Inception-v3, and of networks in ONNX.
TENSORS, ONNX = (".safetensors", ".pth", ".pt"), ".onnx"


def names() -> list[str]:
    """Return the names of the extractors.

    >>> names()
    ['inception', 'lpips', 'torch-fidelity']
    """
    return list(NAMES)


def load(text: str | Path, *, device: str = "auto") -> Extractor | Distance:
    """Open an extractor.

    Args:
        text: one of `names()`, or a file: `.safetensors`, `.pth` or `.pt` with the weights of
            FID's Inception-v3 as plain tensors, or `.onnx` with another network.
        device: auto, cpu, cuda, mps; ONNX files run on the CPU.

    Raises:
        CrossbandError: an unknown name, or a package that is not installed.
        ModelError: a file that is none of these.
    """
    from crossband.core.devices import resolve_device
    from crossband.errors import CrossbandError, ModelError, nearest

    where, path = resolve_device(device), Path(text)
    if str(text) in NAMES:
        return _named(str(text), where)
    if path.suffix in TENSORS:
        from crossband.metrics.extractors.inception import load as inception

        return inception(path, where)
    if path.suffix == ONNX:
        from crossband.metrics.extractors.onnx import Onnx

        return Onnx(path)
    if path.exists():
        raise ModelError(
            f"{path}: an extractor is a file {', '.join(TENSORS)} or {ONNX}, or a name: "
            f"{', '.join(NAMES)}"
        )
    raise CrossbandError(
        f"unknown feature extractor {str(text)!r}: {nearest(str(text), NAMES)}, or a file "
        f"{', '.join(TENSORS)} or {ONNX}"
    )


def _named(name: str, where: Any) -> Extractor | Distance:
    if name == "inception":
        from crossband.metrics.extractors.inception import load_published

        return load_published(where)
    if name == "lpips":
        from crossband.metrics.extractors.lpips import Lpips

        return Lpips(where)
    from crossband.metrics.extractors.fidelity import TorchFidelity

    return TorchFidelity(where)


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds, and listing the names does not need it.
    if name in ("DistanceSet", "FeatureSet", "collect"):
        from crossband.metrics.extractors import sets

        return getattr(sets, name)
    if name == "Channels":
        from crossband.metrics.extractors.channels import Channels

        return Channels
    raise AttributeError(f"module 'crossband.metrics.extractors' has no attribute {name!r}")
