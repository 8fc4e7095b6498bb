"""The file of widths beside an index, from which intervals of means over fields are made.

It has the widths before any factor, as the factor depends on the size of the field. The tags have
the factors. Where a guide is valid, widths and factors are those of guided results, and a further
band says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.calibration import WINDOWS, GuideClass
from crossband.model.uncertain import calibration_of
from crossband.translate.options import IntervalOptions

#: Tags: side of the windows -> what widths are multiplied by for their means, without a guide and
#: where one is valid.
FACTORS = "CROSSBAND_INTERVAL_FACTORS"
GUIDED_FACTORS = "CROSSBAND_INTERVAL_GUIDED_FACTORS"
#: The band that is 1 where the guide is valid, else 0.
GUIDED_BAND = "guided"


@dataclass(frozen=True)
class GuidedWidths:
    """The content of a file of widths of a guided result.

    Attributes:
        guided: channels of the widths where the guide is valid.
        plain: those elsewhere.
    """

    guided: slice
    plain: slice

    def __call__(
        self,
        known: Mapping[str, NDArray[np.float32]],
        further: NDArray[np.float32],
        mask: NDArray[np.bool_],
        measured: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return widths and `GUIDED_BAND` [3, h, w], and the mask.

        Args:
            known: bands; not used.
            further: further channels of the network.
            mask: where the result is valid.
            measured: where the guide is.
        """
        widths = np.where(measured, further[self.guided], further[self.plain])
        values = np.concatenate([widths, measured.astype(np.float32)[None]])
        return np.where(mask, values, np.float32(0)), mask


def widths_path(index: Path) -> Path:
    """Return the path of the widths beside an index."""
    return index.with_name(f"{index.stem}.widths.tif")


def calibrated_windows(
    model: Model,
    index: str,
    options: IntervalOptions,
    unit: str,
    sensor: str | None = None,
    guide: GuideClass | None = None,
) -> dict[int, float]:
    """Return what the widths of an index are multiplied by, by the side of windows in pixels.

    Args:
        model: calibrated.
        index: name.
        options: level and promise.
        unit: of the source.
        sensor: of the source, where it was declared.
        guide: the class of the guide; None for results without one.

    Raises:
        CrossbandError: the index was not calibrated for single pixels, or not at this level.
    """
    calibration, found = calibration_of(model), dict[int, float]()
    assert options.interval is not None
    for side in WINDOWS:
        try:
            how = (options.interval, options.promise, sensor, side, guide)
            found[side] = calibration.factor(index, unit, *how)[0]
        except CrossbandError:
            if side == 1:
                raise
    return found
