"""Layers that pix2pix-like generators share, and the receptive field of a chain of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.resample import bicubic, bicubic_axis
from crossband.networks.base import LARGEST_STRIDE
from crossband.networks.tracing import infers_on_cpu, is_traced

Norm = Literal["batch", "instance", "affine", "none"]
Upsample = Literal["transpose", "resize", "bilinear", "bicubic"]
Initial = Literal["dcgan", "orthogonal"]
Activation = Literal["tanh", "sigmoid", "none"]
#: Layers whose weights are [in, out, ...]; those of the others are [out, in, ...].
TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
#: First and last position, along one side.
Interval = tuple[int, int]


def norm_layers(norm: Norm, channels: int) -> list[nn.Module]:
    """Return a list with the norm layer, empty for `none`.

    Args:
        norm: `batch`; `instance`, without weights as in pix2pix; `affine`, instance norm with
            weights; `none`. A batch norm that uses the statistics of each image at inference, as in
            pix2pix, equals `affine`.
        channels: input channels.

    >>> norm_layers("none", 4)
    []
    """
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.InstanceNorm2d(channels, affine=norm == "affine")]


def uses_image_statistics(norm: Norm) -> bool:
    """Return whether a norm uses statistics of each image, so that pixels depend on all of it."""
    return norm in ("instance", "affine")


def has_affine_weights(norm: Norm) -> bool:
    """Return whether a norm has weights; then a convolution before it needs no bias."""
    return norm in ("batch", "affine")


def upsample_layers(
    upsample: Upsample, before: int, after: int, *, kernel: int, bias: bool
) -> list[nn.Module]:
    """Return layers that double height and width: [B, before, H, W] -> [B, after, 2 H, 2 W].

    A transpose convolution whose kernel size is not a multiple of its stride causes checkerboard
    artefacts; upsampling before a convolution does not (Odena et al. 2016, Deconvolution and
    checkerboard artifacts).

    Args:
        upsample: `transpose`, or a 3 x 3 convolution after `resize` (nearest), `bilinear` or
            `bicubic` upsampling.
        before: input channels.
        after: output channels.
        kernel: kernel size of the transpose convolution, 3 or 4.
        bias: whether the convolution has a bias.
    """
    if upsample != "transpose":
        mode = "nearest" if upsample == "resize" else upsample
        larger = nn.Upsample(scale_factor=2, mode=mode)
        return [larger, nn.Conv2d(before, after, 3, padding=1, bias=bias)]
    odd = kernel % 2  # an odd kernel needs output padding to double the height
    return [nn.ConvTranspose2d(before, after, kernel, 2, 1, output_padding=odd, bias=bias)]


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the precision of its input.

    Autocast on a CPU makes it float32. As padding computes nothing, that changes no value, and its
    input and output are converted for nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H + 2 P, W + 2 P]."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


class WithReceptiveField(nn.Module):
    """A layer that computes its own receptive field, for the function `receptive_field`."""

    def receptive_field(self, interval: Interval) -> Interval:
        """Return the interval of inputs that an interval of outputs depends on."""
        raise NotImplementedError


class Resize(WithReceptiveField):
    """Enlarge by `scale` with the bicubic kernel, in fp32; see `core.resample.bicubic`.

    Args:
        scale: pixels of the result per pixel along one side.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> float32 [B, C, H * scale, W * scale]."""
        with torch.autocast(x.device.type, enabled=False):
            if is_traced():
                return _bicubic_phases(_bicubic_phases(x.float(), self.scale, 2), self.scale, 3)
            return bicubic(x.float(), float(self.scale))

    def receptive_field(self, interval: Interval) -> Interval:
        """Two pixels on either side of the centre; a single pixel if the centre lies on it."""
        return _interpolated_field(interval, self.scale, 2)


def _bicubic_phases(x: Tensor, scale: int, axis: int) -> Tensor:
    """Resize one axis as `bicubic` does, by a convolution for each phase of the scale.

    A trace cannot hold the matrices of `bicubic`: their sizes are those of the image.

    Args:
        x: float32 [B, C, H, W].
        scale: pixels of the result per pixel.
        axis: 2 for rows, 3 for columns.
    """
    reach, length, channels = 2, x.shape[axis], int(x.shape[1])
    at = torch.arange(-reach, length + reach).remainder(torch.as_tensor(2 * length))
    x = x.index_select(axis, torch.minimum(at, 2 * length - 1 - at))  # mirrored, the edge twice
    # The middle rows of the matrix for five pixels, which no border folds.
    taps = bicubic_axis(2 * reach + 1, float(scale))[reach * scale : (reach + 1) * scale]
    kernel = torch.from_numpy(taps).to(x.dtype).repeat(channels, 1)[:, None]
    kernel = kernel[..., None] if axis == 2 else kernel[:, :, None]
    phases = functional.conv2d(x, kernel, groups=channels)
    batch, _, height, width = phases.shape
    phases = phases.reshape(batch, channels, scale, height, width)
    if axis == 2:
        return phases.permute(0, 1, 3, 2, 4).reshape(batch, channels, -1, width)
    return phases.permute(0, 1, 3, 4, 2).reshape(batch, channels, height, -1)


def _interpolated_field(interval: Interval, scale: int, reach: int) -> Interval:
    """Return the inputs of interpolated outputs, with `reach` pixels on either side."""

    def taps(at: int) -> Interval:
        # The centre lies at (at + 1/2) / scale - 1/2; 2 * scale times that is an integer.
        below, beyond = divmod(2 * at + 1 - scale, 2 * scale)
        return (below, below) if beyond == 0 else (below - reach + 1, below + reach)

    return taps(interval[0])[0], taps(interval[1])[1]


class Head(nn.Module):
    """The last convolution and its activation, computed in fp32 at inference.

    In bfloat16 the output would have steps of 1/256 of its value, which are visible in flat areas.
    In training this rounding does no harm, and fp32 at full resolution would be slow.

    Args:
        layers: the convolution and its padding.
        activation: `tanh` as in pix2pix, shifted from -1..1 to 0..1 (which is sigmoid(2 x));
            `sigmoid`; or `none`, which allows outputs outside 0..1.
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
        if self.activation == "none":
            # Also so -1..1 becomes 0..1, so that a new network returns about 0.5.
            return 0.5 + 0.5 * y
        y = 2.0 * y if self.activation == "tanh" else y
        if infers_on_cpu(y):
            # The last numbers of `torch.sigmoid` differ in their last bit from those within, so
            # that a tile would not equal the whole scene.
            return 1.0 / (1.0 + torch.exp(-y))
        return torch.sigmoid(y)


