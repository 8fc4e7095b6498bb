"""All metrics of one image, which add up to those of a group, a sensor, a manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband import indices as spectral
from crossband.errors import UnitError
from crossband.metrics.index_error import BOUNDED, GUARD, index_moments
from crossband.metrics.moments import NAN, Moments, data_range
from crossband.metrics.ssim import ssim_sum
from crossband.sensors import REFLECTANCE

#: What `Score.numbers` always holds, in this order; indices add `<name>_mae` and
#: `<name>_n`, the pixels where the true index is defined.
METRICS = ("mae", "rmse", "bias", "r2", "r", "psnr", "ssim")
COUNTS = ("n_pixels", "n_valid", "n_nonfinite", "n_windows")


@dataclass(frozen=True)
class Score:
    """Additive score of one image or of many, all in one unit.

    Attributes:
        unit: physical unit of the target.
        n_pixels: pixels of the images, masked ones included.
        n_valid: pixels that count: source and target are valid.
        n_nonfinite: of these, pixels where some band of the output is NaN or infinite.
        bands: target band -> moments.
        ssim: target band -> (sum over windows, windows).
        indices: index -> moments on the pixels where the true index is defined.
    """

    unit: str
    n_pixels: int = 0
    n_valid: int = 0
    n_nonfinite: int = 0
    bands: dict[str, Moments] = field(default_factory=dict)
    ssim: dict[str, tuple[float, int]] = field(default_factory=dict)
    indices: dict[str, Moments] = field(default_factory=dict)

    def __add__(self, other: Score) -> Score:
        """Return the score of both sets of images; UnitError where their units differ."""
        if self.unit != other.unit:
            raise UnitError(f"{self.unit} and {other.unit} cannot be averaged together")
        ssim = dict(self.ssim)
        for band, (total, count) in other.ssim.items():
            mine = ssim.get(band, (0.0, 0))
            ssim[band] = (mine[0] + total, mine[1] + count)
        return Score(
            self.unit,
            self.n_pixels + other.n_pixels,
            self.n_valid + other.n_valid,
            self.n_nonfinite + other.n_nonfinite,
            _merge(self.bands, other.bands),
            ssim,
            _merge(self.indices, other.indices),
        )

    def numbers(self) -> dict[str, float | int]:
        """Return every metric by name; NaN where it is not defined.

        MAE, RMSE, bias and PSNR are over the values of all bands together. R2, r and SSIM are the
        mean over bands: taken over all bands at once they would mostly measure that bands differ.
        """
        every = reduce(Moments.__add__, self.bands.values(), Moments())
        out: dict[str, float | int] = {
            "n_pixels": self.n_pixels,
            "n_valid": self.n_valid,
            "n_nonfinite": self.n_nonfinite,
            "n_windows": min((count for _, count in self.ssim.values()), default=0),
            "mae": every.mae,
            "rmse": every.rmse,
            "bias": every.bias,
            "r2": _mean([m.r2 for m in self.bands.values()]),
            "r": _mean([m.r for m in self.bands.values()]),
            "psnr": every.psnr(data_range(self.unit)),
            "ssim": _mean([total / n if n else NAN for total, n in self.ssim.values()]),
        }
        if self.n_nonfinite:
            out["ssim"] = NAN
        for name, moments in self.indices.items():
            out[f"{name}_mae"] = moments.mae
            out[f"{name}_n"] = moments.n + moments.n_nonfinite
        return out

    def band_numbers(self) -> dict[str, dict[str, float]]:
        """Return MAE, RMSE, bias, R2, r, PSNR and SSIM of each band."""
        out = {}
        for band, m in self.bands.items():
            total, count = self.ssim[band]
            ssim = total / count if count and not self.n_nonfinite else NAN
            psnr = m.psnr(data_range(self.unit))
            values = (m.mae, m.rmse, m.bias, m.r2, m.r, psnr, ssim)
            out[band] = dict(zip(METRICS, values, strict=True))
        return out


def _merge(a: Mapping[str, Moments], b: Mapping[str, Moments]) -> dict[str, Moments]:
    return {
        k: a.get(k, Moments()) + b.get(k, Moments()) for k in [*a, *(k for k in b if k not in a)]
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else NAN


def usable_indices(
    names: Sequence[str],
    source: Sequence[str],
    target: Sequence[str],
    *,
    unit: str,
    same_pixels: bool,
) -> list[str]:
    """Return those indices that can be judged: all bands are there, a synthetic one among them.

    Args:
        names: spyndex short names; an unknown one is a BandError.
        source: common names of the true bands that stand beside the synthetic ones.
        target: common names of the synthetic bands.
        unit: unit of the target; normalised differences work in any, the others have constants
            that mean reflectance.
        same_pixels: whether source and target have one grid and one unit; an index over two units
            (8-bit red, reflectance NIR) means nothing.
    """
    beside = set(source) if same_pixels else set()
    out = []
    for name in names:
        needed = set(spectral.required_bands(name))
        if unit != REFLECTANCE and name not in BOUNDED:
            continue
        if needed & set(target) and needed <= beside | set(target):
            out.append(name)
    return out


def score(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    bands: Sequence[str],
    unit: str,
    mask: ArrayLike | None = None,
    *,
    beside: Mapping[str, ArrayLike] | None = None,
    indices: Sequence[str] = (),
    guard: float = GUARD,
) -> Score:
    """Compare a synthetic image with the true one.

    Args:
        prediction: [C, H, W], physical units; NaN or infinite where the network gave no value.
        target: [C, H, W], same unit; a pixel that is NaN in any band is masked.
        bands: common names of the C bands.
        unit: their unit.
        mask: bool [H, W], True where source and target are valid.
        beside: true bands that indices take from the source, common name -> [H, W], same unit.
        indices: spyndex short names that these bands allow (see `usable_indices`).
        guard: see `crossband.metrics.index_error.GUARD`.
    """
    if prediction.shape != target.shape or len(bands) != target.shape[0]:
        raise ValueError(f"{len(bands)} bands, but {prediction.shape} against {target.shape}")
    valid = np.isfinite(target).all(axis=0)
    if mask is not None:
        valid &= np.asarray(mask, dtype=bool)
    finite = np.isfinite(prediction).all(axis=0)
    limit = data_range(unit)
    true = {**(beside or {}), **dict(zip(bands, target, strict=True))}
    synthetic = {**(beside or {}), **dict(zip(bands, prediction, strict=True))}
    return Score(
        unit,
        valid.size,
        int(np.count_nonzero(valid)),
        int(np.count_nonzero(valid & ~finite)),
        {b: Moments.of(p, t, valid) for b, p, t in zip(bands, prediction, target, strict=True)},
        {
            b: ssim_sum(p, t, limit, valid)
            for b, p, t in zip(bands, prediction, target, strict=True)
        },
        {name: index_moments(name, synthetic, true, unit, valid, guard=guard) for name in indices},
    )
