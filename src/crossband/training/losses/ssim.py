"""Structural similarity as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crossband.training.losses.base import Loss, Prediction, masked_mean


class SSIMLoss(Loss):
    """1 - SSIM of the normalised output, over windows with valid pixels only.

    Gaussian window of 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, dynamic range 1 (the signature's
    range). Wang, Bovik, Sheikh, Simoncelli 2004. Windows that extend beyond the image or the mask
    are left out; a sample without any window gives 0.

    Args:
        weight: weight of this loss.
        window: side of the window in pixels, odd.
        sigma: standard deviation of the Gaussian in pixels.
    """

    examples = ({"window": 9, "sigma": 1.0},)

    def __init__(self, weight: float = 1.0, window: int = 11, sigma: float = 1.5) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0 or sigma <= 0:
            raise ValueError("SSIMLoss needs an odd window and sigma > 0")
        self.weight, self.window, self.sigma = weight, window, sigma
        at = torch.arange(window, dtype=torch.float64) - window // 2
        line = torch.exp(-(at**2) / (2 * sigma**2))
        self.register_buffer("line", (line / line.sum()).float(), persistent=False)

    def forward(self, prediction: Prediction) -> Tensor:
        """Return the mean of 1 - SSIM of each sample, [B]."""
        x, y, mask = prediction.output, prediction.target, prediction.mask
        if min(x.shape[-2:]) < self.window:
            return x.sum(dim=(1, 2, 3)) * 0.0
        # One blur for all five moments; masked pixels must not be NaN here.
        x, y = x.masked_fill(~mask, 0.0), y.masked_fill(~mask, 0.0)
        moments = self._blur(torch.cat([x, y, x * x, y * y, x * y], dim=1))
        mx, my, xx, yy, xy = moments.chunk(5, dim=1)
        c1, c2 = 0.01**2, 0.03**2
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        structure = (2 * (xy - mx * my) + c2) / ((xx - mx**2) + (yy - my**2) + c2)
        whole = -functional.max_pool2d(-mask.to(x.dtype), self.window, stride=1) > 0.5
        return masked_mean(1.0 - luminance * structure, whole)

    def _blur(self, values: Tensor) -> Tensor:
        """Separable Gaussian without padding: each side loses `window` - 1 pixels."""
        c = values.shape[1]
        line = self.get_buffer("line").to(values.dtype)
        values = functional.conv2d(values, line.view(1, 1, 1, -1).repeat(c, 1, 1, 1), groups=c)
        return functional.conv2d(values, line.view(1, 1, -1, 1).repeat(c, 1, 1, 1), groups=c)