def initialise(network: nn.Module, initial: Initial = "dcgan") -> None:
    """Initialise the weights of convolutions and norms in place; biases are 0.

    Args:
        network: the network.
        initial: `dcgan`: N(0, 0.02), norms N(1, 0.02), as in DCGAN (Radford et al. 2016, section 4)
            and pix2pix; `orthogonal`: orthonormal rows, one for each output (Saxe et al. 2014), as
            in BigGAN (Brock et al. 2019), norms 1.
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
    """Return the interval of inputs, along one side, that an interval of outputs depends on.

    Negative positions lie before the first pixel. A layer that works on single pixels, or a norm
    with fixed statistics, returns the interval unchanged.

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


def margin_of(field: Callable[[Interval], Interval], stride: int, scale: int = 1) -> int:
    """Return the margin of a network: the largest radius of its receptive field over all phases.

    Args:
        field: outputs -> source pixels that they depend on; see `receptive_field`.
        stride: stride of the network.
        scale: output pixels per source pixel along one side.
    """
    if stride > LARGEST_STRIDE:  # looking at each phase would not end
        raise ValueError(f"a stride of {stride}, and {LARGEST_STRIDE} is the largest")
    margin = 0
    for phase in range(stride):
        low, high = field((phase * scale, phase * scale + scale - 1))
        margin = max(margin, phase - low, high - phase)
    return margin
