"""Statistics of one row of a manifest. Files are opened as training opens them, and read once.

`check.rules` decides what is wrong. Statistics are small, so that processes can exchange them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from crossband.core.sensors import VALID_RANGE
from crossband.data.check.edge_patterns import edge_pattern
from crossband.data.check.registration import Shift, measure
from crossband.data.check.strips import strips
from crossband.data.rows import (
    has_own,
    joint_options,
    open_guide,
    open_side,
    packed_file,
    row_options,
)
from crossband.data.spectra import Spectra, spectra
from crossband.errors import BandError, CrossbandError, InputError, ManifestError, UnitError
from crossband.raster.bands import parse_bands
from crossband.raster.compare import Overlap
from crossband.raster.grid import Box, Grid
from crossband.raster.open import known_bands, open_raster, open_scene
from crossband.raster.scene import Scene
from crossband.raster.warp import check_georeference

#: Statistics of values use every k-th row and column, at most this many of each.
SAMPLE = 512
#: How far a value may lie outside the valid range of its unit, as a share of the range:
#: atmospheric correction gives such values at dark pixels and at sun glint.
BEYOND = 0.1
#: What a damaged file makes GDAL and NumPy raise, besides our own errors.
DAMAGED = (RasterioError, OSError, ValueError, MemoryError)
_KINDS = {BandError: "bands-unnamed", UnitError: "unit-unknown", InputError: "unreadable"}


@dataclass(frozen=True)
class SideStats:
    """Statistics of the source or the target of a row.

    Attributes:
        path: the file.
        bands: common names.
        unit: physical unit.
        sensor: name in the sensor table, or None.
        scale: physical = stored x scale + offset, of the first band.
        offset: see scale.
        dtypes: stored data types of the bands.
        height: in pixels, of the window that the row names, or of the file.
        width: the same.
        stored: smallest and largest stored number of each band, over all valid pixels.
        valid: share of pixels that are not masked.
        single: share of the pixels that hold the most frequent value (in all bands at once).
        common: that value, as stored.
        outside: share of valid values outside the valid range of the unit.
        digest: hash of the stored numbers.
        grid: affine and CRS, where the file has them.
        bounds: west, south, east, north in degrees, or None.
        named_otherwise: in words, bands that the row gives by number and the file names as others.
    """

    path: str
    bands: tuple[str, ...]
    unit: str
    sensor: str | None
    scale: float
    offset: float
    dtypes: tuple[str, ...]
    height: int
    width: int
    stored: tuple[tuple[float, float], ...]
    valid: float
    single: float
    common: tuple[float, ...]
    outside: float
    digest: str
    grid: Grid
    bounds: tuple[float, float, float, float] | None
    named_otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowStats:
    """Statistics of a row.

    Attributes:
        row: its number in the manifest.
        source: None if the row has no source, or it cannot be read.
        target: the same.
        refused: `source`, `target` or `guide` -> kind of finding, file and message, if it cannot be
            read.
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


