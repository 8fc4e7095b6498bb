"""LPIPS from the optional package `lpips`. Zhang et al. 2018.

LPIPS compares pairs of pictures, not sets: it is a distance between features of a network that was
trained on photographs and fitted to human judgements of similarity. Equal pictures have 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.core.extras import import_extra
from crossband.core.tensor_hash import hash_tensors
from crossband.metrics.extractors.base import (
    Distance,
    external_package,
    full_precision,
)


class Lpips(Distance):
    """LPIPS version 0.1 with AlexNet, as its authors recommend for comparisons.

    The package downloads the weights of AlexNet through torchvision on first use.

    Args:
        device: device to compute on.

    Raises:
        CrossbandError: the package is not installed, or has no weights.
    """

    name = "lpips"
    min_side = 31  # AlexNet's first convolution reduces 31 to 7, its two poolings to 3 and 1

    def __init__(self, device: torch.device) -> None:
        package = import_extra("lpips", "lpips", "LPIPS")
        self.device = device
        with external_package("lpips"):
            network = package.LPIPS(net="alex", version="0.1", verbose=False)
        self.network = network.eval().requires_grad_(False).to(device)
        self.weights_hash = hash_tensors(network.state_dict())

    @torch.no_grad()
    def __call__(self, target: Tensor, output: Tensor) -> Tensor:
        """Return LPIPS [N] of pictures [N, 3, H, W], 0..255."""
        one, two = (p.to(self.device, torch.float32) / 127.5 - 1.0 for p in (target, output))
        with full_precision():
            distances: Tensor = self.network(one, two)
        return distances.flatten().cpu().double()
