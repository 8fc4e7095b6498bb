"""Intervals of means over fields, from the widths that translating a scene writes beside an index.

The mean of a field has an error of its own: not that of its pixels divided by a root, as they share
it, and not that of one pixel. So it is calibrated on means over windows, and a field takes the
calibration of the largest window that is not larger than itself.

Where a guide is valid, widths and factors are those of guided results. Of a field that lies partly
on such pixels each part counts with its share, by the calibration of its own size: the errors of
both may have the same sign.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from crossband.raster.match import METHODS
from crossband.raster.open import open_raster
from crossband.raster.radiometry import Radiometry
from crossband.raster.scene import Scene
from crossband.series.maps import NONE
from crossband.series.options import EARLIER
from crossband.translate.correction import DIFFERENCE, RESIDUAL
from crossband.translate.options import FieldIntervalOptions, GuideOptions, TranslateOptions
from crossband.translate.width_files import (
    FACTORS,
    GUIDED_BAND,
    GUIDED_FACTORS,
    calibrated_windows,
)


@dataclass(frozen=True)
class FieldWidths:
    """The widths of an index in a scene, and what they are multiplied by for fields.

    Attributes:
        index: name.
        read: returns the widths of a box, lower and upper, and where a guide is valid: [n, h, w].
        factors: side of the windows in pixels -> factor at the level of the series; None for a
            model that is calibrated with a guide only.
        guided: the same where the guide is valid; None for a scene without one.
    """

    index: str
    read: Callable[[Box], NDArray[np.float32]]
    factors: dict[int, float] | None
    guided: dict[int, float] | None = None

    @classmethod
    @contextmanager
    def open(cls, path: Path, index: str) -> Iterator[Self]:
        """Open the widths that the translation wrote."""
        dataset = open_raster(path)
        tags = dataset.tags()
        plain, guided = (
            {int(side): float(f) for side, f in json.loads(tags[tag]).items()}
            if tag in tags
            else None
            for tag in (FACTORS, GUIDED_FACTORS)
        )
        names = [f"{index}_below", f"{index}_above", *([GUIDED_BAND] if guided else [])]
        numbers = tuple(range(1, len(names) + 1))
        one, none, nodata = ((v,) * len(names) for v in (1.0, 0.0, math.nan))
        radiometry = Radiometry(NONE, one, none, nodata, False, "the file")
        bands = dict(zip(names, numbers, strict=True))
        with Scene(str(path), bands, radiometry, FileReader(dataset, str(path), numbers)) as scene:
            yield cls(index, lambda box: scene.read(box).values, plain, guided)

    def sums(self, box: Box, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return sums over the valid pixels of a box: [2, 3].

        The rows are pixels without a guide, and those on which it is valid; the columns are lower
        widths, upper widths, and the number of pixels.
        """
        values = self.read(box)[:, valid]
        on_guide = values[2] > 0 if self.guided is not None else np.zeros(values.shape[1], bool)
        parts = [values[:2, which] for which in (~on_guide, on_guide)]
        return np.array([[*p.sum(axis=1, dtype=float), p.shape[1]] for p in parts], float)

    def bounds(self, mean: float, sums: NDArray[np.float64]) -> tuple[float, float]:
        """Return lower and upper value of the mean of a field; NaN where a part is not calibrated.

        Args:
            mean: of the index.
            sums: of its widths, see `sums`.
        """
        below, above, pixels = 0.0, 0.0, sums[:, 2].sum()
        for factors, (lower, upper, count) in zip((self.factors, self.guided), sums, strict=True):
            if not count:
                continue
            if factors is None:
                return math.nan, math.nan
            side = max((s for s in factors if s * s <= count), default=min(factors))
            below += factors[side] * lower / pixels
            above += factors[side] * upper / pixels
        low, high = np.clip((mean - below, mean + above), *limits(self.index, NONE))
        return float(low), float(high)


def with_field_intervals(
    model: Model, indices: Sequence[str], options: TranslateOptions
) -> TranslateOptions:
    """Return options by which scenes get what the intervals of their fields are made of.

    Raises:
        CrossbandError: these fields cannot have intervals at this level, or with such a guide.
    """
    wanted = options.interval
    if wanted.interval is None:
        return options
    _check_guide(model, options.guide)
    known = {f.quantity for f in calibration_of(model).factors}
    for index in indices:
        if index not in known:  # the message says what was calibrated
            calibrated_windows(model, index, wanted, next(iter(model.signature.units)))
    own = FieldIntervalOptions(wanted.interval, wanted.promise, wanted.familiarity)
    return replace(options, interval=own)


def _check_guide(model: Model, guide: GuideOptions) -> None:
    """Raise CrossbandError for a guide by which no date could have an interval."""
    if guide.guide is None:
        return
    if guide.method in METHODS or (guide.method, guide.guide) == (DIFFERENCE, EARLIER):
        raise CrossbandError(
            f"--interval: results of --guide-method {guide.method} are not calibrated"
            f"{'' if guide.method in METHODS else ' for guides of another date'}; those of "
            f"{RESIDUAL} can be"
        )
    if all(f.guide is None for f in calibration_of(model).factors):
        raise CrossbandError(
            f"--interval: {model.name} has no calibration of results with a guide; crossband "
            "calibrate makes one of a manifest whose rows name guides"
        )
