"""Intervals of means over fields, from the widths that translating a scene writes beside an index.

The mean of a field has an error of its own: not that of its pixels divided by a root, as they share
it, and not that of one pixel. So it is calibrated on means over windows, and a field takes the
calibration of the largest window that is not larger than itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from crossband.errors import CrossbandError
from crossband.model import Model
from crossband.model.calibration import limits
from crossband.model.uncertain import calibration_of
from crossband.raster.file_reader import FileReader
from crossband.raster.grid import Box
from crossband.raster.open import open_raster
from crossband.raster.radiometry import Radiometry
from crossband.raster.scene import Scene
from crossband.series.maps import NONE
from crossband.translate.options import FieldIntervalOptions, TranslateOptions
from crossband.translate.uncertain_files import FACTORS, calibrated_windows


@dataclass(frozen=True)
class FieldWidths:
    """The widths of an index in a scene, and what they are multiplied by for fields.

    Attributes:
        index: name.
        scene: the file of the widths, lower and upper.
        factors: side of the windows in pixels -> factor at the level of the series.
    """

    index: str
    scene: Scene
    factors: dict[int, float]

    @classmethod
    def open(cls, path: Path, index: str) -> Self:
        """Open the widths that the translation wrote."""
        dataset = open_raster(path)
        factors = json.loads(dataset.tags()[FACTORS])
        plain = Radiometry(NONE, (1.0, 1.0), (0.0, 0.0), (float("nan"),) * 2, False, "the file")
        bands = {f"{index}_below": 1, f"{index}_above": 2}
        scene = Scene(str(path), bands, plain, FileReader(dataset, str(path), (1, 2)))
        return cls(index, scene, {int(side): float(f) for side, f in factors.items()})

    def sums(self, box: Box, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the sums of lower and upper widths over the valid pixels of a box."""
        found: NDArray[np.float64] = self.scene.read(box).values[:, valid].sum(axis=1, dtype=float)
        return found

    def bounds(self, mean: float, widths: NDArray[np.float64], pixels: int) -> tuple[float, float]:
        """Return lower and upper value of the mean of a field.

        Args:
            mean: of the index.
            widths: means of lower and upper widths.
            pixels: of the field.
        """
        side = max((s for s in self.factors if s * s <= pixels), default=min(self.factors))
        below, above = widths * self.factors[side]
        low, high = np.clip((mean - below, mean + above), *limits(self.index, NONE))
        return float(low), float(high)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.scene.close()


def with_field_intervals(
    model: Model, indices: Sequence[str], options: TranslateOptions
) -> TranslateOptions:
    """Return options by which scenes get what the intervals of their fields are made of.

    Raises:
        CrossbandError: these fields cannot have intervals at this level.
    """
    wanted = options.interval
    if wanted.interval is None:
        return options
    if options.guide.guide is not None:
        raise CrossbandError("--interval: means over fields are not calibrated with --guide")
    known = {f.quantity for f in calibration_of(model).factors}
    for index in indices:
        if index not in known:  # the message says what was calibrated
            calibrated_windows(model, index, wanted, next(iter(model.signature.units)))
    own = FieldIntervalOptions(wanted.interval, wanted.promise, wanted.familiarity)
    return replace(options, interval=own)
