"""DataArray in, DataArray out: what a labelled array says of itself, and what the result keeps.

Which band is which comes from the labels of the band dimension, from a coordinate `common_name`
beside them, or from the descriptions that rioxarray keeps in `long_name`; how numbers become
physical values from `units`, `scale_factor` and `add_offset`; what is masked from NaN and
`rio.nodata`. As with files, the caller's options are stronger, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import rioxarray  # noqa: F401 - gives arrays their `rio`
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rioxarray.exceptions import RioXarrayError

from crossband.core import sensors
from crossband.errors import BandError, InputError, UnitError
from crossband.model import Model
from crossband.raster.bands import find_bands
from crossband.raster.grid import Grid, Window
from crossband.raster.options import ReadOptions
from crossband.raster.radiometry import Radiometry, radiometry_of
from crossband.translate.provenance import synthetic_tags

#: What messages call an array.
_NAME = "the DataArray"
#: Names of the band dimension; a third dimension of another name is taken where it is the only one.
_BANDS = ("band", "bands", "channel", "variable")
#: Attributes that say how the source's numbers are stored; the result's are other ones.
_OF_SOURCE = ("scale_factor", "add_offset", "scales", "offsets", "_FillValue", "missing_value")


@dataclass(frozen=True)
class Reading:
    """How an array is read.

    Attributes:
        bands: common names, in the model's order.
        chosen: positions along the band dimension, in this order.
        band, y, x: names of the dimensions; all others lead.
        radiometry: how numbers become physical values.
        grid: shape, affine, CRS.
    """

    bands: tuple[str, ...]
    chosen: tuple[int, ...]
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
        """Tell bands and units of an array; of the options all count but the window.

        A number in their `bands` is a label where the labels are numbers, else a position from 1.

        Raises:
            InputError: no dimensions of space or bands; complex numbers.
            BandError, UnitError: as with a file.
        """
        band, y, x = _dimensions(array)
        if array.dtype.kind == "c":
            raise InputError(f"{_NAME}: complex numbers; give amplitude or intensity instead")
        declared = sensors.get(options.sensor) if options.sensor is not None else None
        told = _Described(array, band)
        given = {name: told.position(value) for name, value in (options.bands or {}).items()}
        numbers = find_bands(told, _NAME, needed, given, declared)
        radiometry = radiometry_of(
            told, _NAME, numbers, declared, options.scale, options.offset, options.nodata
        )
        chosen = tuple(number - 1 for number in numbers.values())
        return cls(tuple(numbers), chosen, band, y, x, radiometry, _grid(array, y, x))

    def numbers(self, array: xr.DataArray) -> xr.DataArray:
        """Return the chosen bands as (..., band, y, x), as they are stored."""
        picked = array.isel({self.band: list(self.chosen)})
        return picked.transpose(..., self.band, self.y, self.x)

    def window(self, stored: NDArray[Any], grid: Grid) -> Window:
        """Return stored numbers [C, h, w] in physical units, 0 where masked."""
        values, mask = self.radiometry.physical(stored)
        values[:, ~mask] = 0.0
        return Window(values, mask, grid, self.bands, self.radiometry.unit)


def finished(
    model: Model, array: xr.DataArray, reading: Reading, data: Any, tags: Mapping[str, str]
) -> xr.DataArray:
    """Return the result as an array like the source.

    Args:
        model: what made it.
        array: the source.
        reading: how it was read.
        data: physical values (..., band, y, x), NaN where masked.
        tags: what there is to say beside where it comes from.

    Returns:
        Dimensions in the source's order, its other coordinates and attributes, its CRS. Coordinates
        along the bands are left out, and those along y and x where the model makes pixels finer:
        of these only x and y themselves have new values.
    """
    scale, target = model.network.scale, list(model.signature.target)
    replaced = {reading.band} if scale == 1 else {reading.band, reading.y, reading.x}
    coords = {name: c for name, c in array.coords.items() if not replaced & set(c.dims)}
    lead = [d for d in array.dims if d not in (reading.band, reading.y, reading.x)]
    name = array.encoding.get("source") or array.name or "DataArray"
    attrs = {k: v for k, v in array.attrs.items() if not _of_source(str(k))}
    result = xr.DataArray(
        data,
        dims=(*lead, reading.band, reading.y, reading.x),
        coords={**coords, reading.band: target},
        name=target[0] if len(target) == 1 else model.name,
        attrs={
            **attrs,
            "units": model.signature.target_unit(reading.radiometry.unit),
            "long_name": target,
            **synthetic_tags(model, str(name)),
            **tags,
        },
    ).transpose(*array.dims)
    if scale != 1:
        result = _finer(result, array, reading, scale)
    marked: xr.DataArray = result.rio.write_nodata(float("nan"))
    return marked


def _finer(result: xr.DataArray, array: xr.DataArray, reading: Reading, scale: int) -> xr.DataArray:
    """Write where the finer pixels lie, as far as the source says it."""
    t, coarse = reading.grid.transform, Affine.scale(1 / scale)
    counted = _counted(array, reading)
    # Where pixels are only counted, the finer ones are, too.
    t = Affine.scale(scale) @ t @ coarse if counted else t @ coarse
    if t.is_rectilinear and reading.x in array.coords and reading.y in array.coords:
        across = t.c + (np.arange(reading.grid.width * scale) + 0.5) * t.a
        down = t.f + (np.arange(reading.grid.height * scale) + 0.5) * t.e
        result = result.assign_coords(
            {
                reading.x: (reading.x, across, array[reading.x].attrs),
                reading.y: (reading.y, down, array[reading.y].attrs),
            }
        )
    if array.rio.grid_mapping in array.coords and not counted:
        result = result.rio.write_transform(t)
    points = array.rio.get_gcps()
    if points:
        moved = Grid(array.sizes[reading.y], array.sizes[reading.x], gcps=tuple(points)).zoom(scale)
        result = result.rio.write_gcps(moved.gcps, array.rio.crs)
    return result


def _counted(array: xr.DataArray, reading: Reading) -> bool:
    """Return whether an array says no place on the ground, as of a picture without georeference.

    rioxarray gives such a picture the identity as its transform and, unless it has ground-control
    points, coordinates that count its pixels; a part of it goes on counting from where it begins.
    """
    t = reading.grid.transform
    if reading.x not in array.coords or reading.y not in array.coords:
        return bool(t.is_identity)
    name = array.rio.grid_mapping
    written = array.coords[name].attrs.get("GeoTransform") if name in array.coords else None
    if array.rio.crs is not None or written is None:
        return False
    none = Affine.from_gdal(*map(float, str(written).split())).is_identity
    return none and (t.a, t.e) == (1.0, 1.0)


def _of_source(name: str) -> bool:
    return name in _OF_SOURCE or name.startswith("STATISTICS_")


class _Described:
    """What an array says of its bands, in the words of a rasterio dataset.

    Args:
        array: the source.
        band: name of its band dimension.
    """

    def __init__(self, array: xr.DataArray, band: str) -> None:
        self.count = array.sizes[band]
        self.colorinterp: list[Any] = []
        labels = array.coords[band].values.tolist() if band in array.coords else []
        self._numbered = bool(labels) and all(isinstance(n, int) for n in labels)
        self._labels = labels
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
        self.dtypes = [str(array.dtype)] * self.count
        attrs = array.attrs
        self.units = [None if u is None else str(u) for u in self._each(attrs.get("units"))]
        scales = self._each(attrs.get("scale_factor", attrs.get("scales")))
        offsets = self._each(attrs.get("add_offset", attrs.get("offsets")))
        self.scales = [1.0 if s is None else float(s) for s in scales]
        self.offsets = [0.0 if o is None else float(o) for o in offsets]
        nodata = array.rio.nodata
        self.nodatavals = [None if nodata is None else float(nodata)] * self.count

    def tags(self, number: int) -> dict[str, str]:
        """Return the band's tags."""
        name = self._common[number - 1]
        return {} if name is None else {"common_name": name}

    def position(self, chosen: int | str) -> int | str:
        """Turn a label that is a number into a position from 1."""
        if isinstance(chosen, str) or not self._numbered:
            return chosen
        if chosen not in self._labels:
            known = ", ".join(map(str, self._labels))
            raise BandError(f"{_NAME}: no band has the label {chosen}: they are {known}")
        return self._labels.index(chosen) + 1

    def _each(self, value: Any, *, quiet: bool = False) -> list[Any]:
        """Return a value for each band.

        rioxarray keeps lists by the bands of the file; those that are left of them are told by
        their labels, which are the file's numbers from 1.
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
    if not height or not width:
        raise InputError(f"{_NAME}: it has no pixels")
    return Grid(height, width, _transform(array), array.rio.crs)


def _transform(array: xr.DataArray) -> Affine:
    """Return the affine that is written with the array, unless its coordinates say another.

    They do where it was cut since. A rotated one has no coordinates to tell.
    """
    written: Affine = array.rio.transform()
    if not written.is_rectilinear:
        return written
    told: Affine = array.rio.transform(recalc=True)
    size = max(abs(told.a), abs(told.e))
    same = np.allclose(tuple(written), tuple(told), rtol=1e-12, atol=1e-6 * size)
    return written if same else told
