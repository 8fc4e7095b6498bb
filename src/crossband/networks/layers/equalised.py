"""Equalised learning rate and pixel norm: layers of Karras et al. 2018, Progressive growing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class EqualConv2d(nn.Conv2d):
    """A convolution with weights of N(0, 1) that are scaled at runtime by gain / sqrt(inputs).

    Adam changes every weight by about the same amount. As all weights have the same standard
    deviation, all layers learn at the same rate (section 4.1).

    Args:
        before: input channels.
        after: output channels.
        kernel: odd kernel size; zero padding keeps the image size.
        gain: sqrt(2) before a (leaky) ReLU, 1 otherwise.
        inputs: fan-in of the scale; by default `before * kernel^2`. It is given for layers that
            read bands, so that the scale does not depend on the number of bands.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        gain: float = math.sqrt(2),
        inputs: int | None = None,
    ) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2)
        nn.init.normal_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.gain = gain / math.sqrt(inputs or before * kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, after, H, W]."""
        out: Tensor = self._conv_forward(x, self.weight * self.gain, self.bias)
        return out


class EqualLinear(nn.Module):
    """A linear layer like `EqualConv2d`.

    Args:
        before: input features.
        after: output features.
        gain: see `EqualConv2d`.
        rate: factor of the learning rate; 0.01 in StyleGAN's mapping network.
        bias: initial value of the biases.
    """

    def __init__(
        self, before: int, after: int, gain: float = 1.0, rate: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before) / rate)
        self.bias = nn.Parameter(torch.full((after,), bias / rate))
        self.gain, self.rate = gain * rate / math.sqrt(before), rate

    def forward(self, x: Tensor) -> Tensor:
        """[B, before] -> [B, after]."""
        return functional.linear(x, self.weight * self.gain, self.bias * self.rate)


class PixelNorm(nn.Module):
    """x / sqrt(mean over channels of x^2 + 1e-8) at each pixel (section 4.2).

    >>> PixelNorm()(torch.tensor([[3.0, 4.0]]))  # the root of the mean square is sqrt(12.5)
    tensor([[0.8485, 1.1314]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] -> the same."""
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
