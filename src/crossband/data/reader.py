"""Read the pixels of a pair: one row of a manifest -> source, target and mask on one grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.data.manifest import TARGET_OWN
from crossband.errors import CrossbandError, ManifestError
from crossband.raster.grid import Box, Grid
from crossband.raster.scene import Scene, parse_bands
from crossband.signature import Signature

T = TypeVar("T")


@dataclass(frozen=True)
class Pixels:
    """A window of a pair in physical units.

    Attributes:
        source: float32 [Cs, h, w].
        target: float32 [Ct, h * scale, w * scale].
        source_mask: bool [h, w], True where every source band is valid.
        mask: bool [h * scale, w * scale], True where source and target are valid.
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


class PairReader:
    """Reads windows of the pairs of a manifest.

    Scenes are kept decoded in memory until `cache_mb` is full; later ones are read by window each
    time. Nothing is thrown out: under random access that would decode whole scenes for one crop.

    Args:
        table: from `crossband.data.manifest.read`.
        signature: which bands to read, which units to accept.
        scale: target pixels per source pixel along one side.
        cache_mb: memory for decoded scenes, in MiB.
    """

    def __init__(
        self, table: pd.DataFrame, signature: Signature, scale: int = 1, cache_mb: float = 0
    ) -> None:
        self.rows: list[dict[str, Any]] = [
            {str(k): v for k, v in r.items()} for r in table.to_dict("records")
        ]
        self.signature, self.scale = signature, scale
        self._free = int(cache_mb * 2**20)
        self._kept: dict[int, Pixels] = {}
        self._facts: dict[int, tuple[Grid, str]] = {}

    def facts(self, index: int) -> tuple[Grid, str]:
        """Return the source's grid and unit; ManifestError where the pair does not fit."""
        if index not in self._facts:
            self._facts[index] = self._with(index, lambda source, target: _facts(source))
        return self._facts[index]

    def read(self, index: int, box: Box) -> Pixels:
        """Read a window, given in source pixels, of the row at a position of the table."""
        if index in self._kept:
            return self._kept[index].crop(box, self.scale)
        grid, _ = self.facts(index)
        channels = len(self.signature.source) + len(self.signature.target) * self.scale**2
        if grid.height * grid.width * (channels * 4 + 1 + self.scale**2) > self._free:
            return self._with(index, lambda s, t: self._pixels(s, t, box))
        whole = self._with(index, lambda s, t: self._pixels(s, t, grid.box))
        self._kept[index] = whole
        self._free -= whole.nbytes
        return whole.crop(box, self.scale)

    def check(self, limit: int = 1000) -> None:
        """Open the first pairs, so that a wrong band or unit is known before training starts."""
        for index in range(min(len(self.rows), limit)):
            self.facts(index)

    def _with(self, index: int, use: Callable[[Scene, Scene | None], T]) -> T:
        """Open the scenes of a row, check that they fit, and use them; errors name the row."""
        row = self.rows[index]
        try:
            if _one_file(row, self.signature):
                needed = [*self.signature.source, *self.signature.target]
                bands = _bands(row, "source_bands", needed) | _bands(row, "target_bands", needed)
                with _open(row, "source", bands, needed, "") as scene:
                    self._check_units(scene.unit, scene.unit)
                    return use(scene, None)
            needed = self.signature.source
            with _open(row, "source", _bands(row, "source_bands", needed), needed, "") as one:
                own = "" if pd.isna(row["target_sensor"]) else "target_"
                needed = self.signature.target
                bands = _bands(row, "target_bands", needed)
                with _open(row, "target", bands, needed, own) as two:
                    self._check_units(one.unit, two.unit)
                    self._check_shapes(one.grid, two.grid)
                    return use(one, two)
        except CrossbandError as error:
            raise ManifestError(f"{name_of(row)}: {error}") from error

    def _pixels(self, source: Scene, target: Scene | None, box: Box) -> Pixels:
        one = source.read(box)
        if target is None:
            cut = len(self.signature.source)
            return Pixels(one.values[:cut], one.values[cut:], one.mask, one.mask)
        two = target.read(box.scaled(self.scale))
        seen = one.mask.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        return Pixels(one.values, two.values, one.mask, seen & two.mask)

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
    """Return what messages call a row: its number, and its manifest where there are several.

    >>> name_of({"row": 3}), name_of({"row": 3, "manifest": "naip"})
    ('manifest row 3', 'manifest naip row 3')
    """
    return (
        f"manifest {row['manifest']} row {row['row']}"
        if "manifest" in row
        else (f"manifest row {row['row']}")
    )


def _facts(source: Scene) -> tuple[Grid, str]:
    return source.grid, source.unit


def _one_file(row: Mapping[str, Any], signature: Signature) -> bool:
    """Source and target may be read at once: one file, one radiometry, no shared band."""
    own = [row["target_sensor"], *(row[c] for c in TARGET_OWN)]
    own += [row["source_window"], row["target_window"]]
    shared = set(signature.source) & set(signature.target)
    return row["source"] == row["target"] and all(pd.isna(v) for v in own) and not shared


def _bands(row: Mapping[str, Any], column: str, needed: list[str]) -> dict[str, int | str]:
    """Parse a column of bands; a manifest may name more bands than this model needs."""
    if pd.isna(row[column]):
        return {}
    return {k: v for k, v in parse_bands(row[column]).items() if k in needed}


def _open(
    row: Mapping[str, Any],
    side: str,
    bands: Mapping[str, int | str],
    needed: list[str],
    own: str,
) -> Scene:
    """Open one side of a pair; `own` is the prefix of the columns that describe it."""

    def cell(column: str) -> Any:
        value = row[column]
        return None if pd.isna(value) else value

    scene = Scene.open(
        row[side],
        bands,
        cell(f"{own}sensor"),
        cell(f"{own}scale"),
        cell(f"{own}offset"),
        cell(f"{own}nodata"),
        needed=needed,
    )
    window = cell(f"{side}_window")
    if window is None:
        return scene
    try:
        return scene.part(Box.parse(window))
    except ValueError:
        scene.close()
        raise ManifestError(
            f"{side}_window {window!r} is not column,row,width,height in pixels"
        ) from None
    except CrossbandError:
        scene.close()
        raise
