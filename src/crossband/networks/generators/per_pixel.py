"""Networks that see single pixels: the baselines of every model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.tracing import infers_on_cpu

#: Pixels that an MLP computes at once on a CPU, so that its hidden layers stay in the cache.
CACHED = 8192


class _LinearInFeatures(Generator):
    """A network that is linear in `features(x)`, so that least squares gives its weights."""

    parallel_tiles = True

    def features(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> [B, F, H, W], of which the output is a linear combination."""
        raise NotImplementedError

    def set_solution(self, weights: Tensor) -> None:
        """Set the weights to the solution of least squares, [F, Ct]."""
        raise NotImplementedError


class PerPixelMean(_LinearInFeatures):
    """A constant: the mean target.

    Args:
        in_channels: source bands.
        out_channels: target bands.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.mean = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> [B, Ct, H, W]."""
        return self.mean.view(1, -1, 1, 1).expand(x.shape[0], -1, *x.shape[-2:])

    def features(self, x: Tensor) -> Tensor:
        """A constant: [B, 1, H, W]."""
        return torch.ones_like(x[:, :1])

    @torch.no_grad()
    def set_solution(self, weights: Tensor) -> None:
        """Set the mean to [1, Ct]."""
        self.mean.copy_(weights[0])


class PerPixelLinear(_LinearInFeatures):
    """A linear function of the source bands of each pixel.

    Args:
        in_channels: source bands.
        out_channels: target bands.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.line = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> [B, Ct, H, W]."""
        # Sums of bands take far less time than a convolution on a CPU, and are the same for a
        # pixel wherever it lies, which a product of matrices is not. In fp32, as bfloat16 outputs
        # have steps of 1/256 of their value.
        with torch.autocast(x.device.type, enabled=False):
            out = x[:, :1] * self.line.weight[:, 0]
            for band in range(1, self.in_channels):
                out = out + x[:, band : band + 1] * self.line.weight[:, band]
            return out if self.line.bias is None else out + self.line.bias[:, None, None]

    def features(self, x: Tensor) -> Tensor:
        """The bands and a constant: [B, Cs + 1, H, W]."""
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)

    @torch.no_grad()
    def set_solution(self, weights: Tensor) -> None:
        """Set the weights to [Cs + 1, Ct]; the last row is the constant."""
        self.line.weight.copy_(weights[:-1].T[:, :, None, None])
        if self.line.bias is not None:
            self.line.bias.copy_(weights[-1])


class PerPixelMLP(Generator):
    """An MLP on the source bands of each pixel: 1 x 1 convolutions with GELU.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: hidden channels.
        depth: hidden layers.
    """

    parallel_tiles = True

    def __init__(
        self, in_channels: int = 3, out_channels: int = 1, width: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise RecipeError("PerPixelMLP needs width and depth of at least 1")
        self.in_channels, self.out_channels = in_channels, out_channels
        layers: list[nn.Module] = []
        channels = in_channels
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 1), nn.GELU()]
            channels = width
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> float32 [B, Ct, H, W]."""
        convolutions = [layer for layer in self.hidden if isinstance(layer, nn.Conv2d)]
        parts = infers_on_cpu(x) and x.numel() > 0
        if parts and len(convolutions) > 1:
            from crossband.networks.compiled_layers import mlp_outputs  # Numba takes a while

            return mlp_outputs([*convolutions, self.last], x.float(), CACHED)
        pixels = x.movedim(1, -1).reshape(-1, self.in_channels)
        some = torch.split(pixels, CACHED) if parts else (pixels,)
        values = torch.cat([self._values(part) for part in some])
        return values.view(x.shape[0], *x.shape[-2:], self.out_channels).permute(0, 3, 1, 2)

    def _values(self, pixels: Tensor) -> Tensor:
        """[N, Cs] -> float32 [N, Ct]."""
        for layer in self.hidden:
            # A product of matrices: a convolution of one pixel, without its layouts.
            pixels = _product(layer, pixels) if isinstance(layer, nn.Conv2d) else layer(pixels)
        # In fp32: bfloat16 outputs have steps of 1/256 of their value, visible in flat areas.
        with torch.autocast(pixels.device.type, enabled=False):
            return _product(self.last, pixels.float())


def _product(layer: nn.Conv2d, pixels: Tensor) -> Tensor:
    return functional.linear(pixels, layer.weight.flatten(1), layer.bias)
