"""Spectral indices: six closed forms for losses and metrics, all others from spyndex.

The six closed forms work on NumPy arrays and torch tensors of physical reflectance. They return
numerator and denominator as in the cited papers; losses add their own guard against denominators
near 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from crossband.errors import BandError, nearest

#: spyndex's letters for STAC common names (spyndex.bands).
SPYNDEX_LETTERS = {
    "A": "coastal",
    "B": "blue",
    "G": "green",
    "R": "red",
    "RE1": "rededge071",
    "RE2": "rededge075",
    "RE3": "rededge078",
    "N": "nir",
    "N2": "nir08",
    "WV": "nir09",
    "S1": "swir16",
    "S2": "swir22",
    "Y": "yellow",
    "T": "thermal",
    "VV": "vv",
    "VH": "vh",
}


def ndvi(bands: Mapping[str, Any]) -> tuple[Any, Any]:
    """NDVI = (N - R) / (N + R) as (numerator, denominator). Rouse et al. 1974."""
    n, r = bands["nir"], bands["red"]
    return n - r, n + r


def ndwi(bands: Mapping[str, Any]) -> tuple[Any, Any]:
    """NDWI = (G - N) / (G + N). McFeeters 1996."""
    n, g = bands["nir"], bands["green"]
    return g - n, g + n


def gndvi(bands: Mapping[str, Any]) -> tuple[Any, Any]:
    """GNDVI = (N - G) / (N + G). Gitelson et al. 1996."""
    n, g = bands["nir"], bands["green"]
    return n - g, n + g


def evi(bands: Mapping[str, Any]) -> tuple[Any, Any]:
    """EVI = 2.5 (N - R) / (N + 6 R - 7.5 B + 1). Huete et al. 2002."""
    n, r, b = bands["nir"], bands["red"], bands["blue"]
    return 2.5 * (n - r), n + 6.0 * r - 7.5 * b + 1.0


def savi(bands: Mapping[str, Any]) -> tuple[Any, Any]:
    """SAVI = 1.5 (N - R) / (N + R + 0.5). Huete 1988, L = 0.5."""
    n, r = bands["nir"], bands["red"]
    return 1.5 * (n - r), n + r + 0.5


def msavi(bands: Mapping[str, Any]) -> tuple[Any, Any]:
    """MSAVI = 0.5 (2N + 1 - sqrt((2N + 1)^2 - 8 (N - R))). Qi et al. 1994."""
    n, r = bands["nir"], bands["red"]
    return 0.5 * (2.0 * n + 1.0 - ((2.0 * n + 1.0) ** 2 - 8.0 * (n - r)) ** 0.5), 1.0


#: Normalised differences: for non-negative bands they lie in -1..1 and do not depend on the unit.
#: The other indices have constants that assume reflectance.
BOUNDED = frozenset({"NDVI", "NDWI", "GNDVI"})

#: Closed forms: name -> (function giving numerator and denominator, bands it needs).
CLOSED_FORMS: dict[str, tuple[Callable[[Mapping[str, Any]], tuple[Any, Any]], tuple[str, ...]]] = {
    "NDVI": (ndvi, ("nir", "red")),
    "NDWI": (ndwi, ("nir", "green")),
    "EVI": (evi, ("nir", "red", "blue")),
    "SAVI": (savi, ("nir", "red")),
    "MSAVI": (msavi, ("nir", "red")),
    "GNDVI": (gndvi, ("nir", "green")),
}


def required_bands(name: str) -> tuple[str, ...]:
    """Return the common names of the bands that an index needs.

    Args:
        name: any spyndex short name, as spyndex writes it (`NDVI`, `EVI`, `NBR2`, ...).

    Raises:
        BandError: an unknown index, or one that needs more than bands and known constants.
    """
    if name in CLOSED_FORMS:
        return CLOSED_FORMS[name][1]
    import spyndex

    if "," in name:
        raise BandError(f"unknown index {name!r}: --index takes one, and may be repeated")
    if name not in spyndex.indices:
        raise BandError(f"unknown index {name!r}: {nearest(name, [*spyndex.indices])}")
    needed = []
    for letter in spyndex.indices[name].bands:
        if letter in SPYNDEX_LETTERS:
            needed.append(SPYNDEX_LETTERS[letter])
        elif letter not in spyndex.constants or spyndex.constants[letter].default is None:
            raise BandError(f"index {name} needs {letter}, which Crossband does not provide")
    return tuple(needed)


def check(name: str, available: Mapping[str, Any] | set[str]) -> None:
    """Raise BandError, saying which band is missing, where an index cannot be computed."""
    missing = [b for b in required_bands(name) if b not in available]
    if missing:
        raise BandError(
            f"index {name} needs {', '.join(required_bands(name))}; "
            f"there is no {', '.join(missing)} among {', '.join(sorted(available))}"
        )


def compute(name: str, bands: Mapping[str, Any]) -> Any:
    """Compute an index from bands in physical reflectance; division by zero gives NaN or inf.

    Args:
        name: spyndex short name.
        bands: common name -> array (any one shape).

    Returns:
        An array of the same shape, dimensionless.
    """
    check(name, bands)
    bands = {band: _real(values) for band, values in bands.items()}
    if name in CLOSED_FORMS:
        numerator, denominator = CLOSED_FORMS[name][0](bands)
        return numerator / denominator
    import spyndex

    letters = {letter: bands[b] for letter, b in SPYNDEX_LETTERS.items() if b in bands}
    params = {k: v for k, v in letters.items() if k in spyndex.indices[name].bands}
    for letter in spyndex.indices[name].bands:
        if letter not in params:
            params[letter] = spyndex.constants[letter].default
    return spyndex.computeIndex(name, params=params)


def _real(values: Any) -> Any:
    """Return an array of integers as real numbers: differences of unsigned ones would wrap."""
    if hasattr(values, "is_floating_point"):  # a tensor
        return values if values.is_floating_point() else values.float()
    if getattr(getattr(values, "dtype", None), "kind", "") in ("u", "i", "b"):
        return values.astype(np.result_type(values.dtype, np.float32))
    return values
