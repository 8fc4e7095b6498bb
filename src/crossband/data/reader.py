"""Read the pixels of a pair: one row of a manifest -> source, target and mask on one grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crossband.core.signature import Signature
from crossband.data.degrade import Degradation, coarse_mask, parse_degradation
from crossband.data.open_scenes import OpenScenes
from crossband.data.packed.read import Packs
from crossband.data.rows import (
    columns_in_words,
    explain_bands,
    guide_age,
    guide_options,
    has_own,
    joint_options,
    row_options,
)
from crossband.errors import (
    BandError,
    CrossbandError,
    InputError,
    ManifestError,
    UnreadableError,
)
from crossband.raster.grid import Box, Grid
from crossband.raster.scene import Scene
from crossband.raster.warp import lie_apart, read_extended, resolution_ratio, same_grid

T = TypeVar("T")
#: A resized pixel is valid if this share of the weight of its input pixels is.
VALID = 0.999


@dataclass(frozen=True)
class Pixels:
    """A window of a pair in physical units.

    Attributes:
        source: float32 [Cs, h, w].
        target: float32 [Ct, h * scale, w * scale].
        source_mask: bool [h, w], True where every source band is valid.
        mask: bool [h * scale, w * scale], True where source and target are valid. Where a row has
            one side only, both masks are that side's and the values of the other are 0.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    source_mask: NDArray[np.bool_]
    mask: NDArray[np.bool_]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(a.nbytes for a in (self.source, self.target, self.source_mask, self.mask))

    def crop(self, box: Box, scale: int) -> Pixels:
        """Return a part, without copying."""
        (rows, cols), (fine_rows, fine_cols) = box.slices(), box.scaled(scale).slices()
        return Pixels(
            self.source[:, rows, cols],
            self.target[:, fine_rows, fine_cols],
            self.source_mask[rows, cols],
            self.mask[fine_rows, fine_cols],
        )


