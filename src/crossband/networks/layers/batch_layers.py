"""Discriminator layers that use statistics of the batch.

They are for discriminators only: a translation must not depend on the other samples of its batch,
and a model must not contain training images.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    """Append channels with each sample's similarity to the other samples of its batch.

    o_b(i) = sum over j of exp(-|M_b(i) - M_b(j)|_1), with M(i) [kernels, size] a linear function of
    the features of sample i. Salimans et al. 2016, Improved techniques for training GANs, section
    3.2. The features here are means over the pixels, so that any image size works.

    Args:
        channels: input channels.
        kernels: number of similarities, B in the paper; there are `channels + kernels` outputs.
        size: length of the compared vectors, C in the paper.
    """

    def __init__(self, channels: int, kernels: int = 16, size: int = 8) -> None:
        super().__init__()
        self.kernels = kernels
        self.weight = nn.Parameter(torch.randn(channels, kernels * size) / math.sqrt(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C + kernels, H, W]."""
        with torch.autocast(x.device.type, enabled=False):
            compared = x.mean(dim=(2, 3)).to(self.weight.dtype) @ self.weight
        compared = compared.view(len(x), self.kernels, -1)
        apart = (compared[:, None] - compared[None]).abs().sum(dim=3)  # [B, B, kernels]
        near = (-apart).exp().sum(dim=1)
        return torch.cat([x, _expand(near, x)], dim=1)


class MinibatchStd(nn.Module):
    """Append one channel: the mean standard deviation over a group of samples.

    Karras et al. 2018, Progressive growing of GANs, section 3.

    Args:
        group: largest number of samples in a group; a batch is split into groups of equal size.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C + 1, H, W]."""
        count = len(x)
        size = max(n for n in range(1, min(self.group, count) + 1) if count % n == 0)
        # Sample n is in group n % (B / G).
        groups = at_least_float32(x).reshape(size, count // size, *x.shape[1:])
        spread = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        return torch.cat([x, _expand(spread.repeat(size)[:, None], x)], dim=1)


def _expand(values: Tensor, like: Tensor) -> Tensor:
    """Repeat values of samples, [B, C], over all pixels: [B, C, H, W]."""
    return values.to(like.dtype)[:, :, None, None].expand(-1, -1, *like.shape[-2:])


class VirtualBatchNorm2d(nn.Module):
    """Normalise each sample with the statistics of a fixed reference batch and its own.

    Salimans et al. 2016, section 3.4: mean and mean square are those of the n reference samples and
    the sample itself, with weight 1 / (n + 1). Unlike with batch norm, a sample does not depend on
    the other samples of its batch.

    The paper uses it in the generator only, because it costs a second pass over the reference; that
    generator starts from noise. Here it is in the discriminator, `PatchCritic`. A translating
    generator with it would store a batch of training data in its model and run it for each tile,
    and every pixel would depend on the whole image, so that tiles would not agree.

    Args:
        channels: input and output channels; each has a scale and an offset.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.full((channels,), v)) for v in (1.0, 0.0))

    def forward(self, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Return both normalised: [B, C, H, W] and [n, C, h, w]."""
        share = 1.0 / (len(reference) + 1.0)
        of_reference, of_sample = _moments(reference, (0, 2, 3)), _moments(x, (2, 3))
        mixed = [
            share * a + (1.0 - share) * b for a, b in zip(of_sample, of_reference, strict=True)
        ]
        return self._scaled(x, *mixed), self._scaled(reference, *of_reference)

    def _scaled(self, x: Tensor, mean: Tensor, square: Tensor) -> Tensor:
        width = (square - mean**2).clamp_min(0.0) + 1e-5
        normal = (x - mean) * width.rsqrt()
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def _moments(x: Tensor, dims: tuple[int, ...]) -> list[Tensor]:
    x = at_least_float32(x)
    return [v.mean(dim=dims, keepdim=True) for v in (x, x**2)]


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32, for sums over many pixels."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class ReferenceBatch(nn.Module):
    """Stores the reference batch of virtual batch norm, as part of the module's state."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def set(self, batch: Tensor) -> None:
        """Store a batch if there is none yet; all processes store that of the first one."""
        if self.kept is not None:
            return
        self.kept = batch.detach().float().clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(self.kept, 0)

    def get_extra_state(self) -> Tensor:
        """Return the stored batch; an empty tensor if there is none."""
        return torch.zeros(0) if self.kept is None else self.kept

    def set_extra_state(self, state: Any) -> None:
        """See `get_extra_state`."""
        self.kept = state if state.numel() else None


class UsesReferenceBatch:
    """Interface of a discriminator with a reference batch; see `set_reference_batch`."""

    def set_reference_batch(self, source: Tensor, target: Tensor) -> None:
        """Store a batch of real pairs as the reference, if there is none yet."""
        raise NotImplementedError


def set_reference_batch(discriminator: nn.Module, source: Tensor, target: Tensor) -> None:
    """Pass the first batch of real pairs to a discriminator that needs a reference batch."""
    for module in discriminator.modules():
        if isinstance(module, UsesReferenceBatch):
            module.set_reference_batch(source, target)
