"""Evaluation of guided models: the manifest names a guide for each pair.

Beside the guided model stand the same model without the guide, and what the guide gives without the
model: enlarged by cubic convolution, and by a line from the source's bands to the guide. Scores are
broken down by the age of the guide and by the size of its pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature
from crossband.data.reader import PairReader, name_of
from crossband.data.rows import guide_age, open_guide, packed_file
from crossband.errors import CrossbandError, InputError, ManifestError, UnitError
from crossband.evaluation.baselines import Baseline
from crossband.evaluation.candidates import ModelCandidate
from crossband.evaluation.guide_names import AGE, ENLARGED, LINE, RATIO, UNGUIDED
from crossband.model import Model
from crossband.model.calibration import GuideClass
from crossband.model.uncertain import uncertain_model
from crossband.raster.compare import Overlap
from crossband.raster.grid import Grid, Window
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import (
    WindowRaster,
    around,
    check_georeference,
    read_averaged,
    read_padded,
    read_warped,
)
from crossband.translate.correction import FEWEST, RESIDUAL, GuideCorrection
from crossband.translate.options import GuideOptions, TileOptions
from crossband.translate.residual import fill
from crossband.translate.trained_guide import TRAINED, TrainedGuide
from crossband.translate.window import translate_window

#: Ends of the classes of the age in days, and of the ratio of pixel sizes.
_DAYS, _RATIOS = (1, 9, 33, 129), (1.5, 3.0, 6.0, 12.0)
#: A guide whose pixels are below this size in pixels of the result is averaged, as in `residual`.
_FINER = 2 / 3
#: Pixels of the guide around the result, for enlarging at its borders.
_EDGE = 4
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Guided:
    """A guided result, and what it was made of.

    Attributes:
        source: that was translated.
        output: the corrected result.
        network: the output of the network, before the guide corrected it.
        measured: [h, w], where the guide is valid.
        ratio: size of the guide's pixels in pixels of the result.
        days: between guide and source; NaN where unknown.
        calibrated: whether intervals of such results can be calibrated.
    """

    source: Window
    output: Window
    network: Window
    measured: NDArray[np.bool_]
    ratio: float
    days: float
    calibrated: bool


class GuidedCandidate(ModelCandidate):
    """A model whose results are corrected by the guides of the rows.

    Args:
        model: see `ModelCandidate`.
        label: see `ModelCandidate`.
        device: see `ModelCandidate`.
        precision: see `ModelCandidate`.

    Attributes:
        seen: the last prediction, and what it was made of.
    """

    def __init__(self, model: Model, label: str, device: str, precision: str) -> None:
        super().__init__(model, label, device, precision)
        self._tile = TileOptions(device=device, precision=precision)
        self._last: tuple[Window, Window] | None = None
        self.seen: Guided | None = None
        own = {UNGUIDED: self._unguided, **guide_baselines(self.signature, self.scale)}
        self.baselines = own | self.baselines

    def predict(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Translate the source, and correct the result by the guide."""
        if self.signature.guide:
            return self._by_network(row, source)
        result = self._unguided(row, source, grid)
        known = {*self.signature.source, *self.signature.target}
        with _row_errors(row), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            options = _options_of(row)
            if options.bands is not None:
                named = {k: v for k, v in options.bands.items() if k in known}
                options = replace(options, bands=named)
            raster = WindowRaster(source)
            correction = stack.enter_context(
                GuideCorrection(options, self.model, self._tile, raster, "the source")
            )
            if correction.unit != result.unit:
                raise UnitError(
                    f"guide {options.guide}: it is {correction.unit}, and the target {result.unit}"
                )
            made, _ = correction.corrected(WindowRaster(result), stack, Path(folder))
            self.seen = _guided(correction, source, made.read(result.grid.box), result)
            return self.seen.output

    def guided(self, row: Mapping[str, Any], source: Window) -> Guided:
        """Return the guided result of a source; the last one is not computed again."""
        if self.seen is None or self.seen.source is not source:
            self.predict(row, source, source.grid.zoom(self.scale))
        assert self.seen is not None
        return self.seen

    def further(self, row: Mapping[str, Any], source: Window, guide: GuideClass) -> Array:
        """Return the channels of a source beside the target bands: see `UncertainGenerator`.

        Args:
            row: of the pair.
            source: in physical units.
            guide: the class by which widths are calibrated.
        """
        sure, count = uncertain_model(self.model, source.unit, guide), len(self.signature.target)
        with ExitStack() as stack:
            at = None
            if self.signature.guide:
                stack.enter_context(_row_errors(row))
                at = stack.enter_context(self._trained_guide(row, source)).at
            return translate_window(sure, source, self._tile, at).values[count:]

    def _trained_guide(self, row: Mapping[str, Any], source: Window) -> TrainedGuide:
        """Open the guide of a row for a network that takes one."""
        return TrainedGuide(_options_of(row), self.model, WindowRaster(source), "the source")

    def _by_network(self, row: Mapping[str, Any], source: Window) -> Window:
        """Translate with a network that takes the guide of the row, and correct the result."""
        with _row_errors(row), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            guide = stack.enter_context(self._trained_guide(row, source))
            result = translate_window(self.model, source, self._tile, guide.at)
            made, _ = guide.corrected(WindowRaster(result), stack, Path(folder))
            self.seen = _guided(guide, source, made.read(result.grid.box), result)
            return self.seen.output

    def _unguided(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Translate the source; the last result is kept, as the guided one is made of it."""
        if self._last is None or self._last[0] is not source:
            self._last = source, translate_window(self.model, source, self._tile)
        return self._last[1]

    def describe(self) -> dict[str, Any]:
        """See `ModelCandidate.describe`; also that the model is guided, and how."""
        return {**super().describe(), "guided": TRAINED if self.signature.guide else RESIDUAL}


def _options_of(row: Mapping[str, Any]) -> GuideOptions:
    """Return the guide of a row, open if it lies in a pack."""
    # The window in memory has no date, and the row may state one.
    return replace(GuideOptions.of_row(row), days=guide_age(row), opened=packed_file(row, "guide"))


def _guided(
    by: GuideCorrection | TrainedGuide, source: Window, output: Window, network: Window
) -> Guided:
    """Return a guided result with what it is made of."""
    try:
        (ratio, days), calibrated = by.calibrated_as(), True
    except CrossbandError:
        ratio, days, calibrated = by.ratio, by.days, False
    measured = by.measured(network.grid.box)
    return Guided(source, output, network, measured, ratio, days, calibrated)


def guide_baselines(signature: Signature, scale: int) -> dict[str, Baseline]:
    """Return what a guide gives without a model.

    `guide + per-pixel line` fits, for each pair, a line from the source's bands to those of the
    guide, on the pixels of the guide: the source is averaged to them as the guide's sensor would
    have seen it. The line is applied to the pixels of the source. It is left out at a scale above
    1, as the fitted baselines are.
    """

    def enlarged(row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        with _opened(row, signature, source, grid) as (guide, ratio):
            return _window(signature, source, grid, enlarge(guide, grid, ratio))

    def line(row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        with _opened(row, signature, source, grid) as (guide, ratio):
            weights = fit_line(source, guide, ratio)
        values = np.tensordot(weights[:-1].T, source.values, axes=1) + weights[-1][:, None, None]
        return _window(signature, source, grid, values)

    return {ENLARGED: enlarged, **({LINE: line} if scale == 1 else {})}


def enlarge(guide: Any, grid: Grid, ratio: float) -> Array:
    """Return a guide on a finer grid, by cubic convolution, without holes.

    Holes are filled from around; far from any valid pixel with the mean.

    Args:
        guide: an open scene or raster.
        grid: of the result.
        ratio: size of a pixel of the guide in pixels of the result.
    """
    if ratio > _FINER:
        seen = read_padded(guide, around(grid, guide.grid, _EDGE))
    else:
        seen = read_averaged(guide, grid)
    if not seen.mask.any():
        raise InputError("it has no valid pixel there")
    mean = seen.values[:, seen.mask].mean(axis=1)[:, None, None]
    filled = fill(seen.values - mean, seen.mask) + mean
    if ratio <= _FINER:
        return np.asarray(filled)
    whole = replace(seen, values=filled, mask=np.ones_like(seen.mask))
    return read_warped(WindowRaster(whole), grid).values


def fit_line(source: Window, guide: Any, ratio: float) -> Array:
    """Return the weights [Cs + 1, Ct] of the line from a source to a guide, by least squares.

    Raises:
        InputError: fewer than 16 pixels are valid in both.
    """
    raster = WindowRaster(source)
    if ratio > _FINER:
        part = around(source.grid, guide.grid, 0).intersection(guide.grid.box)
        y, x = guide.read(part), read_as_seen(raster, guide.grid.crop(part), ratio)
    else:
        y, x = read_averaged(guide, source.grid), source
    both = x.mask & y.mask
    if both.sum() < FEWEST[RESIDUAL]:
        raise InputError(f"{both.sum()} pixels are valid in it and in the source")
    features = np.vstack([x.values[:, both], np.ones((1, both.sum()))]).astype(np.float64)
    weights = np.linalg.lstsq(features.T, y.values[:, both].T.astype(np.float64), rcond=None)[0]
    return np.asarray(weights, np.float32)


def add_classes(table: pd.DataFrame, signature: Signature, scale: int) -> pd.DataFrame:
    """Return the rows with the classes of their guides, in the columns `AGE` and `RATIO`.

    The age is the number of days between guide and source, as the columns `guide_datetime` and
    `datetime` (or `date`) say, else the metadata of the files.

    Raises:
        ManifestError: a guide or a pair that cannot be opened; a date that is none.
    """
    reader = PairReader(table, signature, scale)
    ages, ratios = [], []
    for position, row in enumerate(reader.rows):
        grid = reader.info(position).grid.zoom(scale)
        with _row_errors(row), open_guide(row, list(signature.target)) as guide:
            ratios.append(_ratio(grid, guide.grid, row))
            ages.append(guide_age(row))
    return table.assign(
        **{
            AGE: _classes(ages, _DAYS, "{} days", "{} to {} days", "{} days or more", 1),
            RATIO: _classes(ratios, _RATIOS, "below {:g}", "{:g} to {:g}", "{:g} or more", 0),
        }
    )


def _classes(
    values: Sequence[float], ends: Sequence[float], first: str, middle: str, last: str, gap: int
) -> pd.Categorical:
    """Return the class of each value; `gap` is what whole numbers leave between two classes."""
    names = [first.format(ends[0] - gap)]
    names += [middle.format(a, b - gap) for a, b in pairwise(ends)] + [last.format(ends[-1])]
    at = np.searchsorted(ends, values, side="right")
    found = [names[i] if np.isfinite(v) else None for i, v in zip(at, values, strict=True)]
    return pd.Categorical(found, categories=names, ordered=True)


def _ratio(grid: Grid, guide: Grid, row: Mapping[str, Any]) -> float:
    """Return the size of a pixel of the guide in pixels of the result."""
    check_georeference(grid, str(row["target"]))
    check_georeference(guide, f"guide {row['guide']}")
    try:
        ground = Overlap.of(grid, guide)
    except InputError as error:
        raise InputError(f"guide {row['guide']}: {error}") from error
    return ground.ratio if ground.coarser else 1 / ground.ratio


@contextmanager
def _opened(
    row: Mapping[str, Any], signature: Signature, source: Window, grid: Grid
) -> Iterator[tuple[Any, float]]:
    """Open the guide of a row; yield it and the size of its pixels in those of the result."""
    with _row_errors(row), open_guide(row, list(signature.target)) as guide:
        unit = signature.target_unit(source.unit)
        if guide.unit != unit:
            raise UnitError(f"guide {row['guide']}: it is {guide.unit}, and the target {unit}")
        yield guide, _ratio(grid, guide.grid, row)


@contextmanager
def _row_errors(row: Mapping[str, Any]) -> Iterator[None]:
    """Name the row in errors, and its columns in the place of options."""
    try:
        yield
    except CrossbandError as error:
        words = str(error).replace("--guide-", "guide_").replace("--guide", "guide")
        raise ManifestError(f"{name_of(row)}: {words}") from error


def _window(signature: Signature, source: Window, grid: Grid, values: NDArray[Any]) -> Window:
    unit = signature.target_unit(source.unit)
    clipped = np.clip(values, *VALID_RANGE[unit]).astype(np.float32)
    mask = np.ones(clipped.shape[1:], dtype=bool)
    return Window(clipped, mask, grid, tuple(signature.target), unit)
