"""Blind degradation: two rounds of random blur, resize, noise and JPEG, after Real-ESRGAN.

Written from Wang, Xie, Dong, Shan 2021, "Real-ESRGAN: training real-world blind super-resolution
with pure synthetic data", ICCV workshops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import j1
from torch import Tensor
from torch.nn import functional

from crossband.core.resample import mirrored
from crossband.data.degrade.base import Degradation, check_shape, interval, jpeg
from crossband.errors import RecipeError

Array = NDArray[np.float64]
Range = tuple[float, float]
Ranges = Sequence[Sequence[float]]


class Blind(Degradation):
    """The degradation of pictures by an unknown camera, editing and the web.

    A round is: blur, resize, noise, JPEG. After the second round's noise come a last resize to
    the exact size with a sinc filter (ringing, overshoot) and JPEG, in either order. Kernels,
    factors, noise levels and qualities are drawn for each image, and are the same for all its
    bands. It is for pictures in unit `display`: values are clipped to 0..1.

    The defaults are those of the paper and of the training options that its authors published,
    except `cutoff`.

    Args:
        kernels: probabilities of Gaussian, generalised Gaussian and plateau-shaped kernels.
        isotropic: probability of an isotropic kernel; the others have two widths and an angle.
        sizes: smallest and largest side of a kernel in pixels, odd.
        sigma: range of the kernels' widths in pixels, one for each round.
        generalised: range of the shape of generalised Gaussians, exp(-q^shape / 2).
        plateau: range of the shape of plateaus, 1 / (1 + q^shape).
        sinc: probability of a sinc filter instead of these kernels.
        cutoff: range of the sinc filters' cutoff frequency in radians per pixel.
        second_blur: probability that the second round blurs.
        resize: probabilities that a round enlarges, shrinks, keeps the size.
        resize_range: smallest and largest factor of the resize in each round; the first round is
            relative to the image, the second to the size of the result.
        gaussian: probability of Gaussian noise; otherwise it is Poisson noise.
        noise: range of the Gaussian's standard deviation in 1/255, one for each round.
        poisson: range of the factor on Poisson noise as 255 photons at 1.0 make it.
        grey: probability that the noise is the same in all bands.
        jpeg: range of the quality, both times; null means no JPEG. With JPEG, pictures must have
            one or three bands.
        final_sinc: probability of a sinc filter after the last resize.
    """

    random = True

    def __init__(
        self,
        kernels: Sequence[float] = (0.7, 0.15, 0.15),
        isotropic: float = 0.69,
        sizes: Sequence[int] = (7, 21),
        sigma: Ranges = ((0.2, 3.0), (0.2, 1.5)),
        generalised: Sequence[float] = (0.5, 4.0),
        plateau: Sequence[float] = (1.0, 2.0),
        sinc: float = 0.1,
        cutoff: Sequence[float] = (math.pi / 3, math.pi),
        second_blur: float = 0.8,
        resize: Ranges = ((0.2, 0.7, 0.1), (0.3, 0.4, 0.3)),
        resize_range: Ranges = ((0.15, 1.5), (0.3, 1.2)),
        gaussian: float = 0.5,
        noise: Ranges = ((1.0, 30.0), (1.0, 25.0)),
        poisson: Ranges = ((0.05, 3.0), (0.05, 2.5)),
        grey: float = 0.4,
        jpeg: int | Sequence[int] | None = (30, 95),
        final_sinc: float = 0.8,
    ) -> None:
        self.kernels = _shares("kernels", kernels)
        self.sizes = interval("Blind", "sizes", sizes, 3, 99)
        if any(size % 2 == 0 for size in self.sizes):
            raise RecipeError(f"Blind: sizes must be odd, not {sizes}")
        self.sigma = _rounds("sigma", sigma, 1e-2, 99)
        self.generalised = interval("Blind", "generalised", generalised, 1e-2, 99)
        self.plateau = interval("Blind", "plateau", plateau, 1e-2, 99)
        self.cutoff = interval("Blind", "cutoff", cutoff, 1e-2, math.pi)
        self.resize_range = _rounds("resize_range", resize_range, 1e-2, 10)
        if any(low > 1 or high < 1 for low, high in self.resize_range):
            raise RecipeError(f"Blind: resize_range must hold 1, not {resize_range}")
        self.noise = _rounds("noise", noise, 0, 255)
        self.poisson = _rounds("poisson", poisson, 0, 255)
        if len(resize) != 2:
            raise RecipeError(f"Blind: resize has one entry for each of two rounds, not {resize}")
        self.resize = [_shares("resize", shares) for shares in resize]
        self.isotropic = _share("isotropic", isotropic)
        self.sinc, self.final_sinc = _share("sinc", sinc), _share("final_sinc", final_sinc)
        self.second_blur = _share("second_blur", second_blur)
        self.gaussian, self.grey = _share("gaussian", gaussian), _share("grey", grey)
        self.quality = None if jpeg is None else interval("Blind", "jpeg", jpeg, 1, 100)
        # Two kernels on fine pixels (half as many coarse ones or fewer), one on coarse pixels, the
        # resizes. JPEG blocks, and rounds that shrink more, carry a little further.
        self.margin = int(self.sizes[1] - 1) + 4

    def __call__(self, x: Tensor, scale: int, rng: np.random.Generator) -> Tensor:
        """Degrade a picture."""
        check_shape(x, scale)
        # Noise has its own generator, so that the size of an image does not change other draws.
        grain = np.random.default_rng(int(rng.integers(2**62)))
        height, width = (side // scale for side in x.shape[-2:])
        bases = [(x.shape[-2], x.shape[-1]), (height, width)]
        for turn, (rows, columns) in enumerate(bases):
            if turn == 0 or rng.random() < self.second_blur:
                x = _filtered(x, self._kernel(turn, rng))
            factor = self._factor(turn, rng)
            x = _resized(x, max(round(rows * factor), 1), max(round(columns * factor), 1), rng)
            x = self._noisy(x, turn, rng, grain).clamp(0, 1)
            if turn == 0:
                x = self._compressed(x, rng)
        compress_first = rng.random() < 0.5
        if compress_first:
            x = self._compressed(x, rng)
        x = _resized(x, height, width, rng)
        if rng.random() < self.final_sinc:
            x = _filtered(x, sinc_kernel(self._size(rng), rng.uniform(*self.cutoff)))
        x = x.clamp(0, 1)
        return x if compress_first else self._compressed(x, rng)

    def _size(self, rng: np.random.Generator) -> int:
        low, high = (int(size) // 2 for size in self.sizes)
        return 2 * int(rng.integers(low, high + 1)) + 1

    def _kernel(self, turn: int, rng: np.random.Generator) -> Array:
        """Draw the blur of a round."""
        size = self._size(rng)
        if rng.random() < self.sinc:
            return sinc_kernel(size, rng.uniform(*self.cutoff))
        one, other = rng.uniform(*self.sigma[turn], 2)
        angle = rng.uniform(-math.pi, math.pi)
        if rng.random() < self.isotropic:
            other = one
        shape = rng.choice(["gaussian", "generalised", "plateau"], p=self.kernels)
        beta = 1.0
        if shape != "gaussian":
            beta = rng.uniform(*(self.plateau if shape == "plateau" else self.generalised))
        return blur_kernel(size, one, other, angle, beta, plateau=shape == "plateau")

    def _factor(self, turn: int, rng: np.random.Generator) -> float:
        low, high = self.resize_range[turn]
        kind = rng.choice(3, p=self.resize[turn])
        return [rng.uniform(1.0, high), rng.uniform(low, 1.0), 1.0][kind]

    def _noisy(
        self, x: Tensor, turn: int, rng: np.random.Generator, grain: np.random.Generator
    ) -> Tensor:
        grey, gaussian = rng.random() < self.grey, rng.random() < self.gaussian
        level = rng.uniform(*(self.noise if gaussian else self.poisson)[turn])
        if gaussian:
            noise = grain.standard_normal((1 if grey else len(x), *x.shape[1:])) * level / 255
        else:
            seen = x.detach().clamp(0, 1).double().cpu()
            photons = (seen.mean(0, keepdim=True) if grey else seen).numpy() * 255
            noise = (grain.poisson(photons) - photons) * level / 255
        return x + torch.from_numpy(noise).to(x.device, x.dtype)

    def _compressed(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        if self.quality is None:
            return x
        low, high = map(int, self.quality)
        return jpeg(x, int(rng.integers(low, high + 1)))


def blur_kernel(
    size: int, one: float, other: float, angle: float, beta: float = 1.0, *, plateau: bool = False
) -> Array:
    """Return a blur kernel [size, size] that sums to 1.

    With q the squared distance from the centre in units of the widths: exp(-q^beta / 2), a
    Gaussian for beta 1, or the plateau 1 / (1 + q^beta).

    Args:
        size: side in pixels, odd.
        one: width (standard deviation for beta 1) along the first axis, in pixels.
        other: width across it.
        angle: of the first axis, in radians.
        beta: shape; above 1 flatter in the middle with steeper sides, below 1 more peaked.
        plateau: the other formula.
    """
    y, x = np.mgrid[:size, :size] - size // 2
    along = (x * math.cos(angle) + y * math.sin(angle)) / one
    across = (y * math.cos(angle) - x * math.sin(angle)) / other
    q = (along**2 + across**2) ** beta
    with np.errstate(over="ignore"):
        kernel = 1.0 / (1.0 + q) if plateau else np.exp(-0.5 * q)
    return np.asarray(kernel / kernel.sum())


def sinc_kernel(size: int, cutoff: float) -> Array:
    """Return the ideal circular low-pass kernel, truncated to [size, size]; it sums to 1.

    Args:
        size: side in pixels, odd.
        cutoff: frequency in radians per pixel, up to pi.
    """
    y, x = np.mgrid[:size, :size] - size // 2
    r = np.hypot(x, y)
    r[size // 2, size // 2] = 1.0
    kernel = cutoff / (2 * math.pi * r) * j1(cutoff * r)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)  # the limit for r -> 0
    return np.asarray(kernel / kernel.sum())


def _filtered(x: Tensor, kernel: Array) -> Tensor:
    """Filter every band of [C, H, W]; borders are mirrored."""
    reach = len(kernel) // 2
    for axis in (1, 2):
        length = x.shape[axis]
        at = mirrored(np.arange(-reach, length + reach), length)
        x = x.index_select(axis, torch.from_numpy(at).to(x.device))
    weight = torch.from_numpy(kernel).to(x.device, x.dtype)[None, None]
    return functional.conv2d(x[:, None], weight)[:, 0]


def _resized(x: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """Resize by a random method without anti-aliasing, as some software does."""
    mode = str(rng.choice(["area", "bilinear", "bicubic"]))
    corners = None if mode == "area" else False
    return functional.interpolate(x[None], (height, width), mode=mode, align_corners=corners)[0]


def _share(name: str, value: float) -> float:
    return interval("Blind", name, float(value), 0.0, 1.0)[0]


def _shares(name: str, values: Sequence[float]) -> list[float]:
    """Return three probabilities."""
    shares = [_share(name, v) for v in values]
    if len(shares) != 3 or abs(sum(shares) - 1.0) > 1e-6:
        raise RecipeError(f"Blind: {name} needs three shares that sum to 1, not {values}")
    return shares


def _rounds(name: str, values: Ranges, low: float, high: float) -> list[Range]:
    """Return a range for each round."""
    if len(values) != 2:
        raise RecipeError(f"Blind: {name} needs a range for each of two rounds, not {values}")
    return [interval("Blind", name, v, low, high) for v in values]
