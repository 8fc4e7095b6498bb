"""Resize like MATLAB's `imresize(..., 'bicubic')`, the standard of super-resolution.

Resizing is separable and linear, so each axis is one product with a matrix [out, in]. `resize_to`
is for training: it brings the source to the target's pixels for a loss or a discriminator.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crossband.core.cubic import cubic_weights
from crossband.errors import CrossbandError

Array = NDArray[np.float64]


def bicubic(x: Tensor, scale: float) -> Tensor:
    """Resize by a factor, as MATLAB's `imresize(x, scale, 'bicubic')` on doubles.

    The kernel is the cubic of Keys with a = -0.5 (Keys 1981, "Cubic convolution interpolation for
    digital image processing", eq. 15). Where the image shrinks it is widened by 1 / scale, which
    is MATLAB's antialiasing. Weights sum to 1, borders are mirrored (the edge pixel twice).

    Args:
        x: float32 or float64 [..., H, W].
        scale: pixels of the result per pixel of `x`, along each side; above 0.

    Returns:
        [..., ceil(H * scale), ceil(W * scale)], of the type and on the device of `x`. It may lie
        outside the range of `x`: the kernel has negative lobes. Differentiable.

    Raises:
        CrossbandError: a scale that is not above 0, no floating-point numbers, no two axes.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise CrossbandError(f"bicubic: the scale must be above 0, not {scale}")
    if not x.is_floating_point() or x.dim() < 2:
        raise CrossbandError(
            f"bicubic takes floats [..., H, W], not {x.dtype} {list(x.shape)}: convert first"
        )
    height, width = x.shape[-2:]
    return resample(x, bicubic_axis(height, scale), bicubic_axis(width, scale))


def resize_to(source: Tensor, size: Sequence[int]) -> Tensor:
    """Return the source at the target's size, [B, Cs, H, W]; bilinear where the sizes differ.

    Args:
        source: [B, Cs, h, w].
        size: H and W.
    """
    if source.shape[-2:] == tuple(size):
        return source
    return functional.interpolate(source, tuple(size), mode="bilinear", align_corners=False)


def resample(x: Tensor, rows: Array, columns: Array) -> Tensor:
    """Multiply both axes of [..., H, W] by matrices [h, H] and [w, W]; returns [..., h, w]."""
    down, right = (torch.from_numpy(m).to(x.device, x.dtype) for m in (rows, columns))
    return down @ (x @ right.mT)


def resize_matrix(
    length: int, scale: float, weight: Callable[[Array], Array], reach: float
) -> Array:
    """Return the matrix that resizes an axis.

    Args:
        length: pixels of the axis.
        scale: pixels of the result per pixel; the result has ceil(length * scale).
        weight: kernel, a function of distances in pixels of the axis.
        reach: the kernel is 0 at this distance and beyond.

    Returns:
        float64 [out, length]; rows sum to 1. The centre of pixel i of the result lies at
        (i + 0.5) / scale - 0.5.
    """
    out = math.ceil(length * scale)
    centres = (np.arange(out) + 0.5) / scale - 0.5
    taps = np.arange(math.ceil(2 * reach) + 2)
    at = np.floor(centres - reach).astype(int)[:, None] + taps
    distance = np.abs(centres[:, None] - at)
    weights = np.where(distance < reach, weight(distance), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((out, length))
    np.add.at(matrix, (np.arange(out)[:, None], mirrored(at, length)), weights)
    return matrix


def mirrored(at: NDArray[np.int_], length: int) -> NDArray[np.int_]:
    """Fold positions beyond an axis back into it: ..., 1, 0 | 0, 1, ..., n-1 | n-1, n-2, ...

    >>> mirrored(np.array([-2, -1, 0, 2, 3, 4]), 3).tolist()
    [1, 0, 0, 2, 2, 1]
    """
    folded = np.mod(at, 2 * length)
    return np.asarray(np.minimum(folded, 2 * length - 1 - folded))


@functools.lru_cache(maxsize=32)
def bicubic_axis(length: int, scale: float) -> Array:
    """Return the matrix [ceil(length * scale), length] that resizes an axis as `bicubic` does.

    The result is cached, because networks ask for it often; do not modify it.
    """
    widened = min(scale, 1.0)

    def weight(distance: Array) -> Array:
        return cubic_weights(distance * widened)

    return resize_matrix(length, scale, weight, 2.0 / widened)
