"""Target bands in physical units -> a picture of three channels, 0..255, for a public network.

Inception and its like were trained on photographs: red, green, blue, 8 bits. What is shown to them
of a sensor is a choice, and it is stated with each number: which bands, and which values of the
unit are black and white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.core.sensors import DECIBEL, DISPLAY, KELVIN, REFLECTANCE
from crossband.errors import BandError, UnitError, nearest
from crossband.metrics.moments import data_range

#: The lowest value of each unit's data range, which is black; `metrics.DATA_RANGE` above, white.
LOWEST = {REFLECTANCE: 0.0, DISPLAY: 0.0, DECIBEL: -25.0, KELVIN: 230.0}
#: What masked pixels are filled with, in truth and output alike.
MIDDLE = 127.5
#: The share of a picture's pixels that must be valid.
LEAST_VALID = 0.5
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Channels:
    """Which bands a network sees, and how their values become 0..255.

    Attributes:
        bands: common names, as red, green and blue.
        places: where these are among the target's bands.
        unit: of the values.
        limits: (black, white), in that unit; what lies beyond is clipped.
    """

    bands: tuple[str, str, str]
    places: tuple[int, int, int]
    unit: str
    limits: tuple[float, float]

    @classmethod
    def of(
        cls,
        target: Sequence[str],
        unit: str,
        bands: Sequence[str] | None = None,
        limits: tuple[float, float] | None = None,
    ) -> Channels:
        """Choose the channels.

        Args:
            target: common names of the target's bands.
            unit: their unit.
            bands: one of them, shown three times, or three, shown as red, green and blue. Where
                None: the only band; red, green, blue, where those are the three; three others in
                their order.
            limits: values that are black and white; the unit's data range where None.

        Raises:
            BandError: no such band; not one and not three; or neither follows from the target.
            UnitError: an unknown unit, or limits that are none.
        """
        if bands is None:
            chosen = list(RGB) if sorted(target) == sorted(RGB) else list(target)
            if len(chosen) not in (1, 3):
                raise BandError(
                    f"a feature extractor sees three channels, and the target has {len(chosen)} "
                    f"bands: choose one or three of {', '.join(target)}"
                )
        else:
            chosen = list(bands)
            for band in chosen:
                if band not in target:
                    raise BandError(f"the target has no band {band!r}: {nearest(band, target)}")
            if len(chosen) not in (1, 3):
                raise BandError(
                    f"a feature extractor sees three channels: choose one band or three, not "
                    f"{len(chosen)}"
                )
        if unit not in LOWEST:
            raise UnitError(f"no black and white for unit {unit!r}: {nearest(unit, LOWEST)}")
        if limits is None:
            limits = LOWEST[unit], LOWEST[unit] + data_range(unit)
        if not limits[0] < limits[1]:
            raise UnitError(f"black must lie below white, not {limits[0]:g} and {limits[1]:g}")
        red, green, blue = chosen * 3 if len(chosen) == 1 else chosen
        places = (target.index(red), target.index(green), target.index(blue))
        return cls((red, green, blue), places, unit, (float(limits[0]), float(limits[1])))

    @property
    def repeated(self) -> bool:
        """Whether one band is shown three times."""
        return len(set(self.bands)) == 1

    def picture(self, values: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
        """Return a picture.

        Args:
            values: [C, H, W] of all target bands, physical.
            mask: bool [H, W], True where a pixel counts; the rest becomes `MIDDLE`, and so does a
                value that is not finite.

        Returns:
            float32 [3, H, W], 0..255, not rounded.
        """
        shown = np.asarray(values)[list(self.places)].astype(np.float64)
        low, high = self.limits
        good = np.isfinite(shown) & np.asarray(mask, dtype=bool)
        scaled = np.clip((shown - low) / (high - low), 0.0, 1.0) * 255.0
        return np.where(good, scaled, MIDDLE).astype(np.float32)

    def about(self) -> dict[str, object]:
        """Return what a report says of it."""
        return {
            "bands": [self.bands[0]] if self.repeated else list(self.bands),
            "unit": self.unit,
            "limits": list(self.limits),
        }
