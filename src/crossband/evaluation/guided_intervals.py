"""Judge intervals of results that a guide corrects, as `translate --guide --interval` writes them.

The class of a pair's guide is that which `translate` takes: the calibrated one of its ratio and
date, or the next one of larger pixels where its own has too few places. Pairs that `translate`
refuses are counted and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossband.errors import CrossbandError, ManifestError
from crossband.evaluation.evaluation import allowed_indices, sensor_name
from crossband.evaluation.guides import Guided, GuidedCandidate
from crossband.evaluation.place_intervals import PlaceIntervals, SureOutput, Widths
from crossband.model.calibration import GuideClass, check_level
from crossband.model.uncertain import counts_as_dated
from crossband.raster.grid import Window
from crossband.translate.options import IntervalOptions


class GuidedPlaceIntervals(PlaceIntervals):
    """Holds the intervals of guided results against the truth, row by row.

    A place counts once for each class of guides that it has, as in the calibration. Pixels without
    a valid guide have the interval of a result without one.

    Args:
        candidate: a calibrated model and the guides of the rows.
        options: level and promise.

    Raises:
        CrossbandError: the model has no calibration; a level or promise that cannot be.
    """

    def __init__(self, candidate: GuidedCandidate, options: IntervalOptions) -> None:
        assert options.interval is not None
        check_level(options.interval, options.promise)
        super().__init__(candidate.model, options, candidate.device, candidate.precision)
        self._candidate = candidate
        self._left_out, self._coarser = Counter[str](), Counter[tuple[str, str]]()
        self._refused: CrossbandError | None = None

    def sure(self, row: Mapping[str, Any], source: Window) -> SureOutput:
        """Return the guided result of a pair, with the widths of the quantities of its class."""
        seen, names = self._candidate.guided(row, source), self.calibration.quantities
        classes = {name: self._class(name, seen, row) for name in names}
        channels = {
            guide: self._candidate.further(row, source, guide)
            for guide in dict.fromkeys(classes.values())
            if guide is not None
        }
        widths, far = dict[str, Widths](), None
        for number, (name, guide) in enumerate(classes.items()):
            if guide is None:
                continue
            # The widths of guided results follow those of results without a guide.
            plain, own = (
                channels[guide][first : first + 2]
                for first in (2 * number, 2 * (len(names) + number))
            )
            maps = np.where(seen.measured, own, plain)
            widths[name] = Widths(maps, guide, seen.measured)
            far = None if self.calibration.familiar is None else channels[guide][-1]
        return SureOutput(seen.output, widths, far)

    def add(self, row: Mapping[str, Any], source: Window, target: Window) -> None:
        """Add a pair, or count it where no interval of its guide is calibrated.

        Raises:
            CrossbandError: results without a guide, which pixels without a valid guide are, were
                not calibrated in this unit, or not for this level.
        """
        seen, names = self._candidate.guided(row, source), self.calibration.quantities
        bands, dated = names[: self.bands], counts_as_dated(self._candidate.model, seen.days)
        own = GuideClass.of(seen.ratio, dated)
        for name in (bands[0], *allowed_indices(names[self.bands :], source, target)):
            guide, of = self._class(name, seen, row), "" if name in bands else f"{name}, "
            if guide is None:
                why = "" if seen.calibrated else ", without the bands that the model takes"
                self._left_out[f"{of}{own.words}{why}"] += 1
                if not of:
                    break  # no interval of a band, so none of its indices
            elif guide != own:
                self._coarser[f"{of}{own.words}", guide.words] += 1
        super().add(row, source, target)

    def record(self) -> dict[str, Any]:
        """Return the record for metrics.json; see docs/metrics-schema.md.

        Raises:
            ManifestError: no pair has a guide whose class is calibrated.
        """
        if not self._places:
            raise ManifestError(
                "--interval: no pair can be judged; the guides are "
                f"{'; '.join(self._left_out) or 'nowhere valid'}"
                + (f": {self._refused}" if self._refused else "")
            )
        left_out = [{"guide": guide, "pairs": n} for guide, n in self._left_out.items()]
        coarser = [{"guide": g, "by": by, "pairs": n} for (g, by), n in self._coarser.items()]
        return {**super().record(), "left_out": left_out, "coarser": coarser}

    def _class(self, name: str, seen: Guided, row: Mapping[str, Any]) -> GuideClass | None:
        """Return the class by which a quantity of a pair is calibrated; None if there is none."""
        if not seen.calibrated:
            return None
        bands: Sequence[str] = self.calibration.quantities[: self.bands]
        wanted = bands if name in bands else (*bands, name)
        assert self.options.interval is not None
        how = (self.options.interval, self.options.promise, sensor_name(row))
        unit, dated = seen.source.unit, counts_as_dated(self._candidate.model, seen.days)
        try:
            return self.calibration.guide_class(seen.ratio, dated, wanted, unit, *how)
        except CrossbandError as error:
            self._refused = self._refused or error
            return None