@dataclass(frozen=True)
class Bands:
    """The bands of source and target, as the user states them; None leaves it to rows and files."""

    source: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None

    def of(self, row: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the bands of the source and of the target of a row, as far as it has them.

        They come from this object, else from the row's columns, else from the file. Where one
        file is both and only one side's bands are stated, the other side has all other bands.

        Raises:
            BandError: the bands are stated nowhere.
        """
        out = {}
        for side in ("source", "target"):
            if not pd.isna(row[side]):
                column = row[f"{side}_bands"]
                given = getattr(self, side)
                if given is None and not pd.isna(column):
                    given = parse_bands(column)
                out[side] = list(given) if given is not None else []
        for side in [s for s in out if not out[s]]:
            sensor = row_options(row, side, []).sensor
            opened = packed_file(row, side)
            names = list(known_bands(row[side], sensor, opened=opened))
            other = {"source": "target", "target": "source"}[side]
            if other in out and row[side] == row[other]:
                rest = [n for n in names if n not in out[other]]
                all_named = names or _band_count(row, side) <= len(out[other])
                names = rest or (list(out[other]) if all_named else [])
            if not names:
                raise BandError(
                    f"{row[side]}: the file names no band, and neither does the manifest: give "
                    f"a column {side}_bands, as in red=1,green=2,blue=3"
                )
            out[side] = names
        return out


def _band_count(row: Mapping[str, Any], side: str) -> int:
    packed = packed_file(row, side)
    if packed is not None:
        return packed.count
    with open_raster(row[side]) as opened:
        return int(opened.count)


@dataclass(frozen=True)
class _Sample:
    """Every k-th row and column of a source or target.

    Attributes:
        stored: stored numbers [C, h, w].
        values: physical values [C, h, w].
        mask: [h, w], True where valid.
        single: [h, w], True at the most frequent value.
    """

    stored: NDArray[Any]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    single: NDArray[np.bool_]


def row_stats(row: Mapping[str, Any], bands: Bands | None = None) -> RowStats:
    """Return the statistics of a row. A file that cannot be read is a result, not an exception.

    Args:
        row: of the table that `manifest.read` gives.
        bands: the bands of source and target, as the user states them.
    """
    number = int(row["row"])
    sides: dict[str, SideStats] = {}
    samples: dict[str, _Sample] = {}
    refused: dict[str, tuple[str, str, str]] = {}
    scenes: dict[str, Scene] = {}
    needed: dict[str, list[str]] = {}
    try:
        try:
            needed = (bands or Bands()).of(row)
        except CrossbandError as error:
            side = "target" if pd.isna(row["source"]) else "source"
            refused[side] = _refusal(error, row, side)
        step = None
        for side, names in needed.items():
            try:
                scenes[side] = scene = open_as_training(row, side, names)
                step = _step(scene.grid, step, sides.get("source"))
                sensor = row_options(row, side, names).sensor
                sides[side], samples[side] = _side(scene, sensor, step)
            except CrossbandError as error:
                refused[side] = _refusal(error, row, side)
        if pd.notna(row["guide"]) and "target" in scenes:
            try:
                _check_guide(row, scenes["target"])
            except CrossbandError as error:
                refused["guide"] = "guide", *_refusal(error, row, "guide")[1:]
        own = has_own(row)
        one = RowStats(number, sides.get("source"), sides.get("target"), refused, own=own)
        return _add_relations(one, scenes, samples)
    finally:
        for scene in scenes.values():
            scene.close()


def open_as_training(row: Mapping[str, Any], side: str, names: list[str]) -> Scene:
    """Open the source or target of a row as training does.

    Where one file is both, the columns of both sides say which band is which.

    Raises:
        CrossbandError: see `open_side`; also bands of different data types, which training
            cannot read.
    """
    if row["source"] == row["target"] and not has_own(row):
        options = joint_options(row, side, names)
        scene = open_scene(row[side], options, needed=names, opened=packed_file(row, side))
    else:
        scene = open_side(row, side, names)
    kinds = dict.fromkeys(scene.dtypes)
    if len(kinds) > 1:
        scene.close()
        raise _MixedTypesError(
            f"{scene.path}: its bands are stored as {' and '.join(kinds)}, with one scale for all"
        )
    return scene


def _check_guide(row: Mapping[str, Any], target: Scene) -> None:
    """Raise CrossbandError for a guide that says nothing about the target of its row."""
    with open_guide(row, list(target.bands)) as guide:
        if guide.unit != target.unit:
            raise UnitError(f"{guide.path}: it is {guide.unit}, and the target is {target.unit}")
        for scene in (target, guide):
            check_georeference(scene.grid, scene.path)
        try:
            ground = Overlap.of(target.grid, guide.grid)
        except InputError as error:
            raise InputError(f"{guide.path}, with {target.path}: {error}") from error
        if not any(ground.window(guide, 1, part).mask.any() for part in ground.blocks()):
            raise InputError(f"{guide.path}: it has no valid pixel where {target.path} lies")


class _MixedTypesError(CrossbandError):
    """Bands of one file have different data types."""


def _refusal(error: CrossbandError, row: Mapping[str, Any], side: str) -> tuple[str, str, str]:
    """Return kind of finding, file and message, without the file where it begins with that."""
    file = str(row[side])
    return _kind_of(error), file, str(error).removeprefix(f"{file}: ")


def _kind_of(error: CrossbandError) -> str:
    if isinstance(error, _MixedTypesError):
        return "two-scalings"
    kinds = (kind for cls, kind in _KINDS.items() if isinstance(error, cls))
    return next(kinds, "unreadable" if isinstance(error, ManifestError) else "bands-unnamed")


def _step(grid: Grid, step: int | None, source: SideStats | None) -> int:
    """Return which rows and columns are sampled: every k-th, the same ground on both sides."""
    if step is not None and source is not None:
        scale = grid.height // source.height
        if scale and (source.height * scale, source.width * scale) == (grid.height, grid.width):
            return step * scale
    return -(-max(grid.height, grid.width) // SAMPLE)


def _side(scene: Scene, sensor: str | None, step: int) -> tuple[SideStats, _Sample]:
    """Read a scene once; return its statistics and its sampled pixels."""
    grid, digest = scene.grid, hashlib.blake2b(digest_size=16)
    digest.update(repr((scene.dtypes, grid.height, grid.width)).encode())
    low = np.full(len(scene.bands), np.inf)
    high, valid = -low, 0
    parts = []
    for stored, window in strips(scene, step):
        digest.update(np.ascontiguousarray(stored).tobytes())
        if window.mask.any():
            inside = stored if window.mask.all() else stored[:, window.mask]
            inside = inside.reshape(len(low), -1)
            low, high = np.minimum(low, inside.min(axis=1)), np.maximum(high, inside.max(axis=1))
            valid += int(window.mask.sum())
        parts.append([a[..., ::step, ::step] for a in (stored, window.values, window.mask)])
    stored, values, mask = (np.concatenate(p, axis=-2) for p in zip(*parts, strict=True))
    single, common = _most_frequent(stored, mask)
    sample = _Sample(stored, values, mask, single)
    least, most = VALID_RANGE[scene.unit]
    room = BEYOND * (most - least)
    inside = sample.values[:, sample.mask]
    beyond = (inside < least - room) | (inside > most + room)
    side = SideStats(
        path=scene.path,
        bands=scene.bands,
        unit=scene.unit,
        sensor=sensor,
        scale=scene.radiometry.scale[0],
        offset=scene.radiometry.offset[0],
        dtypes=scene.dtypes,
        height=grid.height,
        width=grid.width,
        stored=tuple((float(a), float(b)) for a, b in zip(low, high, strict=True)),
        valid=valid / (grid.height * grid.width),
        single=float(single.mean()),
        common=common,
        outside=float(beyond.mean()) if inside.size else 0.0,
        digest=digest.hexdigest(),
        grid=grid,
        bounds=_bounds(grid),
        named_otherwise=scene.named_otherwise,
    )
    return side, sample


def _most_frequent(
    stored: NDArray[Any], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[float, ...]]:
    """Return where numbers [C, h, w] hold their most frequent valid value, and that value."""
    where = np.zeros(mask.shape, bool)
    if not mask.any():
        return where, ()
    inside = stored[:, mask].astype(np.float64)
    # A hash of the bands of each pixel: an odd multiplier keeps different pixels apart.
    codes = np.zeros(inside.shape[1], np.uint64)
    for band in inside:
        codes = codes * np.uint64(0x9E3779B97F4A7C15) + band.view(np.uint64)
    found, counts = np.unique(codes, return_counts=True)
    here = codes == found[counts.argmax()]
    where[mask] = here
    return where, tuple(float(v) for v in inside[:, here.argmax()])


def _add_relations(
    one: RowStats, scenes: Mapping[str, Scene], samples: Mapping[str, _Sample]
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
    source: SideStats, scale: int, scenes: Mapping[str, Scene], samples: Mapping[str, _Sample]
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


def _spectra(one: RowStats, samples: Mapping[str, _Sample]) -> list[Spectra]:
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


def _bounds(grid: Grid) -> tuple[float, float, float, float] | None:
    """Return west, south, east, north in degrees; None without georeference."""
    if grid.crs is None or grid.transform.is_identity:
        return None
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    corners = [
        grid.transform @ (x, y)
        for x, y in ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    ]
    xs, ys = zip(*corners, strict=True)
    try:
        box = transform_bounds(grid.crs, "EPSG:4326", min(xs), min(ys), max(xs), max(ys))
    except RasterioError:  # outside the domain of the projection
        return None
    finite = all(np.isfinite(box)) and box[0] < box[2] and box[1] < box[3]
    return (box[0], box[1], box[2], box[3]) if finite else None
