"""What looks wrong with the declared unit of bands, by statistics of their pixels.

`crossband data check` reports these for a manifest, and `crossband translate` for a scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crossband.core.sensors import DISPLAY, REFLECTANCE
from crossband.data.spectra import VISIBLE, Spectra

#: Numbers of 8 bits never exceed 255, and those of a picture exceed 127.
EIGHT_BITS, UPPER_HALF = 255, 127
#: Pixels that statistics need.
LEAST = 1024
#: With an offset that is not declared, the darkest pixels of all visible bands lie just above 0.1,
#: by no more than haze and shadow add, at about the same value. Real ground differs: shadow and
#: water are darker, and sand is far brighter in red than in blue.
FLOOR, ROOM, LEVEL = 0.094, 0.16, 0.03
#: A median above this in the darkest visible band means cloud, snow or ice: no dark pixels.
BRIGHT = 0.3
#: 1st percentile of reflectance that is too low: corrected water is only slightly negative.
NEGATIVE = -0.03
#: Share of pixels at the largest number: a contrast stretch clips values there, a measurement
#: does not.
CLIPPED = 0.02


#: A picture of 16 bits uses more of its range than this; reflectance times 10,000 does not.
DARK = 0.25


@dataclass(frozen=True)
class Suspicion:
    """What looks wrong.

    Attributes:
        kind: name of a kind of finding, see `data.check.findings`.
        text: a description in one line.
        measure: the number that was compared with a threshold, if there is one.
    """

    kind: str
    text: str
    measure: float | None = None


def offsets(s: Spectra) -> Iterator[Suspicion]:
    """Yield BOA_ADD_OFFSET and RADIO_ADD_OFFSET of Sentinel-2, not declared or applied twice."""
    seen = [s.at(b) for b in VISIBLE if b in s.bands]
    sentinel = s.sensor is None or s.sensor.startswith(("sentinel-2", "reflectance"))
    if s.unit != REFLECTANCE or s.n < LEAST or not sentinel or len(seen) < 3:
        return
    if not np.isclose(s.scale, 1e-4):
        return
    floors = [s.floor[i] for i in seen]
    dark = min(s.median[i] for i in seen) < BRIGHT
    level = max(floors) - min(floors) < LEVEL
    inside = all(FLOOR < f < ROOM for f in floors)
    if s.offset == 0 and inside and level and dark:
        yield Suspicion(
            "offset-undeclared",
            f"looks as if the offset of -0.1 were not declared: the darkest pixels have "
            f"{min(floors):.3f} to {max(floors):.3f} in red, green and blue",
            min(floors),
        )
    low = min(s.first[i] for i in seen)
    if s.offset < 0 and low < NEGATIVE:
        yield Suspicion(
            "offset-twice",
            f"looks as if the offset of {s.offset:g} had been taken off before: a hundredth of "
            f"the pixels is below {low:.3f}",
            low,
        )


def display_numbers(s: Spectra) -> Iterator[Suspicion]:
    """Yield pictures that are declared as a measurement, and a measurement declared as one."""
    if s.n < LEAST:
        return
    brightest = max(s.top) * s.scale + s.offset
    if s.unit == DISPLAY and s.dtype == "uint16" and brightest < DARK:
        yield Suspicion(
            "measurement-as-display",
            f"looks as if a measurement were declared as display: its 16-bit numbers reach only "
            f"{max(s.top):,.0f}; if they are reflectance times 10,000, declare sensor reflectance "
            f"with scale 0.0001 and offset 0, or the sensor by its name",
            brightest,
        )
    if s.unit != REFLECTANCE:
        return
    if s.dtype != "uint8" and all(n <= 256 for n in s.steps) and _grid_of_255(s):
        yield Suspicion(
            "display-numbers",
            f"looks like an 8-bit picture: at most {max(s.steps)} different numbers, up to "
            f"{max(s.top):g}, in {s.dtype}",
        )
    elif len(s.bands) > 1 and all(c > CLIPPED for c in s.clipped):
        yield Suspicion(
            "display-numbers",
            f"looks like a stretched picture: {min(s.clipped):.0%} or more of each band is at "
            f"its largest number",
            min(s.clipped),
        )


def _grid_of_255(s: Spectra) -> bool:
    """Return whether numbers are whole and up to 255, or 0 to 1 in steps of 1/255."""
    top = max(s.top)
    return UPPER_HALF < top <= EIGHT_BITS or (s.dtype.startswith("float") and 0.5 < top <= 1.0)
