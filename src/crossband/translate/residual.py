"""Correct a result by a measurement: enlarge and apply the difference at the guide's pixels.

At the pixels of a coarser measurement (the guide) the result is averaged as the guide's sensor
would have seen it. The difference between guide and average is enlarged and added to the result; in
reflectance it is a gain, see `difference`. So the result keeps its own fine detail, and averaged
again it agrees with the guide. This is the injection of a pansharpening by multiresolution analysis
(Aiazzi et al. 2006) with the network's output as the sharp image.

A guide of another date shows another state of the ground, with which the result must not agree.
Where the guide has the bands that the model takes, they say what has changed since, pixel by pixel:

- nothing: the difference between guide and result is added, as above;
- by a tenth or two: less of it, and a half of the model's own error at the guide's date, measured
  against computed from the guide's bands: where the model is too dark in May, it most likely is in
  June;
- much: next to nothing. A field that was bare in May is another surface in June.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter, maximum_filter, minimum_filter

from crossband.core.cubic import cubic_weights
from crossband.core.sensors import VALID_RANGE
from crossband.raster.compare import SIDE
from crossband.raster.float_raster import FloatRaster
from crossband.raster.grid import Box, Window
from crossband.raster.output import write_error
from crossband.raster.point_spread import MTF, gaussian_width, read_as_seen
from crossband.raster.warp import (
    Readable,
    around,
    read_averaged,
    read_extended,
    read_padded,
    read_warped,
)
from crossband.translate.agreement import Agreement
from crossband.translate.difference import OVERSHOOT, add, subtract

Array = NDArray[np.float32]
#: Takes a rectangle of a result and its values [C, h, w]; returns the corrected values.
Correction = Callable[[Box, Array], Array]

#: Standard deviations, in pixels of the guide, of the two Gaussians that fill its holes.
_NEAR, _FAR = 1.5, 6.0
#: A mean of the surroundings counts fully where this share of its kernel is valid, less below.
_TRUSTED = 0.2
#: Steps of Van Cittert's deconvolution, and the reach of each in pixels of the guide.
_STEPS, _TAPS = 2, 3
#: Pixels of the guide around a block on which its values depend.
_REACH = math.ceil(3 * _FAR) + _STEPS * _TAPS
#: Pixels of the guide around the scene that are computed as well, for enlarging at its borders.
_EDGE = 4
#: Relative change of the source's bands at which half of the difference gives way to the model's
#: error, and at which half of that is carried over.
_SAME, _CHANGED = 0.12, 0.4
#: The same where nothing takes its place, as a trained network has used the guide already.
_UNCHANGED = 0.04
#: Share of the model's error that is carried over: a part of it belongs to that date alone.
_CARRIED = 0.5
#: A guide whose pixels are smaller than this, in pixels of the result, is as sharp as the result.
#: It is below 1.5, the ratio of 15 m and 10 m, which is a little less between two zones.
_COARSE = 1.45
#: Blocks in whose middle it is measured how well the corrected result agrees with the guide, and
#: the largest side of a middle in pixels of the guide.
_CHECKED, _MIDDLE = 8, 64


class Corrected:
    """A result with a correction, read by window.

    Args:
        result: as the network computed it, with its grid.
        correction: is applied to it.
        unit: of the corrected values, which are clipped to its valid range.
    """

    def __init__(self, result: Readable, correction: Correction, unit: str) -> None:
        self.grid, self.bands, self.unit = result.grid, result.bands, unit
        self._result, self._correction = result, correction

    def read(self, box: Box) -> Window:
        """Read a rectangle; pixels that are masked in the result stay masked."""
        window = self._result.read(box)
        values = np.clip(self._correction(box, window.values), *VALID_RANGE[self.unit])
        mask = window.mask & np.isfinite(values).all(axis=0)
        return Window(values, mask, window.grid, self.bands, self.unit)


@dataclass(frozen=True)
class OwnBands:
    """How wrong a model is on a guide that has the bands which it takes.

    Attributes:
        error: how far measured is from computed, on the grid of the guide; see `difference`. None:
            nothing is added where the bands have changed.
        then: the bands that the model takes, as the guide has them.
        now: the same bands of the scene that is translated, on the grid of the result.
    """

    error: Readable | None
    then: Readable
    now: Readable


class Difference:
    """What a guide says more than a model, read by window, in pixels of the coarser grid.

    It depends on the result nearby only: so a part of a scene can be corrected alone.

    Args:
        result: of the model, in the unit of the guide, with CRS and affine transform.
        guide: the measured bands, in the same order.
        ratio: size of a pixel of the guide in pixels of the result, about.
        own: how wrong the model is on the guide's own bands; None: the difference between the guide
            and the averaged result is taken.

    Attributes:
        grid: the coarser of the two grids, where the scene lies.
    """

    def __init__(
        self, result: Readable, guide: Readable, ratio: float, own: OwnBands | None
    ) -> None:
        self._result, self._guide, self._ratio, self._own = result, guide, ratio, own
        # The coarser of the two grids; a guide that is finer is averaged.
        self._on_guide, self._coarse = ratio > 2 / 3, ratio >= _COARSE
        grid = guide.grid if self._on_guide else result.grid
        self._part = around(result.grid, grid, _EDGE) if self._on_guide else grid.box
        self.grid = grid.crop(self._part)
        self.bands, self.unit = guide.bands, guide.unit
        self._agreement = Agreement()

    def read(self, box: Box) -> Window:
        """Read a rectangle, in the terms of `difference.subtract`; masked where unknown."""
        values = self._difference(box)
        mask = np.asarray(np.isfinite(values).all(axis=0))
        filled = np.where(mask, values, np.float32(0.0))
        return Window(filled, mask, self.grid.crop(box), self.bands, self.unit)

    def without_holes(self, stored: Readable, box: Box) -> Array:
        """Return the values [C, h, w] of a rectangle as they are enlarged.

        Args:
            stored: these differences.
            box: the rectangle.
        """
        outer = box.expanded(_REACH, self.grid.box)
        window = stored.read(outer)
        filled = fill(window.values, window.mask)
        if self._coarse:  # else nothing is enlarged
            filled = sharpen(filled, OVERSHOOT.get(self.unit, np.inf))
        return filled[:, *box.relative_to(outer).slices()]

    def add(self, ready: Readable, box: Box, values: Array) -> Array:
        """Add differences to the values [C, h, w] of a rectangle of the result.

        Args:
            ready: the differences without holes.
            box: the rectangle.
            values: of the result.
        """
        grid = self._result.grid.crop(box)
        enlarged = read_warped(ready, grid) if self._on_guide else ready.read(box)
        return add(values, enlarged.values, self.unit)

    @property
    def reach(self) -> int:
        """Pixels of the result around a rectangle by which its correction is decided, about."""
        return math.ceil((_REACH + _EDGE) * max(self._ratio, 1.0))

    @property
    def agreement(self) -> float:
        """Correlation of the differences between neighbouring pixels, as far as they were read.

        Of the guide and of the averaged result; a shift of the level or a gain does not change it.
        NaN where there are too few.
        """
        return self._agreement.correlation

    @property
    def count(self) -> int:
        """Pixels that are valid in guide and result, as far as they were read."""
        return self._agreement.count

    def _blocks(self) -> Iterator[Box]:
        """Yield rectangles of the coarse grid, small enough for memory in fine pixels."""
        side = max(int(SIDE / max(self._ratio, 1 / self._ratio)), 1)
        for row in range(0, self.grid.height, side):
            for col in range(0, self.grid.width, side):
                yield Box(row, col, side, side).intersection(self.grid.box)

    def _difference(self, box: Box) -> Array:
        """Return what the guide says more than the model, [C, h, w]; NaN where unknown."""
        found, measured = self._seen(self._result, box), self._measured(self._guide, box)
        both = found.mask & measured.mask
        self._agreement.add(found.values, measured.values, both)
        difference = subtract(measured.values, found.values, self._guide.unit)
        if self._own is not None:
            now, then = self._seen(self._own.now, box), self._measured(self._own.then, box)
            both &= now.mask & then.mask
            change = relative_change(now.values, then.values)
            half = _UNCHANGED if self._own.error is None else _SAME
            same, alike = (1.0 / (1.0 + (change / at) ** 2) for at in (half, _CHANGED))
            difference = np.asarray(same * difference)
            if self._own.error is not None:
                error = self._measured(self._own.error, box)
                both &= error.mask
                difference += (1.0 - same) * np.float32(_CARRIED) * alike * error.values
        return np.where(both, difference, np.float32(np.nan))

    def _seen(self, result: Readable, box: Box) -> Window:
        """Return the result as the guide's sensor would have seen it."""
        if not self._on_guide:
            return result.read(box)
        grid = self.grid.crop(box)
        if not self._coarse:
            return read_extended(result, grid)
        return read_as_seen(result, grid, self._ratio)

    def _measured(self, of_guide: Readable, box: Box) -> Window:
        """Return what lies on the guide's grid; it is masked where the guide ends."""
        if not self._on_guide:
            return read_averaged(of_guide, self.grid.crop(box))
        at = Box(self._part.row + box.row, self._part.col + box.col, box.height, box.width)
        return read_padded(of_guide, at)


