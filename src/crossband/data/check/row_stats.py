"""Statistics of one row of a manifest. Files are opened as training opens them, and read once.

`check.rules` decides what is wrong. Statistics are small, so that processes can exchange them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from crossband.data.check.bands import Bands
from crossband.data.check.edge_patterns import edge_pattern
from crossband.data.check.opening import check_guide, open_as_training, refusal
from crossband.data.check.registration import Shift, measure
from crossband.data.check.side_stats import Sample, SideStats, side_stats
from crossband.data.degrade import parse_degradation
from crossband.data.rows import has_own, row_options
from crossband.data.spectra import Spectra, spectra
from crossband.errors import CrossbandError
from crossband.raster.grid import Box, Grid
from crossband.raster.scene import Scene

#: Statistics of values use every k-th row and column, at most this many of each.
SAMPLE = 512
#: What a damaged file makes GDAL and NumPy raise, besides our own errors.
DAMAGED = (RasterioError, OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class RowStats:
    """Statistics of a row.

    Attributes:
        row: its number in the manifest.
        source: None if the row has no source, or it cannot be read.
        target: the same.
        refused: `source`, `target`, `guide` or `degradation` -> kind of finding, file and message,
            if it cannot be read.
        blank: share of pixels where source and target both hold their most frequent value.
        shift: of the target against the source; None if it cannot be measured.
        spectra: statistics of each set of bands that share a radiometry.
        own: the target has a radiometry of its own.
        edge_pattern: int8 [4096], see `edge_patterns`; None if there is no edge.
    """

    row: int
    source: SideStats | None = None
    target: SideStats | None = None
    refused: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    blank: float = 0.0
    shift: Shift | None = None
    spectra: tuple[Spectra, ...] = ()
    own: bool = False
    edge_pattern: NDArray[np.int8] | None = None

    @property
    def scale(self) -> int | None:
        """Target pixels per source pixel along one side; None if that is no whole number."""
        one, two = self.source, self.target
        if one is None or two is None:
            return None
        scale = two.height // one.height
        fits = (one.height * scale, one.width * scale) == (two.height, two.width)
        return scale if scale and fits else None


def row_stats(row: Mapping[str, Any], bands: Bands | None = None) -> RowStats:
    """Return the statistics of a row. A file that cannot be read is a result, not an exception.

    Args:
        row: of the table that `manifest.read` gives.
        bands: the bands of source and target, as the user states them.
    """
    number = int(row["row"])
    sides: dict[str, SideStats] = {}
    samples: dict[str, Sample] = {}
    refused: dict[str, tuple[str, str, str]] = {}
    scenes: dict[str, Scene] = {}
    needed: dict[str, list[str]] = {}
    try:
        try:
            needed = (bands or Bands()).of(row)
        except CrossbandError as error:
            side = "target" if pd.isna(row["source"]) else "source"
            refused[side] = refusal(error, row, side)
        step = None
        for side, names in needed.items():
            try:
                scenes[side] = scene = open_as_training(row, side, names)
                step = _step(scene.grid, step, sides.get("source"))
                sensor = row_options(row, side, names).sensor
                sides[side], samples[side] = side_stats(scene, sensor, step)
            except CrossbandError as error:
                refused[side] = refusal(error, row, side)
        if pd.notna(row["guide"]) and "target" in scenes:
            try:
                check_guide(row, scenes["target"])
            except CrossbandError as error:
                refused["guide"] = "guide", *refusal(error, row, "guide")[1:]
        if pd.isna(row["source"]) and pd.notna(row["degradation"]):
            try:
                parse_degradation(str(row["degradation"]))
            except CrossbandError as error:
                refused["degradation"] = "degradation", str(row["target"]), str(error)
        own = has_own(row)
        one = RowStats(number, sides.get("source"), sides.get("target"), refused, own=own)
        return _add_relations(one, scenes, samples)
    finally:
        for scene in scenes.values():
            scene.close()


def _step(grid: Grid, step: int | None, source: SideStats | None) -> int:
    """Return which rows and columns are sampled: every k-th, the same ground on both sides."""
    if step is not None and source is not None:
        scale = grid.height // source.height
        if scale and (source.height * scale, source.width * scale) == (grid.height, grid.width):
            return step * scale
    return -(-max(grid.height, grid.width) // SAMPLE)


def _add_relations(
    one: RowStats, scenes: Mapping[str, Scene], samples: Mapping[str, Sample]
) -> RowStats:
    """Add the statistics that need both source and target."""
    source, target = samples.get("source"), samples.get("target")
    parts: dict[str, Any] = {}
    if source is not None and target is not None and one.scale is not None:
        same = source.mask.shape == target.mask.shape
        if same and one.source != one.target:
            parts["blank"] = float((source.single & target.single).mean())
        if one.source is not None and _different(one.source, one.target):
            parts["shift"] = _shift(one.source, one.scale, scenes, samples)
    parts["spectra"] = tuple(_spectra(one, samples))
    seen = source if source is not None else target
    if seen is not None:
        parts["edge_pattern"] = edge_pattern(seen.values.mean(axis=0), seen.mask)
    return RowStats(one.row, one.source, one.target, one.refused, own=one.own, **parts)


def _different(source: SideStats, target: SideStats | None) -> bool:
    return target is not None and (source.path, source.bands) != (target.path, target.bands)


def _shift(
    source: SideStats, scale: int, scenes: Mapping[str, Scene], samples: Mapping[str, Sample]
) -> Shift | None:
    whole = samples["source"].mask.shape == (source.height, source.width) and scale == 1

    def read(box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        if whole:
            at = box.slices()
            one, two = samples["source"], samples["target"]
            return (
                one.values[:, at[0], at[1]].mean(axis=0),
                two.values[:, at[0], at[1]].mean(axis=0),
                one.mask[at] & two.mask[at],
            )
        first, second = scenes["source"].read(box), scenes["target"].read(box.scaled(scale))
        shape = (box.height, scale, box.width, scale)
        fine = second.values.mean(axis=0).reshape(shape).mean(axis=(1, 3))
        seen = second.mask.reshape(shape).all(axis=(1, 3))
        return first.values.mean(axis=0), fine, first.mask & seen

    return measure(read, source.height, source.width)


def _spectra(one: RowStats, samples: Mapping[str, Sample]) -> list[Spectra]:
    """Describe each set of bands that share a radiometry: one set if both sides share it."""
    sides = {s: side for s in samples if (side := getattr(one, s)) is not None}
    joint = len(sides) == 2 and not one.own and one.scale == 1
    if joint and len({s.unit for s in sides.values()}) == 1:
        source, target = sides["source"], sides["target"]
        new = [i for i, b in enumerate(target.bands) if b not in source.bands]
        mask = samples["source"].mask & samples["target"].mask
        names = (*source.bands, *(target.bands[i] for i in new))
        stack = [samples["source"].stored, samples["target"].stored[new]]
        values = [samples["source"].values, samples["target"].values[new]]
        return [spectra(names, _at(stack, mask), _at(values, mask), source)]
    return [
        spectra(side.bands, _at([one.stored], one.mask), _at([one.values], one.mask), side)
        for s, side in sides.items()
        for one in [samples[s]]
    ]


def _at(arrays: Sequence[NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.concatenate([a[:, mask] for a in arrays]).astype(np.float64)
