"""What networks trained on photographs see in truth and output: FID, KID, precision, recall, LPIPS.

`load` opens an extractor by name or from a file of its weights; `collect` takes images and returns
the numbers. Formulas on given features: `crossband.metrics.distances`. Nothing here is imported
before it is asked for, and no extra package before the extractor that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossband.metrics.extractors.base import Distance, Extractor
    from crossband.metrics.extractors.channels import Channels
    from crossband.metrics.extractors.sets import DistanceSet, FeatureSet, collect

__all__ = ["Channels", "DistanceSet", "FeatureSet", "collect", "load", "names"]

#: What can be asked for by name, and what it is; a new one is a line here and one in `load`.
NAMES = {
    "inception": "FID's Inception-v3, our own, with the published weights in torch.hub's folder",
    "lpips": "LPIPS, of pairs; needs crossband[lpips]",
    "torch-fidelity": "torch-fidelity's Inception-v3; needs crossband[fidelity]",
}
#: Files: weights of the Inception-v3, or a network in ONNX.
TENSORS, ONNX = (".safetensors", ".pth", ".pt"), ".onnx"


def names() -> list[str]:
    """Return the extractors that have names.

    >>> names()
    ['inception', 'lpips', 'torch-fidelity']
    """
    return list(NAMES)


def load(text: str | Path, *, device: str = "auto") -> Extractor | Distance:
    """Open an extractor.

    Args:
        text: one of `names()`; or a file: `.safetensors`, `.pth` or `.pt` with the weights of
            FID's Inception-v3 as plain tensors, or `.onnx` with a network of one's own.
        device: where to compute: auto, cpu, cuda, mps; ONNX files run on the CPU.

    Raises:
        CrossbandError: an unknown name; a package that is not installed.
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
    # torch takes seconds to import; what lists the names must not wait for it.
    if name in ("DistanceSet", "FeatureSet", "collect"):
        from crossband.metrics.extractors import sets

        return getattr(sets, name)
    if name == "Channels":
        from crossband.metrics.extractors.channels import Channels

        return Channels
    raise AttributeError(f"module 'crossband.metrics.extractors' has no attribute {name!r}")