class Residual(Difference):
    """The differences of a whole scene, ready to be enlarged and added.

    Args:
        result: see `Difference`.
        guide: likewise.
        ratio: likewise.
        own: likewise.
        folder: on whose disk differences lie until `close`.
    """

    def __init__(
        self,
        result: Readable,
        guide: Readable,
        ratio: float,
        own: OwnBands | None,
        folder: Path,
    ) -> None:
        super().__init__(result, guide, ratio, own)
        try:
            self._ready = self._stored(folder)
        except OSError as error:  # the disk is full
            raise write_error(folder, error) from error

    def _stored(self, folder: Path) -> FloatRaster:
        """Return the differences of the whole scene without holes, on disk."""
        with ExitStack() as stack:
            difference = stack.enter_context(self._raster(folder))
            for box in self._blocks():
                difference.write(box, self._difference(box))
            ready = self._raster(folder)
            stack.push(ready)  # closed if the next lines fail
            for box in self._blocks():
                ready.write(box, self.without_holes(difference, box))
            stack.pop_all()
            difference.close()
            return ready

    def apply(self, box: Box, values: Array) -> Array:
        """Add the enlarged difference to the values [C, h, w] of a rectangle of the result."""
        return self.add(self._ready, box, values)

    def remaining(self, corrected: Readable) -> float:
        """Return the mean absolute difference between a corrected result and the guide.

        It is measured in the middle of some blocks that are spread over the scene; NaN where no
        pixel of them is valid in both.
        """
        blocks = [_middle(box) for box in self._blocks()]
        total, count = 0.0, 0
        for box in blocks[:: max(len(blocks) // _CHECKED, 1)]:
            found, measured = self._seen(corrected, box), self._measured(self._guide, box)
            both = found.mask & measured.mask
            total += float(np.abs(found.values - measured.values).mean(axis=0)[both].sum())
            count += int(both.sum())
        return total / count if count else math.nan

    def remaining_words(self, corrected: Readable) -> str:
        """Return `remaining` in words."""
        found = self.remaining(corrected)
        words = "not measured" if math.isnan(found) else f"{found:.2g}"
        return f"remaining difference {words}"

    def close(self) -> None:
        """Give the disk back."""
        self._ready.close()

    def _raster(self, folder: Path) -> FloatRaster:
        return FloatRaster(self.grid, self.bands, self.unit, folder)


def _middle(box: Box) -> Box:
    """Return the middle of a box, half as high and half as wide, or smaller."""
    height, width = (min(-(-side // 2), _MIDDLE) for side in (box.height, box.width))
    return Box(
        box.row + (box.height - height) // 2, box.col + (box.width - width) // 2, height, width
    )


def relative_change(now: Array, then: Array) -> Array:
    """Return the change [H, W] between two images [C, H, W], 0 where nothing has changed.

    It is the root mean square of the difference over that of the values of both.
    """
    level = np.maximum((now**2 + then**2).mean(axis=0) / 2, np.float32(1e-6))
    return np.asarray(np.sqrt(((now - then) ** 2).mean(axis=0) / level))


def fill(values: Array, mask: NDArray[np.bool_]) -> Array:
    """Fill the holes of an image [C, H, W] from around, with falling weight; far away with 0.

    A hole gets a weighted mean of its surroundings by a narrow Gaussian, where enough of that is
    valid, else by a wide one. Valid pixels stay as they are.
    """
    filled = np.zeros_like(values)
    for width in (_FAR, _NEAR):
        weight = _blurred(mask.astype(np.float32), width)
        mean = _blurred(np.where(mask, values, np.float32(0.0)), width)
        np.divide(mean, weight, out=mean, where=weight > 1e-4)
        trust = np.minimum(weight / _TRUSTED, 1.0)
        filled += trust * (mean - filled)
    return np.where(mask, values, filled)


def sharpen(values: Array, overshoot: float = np.inf) -> Array:
    """Return the image [C, H, W] that, enlarged and averaged again, gives `values`, nearly.

    Enlarging by cubic convolution and averaging by the point spread function blur. Van Cittert's
    deconvolution adds what they took away; few steps, because noise grows with each.

    Args:
        values: of pixels of the guide.
        overshoot: how far a pixel may get out of the range of the 3 x 3 pixels around it. At a
            shore, where large gains meet small ones, more of it shows as bright and dark beads.
    """
    out = values
    for _ in range(_STEPS):
        blurred = out
        for axis in (-2, -1):
            blurred = correlate1d(blurred, _round_trip(), axis=axis, mode="nearest")
        out = out + (values - blurred)
    if not np.isfinite(overshoot):
        return out
    size = (*(1,) * (values.ndim - 2), 3, 3)
    low = minimum_filter(values, size, mode="nearest") - np.float32(overshoot)
    high = maximum_filter(values, size, mode="nearest") + np.float32(overshoot)
    return np.clip(out, low, high)


@functools.cache
def _round_trip() -> Array:
    """Return the weights by which pixels make up one that was enlarged and averaged."""
    width = gaussian_width(MTF)
    x = np.arange(-_TAPS - 1, _TAPS + 1, 1 / 64) + 1 / 128
    spread = np.exp(-0.5 * (x / width) ** 2)
    at = np.abs(x[:, None] - np.arange(-_TAPS, _TAPS + 1))
    weights = spread @ cubic_weights(at)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _blurred(values: Array, width: float) -> Array:
    """Return a Gaussian blur of the last two axes; outside is 0."""
    widths = (*(0,) * (values.ndim - 2), width, width)
    return np.asarray(gaussian_filter(values, widths, mode="constant", truncate=3.0))