@dataclass(frozen=True)
class Then:
    """A window of the guide that a row names, on the pixels of its source.

    Attributes:
        values: float32 [G, h, w] in physical units, 0 where masked.
        mask: bool [h, w].
        days: between guide and source; NaN where unknown.
        ratio: size of a pixel of the guide's file in pixels of the source.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    days: float
    ratio: float


@dataclass(frozen=True)
class PairInfo:
    """Grid and units of a pair, known without reading its pixels.

    Attributes:
        grid: of the source; without a source, the target's grid at the source's resolution.
        unit: of the source, or of the target if there is no source.
        target_unit: of the target, or the unit that it must have.
    """

    grid: Grid
    unit: str
    target_unit: str


class PairReader:
    """Reads windows of the pairs of a manifest.

    Decoded scenes are kept in memory until `cache_mb` is full; later ones are read by window each
    time. No scene is evicted: with random access, whole scenes would be decoded for single crops.

    Args:
        table: from `crossband.data.manifest.read`.
        signature: which bands to read, which units to accept.
        scale: target pixels per source pixel along one side.
        cache_mb: memory for decoded scenes, in MiB.
        degradation: makes the source from the target of every row; if None, rows without a
            source use the degradation that they name.
        resize: height and width that each source is resized to as a whole, bilinear and
            anti-aliased, whatever its shape; the target to `scale` times that. None leaves pixels
            as they are.
        paired: False accepts rows that have a source only, or a target only.
        packs: opens the files of packs; by default with a cache of its own.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        signature: Signature,
        scale: int = 1,
        cache_mb: float = 0,
        *,
        degradation: Degradation | None = None,
        resize: tuple[int, int] | None = None,
        paired: bool = True,
        packs: Packs | None = None,
    ) -> None:
        self.rows: list[dict[str, Any]] = [
            {str(k): v for k, v in r.items()} for r in table.to_dict("records")
        ]
        self.signature, self.scale, self.paired = signature, scale, paired
        self.degradation, self.resize = degradation, resize
        self._free = int(cache_mb * 2**20)
        self._kept: dict[int, Pixels] = {}
        self._info: dict[int, PairInfo] = {}
        #: Degradations that rows name, by the text of the cell.
        self._stated: dict[str, Degradation] = {}
        self.scenes = OpenScenes(packs or Packs())

    def info(self, index: int) -> PairInfo:
        """Return grid and units; ManifestError if source and target do not fit."""
        if index not in self._info:
            info = self._with(index, self._info_of)
            if self.resize is not None:
                grid = info.grid.resized(*self.resize)
                info = PairInfo(grid, info.unit, info.target_unit)
            self._info[index] = info
        return self._info[index]

    def read(self, index: int, box: Box, rng: np.random.Generator | None = None) -> Pixels:
        """Read a window, given in source pixels, of the row at a position of the table.

        Args:
            index: position.
            box: the window.
            rng: for a random degradation; by default a fixed one.
        """
        made_by = self._degradation(index)
        if made_by is None:
            return self._stored(index, box)
        wide = box.expanded(made_by.margin, self.info(index).grid.box)
        whole = self._degraded(index, made_by, self._stored(index, wide), rng)
        return whole.crop(box.relative_to(wide), self.scale)

    def read_then(self, index: int, box: Box) -> Then | None:
        """Read a window of the guide that a row names; None where it names none.

        Raises:
            UnreadableError, ManifestError: the guide cannot be read, or has another unit.
        """
        row = self.rows[index]
        if pd.isna(row["guide"]):
            return None
        info = self.info(index)
        try:
            needed = list(self.signature.guide)
            with self.scenes(row["guide"], guide_options(row, needed), needed) as guide:
                if guide.unit != info.target_unit:
                    raise ManifestError(
                        f"guide {row['guide']}: it is {guide.unit}, the target {info.target_unit}"
                    )
                if same_grid(guide.grid, info.grid):
                    seen, ratio = guide.read(box), 1.0
                else:
                    seen = read_extended(guide, info.grid.crop(box))
                    ratio = resolution_ratio(info.grid, guide.grid, guide.grid.box)
            return Then(seen.values, seen.mask, guide_age(row), ratio)
        except InputError as error:
            raise UnreadableError(f"{name_of(row)}: guide: {error}") from error
        except CrossbandError as error:
            raise ManifestError(f"{name_of(row)}: guide: {error}") from error

    def check(self, limit: int = 1000, *, skip: bool = False) -> None:
        """Open the first pairs, so that wrong bands or units are errors before training starts.

        Args:
            limit: number of pairs.
            skip: ignore files that cannot be read, as long as one can be read.
        """
        broken: list[UnreadableError] = []
        for index in range(min(len(self.rows), limit)):
            try:
                self.info(index)
            except UnreadableError as error:
                broken.append(error)
                if not skip:
                    raise
        if broken and len(broken) == len(self.rows):
            raise broken[0]

    def _degradation(self, index: int) -> Degradation | None:
        """Return the degradation of a row; None if it has a source, or needs none."""
        row = self.rows[index]
        if self.degradation is None and (pd.notna(row["source"]) or pd.isna(row["degradation"])):
            return None
        if self.scale < 2:
            raise ManifestError(f"{name_of(row)}: a degraded source needs data.scale of 2 or more")
        if self.degradation is not None:
            return self.degradation
        cell = str(row["degradation"])
        if cell not in self._stated:
            try:
                self._stated[cell] = parse_degradation(cell)
            except CrossbandError as error:
                raise ManifestError(f"{name_of(row)}: {error}") from error
        return self._stated[cell]

    def _degraded(
        self,
        index: int,
        made_by: Degradation,
        pixels: Pixels,
        rng: np.random.Generator | None,
    ) -> Pixels:
        """Make the source of a window from its target."""
        wanted, names = self.signature.source, self.signature.target
        if not set(wanted) <= set(names):
            raise ManifestError(
                f"{name_of(self.rows[index])}: a source of {', '.join(wanted)} cannot be made from "
                f"a target of {', '.join(names)}"
            )
        fine = torch.from_numpy(pixels.target[[names.index(name) for name in wanted]])
        mask = torch.from_numpy(pixels.mask)[None]
        rng = np.random.default_rng(0) if rng is None else rng
        known = coarse_mask(mask, self.scale, made_by.margin * self.scale)[0].numpy()
        source = made_by(fine, self.scale, rng).numpy()
        return Pixels(np.where(known, source, np.float32(0)), pixels.target, known, pixels.mask)

    def _stored(self, index: int, box: Box) -> Pixels:
        """Read a window from the cache or from the files, without a degradation."""
        if index in self._kept:
            return self._kept[index].crop(box, self.scale)
        grid = self.info(index).grid
        channels = len(self.signature.source) + len(self.signature.target) * self.scale**2
        if grid.height * grid.width * (channels * 4 + 1 + self.scale**2) > self._free:
            return self._from_files(index, box)
        whole = self._from_files(index, grid.box)
        self._kept[index] = whole
        self._free -= whole.nbytes
        return whole.crop(box, self.scale)

    def _from_files(self, index: int, box: Box) -> Pixels:
        if self.resize is None:
            return self._with(index, lambda one, two: self._pixels(one, two, box))
        whole = self._with(index, lambda one, two: self._pixels(one, two, None))
        return _resized(whole, *self.resize, self.scale).crop(box, self.scale)

    def _with(self, index: int, use: Callable[[Scene | None, Scene | None], T]) -> T:
        """Open source and target of a row, check them, and pass them to `use`; errors name the row.

        They are one scene if both can be read at once.
        """
        row = self.rows[index]
        try:
            if self._one_file(row):
                needed = [*self.signature.source, *self.signature.target]
                options = joint_options(row, "source", needed)
                with (
                    columns_in_words("source"),
                    self.scenes(row["source"], options, needed) as scene,
                ):
                    self._check_units(scene.unit, scene.unit)
                    return use(scene, scene)
            if self.degradation is not None or pd.isna(row["source"]):
                return self._with_target(row, use)
            with self._side(row, "source") as one:
                if pd.isna(row["target"]):
                    self._check_alone("target")
                    self.signature.check_unit(one.unit)
                    return use(one, None)
                with self._side(row, "target") as two:
                    self._check_units(one.unit, two.unit)
                    # Two windows of one file may be halves of a picture that hold the same place.
                    if row["source"] != row["target"] and lie_apart(one.grid, two.grid):
                        raise ManifestError(
                            "by their georeference, source and target do not overlap"
                        )
                    if self.resize is None:
                        self._check_shapes(one.grid, two.grid)
                    return use(one, two)
        except InputError as error:
            raise UnreadableError(f"{name_of(row)}: {error}") from error
        except BandError as error:
            sides = {"source": self.signature.source, "target": self.signature.target}
            words = explain_bands(error, row, sides)
            raise ManifestError(f"{name_of(row)}: {words}") from error
        except CrossbandError as error:
            raise ManifestError(f"{name_of(row)}: {error}") from error

    def _with_target(self, row: Mapping[str, Any], use: Callable[[None, Scene], T]) -> T:
        """Open only the target of a row."""
        if pd.isna(row["target"]):
            raise ManifestError("it has no target to make the source from")
        if self.degradation is None and pd.isna(row["degradation"]):
            self._check_alone("source")
        with self._side(row, "target") as two:
            return use(None, two)

    @contextmanager
    def _side(self, row: Mapping[str, Any], side: str) -> Iterator[Scene]:
        needed = self.signature.source if side == "source" else self.signature.target
        options = row_options(row, side, needed)
        with columns_in_words(side), self.scenes(row[side], options, needed) as scene:
            yield scene

    def _one_file(self, row: Mapping[str, Any]) -> bool:
        """Return whether source and target can be read at once: one file, one radiometry.

        They must share no band, and the scale must be 1: a product with another scale has bands
        of several resolutions.
        """
        windows = pd.notna(row["source_window"]) or pd.notna(row["target_window"])
        shared = set(self.signature.source) & set(self.signature.target)
        one = row["source"] == row["target"] and self.degradation is None and self.scale == 1
        return one and not has_own(row) and not windows and not shared

    def _info_of(self, one: Scene | None, two: Scene | None) -> PairInfo:
        """Return grid and units of open scenes."""
        if one is not None:
            return PairInfo(one.grid, one.unit, self.signature.target_unit(one.unit))
        assert two is not None
        grid = two.grid.shrink(self.scale)
        if min(grid.height, grid.width) < 1:
            raise ManifestError(f"the target is too small for a source {self.scale} times coarser")
        if self.paired:
            self._check_units(two.unit, two.unit)
        return PairInfo(grid, two.unit, two.unit)

    def _pixels(self, one: Scene | None, two: Scene | None, box: Box | None) -> Pixels:
        """Read a window of open scenes; by default all of it."""
        scale, bands = self.scale, self.signature
        if one is None:
            assert two is not None
            box = two.grid.shrink(scale).box if box is None else box
            target = two.read(box.scaled(scale))
            known = coarse_mask(torch.from_numpy(target.mask)[None], scale)[0].numpy()
            nothing = np.zeros((len(bands.source), box.height, box.width), np.float32)
            return Pixels(nothing, target.values, known, target.mask)
        source = one.read(box)
        fine = source.mask.repeat(scale, axis=0).repeat(scale, axis=1)
        if two is None:
            nothing = np.zeros((len(bands.target), *fine.shape), np.float32)
            return Pixels(source.values, nothing, source.mask, fine)
        if two is one:
            cut = len(bands.source)
            return Pixels(source.values[:cut], source.values[cut:], source.mask, source.mask)
        if self.resize is not None:  # shapes may differ; the masks are combined after resizing
            target = two.read()
            return Pixels(source.values, target.values, source.mask, target.mask)
        target = two.read(None if box is None else box.scaled(scale))
        return Pixels(source.values, target.values, source.mask, fine & target.mask)

    def _check_alone(self, missing: str) -> None:
        if self.paired:
            raise ManifestError(
                f"it has no {missing}: an unpaired method takes such rows (data.paired false)"
            )

    def _check_units(self, source: str, target: str) -> None:
        self.signature.check_unit(source)
        expected = self.signature.target_unit(source)
        if target != expected:
            raise ManifestError(
                f"the target is {target}, but with a source in {source} it must be {expected}"
            )

    def _check_shapes(self, source: Grid, target: Grid) -> None:
        expected = (source.height * self.scale, source.width * self.scale)
        if (target.height, target.width) != expected:
            raise ManifestError(
                f"the target has {target.height} x {target.width} pixels, but a source of "
                f"{source.height} x {source.width} at scale {self.scale} needs "
                f"{expected[0]} x {expected[1]}"
            )


