"""A guide that a trained network takes as input, read window by window on the pixels of a scene.

Where such a guide has the source's bands and the result's, they say where nothing has changed.
There the result must agree with the measurement, and is corrected as `residual` does. Where
something has changed, nothing is added: the network has learned which part of the model's error to
carry over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crossband.core.sensors import DISPLAY
from crossband.core.warned import warn
from crossband.errors import CrossbandError, InputError, UnitError
from crossband.model import Model
from crossband.networks.conditions import guide_facts
from crossband.raster.compare import Overlap
from crossband.raster.grid import Box, Window
from crossband.raster.members import member_files
from crossband.raster.point_spread import read_as_seen
from crossband.raster.remote import name_of
from crossband.raster.scene import Scene
from crossband.raster.warp import (
    BandView,
    Readable,
    WindowRaster,
    around,
    check_georeference,
    read_averaged,
    read_padded,
)
from crossband.translate.agreement import Agreement
from crossband.translate.familiarity import sample_boxes
from crossband.translate.guide_file import (
    FINER,
    POOR,
    check_numbers,
    correlation_words,
    days_between,
    on_pixels_of,
    open_guide_file,
)
from crossband.translate.options import GuideOptions
from crossband.translate.provenance import source_fingerprint
from crossband.translate.residual import Corrected, Difference, OwnBands, Residual
from crossband.translate.window import translate_window

#: The method of a model that was trained with a guide.
TRAINED = "trained"
#: Blocks on which it is measured how well guide and source agree.
_CHECKED = 8
_FEWEST = 16
#: A band of a guide is clearly more like a colour of the scene by this difference of correlations.
CLEARLY = 0.2


class TrainedGuide:
    """An open guide of a network that takes one; use as a context manager.

    Args:
        options: the guide.
        model: whose signature names the guide's bands.
        source: what is translated.
        name: of the source, for messages.

    Attributes:
        method: how the result is corrected, in one word.
        scene: the open guide.
        ratio: size of its pixels in pixels of the source.
        days: between guide and source; NaN where unknown.
        unit: of guide and result.
        corrects: whether the guide has the bands of source and result, so that the result is
            corrected by it, too.

    Raises:
        InputError: no georeference or no common ground.
        BandError: the guide lacks a band.
        UnitError: the guide has another unit than the result, or states none.
    """

    method = TRAINED

    def __init__(self, options: GuideOptions, model: Model, source: Readable, name: str) -> None:
        if options.method not in (None, TRAINED):
            raise CrossbandError(
                f"--guide-method {options.method}: {model.name} was trained with a guide; leave it "
                "out"
            )
        what = f"--guide {options.guide}"
        self._signature, self._source, self._what = model.signature, source, what
        self._model = model
        self.unit = unit = model.signature.target_unit(source.unit)
        with ExitStack() as stack:
            bands = tuple(model.signature.guide)
            self.scene: Scene = stack.enter_context(open_guide_file(options, bands, bands))
            if self.scene.unit != unit or unit == DISPLAY:
                raise UnitError(
                    f"{what}: it is {self.scene.unit}, the result is {unit}; their units must agree"
                )
            check_numbers(self.scene, what)
            check_georeference(source.grid, name)
            check_georeference(self.scene.grid, what)
            try:
                self._ground = Overlap.of(source.grid, self.scene.grid)
            except InputError as error:
                raise InputError(f"{what}, with {name}: {error}") from error
            self.ratio = self._ground.ratio if self._ground.coarser else 1 / self._ground.ratio
            self.days = days_between(options, source)
            own, made = set(model.signature.source), set(model.signature.target)
            self.corrects = not own & made and own | made <= set(bands) and source.unit == unit
            self._open = stack.pop_all()

    @property
    def files(self) -> list[str]:
        """The files that the guide is read from."""
        return list(member_files(self.scene.files))

    @property
    def fact(self) -> str:
        """The guide, how it is read and how old it is, in words that change with each of these."""
        scene = self.scene
        return (
            f"{TRAINED}, {name_of(scene.path)}, {source_fingerprint(scene)}, ({scene.numbers!r}, "
            f"{scene.radiometry.fact()}), {self.days:g} days"
        )

    def at(self, boxes: Sequence[Box]) -> Tensor:
        """Return the normalised guide of windows of one shape; see `Conditions.guide`."""
        windows = torch.from_numpy(np.stack([self._window(box) for box in boxes]))
        return self._signature.normalise_guide(windows, [self._source.unit])

    def corrected(self, result: Readable, stack: ExitStack, folder: Path) -> tuple[Corrected, str]:
        """Return the result, corrected where the guide shows no change, and words on it.

        Without the source's bands a guide does not show that, and the result stays as it is.

        Args:
            result: as the network computed it.
            stack: closes what is needed while the corrected result is read.
            folder: on whose disk differences lie until then.
        """
        if not self.corrects:
            return Corrected(result, lambda _, x: x, result.unit), ""
        residual = Residual(result, self._measured, self.ratio, self._own, folder)
        stack.callback(residual.close)
        corrected = Corrected(result, residual.apply, result.unit)
        return corrected, f", {residual.remaining_words(corrected)}"

    def difference(self, result: Readable) -> Difference:
        """Return what is to be added to any part of a result, without computing all of it."""
        return Difference(result, self._measured, self.ratio, self._own)

    @property
    def _measured(self) -> BandView:
        """The bands of the result, as the guide has them."""
        return BandView(self.scene, tuple(self._signature.target))

    @property
    def _own(self) -> OwnBands:
        """The bands of the source, then and now; nothing is added where they have changed."""
        own = tuple(self._signature.source)
        return OwnBands(None, BandView(self.scene, own), BandView(self._source, own))

    def check(self) -> str:
        """Return words on the guide, with how well its structure agrees with the source's.

        Agreement is the correlation of differences between neighbouring pixels, of the bands that
        both have, else of the mean of all bands; NaN where there are too few. A poor one is warned
        of.

        Raises:
            InputError: fewer than 16 pixels are valid in both.
        """
        bands = [band for band in self._source.bands if band in self.scene.bands]
        pair: tuple[Readable, Readable] = self._source, self.scene
        if bands:
            pair = BandView(pair[0], tuple(bands)), BandView(pair[1], tuple(bands))
        found = Agreement()
        parts = list(self._ground.blocks())
        for part in parts[:: max(len(parts) // _CHECKED, 1)]:
            grid = self._ground.grid.crop(part)
            if self._ground.coarser:
                one = read_as_seen(pair[0], grid, self.ratio)
                other = self._ground.window(pair[1], 1, part)
            else:
                one = self._ground.window(pair[0], 0, part)
                other = read_averaged(pair[1], grid)
            values = [w.values if bands else w.values.mean(axis=0)[None] for w in (one, other)]
            found.add(values[0], values[1], one.mask & other.mask)
        if found.count < _FEWEST:
            raise InputError(f"{self._what}: {found.count} pixels are valid in it and in the scene")
        if not found.correlation >= POOR:  # NaN where one of them is constant
            warn(
                f"{self._what}: the correlation of its structure with the scene's is "
                f"{correlation_words(found.correlation)}; a guide of the same place has more than "
                f"0.2. Is it of another place, shifted, or cloudy?",
            )
        calibration = self._model.calibration
        one_date = calibration is not None and calibration.same_date_only
        if one_date and not self.corrects and abs(self.days) > 0:
            warn(
                f"{self._what}: {abs(self.days):g} days lie between it and the scene, and "
                f"{self._model.name} was calibrated with guides of the same date only. What has "
                "changed in between may be missing in the result",
            )
        agreed = f"agreement {found.correlation:.2f}"
        if self.corrects:
            agreed += "".join(f", of {band} {r:.2f}" for band, r in self._judge_bands().items())
        return f"{name_of(self.scene.path)}, {TRAINED}, {found.count} pixels, {agreed}"

    def _judge_bands(self) -> dict[str, float]:
        """Return how well the guide's target bands agree with what colours alone give.

        It is measured in a few windows; NaN where too few pixels are valid in both. A target band
        that is more like a colour of the scene than the guide's own band of that colour, or equals
        one, is warned of.
        """
        wanted, bands = tuple(self._signature.target), self.scene.bands
        colours = [band for band in self._source.bands if band in bands]
        own = {target: Agreement() for target in wanted}
        like = {pair: Agreement() for pair in product(colours, (*wanted, *colours))}
        equal = dict.fromkeys(product(wanted, colours), True)
        for box in sample_boxes(self._source.grid):
            window = self._source.read(box)
            if not window.mask.any():
                continue
            made, seen = (
                self._beside(WindowRaster(w))
                for w in (translate_window(self._model, window), window)
            )
            for (one, other), pairs in ((made, own), (seen, like)):
                both = one.mask & other.mask
                for key, agreement in pairs.items():
                    first, second = key if isinstance(key, tuple) else (key, key)
                    x, y = (w.values[w.bands.index(n)] for w, n in ((one, first), (other, second)))
                    agreement.add(x[None], y[None], both)
            values = dict(zip(bands, made[1].values[:, made[1].mask], strict=True))
            for target, colour in equal:
                equal[target, colour] &= np.array_equal(values[target], values[colour])
        for target, colour in equal:
            right, wrong = (like[colour, band].correlation for band in (colour, target))
            same = equal[target, colour] and own[target].count > 0
            if same or wrong > right + CLEARLY:
                warn(
                    f"{self._what}: the correlation of the scene's {colour} with its {target} is "
                    f"{wrong:.2f}, and with its {colour} {right:.2f}. Is its {target} another "
                    f"band?",
                )
                break
        return {
            target: found.correlation if found.count >= _FEWEST else math.nan
            for target, found in own.items()
        }

    def _beside(self, raster: WindowRaster) -> tuple[Window, Window]:
        """Return a part of the scene and the guide on common pixels, those of the coarser one."""
        if self.ratio < FINER:
            return raster.read(raster.grid.box), read_averaged(self.scene, raster.grid)
        part = around(raster.grid, self.scene.grid, 0)
        coarse = read_as_seen(raster, self.scene.grid.crop(part), self.ratio)
        return coarse, read_padded(self.scene, part)

    def calibrated_as(self) -> tuple[float, float]:
        """Return the size of the guide's pixels and its age in days, for intervals."""
        return self.ratio, self.days

    def measured(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of a rectangle of the source lie on valid pixels of the guide.

        If only results with a guide are calibrated, it must be valid as far as the network looks:
        near a hole the result is worse.
        """
        calibration, reach = self._model.calibration, self._model.network.margin
        if calibration is None or not calibration.needs_guide or not reach:
            return on_pixels_of(self.scene, self._source.grid.crop(box), self.ratio).mask
        every = self._source.grid.box
        top, left = max(box.row - reach, 0), max(box.col - reach, 0)
        wide = Box(
            top,
            left,
            min(box.row + box.height + reach, every.height) - top,
            min(box.col + box.width + reach, every.width) - left,
        )
        valid = on_pixels_of(self.scene, self._source.grid.crop(wide), self.ratio).mask
        near = torch.from_numpy(~valid).float()[None, None]  # beyond the scene there is no hole
        for side, pad in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
            near = functional.max_pool2d(near, side, stride=1, padding=pad)
        at = box.relative_to(wide)
        inside = near[0, 0, at.row : at.row + at.height, at.col : at.col + at.width]
        return np.asarray(inside.numpy() == 0)

    def _window(self, box: Box) -> NDArray[np.float32]:
        """Return bands and facts on the pixels of a window, 0 where the guide is invalid."""
        grid = self._source.grid.crop(box)
        seen = on_pixels_of(self.scene, grid, self.ratio)
        facts = np.array([1.0, *guide_facts(self.ratio, self.days)], np.float32)
        known = seen.mask * facts[:, None, None]
        return np.concatenate([np.where(seen.mask, seen.values, 0.0), known]).astype(np.float32)

    def close(self) -> None:
        """Close the guide."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
