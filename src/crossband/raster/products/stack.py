"""Bands of several files on one grid, as a scene that is read by windows like any other.

The grid is that of the finest of the bands that are needed. A band of the same grid is read as it
is stored; one of other pixels in the same CRS is interpolated bilinearly between stored numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from crossband.core import sensors
from crossband.errors import BandError, InputError, UnitError
from crossband.raster.bands import find_bands
from crossband.raster.dataset import open_dataset
from crossband.raster.file_reader import FileReader
from crossband.raster.grid import Box, Grid
from crossband.raster.options import ReadOptions
from crossband.raster.products.base import Band, Calibration, Product
from crossband.raster.products.bilinear import SLACK, Axis, resample
from crossband.raster.radiometry import Radiometry, radiometry_of
from crossband.raster.scene import Scene


def open_stack(product: Product, options: ReadOptions, needed: Sequence[str]) -> Scene:
    """Open the bands of a product that are needed; see `raster.open.open_scene`.

    Raises:
        InputError: a file is not there, or the files do not fit together.
        BandError: a needed band is not there or not named.
        UnitError: the physical unit is not declared anywhere.
    """
    sensor = sensors.get(options.sensor) if options.sensor is not None else None
    numbers = find_bands(product, product.path, needed, options.bands or {}, sensor)
    chosen = [product.bands[n - 1] for n in numbers.values()]
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for band in chosen:
            if band.href not in opened:
                opened[band.href] = stack.enter_context(open_dataset(band.href))
            _check_number(band, opened[band.href])
        facts = _Facts.of(product, chosen, opened, stated=options.scale is not None)
        places = {name: n for n, name in enumerate(numbers, start=1)}
        r = radiometry_of(
            facts, product.path, places, sensor, options.scale, options.offset, options.nodata
        )
        reader = StackReader(product, numbers, opened, r, stated=options.nodata is not None)
        stack.pop_all()
    return Scene(product.path, numbers, r, reader)


@dataclass(frozen=True)
class _Facts:
    """What `radiometry_of` asks of a file, for bands of several files."""

    dtypes: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodatavals: tuple[float | None, ...]

    @classmethod
    def of(
        cls, product: Product, chosen: Sequence[Band], opened: Mapping[str, Any], *, stated: bool
    ) -> _Facts:
        """Return what the product says, and where it says nothing the file.

        Args:
            product: for messages.
            chosen: bands.
            opened: their files.
            stated: the user states a scale for all of them.
        """
        rows = []
        for band in chosen:
            file, n = opened[band.href], band.number - 1
            scale, offset = file.scales[n], file.offsets[n]
            if band.scale is not None or band.offset is not None:
                scale = 1.0 if band.scale is None else band.scale
                offset = band.offset or 0.0
            said = band.scale is not None or (scale, offset) != (1.0, 0.0)
            nodata = file.nodatavals[n] if band.nodata is None else band.nodata
            unit = band.unit or file.units[n] or ""
            rows.append((file.dtypes[n], unit, scale, offset, nodata, said))
        dtypes, units, scales, offsets, nodatavals, said_by = zip(*rows, strict=True)
        if not stated and any(said_by) and not all(said_by):
            silent = chosen[said_by.index(False)].label
            raise UnitError(
                f"{product.path}: {silent} states no scale and other bands do: give --scale and "
                f"--offset, which count for all"
            )
        return cls(dtypes, units, scales, offsets, nodatavals)


class StackReader:
    """Reads bands that lie in several files, perhaps at several resolutions; a `WindowReader`.

    Args:
        product: its bands.
        numbers: common name -> number in the product.
        opened: rasters by `Band.href`; closed with this reader.
        r: of all bands.
        stated: the nodata number is the caller's; see `Scene`.

    Attributes:
        grid: of the finest band.
        dtypes: the one data type that holds the numbers of all bands.
        has_mask: a mask tells what is not valid, and not a nodata number alone.
    """

    def __init__(
        self,
        product: Product,
        numbers: dict[str, int],
        opened: Mapping[str, Any],
        r: Radiometry,
        *,
        stated: bool = False,
    ) -> None:
        self._nodata = r.nodata
        chosen = [product.bands[n - 1] for n in numbers.values()]
        self._calibrations: list[Calibration | None] = [
            b.calibration() if b.calibration is not None else None for b in chosen
        ]
        readers: list[tuple[list[int], FileReader]] = []
        for href, dataset in opened.items():
            places = [i for i, band in enumerate(chosen) if band.href == href]
            within = tuple(chosen[i].number for i in places)
            named = [band.number for band in product.bands if band.href == href]
            readers.append((places, FileReader(dataset, href, within, named)))
        finest = min((r for _, r in readers), key=lambda r: abs(r.grid.transform.determinant))
        self.grid = finest.grid
        self._parts = [
            _Part(
                reader,
                tuple(places),
                _fit(reader, finest),
                tuple(chosen[i] for i in places),
                marked=stated or not reader.has_mask,
            )
            for places, reader in readers
        ]
        self._finest = finest
        dtype = str(np.result_type(*(opened[b.href].dtypes[b.number - 1] for b in chosen)))
        self.dtypes = (dtype,) * len(chosen)
        self._marks = [_mark(dtype, n) for n in r.nodata]
        self.has_mask = any(
            p.reader.has_mask
            or (not p.covers(self.grid) and any(self._marks[i] is None for i in p.places))
            for p in self._parts
        )
        self._extra = tuple(file for band in chosen for file in band.files)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the blocks of the finest band's file."""
        return self._finest.block

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read, metadata and archives included."""
        listed = (f for part in self._parts for f in part.reader.files)
        # Instead of what lies in an archive, the archive counts, which `Band.files` has.
        kept = (f for f in listed if not f.startswith(("/vsizip/{", "/vsitar/{")))
        return tuple(dict.fromkeys((*kept, *self._extra)))

    def stored(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window; what is not valid holds the nodata number, or is told by the mask."""
        dtype = self.dtypes[0]
        out = np.empty((len(self.dtypes), box.height, box.width), dtype)
        mask = np.ones((box.height, box.width), bool)
        for part in self._parts:
            for place, numbers, valid in part.read(box, self._nodata):
                out[place] = numbers
                if self.has_mask:
                    mask &= valid
                    continue
                mark = self._marks[place]
                if mark is not None:
                    # Interpolated numbers may happen to be the mark.
                    out[place][valid & (out[place] == mark)] = _beside(mark, dtype)
                    out[place][~valid] = mark
        return out, mask

    def calibrated(self, stored: NDArray[Any], box: Box) -> NDArray[Any]:
        """Apply the calibration of each band that has one."""
        if all(c is None for c in self._calibrations):
            return stored
        out = np.empty(stored.shape, np.float32)
        for band, numbers, calibrated in zip(out, stored, self._calibrations, strict=True):
            band[:] = numbers if calibrated is None else calibrated(numbers, box)
        return out

    def close(self) -> None:
        """Close all files."""
        for part in self._parts:
            part.reader.close()


