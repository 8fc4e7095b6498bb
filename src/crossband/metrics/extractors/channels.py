"""Conversion of target bands in physical units to a picture of three channels, 0..255.

Inception and similar networks were trained on photographs: red, green, blue, 8 bits. Which bands
they get, and which values become black and white, is a choice. It is reported with each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossband.errors import BandError, UnitError, nearest
from crossband.metrics.moments import USUAL_RANGE

#: Value of masked pixels, in target and output.
FILL = 127.5
#: Smallest share of valid pixels of a picture.
MIN_VALID = 0.5
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Channels:
    """The bands of a picture, and how their values become 0..255.

    Attributes:
        bands: common names of the bands used as red, green and blue.
        positions: their positions among the target's bands.
        unit: unit of the values.
        limits: values of black and white, in that unit; values beyond are clipped.
    """

    bands: tuple[str, str, str]
    positions: tuple[int, int, int]
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
            bands: one band, used three times, or three bands, used as red, green and blue. None:
                all bands of the target, if it has one or three; red, green and blue are sorted
                into this order, three others keep theirs.
            limits: values of black and white; None: the usual range of the unit.

        Raises:
            BandError: an unknown band, or neither one nor three bands.
            UnitError: an unknown unit, or limits in the wrong order.
        """
        if bands is None:
            selected = list(RGB) if sorted(target) == sorted(RGB) else list(target)
            if len(selected) not in (1, 3):
                raise BandError(
                    f"a feature extractor sees three channels, and the target has {len(selected)} "
                    f"bands: choose one or three of {', '.join(target)}"
                )
        else:
            selected = list(bands)
            for band in selected:
                if band not in target:
                    raise BandError(f"the target has no band {band!r}: {nearest(band, target)}")
            if len(selected) not in (1, 3):
                raise BandError(
                    f"a feature extractor sees three channels: choose one band or three, not "
                    f"{len(selected)}"
                )
        if unit not in USUAL_RANGE:
            raise UnitError(f"no black and white for unit {unit!r}: {nearest(unit, USUAL_RANGE)}")
        limits = limits or USUAL_RANGE[unit]
        if not limits[0] < limits[1]:
            raise UnitError(f"black must lie below white, not {limits[0]:g} and {limits[1]:g}")
        red, green, blue = selected * 3 if len(selected) == 1 else selected
        positions = (target.index(red), target.index(green), target.index(blue))
        return cls((red, green, blue), positions, unit, (float(limits[0]), float(limits[1])))

    @property
    def repeated(self) -> bool:
        """Whether one band is used three times."""
        return len(set(self.bands)) == 1

    def picture(self, values: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
        """Convert an image to a picture.

        Args:
            values: [C, H, W] of all target bands, physical units.
            mask: bool [H, W], True for valid pixels. Other pixels, and values that are not finite,
                become `FILL`.

        Returns:
            float32 [3, H, W], 0..255, not rounded.
        """
        selected = np.asarray(values)[list(self.positions)].astype(np.float64)
        low, high = self.limits
        valid = np.isfinite(selected) & np.asarray(mask, dtype=bool)
        scaled = np.clip((selected - low) / (high - low), 0.0, 1.0) * 255.0
        return np.where(valid, scaled, FILL).astype(np.float32)

    def about(self) -> dict[str, object]:
        """Return its description for the report."""
        return {
            "bands": [self.bands[0]] if self.repeated else list(self.bands),
            "unit": self.unit,
            "limits": list(self.limits),
        }
