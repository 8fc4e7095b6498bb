"""torch-fidelity's Inception-v3, where that package is installed: for numbers that others quote.

It computes what `inception` does with the same published weights, and resizes as the TensorFlow
code of the FID paper did: bilinear, not antialiased. torch-fidelity fetches the weights itself, on
first use, into torch.hub's folder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossband.metrics.extractors.base import (
    Extractor,
    Features,
    foreign,
    full_precision,
    hash_tensors,
    import_extra,
)

#: What is asked of it: pooled features, and logits without the last layer's bias.
LAYERS = ("2048", "logits_unbiased")


class TorchFidelity(Extractor):
    """The extractor `inception-v3-compat` of torch-fidelity.

    Args:
        device: where to compute.

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
        with foreign("torch-fidelity"):
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