@dataclass(frozen=True)
class _Part:
    """The bands of one file.

    Attributes:
        reader: of the file.
        places: which bands of the stack they are.
        to: from columns and rows of the stack's grid to those of the file; None where they are the
            same.
        chosen: the bands.
        marked: the nodata number counts; where the file has a mask, only if the caller stated it.
    """

    reader: FileReader
    places: tuple[int, ...]
    to: Affine | None
    chosen: tuple[Band, ...]
    marked: bool

    def covers(self, grid: Grid) -> bool:
        """Return whether every pixel of a grid lies within the file."""
        return all(a.inside.all() for a in self._axes(grid.box))

    def read(
        self, at: Box, nodata: Sequence[float | None]
    ) -> list[tuple[int, NDArray[Any], NDArray[np.bool_]]]:
        """Read a window of the stack's grid: place, numbers [H, W], valid [H, W] of each band."""
        if self.to is None:
            stored, mask = self.reader.stored(at)
            return [
                (i, numbers, self._valid(numbers, mask, nodata[i], band))
                for i, numbers, band in zip(self.places, stored, self.chosen, strict=True)
            ]
        rows, cols = self._axes(at)
        (top, height), (left, width) = rows.span, cols.span
        stored, mask = self.reader.stored(Box(top, left, height, width))
        return [
            (i, *resample(numbers, self._valid(numbers, mask, nodata[i], band), rows, cols))
            for i, numbers, band in zip(self.places, stored, self.chosen, strict=True)
        ]

    def _axes(self, box: Box) -> tuple[Axis, Axis]:
        to, grid = self.to or Affine.identity(), self.reader.grid
        return (
            Axis.of(box.row, box.height, to.e, to.f, grid.height),
            Axis.of(box.col, box.width, to.a, to.c, grid.width),
        )

    def _valid(
        self, numbers: NDArray[Any], mask: NDArray[np.bool_], nodata: float | None, band: Band
    ) -> NDArray[np.bool_]:
        valid = mask.copy()
        for number in (nodata, *band.invalid):
            # As in a scene of one file: a mask of the file's own says more than its number.
            if number is not None and (self.marked or number != nodata):
                valid &= numbers != number
        if numbers.dtype.kind == "f":
            valid &= np.isfinite(numbers)
        return valid


