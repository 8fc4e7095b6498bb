"""Any other network, from an ONNX file.

An ONNX file holds a graph and weights, and no code. The file does not state the range of its input,
so it is fixed here: one input [N, 3, H, W], float32 or uint8, 0..255. A network's own normalisation
must be part of its graph. The first output is the features [N, D]. A second output, if any, is
class logits [N, K] for the Inception Score.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crossband.core.onnx_session import import_runtime, open_session, run_session
from crossband.core.regular_file import open_regular_file
from crossband.errors import ModelError
from crossband.metrics.extractors.base import ANTIALIASED, Extractor, Features

_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class Onnx(Extractor):
    """A network in an ONNX file, run by ONNX Runtime on the CPU.

    Pictures are resized if the file states height and width of its input; otherwise they are not.

    Args:
        path: the file. Weights in other files beside it are not read.

    Raises:
        ModelError: not a self-contained ONNX file, or other inputs and outputs than above.
        CrossbandError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        import_runtime(f"{path.name}: running an ONNX file")
        with open_regular_file(path, ModelError) as file:
            data = file.read()
        self.session = open_session(data, str(path))
        self.path, self.name = path, f"onnx {path.name}"
        self.weights_hash = hashlib.sha256(data).hexdigest()
        self.batch = self._check_input()
        self.outputs = [output.name for output in self.session.get_outputs()[:2]]

    def _check_input(self) -> int | None:
        """Check the input, store its size and type, and return its batch size (None: any)."""
        inputs = self.session.get_inputs()
        first = inputs[0] if len(inputs) == 1 else None
        if first is None or len(first.shape) != 4 or first.type not in _TYPES:
            stated = "; ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"{self.path}: one input [N, 3, H, W] of float32 or uint8 is needed, not {stated}"
            )
        batch, channels, height, width = (s if isinstance(s, int) else None for s in first.shape)
        if channels not in (3, None) or height != width:
            raise ModelError(
                f"{self.path}: an input of 3 channels and equal sides is needed, not {first.shape}"
            )
        self.input, self.type, self.size = first.name, _TYPES[first.type], height
        if height is not None:
            self.resize = f"{ANTIALIASED}, to {height} x {height}"
        if self.type is np.uint8:
            self.resize += ", rounded to 8 bits"
        return batch

    def __call__(self, pictures: Tensor) -> Features:
        """Return features and, if the file has two outputs, the softmax of the second one."""
        values = pictures.numpy()
        if self.type is np.uint8:
            values = np.clip(np.rint(values), 0, 255)
        values = np.ascontiguousarray(values, dtype=self.type)
        step = self.batch or len(values)
        parts = [self._run(values[at : at + step], step) for at in range(0, len(values), step)]
        outputs = [torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)]
        if len(outputs) == 1:
            return Features(outputs[0])
        return Features(outputs[0], outputs[1].double().softmax(dim=1).float())

    def _run(self, pictures: np.ndarray, step: int) -> list[np.ndarray]:
        """Run one batch, padded to `step` pictures by copies of the last one."""
        short = step - len(pictures)
        full = (
            np.concatenate([pictures, np.repeat(pictures[-1:], short, axis=0)])
            if short
            else pictures
        )
        outputs = run_session(self.session, {self.input: full}, str(self.path), self.outputs)
        for name, output in zip(self.outputs, outputs, strict=True):
            if output.ndim != 2 or len(output) != step:
                raise ModelError(
                    f"{self.path}: its output {name} is {list(output.shape)}, and "
                    f"[{step}, D] is needed: pool it in the graph"
                )
        return [np.asarray(output, np.float32)[: len(pictures)] for output in outputs]
