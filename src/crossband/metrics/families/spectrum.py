"""The power spectrum by frequency: blur loses the high ones, and no per-pixel metric says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from crossband.metrics.catalogue import DECIBELS, Metric
from crossband.metrics.families.pixel import mean
from crossband.metrics.family import Array, Family, Mask, Output, Part, Truth
from crossband.metrics.moments import NAN, data_range

Number = TypeVar("Number", bound=np.generic)

#: Side of a tile, and from one tile to the next.
TILE, STEP = 64, 32
#: Frequencies of the rings in cycles per pixel: 1/64 to 1/2.
FREQUENCIES: Array = np.arange(1, TILE // 2 + 1) / TILE
#: A ring's error in dB is held at this: an output without any detail would be infinitely far off.
MOST = 60.0
#: In parts of the data range: true detail below is none, and nothing is held against it.
NOTHING = 1e-6

_HANN = np.hanning(TILE + 1)[:-1]
_WINDOW = np.outer(_HANN, _HANN)
_RADIUS = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) * TILE
_RING = np.rint(_RADIUS).astype(np.intp)
# The half plane that rfft2 leaves out holds the same numbers once more.
_TIMES = np.full(_RING.shape, 2.0)
_TIMES[:, [0, -1]] = 1.0
_SIZE = np.bincount(_RING.ravel(), weights=_TIMES.ravel())[1 : TILE // 2 + 1]


@dataclass(frozen=True)
class Spectrum:
    """Power by frequency of a band, in the unit squared; white noise has its variance everywhere.

    Attributes:
        frequency: [32], cycles per pixel.
        target: [32], power of the truth.
        output: [32], power of the synthetic image.
    """

    frequency: Array
    target: Array
    output: Array

    @property
    def db(self) -> Array:
        """[32], 10 log10(output / target), within -60..60; NaN where the truth has no power."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 10 * np.log10(self.output / self.target)
        return np.where(self.target > 0, np.clip(found, -MOST, MOST), NAN)


@dataclass(frozen=True, eq=False)
class Spectra(Part):
    """Power of truth and output by frequency, for each band.

    After Welch 1967: tiles of 64 x 64 pixels, 32 apart, wholly valid; each less its own mean and
    times a Hann window. The power |F|^2 / sum of squared weights is averaged over the rings of a
    radius of 1 to 32 cycles per tile (rounded) and over tiles, over many images over all their
    tiles. `spectrum_db` is the mean over rings of |10 log10(output / truth)|, each held at 60 dB;
    over bands the mean of theirs. NaN without a tile, or where a ring of the truth is empty
    (below 1e-6 of the data range): a constant target has no spectrum.

    Attributes:
        power: band -> [2, 32], sums over tiles of the truth's power and the output's.
        tiles: their number.
    """

    power: dict[str, Array] = field(default_factory=dict)
    tiles: int = 0

    def spectrum(self) -> dict[str, Spectrum]:
        """Return band -> spectrum; empty without a tile."""
        if not self.tiles:
            return {}
        return {b: Spectrum(FREQUENCIES, *(p / self.tiles)) for b, p in self.power.items()}

    def numbers(self, unit: str, scale: int) -> dict[str, float]:
        """Return the mean error in dB, the mean over bands."""
        each = self.band_numbers(unit, scale).values()
        return {"spectrum_db": mean(n["spectrum_db"] for n in each)}

    def band_numbers(self, unit: str, scale: int) -> dict[str, dict[str, float]]:
        """Return it for each band."""
        found, least = self.spectrum(), (NOTHING * data_range(unit)) ** 2
        return {
            b: {
                "spectrum_db": float(np.abs(found[b].db).mean())
                if b in found and found[b].target.min() > least
                else NAN
            }
            for b in self.power
        }


class PowerSpectrum(Family):
    """Error of the power spectrum."""

    name = "spectrum"
    place = 70
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
        ),
    )

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.use: Mask | None = None
        self.tiles = 0
        if min(truth.valid.shape) >= TILE:
            whole: Mask = np.asarray(tiled(truth.valid).all(axis=(2, 3)))
            self.tiles = int(np.count_nonzero(whole))
            self.use = None if whole.all() else whole
        self.own = [self._power(t) for t in truth.centred] if self.tiles else []

    def _power(self, values: Array) -> Array:
        """Power by ring, [32], summed over the tiles."""
        tiles, power = tiled(values), np.zeros(_RING.shape)
        for number, row in enumerate(tiles):  # a row of tiles at once stays in the cache
            cut = row if self.use is None else row[self.use[number]]
            f = fft.rfft2((cut - cut.mean(axis=(1, 2), keepdims=True)) * _WINDOW)
            power += np.einsum("tij,tij->ij", f.real, f.real)
            power += np.einsum("tij,tij->ij", f.imag, f.imag)
        power /= (_WINDOW**2).sum()
        rings = np.bincount(_RING.ravel(), weights=(power * _TIMES).ravel())
        return np.asarray(rings[1 : TILE // 2 + 1] / _SIZE)

    def part(self, output: Output) -> Spectra:
        """Take the power of both."""
        empty = np.zeros((2, TILE // 2))
        power = {}
        for number, band in enumerate(self.truth.bands):
            power[band] = empty
            if self.tiles:
                own = self.own[number]
                power[band] = np.stack([own, self._power(output.centred[number])])
        return Spectra(power, self.tiles)


def tiled(values: NDArray[Number]) -> NDArray[Number]:
    """Return the tiles as a view: [H, W] -> [rows, columns, 64, 64]."""
    return np.asarray(sliding_window_view(values, (TILE, TILE))[::STEP, ::STEP])
