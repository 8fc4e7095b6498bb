"""Degradations of known form: bicubic, and the point spread function of a sensor."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from crossband.core.resample import Array, bicubic, resample, resize_matrix
from crossband.data.degrade.base import Degradation, check_shape, interval, jpeg
from crossband.errors import RecipeError
from crossband.raster.point_spread import gaussian_width

#: The Gaussian is truncated at this many standard deviations; 6e-5 of it lies beyond.
CUT = 4.0
#: Largest error of the MTF of the sampled kernel.
TOLERANCE = 0.01


class Bicubic(Degradation):
    """MATLAB's bicubic resize, the degradation of most published super-resolution."""

    def __init__(self) -> None:
        # The widened kernel reaches 2 coarse pixels from the centre: 1.5 beyond the pixel's edge.
        self.margin = 2

    def __call__(self, x: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
        """Resize by 1 / scale; see `bicubic`."""
        check_shape(x, scale)
        return bicubic(x, 1 / scale)


class SensorMTF(Degradation):
    """The image of a sensor of known sharpness: Gaussian blur, noise, JPEG, in this order.

    The point spread function is a Gaussian whose modulation transfer function (MTF) has a given
    value at the Nyquist frequency of the coarse grid, as in Aiazzi et al. 2006 ("MTF-tailored
    multiscale fusion of high-resolution MS and Pan imagery", PE&RS 72(5)). A Gaussian of standard
    deviation s has the MTF exp(-2 pi^2 s^2 f^2); at f = 1 / (2 scale) cycles per fine pixel that
    is `mtf` for s = scale / pi * sqrt(-2 ln mtf). Borders are mirrored. `x` is assumed to
    be perfectly sharp; otherwise the result is slightly softer than `mtf`.

    Args:
        mtf: value at the coarse grid's Nyquist frequency, one for all bands or one for each;
            0.1 to 0.4 for most multispectral sensors.
        noise: standard deviation of white noise in physical units, or a range, from which one value
            is drawn for all bands.
        jpeg: quality of the JPEG, 1 to 100, or a range. Values are then clipped to 0..1, so this is
            for pictures in unit `display`, of one or three bands.
    """

    examples = ({}, {"mtf": [0.1, 0.3, 0.2]}, {"mtf": 0.02})

    def __init__(
        self,
        mtf: float | Sequence[float] = 0.2,
        noise: float | Sequence[float] = 0.0,
        jpeg: int | Sequence[int] | None = None,
    ) -> None:
        self.mtf = [float(mtf)] if isinstance(mtf, int | float) else [float(m) for m in mtf]
        if not self.mtf or not all(0.0 < m < 1.0 for m in self.mtf):
            raise RecipeError(f"SensorMTF: mtf must lie between 0 and 1, not {mtf}")
        self.noise = interval("SensorMTF", "noise", noise, 0.0, math.inf)
        self.quality = None if jpeg is None else interval("SensorMTF", "jpeg", jpeg, 1, 100)
        self.random = self.noise[1] > 0 or self.quality is not None
        # Counted from the centre of a coarse pixel. With JPEG, whose blocks are counted from the
        # corner of the image, no margin makes windows equal to the whole.
        self.margin = max(math.ceil(CUT * max(gaussian_width(m) for m in self.mtf) - 0.5), 0)

    def __call__(self, x: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
        """Blur, sample at the centres of the coarse pixels, add noise, compress."""
        check_shape(x, scale)
        if len(self.mtf) not in (1, len(x)):
            raise RecipeError(f"SensorMTF: {len(self.mtf)} values of mtf for {len(x)} bands")
        mtf = self.mtf * len(x) if len(self.mtf) == 1 else self.mtf
        out = torch.stack([_blurred(band, scale, m) for band, m in zip(x, mtf, strict=True)])
        # Drawn before the noise, so that they do not depend on the size of the image.
        level = rng.uniform(*self.noise)
        low, high = map(int, self.quality or (0, 0))
        quality = int(rng.integers(low, high + 1))
        if self.noise[1] > 0:
            white = torch.from_numpy(rng.standard_normal(tuple(out.shape)))
            out = out + white.to(out.device, out.dtype) * level
        return jpeg(out, quality) if self.quality else out


def _blurred(band: Tensor, scale: int, mtf: float) -> Tensor:
    height, width = band.shape
    rows = _gaussian(height, scale, mtf)
    return resample(band, rows, rows if width == height else _gaussian(width, scale, mtf))


@functools.lru_cache(maxsize=32)
def _gaussian(length: int, scale: int, mtf: float) -> Array:
    """Return the matrix [length / scale, length] that blurs and samples one axis."""
    width = gaussian_width(mtf, scale)

    def weight(distance: Array) -> Array:
        return np.asarray(np.exp(-0.5 * (distance / width) ** 2))

    reach = max(CUT * width, 1.0)
    reached = transfer(scale, weight, reach)
    if not abs(reached - mtf) <= TOLERANCE:
        raise RecipeError(
            f"SensorMTF: at scale {scale} the pixels are too few for an MTF of {mtf:g} (it would "
            f"be {reached:.2f}): choose a lower one, or Bicubic"
        )
    return resize_matrix(length, 1 / scale, weight, reach)


def transfer(scale: int, weight: Callable[[Array], Array], reach: float) -> float:
    """Return the MTF of a sampled kernel at the Nyquist frequency of the coarse grid.

    Args:
        scale: fine pixels per coarse pixel.
        weight: the kernel, a function of distances in fine pixels.
        reach: distance beyond which it is 0.
    """
    around = math.ceil(reach / scale)  # coarse pixels on each side that hold all of the kernel
    row = resize_matrix((2 * around + 1) * scale, 1 / scale, weight, reach)[around]
    from_centre = np.arange(len(row)) - (len(row) - 1) / 2
    return float(row @ np.cos(np.pi * from_centre / scale))