def _fit(reader: FileReader, finest: FileReader) -> Affine | None:
    """Return the way from pixels of the finest grid to a file's; None where they are the same.

    Raises:
        InputError: another CRS, no georeference and another size, or turned.
    """
    grid, other = reader.grid, finest.grid
    if (grid.crs, grid.gcps_crs) != (other.crs, other.gcps_crs):
        raise InputError(
            f"{reader.path}: its CRS ({_crs(grid)}) is not that of {finest.path} ({_crs(other)}); "
            f"bring the bands into one CRS first: gdalwarp"
        )
    size, wanted = (grid.height, grid.width), (other.height, other.width)
    to: Affine = ~grid.transform @ other.transform
    corners = [(0, 0), (other.width, 0), (0, other.height), (other.width, other.height)]
    if size == wanted and np.allclose([to @ c for c in corners], corners, rtol=0, atol=SLACK):
        if _points(grid) != _points(other):
            raise InputError(f"{reader.path}: other ground-control points than {finest.path}")
        return None
    if grid.transform.is_identity or other.transform.is_identity:
        raise InputError(
            f"{reader.path}: {size[1]} x {size[0]} pixels, {finest.path}: {wanted[1]} x "
            f"{wanted[0]}, and no georeference that would say how they fit"
        )
    if abs(to.b) * other.height > SLACK or abs(to.d) * other.width > SLACK:
        raise InputError(f"{reader.path}: turned against {finest.path}: gdalwarp it")
    return to


def _points(grid: Grid) -> list[tuple[float, ...]]:
    return [(p.row, p.col, p.x, p.y) for p in grid.gcps]


def _crs(grid: Grid) -> str:
    crs = grid.crs or grid.gcps_crs
    return crs.to_string() if crs is not None else "none"


def _mark(dtype: str, nodata: float | None) -> float | None:
    """Return the number that marks what is not valid; None where the type has none."""
    if np.dtype(dtype).kind == "f":
        return float("nan") if nodata is None else nodata
    if nodata is None or not float(nodata).is_integer():
        return None
    info = np.iinfo(dtype)
    return nodata if info.min <= nodata <= info.max else None


def _beside(mark: float, dtype: str) -> Any:
    """Return the number next to a mark."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.nextafter(kind.type(mark), kind.type(np.inf))
    return mark + 1 if mark < np.iinfo(kind).max else mark - 1


def _check_number(band: Band, dataset: Any) -> None:
    if band.number > dataset.count:
        raise BandError(f"{band.href}: band {band.number}, but its bands are 1 to {dataset.count}")
    if band.alone and sum(c != ColorInterp.alpha for c in dataset.colorinterp) > 1:
        raise BandError(
            f"{band.href}: it has {dataset.count} bands; say which with --bands "
            f"{band.name}={band.label}#NUMBER"
        )
