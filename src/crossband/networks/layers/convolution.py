"""Layers that pix2pix's generators share, and how far a chain of layers sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from crossband.core.resample import bicubic

Norm = Literal["batch", "instance", "affine", "none"]
Upsample = Literal["transpose", "resize", "bilinear", "bicubic"]
Initial = Literal["dcgan", "orthogonal"]
Activation = Literal["tanh", "sigmoid", "none"]
#: Layers whose weights are [in, out, ...]; those of the others are [out, in, ...].
TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
#: First and last position, along one side.
Interval = tuple[int, int]


def norm_layers(norm: Norm, channels: int) -> list[nn.Module]:
    """Return the norm as a list of one layer or none.

    Args:
        norm: `batch`; `instance`, which has no weights, as in pix2pix; `affine`, the same with
            weights; `none`. A batch norm that measures each picture anew, as pix2pix does when it
            translates, is `affine`.
        channels: of what is normed.

    >>> norm_layers("none", 4)
    []
    """
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.InstanceNorm2d(channels, affine=norm == "affine")]


def uses_image_statistics(norm: Norm) -> bool:
    """Say whether a norm measures each picture, so that every pixel sees all."""
    return norm in ("instance", "affine")


def has_affine_weights(norm: Norm) -> bool:
    """Say whether a norm has weights; a convolution before it then needs no bias."""
    return norm in ("batch", "affine")


def upsample_layers(
    upsample: Upsample, before: int, after: int, *, kernel: int, bias: bool
) -> list[nn.Module]:
    """Return layers that double height and width: [B, before, H, W] -> [B, after, 2 H, 2 W].

    A transpose convolution whose kernel and stride do not fit leaves a checkerboard; repeating
    pixels and then convolving does not (Odena et al. 2016, Deconvolution and checkerboard
    artifacts).

    Args:
        upsample: `transpose`, or a 3 x 3 convolution on a map that was made larger before: by
            repeating each pixel (`resize`), or `bilinear` or `bicubic` between the pixels.
        before: channels in.
        after: channels out.
        kernel: of the transpose convolution, 3 or 4.
        bias: of the convolution.
    """
    if upsample != "transpose":
        mode = "nearest" if upsample == "resize" else upsample
        larger = nn.Upsample(scale_factor=2, mode=mode)
        return [larger, nn.Conv2d(before, after, 3, padding=1, bias=bias)]
    odd = kernel % 2  # an odd kernel needs one more row to double the height
    return [nn.ConvTranspose2d(before, after, kernel, 2, 1, output_padding=odd, bias=bias)]


class WithReceptiveField(nn.Module):
    """A layer of our own that says how far it sees, for `receptive_field`."""

    def receptive_field(self, interval: Interval) -> Interval:
        """Return the inputs that outputs `interval` depend on."""
        raise NotImplementedError


class Resize(WithReceptiveField):
    """Make `scale` times larger with the cubic kernel, in fp32; see `core.resample.bicubic`.

    Args:
        scale: pixels of the result per pixel along one side.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 [B, C, H * scale, W * scale]."""
        with torch.autocast(x.device.type, enabled=False):
            return bicubic(x.float(), float(self.scale))

    def receptive_field(self, interval: Interval) -> Interval:
        """Two pixels to either side of the centre; where the centre is a pixel's, that one only."""
        return _interpolated_field(interval, self.scale, 2)


def _interpolated_field(interval: Interval, scale: int, reach: int) -> Interval:
    """Return the inputs of outputs that are interpolated, with `reach` pixels to either side."""

    def taps(at: int) -> Interval:
        # The centre lies at (at + 1/2) / scale - 1/2: twice the scale times that is a whole number.
        below, beyond = divmod(2 * at + 1 - scale, 2 * scale)
        return (below, below) if beyond == 0 else (below - reach + 1, below + reach)

    return taps(interval[0])[0], taps(interval[1])[1]


