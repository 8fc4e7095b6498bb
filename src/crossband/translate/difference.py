"""The correction from a computed to a measured value: a gain if zero means none, else a difference.

A model that is too bright in the near infrared is mostly so by a factor: haze, illumination and the
density of the canopy multiply. And a difference that is right for a bright field makes water beside
it negative. So reflectance is corrected by gains, as in the high-pass modulation of pansharpening
(Vivone et al. 2015, "A critical comparison among pansharpening algorithms"). Decibels are
logarithms already, and kelvin has no zero in reach: these are corrected by differences.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import REFLECTANCE

Array = NDArray[np.float32]
#: Unit -> how far sharpened differences may get out of the range of those around them: gains by a
#: fifth, in logarithms.
OVERSHOOT = {REFLECTANCE: 0.2}
#: Added to reflectances before their logarithm, so that noise over dark water is no large gain.
LEVEL = 0.02
#: Logarithm of the largest gain, and of the inverse of the smallest.
LARGEST = math.log(20.0)


def subtract(measured: Array, computed: Array, unit: str) -> Array:
    """Return what, added to `computed`, gives `measured`; see `add`.

    Args:
        measured: values of any shape.
        computed: values of the same shape.
        unit: of both.

    Returns:
        Differences; in reflectance the logarithms of gains, at most of a factor of 20.
    """
    if unit != REFLECTANCE:
        return measured - computed
    low = np.float32(LEVEL / 10)
    ratio = np.maximum(measured + np.float32(LEVEL), low) / np.maximum(computed + LEVEL, low)
    return np.asarray(np.log(ratio).clip(-LARGEST, LARGEST), dtype=np.float32)


def add(values: Array, difference: Array, unit: str) -> Array:
    """Return values changed by what `subtract` returned; 0 changes nothing.

    >>> import numpy as np
    >>> now, true = np.float32([0.2, 0.0]), np.float32([0.3, 0.1])
    >>> [round(float(v), 4) for v in add(now, subtract(true, now, "reflectance"), "reflectance")]
    [0.3, 0.1]
    """
    if unit != REFLECTANCE:
        return values + difference
    # In this order, values of which the difference is 0 stay as they are, to the last bit.
    gain = np.expm1(difference.clip(-LARGEST, LARGEST))
    return np.asarray(values + (values + np.float32(LEVEL)) * gain, dtype=np.float32)
