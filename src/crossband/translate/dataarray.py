"""Read the bands of a DataArray in physical units, and label the result like its source.

Bands are identified by the labels of the band dimension, by a coordinate `common_name` along it, or
by the descriptions that rioxarray keeps in `long_name`, or by the colours of the file that it read.
Stored numbers are converted to physical
values by `units`, `scale_factor` and `add_offset`. NaN and `rio.nodata` are masked. As with files,
the caller's options take precedence, and nothing is guessed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import rasterio
import rioxarray  # noqa: F401 - gives arrays their `rio`
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rioxarray.exceptions import RioXarrayError

from crossband.core import sensors
from crossband.core.warned import warn
from crossband.errors import BandError, InputError, UnitError
from crossband.model import Model
from crossband.raster.bands import find_bands
from crossband.raster.gdal import READ_ERRORS, gdal, reason
from crossband.raster.grid import Grid, Window
from crossband.raster.options import ReadOptions
from crossband.raster.radiometry import Radiometry, leave_out_fill, radiometry_of
from crossband.translate.provenance import synthetic_tags

#: Distance of a coordinate from its evenly spaced place, in pixels, at most.
_UNEVEN = 0.1
#: Name of an array in messages.
_NAME = "the DataArray"
#: Names of the band dimension. A single third dimension may have any name.
_BANDS = ("band", "bands", "channel", "variable")
#: Attributes that describe how the source's numbers are stored; the result does not keep them.
_STORAGE_ATTRIBUTES = (
    "scale_factor",
    "add_offset",
    "scales",
    "offsets",
    "_FillValue",
    "missing_value",
)


@dataclass(frozen=True)
class ArrayReader:
    """Reads the bands of an array in physical units.

    Attributes:
        bands: common names, in the model's order.
        positions: of these bands along the band dimension, from 0.
        band: name of the band dimension.
        y: name of the dimension of rows.
        x: name of the dimension of columns.
        radiometry: converts stored numbers to physical values.
        grid: shape, affine and CRS.
    """

    bands: tuple[str, ...]
    positions: tuple[int, ...]
    band: str
    y: str
    x: str
    radiometry: Radiometry
    grid: Grid

    @classmethod
    def of(
        cls,
        array: xr.DataArray,
        needed: Sequence[str],
        options: ReadOptions = ReadOptions(),
    ) -> Self:
        """Find the bands and units of an array.

        Args:
            array: dimensions of bands, rows, columns, and any others.
            needed: common names of the bands.
            options: all but `window` are used. A number in `bands` is a label where the labels are
                numbers, else a position from 1.

        Raises:
            InputError: no dimensions of space or bands; complex numbers.
            BandError: a needed band is not there or not named.
            UnitError: the physical unit is not declared anywhere.
        """
        band, y, x = _dimensions(array)
        if array.dtype.kind == "c":
            raise InputError(f"{_NAME}: complex numbers; give amplitude or intensity instead")
        declared = sensors.get(options.sensor) if options.sensor is not None else None
        described = _BandDescriptions(array, band)
        given = {name: described.position(value) for name, value in (options.bands or {}).items()}
        numbers = find_bands(described, _NAME, needed, given, declared)
        radiometry = radiometry_of(
            described, _NAME, numbers, declared, options.scale, options.offset, options.nodata
        )
        positions = tuple(number - 1 for number in numbers.values())
        return cls(tuple(numbers), positions, band, y, x, radiometry, _grid(array, y, x))

    def stored(self, array: xr.DataArray) -> xr.DataArray:
        """Return the stored numbers of the bands as (..., band, y, x)."""
        selected = array.isel({self.band: list(self.positions)})
        return selected.transpose(..., self.band, self.y, self.x)

    def window(self, stored: NDArray[Any], grid: Grid) -> Window:
        """Convert stored numbers [C, h, w] to physical units, 0 where masked."""
        values, mask = self.radiometry.physical(stored)
        if np.issubdtype(stored.dtype, np.floating):
            fill = leave_out_fill(values, mask, sensors.POSSIBLE)
            if fill is not None:
                warn(
                    f"the array: numbers that are far from {self.radiometry.unit}, as {fill:.4g}, "
                    "are taken as no data; array.rio.write_nodata declares them"
                )
        values[:, ~mask] = 0.0
        return Window(values, mask, grid, self.bands, self.radiometry.unit)


def result_array(
    model: Model,
    array: xr.DataArray,
    reader: ArrayReader,
    data: Any,
    bands: Sequence[str],
    attributes: Mapping[str, Any],
) -> xr.DataArray:
    """Label computed values like the source.

    Args:
        model: that computed them.
        array: the source.
        reader: of the source.
        data: physical values (..., band, y, x), NaN where masked.
        bands: their names.
        attributes: `units`, and others beside those of `synthetic_tags`.

    Returns:
        An array with the source's order of dimensions, its other coordinates, attributes and CRS.
        Coordinates along the bands are left out. Where the model makes pixels finer, those along y
        and x are left out, too, except y and x themselves, which get new values.
    """
    scale, target = model.network.scale, list(bands)
    replaced = {reader.band} if scale == 1 else {reader.band, reader.y, reader.x}
    coords = {name: c for name, c in array.coords.items() if not replaced & set(c.dims)}
    lead = [d for d in array.dims if d not in (reader.band, reader.y, reader.x)]
    name = array.encoding.get("source") or array.name or "DataArray"
    attrs = {k: v for k, v in array.attrs.items() if not _describes_storage(str(k))}
    result = xr.DataArray(
        data,
        dims=(*lead, reader.band, reader.y, reader.x),
        coords={**coords, reader.band: target},
        name=target[0] if len(target) == 1 else model.name,
        attrs={
            **attrs,
            "long_name": long_name(target),
            **synthetic_tags(model, str(name)),
            **attributes,
        },
    ).transpose(*array.dims)
    if scale != 1:
        result = _georeference_finer(result, array, reader, scale)
    labelled: xr.DataArray = result.rio.write_nodata(float("nan"))
    return labelled


def long_name(bands: Sequence[str]) -> str | list[str]:
    """Return the names of bands as rioxarray has them: a text for one, which NetCDF 3 can hold."""
    return bands[0] if len(bands) == 1 else list(bands)


def _georeference_finer(
    result: xr.DataArray, array: xr.DataArray, reader: ArrayReader, scale: int
) -> xr.DataArray:
    """Georeference an array of finer pixels, as far as its source is georeferenced."""
    t, coarse = reader.grid.transform, Affine.scale(1 / scale)
    counts_pixels = _has_pixel_coordinates(array, reader)
    # Coordinates that count pixels count the finer pixels.
    t = Affine.scale(scale) @ t @ coarse if counts_pixels else t @ coarse
    if t.is_rectilinear and reader.x in array.coords and reader.y in array.coords:
        across = t.c + (np.arange(reader.grid.width * scale) + 0.5) * t.a
        down = t.f + (np.arange(reader.grid.height * scale) + 0.5) * t.e
        result = result.assign_coords(
            {
                reader.x: (reader.x, across, array[reader.x].attrs),
                reader.y: (reader.y, down, array[reader.y].attrs),
            }
        )
    if array.rio.grid_mapping in array.coords and not counts_pixels:
        result = result.rio.write_transform(t)
    points = array.rio.get_gcps()
    if points:
        moved = Grid(array.sizes[reader.y], array.sizes[reader.x], gcps=tuple(points)).zoom(scale)
        result = result.rio.write_gcps(moved.gcps, array.rio.crs)
    return result


def _has_pixel_coordinates(array: xr.DataArray, reader: ArrayReader) -> bool:
    """Return whether the coordinates of an array only count pixels, as without georeference.

    rioxarray gives a picture without georeference the identity as its transform and, unless it has
    ground-control points, coordinates that count its pixels. A crop of it keeps these coordinates.
    """
    t = reader.grid.transform
    if reader.x not in array.coords or reader.y not in array.coords:
        return bool(t.is_identity)
    name = array.rio.grid_mapping
    written = array.coords[name].attrs.get("GeoTransform") if name in array.coords else None
    if array.rio.crs is not None or written is None:
        return False
    none = Affine.from_gdal(*map(float, str(written).split())).is_identity
    return none and (t.a, t.e) == (1.0, 1.0)


def _describes_storage(name: str) -> bool:
    return name in _STORAGE_ATTRIBUTES or name.startswith("STATISTICS_")


class _BandDescriptions:
    """The metadata of an array's bands, with the attributes of a rasterio dataset.

    Args:
        array: the source.
        band: name of its band dimension.
    """

    def __init__(self, array: xr.DataArray, band: str) -> None:
        self.count = array.sizes[band]
        labels = array.coords[band].values.tolist() if band in array.coords else []
        self._numbered = bool(labels) and all(isinstance(n, int) for n in labels)
        self._labels = labels
        self.colorinterp = self._colours(array.encoding.get("source"))
        names = self._each(array.attrs.get("long_name"), quiet=True)
        if labels and not self._numbered:
            names = [str(n) for n in labels]
        self.descriptions = [None if n is None else str(n) for n in names]
        common = array.coords.get("common_name")
        self._common = (
            [str(n) for n in common.values]
            if common is not None and common.dims == (band,)
            else [None] * self.count
        )
        self.dtypes = [str(array.dtype.newbyteorder("="))] * self.count
        attrs = array.attrs
        self.units = [None if u is None else str(u) for u in self._each(attrs.get("units"))]
        scales = self._each(attrs.get("scale_factor", attrs.get("scales")))
        offsets = self._each(attrs.get("add_offset", attrs.get("offsets")))
        self.scales = [1.0 if s is None else _number(s, "scale") for s in scales]
        self.offsets = [0.0 if o is None else _number(o, "offset") for o in offsets]
        self.nodatavals = [_nodata(array)] * self.count

    def _colours(self, source: Any) -> list[Any]:
        """Return the colours of the file that rioxarray read, for its bands that the array has."""
        if not self._numbered or not isinstance(source, str) or not os.path.isfile(source):
            return []
        try:
            with gdal(), rasterio.open(source) as file:
                colours = file.colorinterp
        except READ_ERRORS:
            return []
        if not all(1 <= label <= len(colours) for label in self._labels):
            return []
        return [colours[label - 1] for label in self._labels]

    def tags(self, number: int) -> dict[str, str]:
        """Return the band's tags."""
        name = self._common[number - 1]
        return {} if name is None else {"common_name": name}

    def position(self, chosen: int | str) -> int | str:
        """Convert a label that is a number to a position from 1; return any other as it is."""
        if isinstance(chosen, str) or not self._numbered:
            return chosen
        if chosen not in self._labels:
            known = ", ".join(map(str, self._labels))
            raise BandError(f"{_NAME}: no band has the label {chosen}: they are {known}")
        return self._labels.index(chosen) + 1

    def _each(self, value: Any, *, quiet: bool = False) -> list[Any]:
        """Return a value for each band.

        rioxarray keeps lists with a value for each band of the file. After a selection of bands,
        their labels, which are the file's band numbers, say which values are theirs.

        Args:
            value: one value, or a list.
            quiet: give None where a list cannot be assigned, instead of raising UnitError.
        """
        if value is None or isinstance(value, str) or np.ndim(value) == 0:
            return [value] * self.count if not quiet or self.count == 1 else [None] * self.count
        if len(set(value)) == 1 and not quiet:
            return [value[0]] * self.count
        if self._numbered and all(1 <= label <= len(value) for label in self._labels):
            return [value[label - 1] for label in self._labels]
        if quiet:
            return [None] * self.count
        raise UnitError(
            f"{_NAME}: units, scales or offsets differ between its bands, and it has no numbers of "
            f"bands that would say which is whose; give scale, offset and sensor"
        )


