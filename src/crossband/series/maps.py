"""Read the spectral indices of a scene window by window: of synthetic bands, and of measured bands.

Each index has `grid`, `bands`, `unit` and `read`, as a scene has, so that it can be resampled to
another grid.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.core import indices
from crossband.data.rows import open_side
from crossband.errors import BandError, InputError, UnitError
from crossband.raster.file_reader import FileReader
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import known_bands, open_raster, open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.radiometry import Radiometry
from crossband.raster.scene import Scene
from crossband.raster.warp import Readable
from crossband.translate.stream import compute_index_values

if TYPE_CHECKING:
    from crossband.jobs.inputs import SceneInput
    from crossband.model import Model

#: Unit of an index.
NONE = "1"


class ComputedIndex:
    """An index whose values a function computes.

    Args:
        index: name of the index.
        grid: of the scene.
        read: returns values [h, w], and where they are defined [h, w].
    """

    def __init__(
        self,
        index: str,
        grid: Grid,
        read: Callable[[Box], tuple[NDArray[np.float32], NDArray[np.bool_]]],
    ) -> None:
        self.bands: tuple[str, ...] = (index,)
        self.grid, self.unit = grid, NONE
        self._read = read

    def read(self, box: Box) -> Window:
        """Read a window: values [1, h, w], 0 where they are not defined."""
        values, mask = self._read(box)
        defined = mask & np.isfinite(values)
        plane = np.where(defined, values, 0.0).astype(np.float32)[None]
        return Window(plane, defined, self.grid.crop(box), self.bands, self.unit)


def masked_index(index: str, grid: Grid) -> Readable:
    """Return the index of a scene in which every pixel is masked."""

    def read(box: Box) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        shape = box.height, box.width
        return np.zeros(shape, np.float32), np.zeros(shape, dtype=bool)

    return ComputedIndex(index, grid, read)


def open_index(path: Path, index: str) -> Scene:
    """Open the file of an index that the translation wrote."""
    dataset = open_raster(path)
    plain = Radiometry(NONE, (1.0,), (0.0,), (float("nan"),), False, "the file")
    return Scene(str(path), {index: 1}, plain, FileReader(dataset, str(path), (1,)))


def split_bands(model: Model, index: str) -> tuple[list[str], list[str]]:
    """Split the bands of an index into those that the model makes and those of the source.

    Raises:
        BandError: the index needs other bands, or none that the model makes.
    """
    indices.check(index, {*model.signature.source, *model.signature.target})
    needed = indices.required_bands(index)
    synthetic = [b for b in needed if b in model.signature.target]
    if not synthetic:
        raise BandError(
            f"index {index} takes {', '.join(needed)}, and none of them is made by {model.name}: "
            f"it would be no synthetic one"
        )
    return synthetic, [b for b in needed if b not in synthetic]


def open_source(source: SceneInput, options: ReadOptions, wanted: list[str]) -> Scene:
    """Open a scene for reading these bands; its row in a manifest overrides the options."""
    read = source.read_options(options, wanted).only(wanted)
    return open_scene(source.path, read, needed=wanted)


class MeasuredIndex:
    """The index of measured bands: of the source itself, or of the target of a manifest's row.

    `open_measured` opens it; use it as a context manager.
    """

    def __init__(self, index: str, source: Scene, target: Scene | None) -> None:
        self._files = ExitStack()
        self._files.enter_context(source)
        if target is not None:
            self._files.enter_context(target)
        self._source, self._target = source, target
        self.bands: tuple[str, ...] = (index,)
        self.grid, self.unit = source.grid, NONE

    def read(self, box: Box) -> Window:
        """Read a window: values [1, h, w], 0 where they are not defined."""
        windows = [s.read(box) for s in (self._source, self._target) if s is not None]
        known = {b: v for w in windows for b, v in zip(w.bands, w.values, strict=True)}
        mask = np.logical_and.reduce([w.mask for w in windows])
        values, defined = compute_index_values(self.bands[0], known, mask, windows[-1].unit)
        return Window(values, defined, self.grid.crop(box), self.bands, self.unit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def open_measured(
    source: SceneInput, options: ReadOptions, model: Model, index: str
) -> MeasuredIndex | None:
    """Open the measured index of a scene; None where the bands for it are not there.

    Args:
        source: the scene. The `target` of its row in a manifest counts first, then the source's own
            bands, which are found by name like those of the model.
        options: how scenes are read.
        model: whose target bands are synthetic.
        index: name of the index.

    Raises:
        CrossbandError: a target that cannot be read, or that is not on the source's grid.
    """
    synthetic, from_source = split_bands(model, index)
    row = target_row(source, options)
    if row is not None:
        scene = open_source(source, options, from_source or list(model.signature.source))
        try:
            return MeasuredIndex(index, scene, _target(source, row, scene, model, synthetic))
        except BaseException:
            scene.close()
            raise
    if not has_bands(source, options, synthetic):
        return None
    return MeasuredIndex(index, open_source(source, options, [*synthetic, *from_source]), None)


def target_row(source: SceneInput, options: ReadOptions) -> dict[str, Any] | None:
    """Return the row of a scene with a target; None where it has none.

    The options of the command hold for the target, too, where its row states nothing.
    """
    row = source.row
    if not row or pd.isna(row.get("target")):
        return None
    stated = {k: getattr(options, k) for k in ("sensor", "scale", "offset", "nodata")}
    return {k: stated[k] if k in stated and pd.isna(v) else v for k, v in row.items()}


def _target(
    source: SceneInput, row: dict[str, Any], scene: Scene, model: Model, synthetic: list[str]
) -> Scene:
    """Open the target of a manifest's row."""
    target = open_side(row, "target", synthetic)
    unit = model.signature.target_unit(scene.unit)
    same = (target.grid.height, target.grid.width) == (scene.grid.height, scene.grid.width)
    try:
        if not (same and grid_difference(target.grid, scene.grid) is None):
            raise InputError(f"{source.label}: its target is not on the grid of the source")
        if target.unit != unit:
            raise UnitError(
                f"{source.label}: its target is in {target.unit}, and {model.name} gives {unit}"
            )
    except BaseException:
        target.close()
        raise
    return target


