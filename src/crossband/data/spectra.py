"""Statistics of bands that share a radiometry: percentiles, correlations, colour of bare soil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

VISIBLE = ("red", "green", "blue")


class _Declared(Protocol):
    """What is declared of a source or target."""

    @property
    def unit(self) -> str: ...
    @property
    def sensor(self) -> str | None: ...
    @property
    def scale(self) -> float: ...
    @property
    def offset(self) -> float: ...
    @property
    def dtypes(self) -> tuple[str, ...]: ...
    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class Spectra:
    """Statistics of bands that share one radiometry, over a sample of valid pixels.

    Attributes:
        path: the file; the source's, if source and target are two files.
        bands: common names.
        unit: physical unit.
        sensor: declared sensor, or None.
        scale: physical = stored x scale + offset.
        offset: see scale.
        dtype: stored data type of the first band.
        n: pixels.
        top: largest stored number of each band.
        middle: median stored number of each band.
        floor: 0.1th percentile of the physical values of each band.
        first: 1st percentile of the physical values.
        median: of the physical values.
        spread: standard deviation of the physical values.
        clipped: share of pixels at the band's largest number.
        steps: number of distinct stored numbers in each band, at most 1,000.
        correlation: between bands, [C, C]; 0 where a band is constant.
        soil: share of pixels that look like bare ground (NIR above red and blue, but below twice
            the larger of them); NaN without red, blue and nir.
        soil_red: share of these pixels where red is above blue.
    """

    path: str
    bands: tuple[str, ...]
    unit: str
    sensor: str | None
    scale: float
    offset: float
    dtype: str
    n: int
    top: tuple[float, ...]
    middle: tuple[float, ...]
    floor: tuple[float, ...]
    first: tuple[float, ...]
    median: tuple[float, ...]
    spread: tuple[float, ...]
    clipped: tuple[float, ...]
    steps: tuple[int, ...]
    correlation: NDArray[np.float64]
    soil: float
    soil_red: float

    def at(self, name: str) -> int:
        """Return the index of a band."""
        return self.bands.index(name)


def spectra(
    bands: Sequence[str], stored: NDArray[np.float64], values: NDArray[np.float64], side: _Declared
) -> Spectra:
    """Return the statistics of valid pixels.

    Args:
        bands: names of the channels.
        stored: numbers in the file [C, n].
        values: physical [C, n].
        side: what is declared of their file.
    """
    n = values.shape[1]
    if n == 0:
        stored, values = np.zeros((len(bands), 1)), np.zeros((len(bands), 1))
    floor, first, median = np.percentile(values, [0.1, 1.0, 50.0], axis=1)
    top = stored.max(axis=1)
    soil, soil_red = _soil(dict(zip(bands, values, strict=True)))
    return Spectra(
        path=side.path,
        bands=tuple(bands),
        unit=side.unit,
        sensor=side.sensor,
        scale=side.scale,
        offset=side.offset,
        dtype=side.dtypes[0],
        n=n,
        top=_numbers(top),
        middle=_numbers(np.median(stored, axis=1)),
        floor=_numbers(floor),
        first=_numbers(first),
        median=_numbers(median),
        spread=_numbers(values.std(axis=1)),
        clipped=_numbers((stored == top[:, None]).mean(axis=1)),
        steps=tuple(min(1000, int(np.unique(band).size)) for band in stored),
        correlation=_correlation(values),
        soil=soil,
        soil_red=soil_red,
    )


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _correlation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1))
    products = norm[:, None] * norm[None, :]
    out: NDArray[np.float64] = np.zeros_like(products)
    np.divide(centred @ centred.T, products, out=out, where=products > 0)
    return out


def _soil(bands: dict[str, NDArray[np.float64]]) -> tuple[float, float]:
    if not {"red", "blue", "nir"} <= bands.keys():
        return float("nan"), float("nan")
    red, blue, nir = bands["red"], bands["blue"], bands["nir"]
    larger = np.maximum(red, blue)
    # 0.08: darker ground is in shadow or wet, and takes the colour of the sky.
    soil = (nir > larger) & (nir < 2 * larger) & (larger > 0.08)
    return float(soil.mean()), float((red > blue)[soil].mean()) if soil.any() else float("nan")