def _dimensions(array: xr.DataArray) -> tuple[str, str, str]:
    """Return the names of the dimensions of bands, rows and columns."""
    try:
        y, x = array.rio.y_dim, array.rio.x_dim
    except RioXarrayError as error:
        raise InputError(
            f"{_NAME}: it has no dimensions y and x; name them, as with "
            f"array.rio.set_spatial_dims('lon', 'lat')"
        ) from error
    others = [str(d) for d in array.dims if d not in (x, y)]
    named = [d for d in others if d in _BANDS]
    if len(named) != 1 and len(others) != 1:
        raise InputError(
            f"{_NAME}: its dimensions are {', '.join(map(str, array.dims))}; the one of the bands "
            f"must be called band, as with array.expand_dims(band=['vv'])"
        )
    return (named or others)[0], str(y), str(x)


def _grid(array: xr.DataArray, y: str, x: str) -> Grid:
    height, width = array.sizes[y], array.sizes[x]
    if not (height >= 0 and width >= 0):  # NaN: dask does not know it
        raise InputError(
            f"{_NAME}: its chunks have no sizes; dask computes them: "
            "array.data.compute_chunk_sizes()"
        )
    if not height or not width:
        raise InputError(f"{_NAME}: it has no pixels")
    try:
        return Grid(height, width, _transform(array, y, x), array.rio.crs)
    except (*READ_ERRORS, RuntimeError, TypeError, ValueError) as error:  # pyproj has its own
        raise InputError(f"{_NAME}: its georeference cannot be read: {reason(error)}") from error


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UnitError(f"{_NAME}: its {what} {value!r:.60} is no number") from error


