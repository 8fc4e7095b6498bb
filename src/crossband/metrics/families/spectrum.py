"""The radial power spectrum. It shows blur, which reduces the power at high frequencies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from crossband.metrics.families.pixel import mean
from crossband.metrics.family import DECIBELS, Array, Family, Mask, Metric, Output, Sums, Target
from crossband.metrics.moments import NAN, data_range

Number = TypeVar("Number", bound=np.generic)

#: Side of a tile, and distance from one tile to the next.
TILE, STEP = 64, 32
#: Frequencies of the rings in cycles per pixel: 1/64 to 1/2.
FREQUENCIES: Array = np.arange(1, TILE // 2 + 1) / TILE
#: Largest error of a ring in dB; the error of an output without any detail would be infinite.
MAX_DB = 60.0
#: Smallest amplitude of true detail, as a share of the data range; below it there is no spectrum.
MIN_AMPLITUDE = 1e-6

_HANN = np.hanning(TILE + 1)[:-1]
_WINDOW = np.outer(_HANN, _HANN)
_RADIUS = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) * TILE
_RING = np.rint(_RADIUS).astype(np.intp)
# rfft2 returns half of the plane; the other half has the same power.
_WEIGHT = np.full(_RING.shape, 2.0)
_WEIGHT[:, [0, -1]] = 1.0
_SIZE = np.bincount(_RING.ravel(), weights=_WEIGHT.ravel())[1 : TILE // 2 + 1]


@dataclass(frozen=True)
class Spectrum:
    """Power of a band by frequency, in the unit squared. For white noise it is the variance.

    Attributes:
        frequency: [32], cycles per pixel.
        target: [32], power of the target.
        output: [32], power of the synthetic image.
    """

    frequency: Array
    target: Array
    output: Array

    @property
    def db(self) -> Array:
        """[32], 10 log10(output / target), within -60..60; NaN where the target has no power."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio_db = 10 * np.log10(self.output / self.target)
        return np.where(self.target > 0, np.clip(ratio_db, -MAX_DB, MAX_DB), NAN)


@dataclass(frozen=True, eq=False)
class SpectrumSums(Sums):
    """Power of target and output by frequency, for each band.

    After Welch 1967: from each completely valid tile of 64 x 64 pixels (tiles are 32 pixels apart)
    its mean is subtracted, and the tile is multiplied by a Hann window. The power |F|^2 / sum of
    squared weights is averaged over rings with a radius of 1 to 32 cycles per tile (rounded), and
    over all tiles of all images. `spectrum_db` is the mean over rings of
    |10 log10(output / target)|, at most 60 dB for each ring, then the mean over bands. It is NaN
    without a tile, or where a ring of the target has no power (an amplitude below 1e-6 of the data
    range): a constant target has no spectrum.

    Attributes:
        power: band -> [2, 32], sums over tiles of the power of target and output.
        tiles: number of tiles.
    """

    power: dict[str, Array] = field(default_factory=dict)
    tiles: int = 0

    def spectrum(self) -> dict[str, Spectrum]:
        """Return band -> spectrum; empty without a valid tile."""
        if not self.tiles:
            return {}
        return {b: Spectrum(FREQUENCIES, *(p / self.tiles)) for b, p in self.power.items()}

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the error in dB: the mean over bands."""
        each = self.band_numbers(unit, scale).values()
        return {"spectrum_db": mean(n["spectrum_db"] for n in each)}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return the error in dB of each band."""
        spectrum, min_power = self.spectrum(), (MIN_AMPLITUDE * data_range(unit)) ** 2
        return {
            b: {
                "spectrum_db": float(np.abs(spectrum[b].db).mean())
                if b in spectrum and spectrum[b].target.min() > min_power
                else NAN
            }
            for b in self.power
        }


class PowerSpectrum(Family):
    """Error of the power spectrum."""

    name = "spectrum"
    order = 70
    metrics = (
        Metric(
            "spectrum_db",
            "spectrum",
            DECIBELS,
            "less",
            "mean absolute error of the radial power spectrum over frequencies",
            needs="a wholly valid tile of 64 x 64 pixels; else NaN",
            source="Welch 1967",
            format=".2f",
            most=MAX_DB,
        ),
    )

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.valid: Mask | None = None
        self.tiles = 0
        if min(target.valid.shape) >= TILE:
            valid: Mask = np.asarray(tile_view(target.valid).all(axis=(2, 3)))
            self.tiles = int(np.count_nonzero(valid))
            self.valid = None if valid.all() else valid
        self.target_power = [self._power(t) for t in target.centred] if self.tiles else []

    def _power(self, values: Array) -> Array:
        """Return the power of each ring, [32], summed over the tiles."""
        tiles, power = tile_view(values), np.zeros(_RING.shape)
        for number, row in enumerate(tiles):  # one row of tiles at a time fits in the cache
            cut = row if self.valid is None else row[self.valid[number]]
            f = fft.rfft2((cut - cut.mean(axis=(1, 2), keepdims=True)) * _WINDOW)
            power += np.einsum("tij,tij->ij", f.real, f.real)
            power += np.einsum("tij,tij->ij", f.imag, f.imag)
        power /= (_WINDOW**2).sum()
        rings = np.bincount(_RING.ravel(), weights=(power * _WEIGHT).ravel())
        return np.asarray(rings[1 : TILE // 2 + 1] / _SIZE)

    def sums(self, output: Output) -> SpectrumSums:
        """Compute the power of target and output."""
        empty = np.zeros((2, TILE // 2))
        power = {}
        for number, band in enumerate(self.target.bands):
            power[band] = empty
            if self.tiles:
                power[band] = np.stack(
                    [self.target_power[number], self._power(output.centred[number])]
                )
        return SpectrumSums(power, self.tiles)


def tile_view(values: NDArray[Number]) -> NDArray[Number]:
    """Return the tiles as a view: [H, W] -> [rows, columns, 64, 64]."""
    return np.asarray(sliding_window_view(values, (TILE, TILE))[::STEP, ::STEP])
