"""Inception-v3 of the optional package torch-fidelity, for comparison with published numbers.

It uses the same network and weights as `inception`, but resizes like the TensorFlow code of the
FID paper: bilinear, not antialiased. torch-fidelity downloads the weights into torch.hub's folder
on first use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossband.core.extras import import_extra
from crossband.core.tensor_hash import hash_tensors
from crossband.metrics.extractors.base import (
    Extractor,
    Features,
    external_package,
    full_precision,
)

#: Requested outputs: pooled features, and logits without the bias of the last layer.
LAYERS = ("2048", "logits_unbiased")


class TorchFidelity(Extractor):
    """The extractor `inception-v3-compat` of torch-fidelity.

    Args:
        device: device to compute on.

    Raises:
        CrossbandError: the package is not installed, or has no weights.
    """

    name = "torch-fidelity inception-v3-compat"
    resize = "bilinear as in TensorFlow 1, to 299 x 299, rounded to 8 bits before"

    def __init__(self, device: torch.device) -> None:
        package = import_extra(
            "torch_fidelity.feature_extractor_inceptionv3", "fidelity", "torch-fidelity"
        )
        self.device = device
        with external_package("torch-fidelity"):
            network: Any = package.FeatureExtractorInceptionV3("inception-v3-compat", list(LAYERS))
        self.network = network.eval().requires_grad_(False).to(device)
        self.weights_hash = hash_tensors(network.state_dict())

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Features:
        """Return features [N, 2048] and probabilities [N, 1008] of pictures of any size."""
        rounded = pictures.round().clamp(0, 255).to(self.device, torch.uint8)
        with full_precision():
            values, logits = self.network(rounded)
        return Features(values.cpu().float(), logits.cpu().double().softmax(dim=1).float())