def _nodata(array: xr.DataArray) -> float | None:
    """Return the number that means no data; None where it has none, or one that it cannot hold."""
    try:
        nodata = array.rio.nodata
    except OverflowError:  # as -9999 of unsigned numbers: no pixel has it
        return None
    except (TypeError, ValueError) as error:
        stated = array.encoding.get("_FillValue", array.attrs.get("_FillValue"))
        raise UnitError(
            f"{_NAME}: its _FillValue {stated!r:.60} cannot be one of {array.dtype}"
        ) from error
    return None if nodata is None else _number(nodata, "_FillValue")


def _check_even(array: xr.DataArray, name: str) -> None:
    """Raise InputError for coordinates that are not those of evenly spaced pixels."""
    if name not in array.coords or array.coords[name].dims != (name,):
        return
    values = array.coords[name].values
    if values.dtype.kind not in "iuf":
        raise InputError(f"{_NAME}: its {name} are {values.dtype}, and no coordinates")
    places, count = values.astype(np.float64), len(values)
    if not np.isfinite(places).all():
        raise InputError(f"{_NAME}: its {name} are not finite")
    if count < 2:
        return
    step = (places[-1] - places[0]) / (count - 1)
    # Degrees in float32 may lie some hundredths of a pixel beside their place.
    beside = np.abs(places - places[0] - step * np.arange(count)).max()
    if step == 0 or beside > _UNEVEN * abs(step):
        raise InputError(
            f"{_NAME}: its {name} are not evenly spaced, so that its pixels have no place"
        )


def _transform(array: xr.DataArray, y: str, x: str) -> Affine:
    """Return the affine of an array: the written one, unless its coordinates disagree.

    They disagree where the array was cropped. A rotated affine cannot be compared with coordinates.
    """
    written: Affine = array.rio.transform()
    if not np.isfinite(tuple(written)).all():
        for name in (y, x):
            _check_even(array, name)
        raise InputError(f"{_NAME}: its affine transform is not finite")
    if not abs(written.determinant):
        raise InputError(f"{_NAME}: its affine transform has no inverse")
    if not written.is_rectilinear:
        return written
    for name in (y, x):
        _check_even(array, name)
    recalculated: Affine = array.rio.transform(recalc=True)
    size = max(abs(recalculated.a), abs(recalculated.e))
    same = np.allclose(tuple(written), tuple(recalculated), rtol=1e-12, atol=1e-6 * size)
    return written if same else recalculated
