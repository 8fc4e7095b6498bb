"""Bands of several files on one grid, as a scene that is read by windows.

The grid is that of the finest band that is needed. Bands on this grid are read as they are stored.
Bands with other pixels in the same CRS are interpolated bilinearly between stored numbers.

This is no VRT of GDAL, because GDAL interpolates over masked pixels: it divides by the sum of the
valid weights, so a pixel beside a masked one is valid and has another value. Here it is masked.
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
from crossband.raster.products.bilinear import SLACK, AxisWeights, resample
from crossband.raster.radiometry import Radiometry, radiometry_of, stated_nodata
from crossband.raster.references import check_reference
from crossband.raster.scene import Scene


def open_band_stack(product: Product, options: ReadOptions, needed: Sequence[str]) -> Scene:
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
                allowed = options.allow_local_references
                if band.origin and not allowed:
                    check_reference(band.href, band.origin)
                dataset = open_dataset(band.href, allow_local=allowed)
                opened[band.href] = stack.enter_context(dataset)
            _check_number(band, opened[band.href])
        metadata = _StackMetadata.of(
            product,
            chosen,
            opened,
            stated=options.scale is not None,
            ignore_nodata=options.nodata is not None,
        )
        places = {name: n for n, name in enumerate(numbers, start=1)}
        r = radiometry_of(
            metadata, product.path, places, sensor, options.scale, options.offset, options.nodata
        )
        reader = BandStackReader(product, numbers, opened, r, stated=options.nodata is not None)
        stack.pop_all()
    return Scene(product.path, numbers, r, reader)


@dataclass(frozen=True)
class _StackMetadata:
    """The attributes of a dataset that `radiometry_of` looks at, for bands of several files."""

    descriptions: tuple[str, ...]
    dtypes: tuple[str, ...]
    units: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodatavals: tuple[float | None, ...]

    @classmethod
    def of(
        cls,
        product: Product,
        chosen: Sequence[Band],
        opened: Mapping[str, Any],
        *,
        stated: bool,
        ignore_nodata: bool,
    ) -> _StackMetadata:
        """Return what the product states of each band, else what its file states.

        Args:
            product: for messages.
            chosen: bands.
            opened: their files.
            stated: the user states a scale for all bands.
            ignore_nodata: the user states the nodata number.
        """
        rows = []
        for band in chosen:
            file, n = opened[band.href], band.number - 1
            scale, offset = file.scales[n], file.offsets[n]
            if band.scale is not None or band.offset is not None:
                scale = 1.0 if band.scale is None else band.scale
                offset = band.offset or 0.0
            said = band.scale is not None or (scale, offset) != (1.0, 0.0)
            nodata = band.nodata
            if nodata is None and not ignore_nodata:
                nodata = stated_nodata(file, band.number, band.href)
            unit = band.unit or file.units[n] or ""
            rows.append((band.label, file.dtypes[n], unit, scale, offset, nodata, said))
        *stack, said_by = zip(*rows, strict=True)
        if not stated and any(said_by) and not all(said_by):
            silent = chosen[said_by.index(False)].label
            raise UnitError(
                f"{product.path}: {silent} states no scale and other bands do: give --scale and "
                f"--offset, which count for all"
            )
        return cls(*stack)


class BandStackReader:
    """Reads bands of several files, perhaps of several resolutions; a `WindowReader`.

    Args:
        product: its bands.
        numbers: common name -> number in the product.
        opened: rasters by `Band.href`; closed with this reader.
        r: of all bands.
        stated: the caller states the nodata number; see `Scene`.

    Attributes:
        grid: of the finest band.
        dtypes: one data type that holds the numbers of all bands.
        has_mask: invalid pixels are marked by a mask, not only by a nodata number.
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
        self._stack_files = [
            _StackFile(
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
            for p in self._stack_files
        )
        self._extra = tuple(file for band in chosen for file in band.files)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the blocks of the finest band's file."""
        return self._finest.block

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read, metadata and archives included."""
        listed = (f for file in self._stack_files for f in file.reader.files)
        # For a file in an archive, `Band.files` has the archive.
        kept = (f for f in listed if not f.startswith(("/vsizip/{", "/vsitar/{")))
        return tuple(dict.fromkeys((*kept, *self._extra)))

    def stored(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window; invalid pixels hold the nodata number, or are masked."""
        dtype = self.dtypes[0]
        out = np.empty((len(self.dtypes), box.height, box.width), dtype)
        mask = np.ones((box.height, box.width), bool)
        for file in self._stack_files:
            for place, numbers, valid in file.read(box, self._nodata):
                out[place] = numbers
                if self.has_mask:
                    mask &= valid
                    continue
                mark = self._marks[place]
                if mark is not None:
                    # An interpolated number may equal the nodata number by chance.
                    out[place][valid & (out[place] == mark)] = _next_to(mark, dtype)
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
        for file in self._stack_files:
            file.reader.close()


@dataclass(frozen=True)
class _StackFile:
    """One file of the stack.

    Attributes:
        reader: of the file.
        places: positions of its bands in the stack.
        to: from columns and rows of the stack's grid to those of the file; None if equal.
        chosen: the bands.
        marked: the nodata number is used; if the file has a mask, only if the caller states it.
    """

    reader: FileReader
    places: tuple[int, ...]
    to: Affine | None
    chosen: tuple[Band, ...]
    marked: bool

    def covers(self, grid: Grid) -> bool:
        """Return whether every pixel of a grid lies inside the file."""
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

    def _axes(self, box: Box) -> tuple[AxisWeights, AxisWeights]:
        to, grid = self.to or Affine.identity(), self.reader.grid
        return (
            AxisWeights.of(box.row, box.height, to.e, to.f, grid.height),
            AxisWeights.of(box.col, box.width, to.a, to.c, grid.width),
        )

    def _valid(
        self, numbers: NDArray[Any], mask: NDArray[np.bool_], nodata: float | None, band: Band
    ) -> NDArray[np.bool_]:
        valid = mask.copy()
        for number in (nodata, *band.invalid):
            # As in a scene of one file: a mask of the file overrides its nodata number.
            if number is not None and (self.marked or number != nodata):
                with np.errstate(over="ignore"):  # a number that float32 does not hold
                    valid &= numbers != number
        if numbers.dtype.kind == "f":
            valid &= np.isfinite(numbers)
        return valid


def _fit(reader: FileReader, finest: FileReader) -> Affine | None:
    """Return the transform from pixels of the finest grid to those of a file; None if equal.

    Raises:
        InputError: another CRS, no georeference and another size, or rotated.
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
    """Return the stored number of invalid pixels; None if the type cannot hold one."""
    if np.dtype(dtype).kind == "f":
        fits = nodata is not None and abs(nodata) <= float(np.finfo(dtype).max)
        return nodata if fits else float("nan")
    if nodata is None or not float(nodata).is_integer():
        return None
    info = np.iinfo(dtype)
    return nodata if info.min <= nodata <= info.max else None


def _next_to(mark: float, dtype: str) -> Any:
    """Return a neighbouring number of the nodata number."""
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
