"""LPIPS, where the package `lpips` is installed. Zhang et al. 2018.

A distance of pairs, not of sets: how different a synthetic picture looks from the true one, to a
network that was trained on photographs and fitted to what people call alike. 0 is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.metrics.extractors.base import (
    Distance,
    foreign,
    full_precision,
    hash_tensors,
    import_extra,
)


class Lpips(Distance):
    """LPIPS version 0.1 with AlexNet, which its authors advise for comparing.

    The package fetches AlexNet's weights itself, through torchvision, on first use.

    Args:
        device: where to compute.

    Raises:
        CrossbandError: the package is not installed, or has no weights.
    """

    name = "lpips"
    smallest = 31  # AlexNet's first convolution leaves 7, its two poolings 3 and 1

    def __init__(self, device: torch.device) -> None:
        package = import_extra("lpips", "lpips", "LPIPS")
        self.device = device
        with foreign("lpips"):
            network = package.LPIPS(net="alex", version="0.1", verbose=False)
        self.network = network.eval().requires_grad_(False).to(device)
        self.weights_hash = hash_tensors(network.state_dict())

    @torch.no_grad()
    def __call__(self, truth: Tensor, output: Tensor) -> Tensor:
        """Return LPIPS [N] of pictures [N, 3, H, W], 0..255."""
        one, two = (p.to(self.device, torch.float32) / 127.5 - 1.0 for p in (truth, output))
        with full_precision():
            found: Tensor = self.network(one, two)
        return found.flatten().cpu().double()