def has_bands(source: SceneInput, options: ReadOptions, synthetic: list[str]) -> bool:
    """Return whether a source has measured bands of these names."""
    read = source.read if source.complete else source.read.over(options)
    given = read.bands or {}
    if set(synthetic) <= set(given):
        return True
    try:
        allowed = read.allow_local_references
        known = known_bands(source.path, read.sensor, allow_local=allowed)
        return set(synthetic) <= {*given, *known}
    except InputError:
        return False  # a folder of bands that the options name; it has no other bands


def grid_difference(first: Grid, second: Grid) -> str | None:
    """Describe how two grids differ; None where they are equal to a thousandth of a pixel."""
    if (first.height, first.width) != (second.height, second.width):
        sizes = [f"{g.width} x {g.height}" for g in (first, second)]
        return f"{sizes[0]} and {sizes[1]} pixels"
    if first.crs != second.crs:
        return f"{first.crs} and {second.crs}"
    if first.transform != second.transform:
        corners = [
            [g.transform @ (c, r) for c in (0, g.width) for r in (0, g.height)]
            for g in (first, second)
        ]
        with np.errstate(all="ignore"):  # a transform that is none
            step = np.hypot(first.transform.a, first.transform.d)
            far = np.abs(np.array(corners[0]) - np.array(corners[1])).max() / step
        if not far < 1e-3:
            return f"{far:.2g} pixels apart"
    points = [[(p.row, p.col, p.x, p.y) for p in g.gcps] for g in (first, second)]
    return None if points[0] == points[1] else "other ground-control points"