def name_of(row: Mapping[str, Any]) -> str:
    """Return how messages name a row: its number, and its manifest if there are several.

    >>> name_of({"row": 3}), name_of({"row": 3, "manifest": "naip"})
    ('manifest row 3', 'manifest naip row 3')
    """
    of = f" {row['manifest']}" if "manifest" in row else ""
    return f"manifest{of} row {row['row']}"


def resize_masked(values: Tensor, mask: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Resize values [C, h, w] and their mask [1, h, w]: bilinear and anti-aliased.

    A pixel of the result is valid if the pixels that it is interpolated from are.
    """
    both = torch.cat([values, mask.float()])[None]
    both = functional.interpolate(
        both, (height, width), mode="bilinear", align_corners=False, antialias=True
    )[0]
    return both[:-1], both[-1:] > VALID


def _resized(pixels: Pixels, height: int, width: int, scale: int) -> Pixels:
    """Resize source and target; see `resize_masked`."""

    def fit(values: NDArray[Any], mask: NDArray[np.bool_], *size: int) -> tuple[Any, Any]:
        resized = resize_masked(torch.from_numpy(values), torch.from_numpy(mask)[None], *size)
        return resized[0].numpy(), resized[1][0].numpy()

    source, source_mask = fit(pixels.source, pixels.source_mask, height, width)
    target, mask = fit(pixels.target, pixels.mask, height * scale, width * scale)
    fine = source_mask.repeat(scale, axis=0).repeat(scale, axis=1)
    return Pixels(source, target, source_mask, mask & fine)
