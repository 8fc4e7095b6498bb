"""Right inputs in another light: as another day, other air or a sensor of the same kind shows them.

Familiarity is shown them beside the places themselves. Else it takes the light of a new place for a
wrong input: the air above it, for example, makes it bluer, as a swap of red and blue does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DISPLAY, REFLECTANCE, wavelength

#: Units whose values are proportional to light.
UNITS = (REFLECTANCE, DISPLAY)
#: Standard deviations of the logarithm of the brightness and of each band's gain, and the strongest
#: noise.
SUN, GAIN, NOISE = 0.1, 0.03, 0.002
#: Share of reflectance that is seen through more air, how much light of `BLUE` nanometres the most
#: of it scatters back, and how much of other light it takes for each that it scatters back.
AIR, SCATTERED, BLUE, TAKEN = 0.6, 0.08, 490.0, 1.3


def in_other_light(
    values: NDArray[np.float32], unit: str, bands: Sequence[str], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a source [C, h, w] in another light; as it is where its unit does not measure light.

    Args:
        values: of the source.
        unit: of the values.
        bands: their names.
        rng: chooses the light.
    """
    if unit not in UNITS:
        return values
    gains = np.exp(rng.normal(0, SUN) + rng.normal(0, GAIN, (len(values), 1, 1)))
    seen: NDArray[np.floating] = values * gains
    if unit == REFLECTANCE and rng.random() < AIR:
        path = rng.uniform(0, SCATTERED) * scattering(bands)[:, None, None]
        seen = seen * (1 - TAKEN * path) + path
    noise = rng.uniform(0, NOISE) * rng.normal(size=values.shape)
    return np.asarray(seen + noise, np.float32)


def scattering(bands: Sequence[str]) -> NDArray[np.float64]:
    """Return how much clear air scatters each band, relative to blue light (Rayleigh).

    >>> scattering(["red", "blue"]).round(2).tolist()
    [0.29, 1.0]
    """
    known = [wavelength(band) for band in bands]
    return np.array([(BLUE / length) ** 4 if length else 0.0 for length in known])