class Head(nn.Module):
    """The last convolution and what follows it; answers are computed in fp32.

    In bfloat16 the sum would come in steps of 1/256 of its value, which shows in flat fields.
    While training that is noise which costs nothing, and fp32 at full resolution costs a lot.

    Args:
        layers: the convolution, with its padding; bias at the end.
        activation: `tanh` as in pix2pix, moved from -1..1 to 0..1 (which is sigmoid(2 x));
            `sigmoid`; or `none`, which can answer beyond 0..1.
    """

    def __init__(self, layers: Iterable[nn.Module], activation: Activation) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 [B, Ct, H, W]."""
        if self.training:
            y: Tensor = self.layers(x).float()
        else:
            with torch.autocast(x.device.type, enabled=False):
                y = self.layers(x.float())
        if self.activation == "tanh":
            return torch.sigmoid(2.0 * y)
        # Without an activation, too, -1..1 becomes 0..1 and a new network answers with the middle.
        return torch.sigmoid(y) if self.activation == "sigmoid" else 0.5 + 0.5 * y


def initialise(network: nn.Module, initial: Initial = "dcgan") -> None:
    """Draw the weights of convolutions and norms; biases are 0.

    Args:
        network: it is changed.
        initial: `dcgan`: N(0, 0.02), norms N(1, 0.02), as DCGAN (Radford et al. 2016, section 4)
            and after it pix2pix; `orthogonal`: rows, one for each output, at right angles and of
            length 1 (Saxe et al. 2014), as BigGAN (Brock et al. 2019), norms 1.
    """
    for module in network.modules():
        norm = isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d)
        if not (norm or isinstance(module, nn.Conv2d | nn.ConvTranspose2d)):
            continue
        weight, bias = module.weight, module.bias
        if isinstance(weight, Tensor):  # instance norm may have none
            if initial == "dcgan":
                nn.init.normal_(weight, 1.0 if norm else 0.0, 0.02)
            elif norm:
                nn.init.ones_(weight)
            elif isinstance(module, TRANSPOSED):
                rows = nn.init.orthogonal_(weight.detach().transpose(0, 1).contiguous())
                weight.data.copy_(rows.transpose(0, 1))
            else:
                nn.init.orthogonal_(weight)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)


def receptive_field(layer: nn.Module, interval: Interval) -> Interval:
    """Return the inputs, along one side, that outputs `interval` of a layer depend on.

    Negative positions lie before the first pixel. A layer that works on each pixel alone, or a
    norm with fixed statistics, sees what it is asked for.

    >>> receptive_field(nn.Conv2d(1, 1, 4, 2, 1), (0, 0))
    (-1, 2)
    >>> receptive_field(nn.ConvTranspose2d(1, 1, 4, 2, 1), (0, 1))
    (-1, 1)
    """
    low, high = interval
    match layer:
        case nn.Sequential():
            for part in reversed(layer):
                low, high = receptive_field(part, (low, high))
        case nn.Conv2d():
            step, pad = layer.stride[0], int(layer.padding[0])
            return low * step - pad, high * step - pad + layer.kernel_size[0] - 1
        case nn.ConvTranspose2d():
            step, pad = layer.stride[0], int(layer.padding[0])
            first = low + pad - layer.kernel_size[0] + 1
            return -(-first // step), (high + pad) // step
        case nn.MaxPool2d() | nn.AvgPool2d():
            size, step, pad = (
                int(n[0]) if isinstance(n, tuple) else int(n)
                for n in (layer.kernel_size, layer.stride, layer.padding)
            )
            return low * step - pad, high * step - pad + size - 1
        case nn.Upsample():
            step = int(layer.scale_factor)  # type: ignore[arg-type]
            if layer.mode != "nearest":
                return _interpolated_field(interval, step, 1 if layer.mode == "bilinear" else 2)
            low, high = low // step, high // step
        case nn.PixelShuffle():
            low, high = low // layer.upscale_factor, high // layer.upscale_factor
        case nn.ReflectionPad2d():
            low, high = low - layer.padding[0], high - layer.padding[0]
        case WithReceptiveField():
            low, high = layer.receptive_field(interval)
        case _:
            pass
    return low, high


def margin_of(trace: Callable[[Interval], Interval], stride: int, scale: int = 1) -> int:
    """Return the margin of a network: the farthest that any output pixel sees, over all phases.

    Args:
        trace: outputs -> source pixels that they depend on; see `receptive_field`.
        stride: the network's stride.
        scale: output pixels per source pixel along one side.
    """
    margin = 0
    for phase in range(stride):
        low, high = trace((phase * scale, phase * scale + scale - 1))
        margin = max(margin, phase - low, high - phase)
    return margin
