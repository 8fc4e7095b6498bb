"""Open a raster, tell its bands and its radiometry, read windows in physical units.

Bands and radiometry come from the file's metadata, from the caller's explicit options, or from the
sensor that the caller declares. They are never guessed from pixel values.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import get_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError

from crossband import sensors
from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.bands import find_bands, named_bands
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.patient import PatientRaster
from crossband.raster.png import check_png
from crossband.raster.radiometry import Radiometry, radiometry_of

if TYPE_CHECKING:
    from crossband.products import Product

#: Options of GDAL for every raster that Crossband opens: a truncated JPEG is an error, not a grey
#: half; files beside it (a mask, a world file) are asked for by name, and folders are not listed;
#: the cache of decoded blocks is bounded, in bytes (rasterio hands the number to GDAL as it is).
GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_CACHEMAX": 64 * 2**20,
    **remote.OPTIONS,
}

# rasterio logs GDAL's own words beside the exception that carries them.
for _name in ("rasterio", "rasterio._err", "rasterio._env"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def gdal_options() -> dict[str, Any]:
    """Return `GDAL_OPTIONS` without those that the user has set, by environment or otherwise."""
    wanted = {}
    for name, value in GDAL_OPTIONS.items():
        known = get_gdal_config(name, normalize=False)
        if name == "GDAL_CACHEMAX":  # rasterio tells what it is, whoever set it
            known = os.environ.get(name)
        # What another thread has set through us may be gone in a moment.
        if known is None or known == ("ON" if value is True else str(value)):
            wanted[name] = value
    return wanted


@contextmanager
def gdal(**options: Any) -> Iterator[None]:
    """Set GDAL's options for what is inside; pictures without georeference are no news."""
    with warnings.catch_warnings(), rasterio.Env(**gdal_options(), **options):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


class Scene:
    """A raster on disk, opened; use as a context manager.

    Attributes:
        path: as given.
        grid: shape, affine, CRS.
        bands: common names of the bands that `read` returns, in this order.
        numbers: their 1-based band numbers in the file.
        dtype: the data type that holds what is stored of all of them.
        dtypes: stored data types of all of them.
        unit: physical unit of what `read` returns.
        radiometry: how stored numbers become physical values.
        has_mask: the file carries an alpha band or an internal mask.
        marked: the nodata number means "no data"; where a mask says it, a valid zero stays valid.

    Of the constructor's arguments `named` are the numbers of other bands that are known to be no
    alpha; `stated` says that the nodata number is the caller's, which counts beside a mask.
    """

    def __init__(
        self,
        dataset: Any,
        path: str,
        numbers: dict[str, int],
        r: Radiometry,
        named: Iterable[int] = (),
        *,
        stated: bool = False,
    ) -> None:
        self._dataset = dataset
        self.path = path
        self.bands = tuple(numbers)
        self.numbers = tuple(numbers.values())
        self.radiometry = r
        self.unit = r.unit
        self.grid = _grid(dataset)
        self._at = self.grid.box
        self.dtypes: tuple[str, ...] = tuple(dataset.dtypes[n - 1] for n in self.numbers)
        self.dtype = str(np.result_type(*self.dtypes))
        self._alpha = _alpha_band(dataset, {*self.numbers, *named})
        flags = dataset.mask_flag_enums[self.numbers[0] - 1]
        self._internal = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self.has_mask = self._internal or self._alpha is not None
        self.marked = stated or not self.has_mask

    @classmethod
    def open(
        cls,
        path: str | Path,
        bands: Mapping[str, int | str] | None = None,
        sensor: str | None = None,
        scale: float | None = None,
        offset: float | None = None,
        nodata: float | None = None,
        *,
        needed: Sequence[str],
        opened: Any = None,
    ) -> Scene:
        """Open a raster for reading the bands `needed`.

        Args:
            path: anything that GDAL reads, or a product of several files: see `products`.
            bands: common name -> band number (1-based) or the band's name in the file; in a folder
                the name of a file.
            sensor: name in `crossband.sensors`.
            scale: physical = stored x scale + offset; over the file's and the sensor's own.
            offset: see scale.
            nodata: stored number that means "no data"; over the file's own, and beside a mask,
                before which the file's own number does not count.
            needed: common names, in the order that `read` returns.
            opened: the raster, where GDAL does not open it: a packed one, see `blocks`.

        Raises:
            InputError: missing, not an image, complex numbers, a colour table.
            BandError: a needed band is not there or not named.
            UnitError: the physical unit is not declared anywhere.
        """
        declared = sensors.get(sensor) if sensor is not None else None
        product = _product(path, bands) if opened is None else None
        if product is not None:
            from crossband.products.stack import open_stack

            stated = scale, offset, nodata
            return open_stack(product, bands or {}, declared, *stated, needed)
        dataset = open_raster(path) if opened is None else opened
        try:
            numbers = find_bands(dataset, path, needed, bands or {}, declared)
            radiometry = radiometry_of(dataset, path, numbers, declared, scale, offset, nodata)
            # Of any strength: what would be found under a name is no alpha, needed or not.
            named = {
                n
                for source in named_bands(dataset, declared)
                for n, name in source.items()
                if name != ColorInterp.alpha.name
            }
            given = nodata is not None
            return cls(dataset, str(path), numbers, radiometry, named, stated=given)
        except BaseException:
            dataset.close()
            raise

    def part(self, box: Box) -> Scene:
        """Look at a part only, as at one half of a picture that holds two; returns this scene.

        Raises:
            InputError: the part is not inside the scene.
        """
        whole = self.grid.box
        inside = box.row + box.height <= whole.height and box.col + box.width <= whole.width
        if min(box.row, box.col) < 0 or min(box.height, box.width) < 1 or not inside:
            raise InputError(
                f"{self.path}: the window {box.words()} is not inside its {whole.width} x "
                f"{whole.height} pixels"
            )
        self.grid = self.grid.crop(box)
        self._at = replace(box, row=self._at.row + box.row, col=self._at.col + box.col)
        return self

    def read(self, box: Box | None = None) -> Window:
        """Read a window (the whole scene by default) in physical units.

        Returns:
            Values float32 [C, H, W], 0 where masked; a pixel is valid where every band is: not
            nodata (see `open`), finite, inside the file's own mask.
        """
        box = box or self.grid.box
        return self.physical(*self.stored(box), box)

    @property
    def window(self) -> Box:
        """Where the scene lies in its file: see `part`."""
        return self._at

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the blocks (tiles or strips) that the file is stored in."""
        rows, cols = self._dataset.block_shapes[self.numbers[0] - 1]
        return int(rows), int(cols)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the scene is read from, as GDAL lists them."""
        return tuple(self._dataset.files)

    def stored(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window as it is stored: numbers [C, H, W] and the file's own mask [H, W]."""
        at = replace(box, row=self._at.row + box.row, col=self._at.col + box.col).rasterio()
        indexes = list(self.numbers)
        try:
            if len(set(self.dtypes)) == 1:
                stored = self._dataset.read(indexes, window=at)
            else:
                stored = np.stack([self._dataset.read(n, window=at) for n in indexes])
            mask = np.ones(stored.shape[1:], dtype=bool)
            if self._alpha is not None:
                mask &= self._dataset.read(self._alpha, window=at) > 0
            elif self._internal:
                mask &= self._dataset.read_masks(indexes[0], window=at) > 0
        except (RasterioError, OSError) as error:
            raise InputError(f"{self.path}: cannot be read: {reason(error)}") from error
        return stored, mask

    def physical(self, stored: NDArray[Any], mask: NDArray[np.bool_], box: Box) -> Window:
        """Turn what `stored` read of a window into physical values; see `read`."""
        values = np.empty(stored.shape, np.float32)
        mask = mask.copy()
        # A few rows at a time stay in the processor's cache: float64 in between costs nothing.
        rows = max(2**15 // max(box.width, 1), 1)
        for top in range(0, box.height, rows):
            part = slice(top, top + rows)
            values[:, part], valid = self.radiometry.physical(stored[:, part], self.marked)
            mask[part] &= valid
            if not mask[part].all():
                values[:, part][:, ~mask[part]] = 0.0
        return Window(values, mask, self.grid.crop(box), self.bands, self.unit)

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _product(path: str | Path, bands: Mapping[str, int | str] | None = None) -> Product | None:
    """Return the product that a path names; None for what is opened with GDAL."""
    from crossband import products  # whose scenes are made of ours

    return products.find(path, bands)


def known_bands(path: str | Path, sensor: str | None = None) -> tuple[str, ...]:
    """Return the common names that a file's metadata or a declared sensor give to its bands.

    In the file's order; a name that several bands have is in it once.

    Raises:
        InputError: missing, not an image, complex numbers, a colour table.
        UnitError: an unknown sensor.
    """
    declared = sensors.get(sensor) if sensor is not None else None
    named = {}
    product = _product(path)
    with contextlib.nullcontext(product) if product is not None else open_raster(path) as dataset:
        for source in reversed(named_bands(dataset, declared)):
            named.update(source)
    names = (named[number] for number in sorted(named))
    return tuple(dict.fromkeys(n for n in names if n in sensors.COMMON_NAMES))


def check_exists(path: str | Path) -> None:
    """Raise InputError for a local path that is not there or empty."""
    from crossband.products.source import file_of

    text = file_of(str(path))[0]
    if remote.is_remote(text):
        return
    if not Path(text).exists():
        raise InputError(f"{text}: no such file")
    if Path(text).is_file() and Path(text).stat().st_size == 0:
        raise InputError(f"{text}: the file is empty")


def open_raster(path: str | Path) -> Any:
    """Open a raster with GDAL, as rasterio's dataset; InputError where that cannot be."""
    text = remote.address(path)
    check_exists(text)
    try:
        dataset = _opened(text)
    except (RasterioIOError, RasterioError, OSError) as error:
        words = reason(error)
        if remote.is_remote(text) and "not recognized as being in" not in words:
            raise InputError(f"{text}: cannot be opened: {remote.why(words) or words}") from error
        if Path(text).is_dir():
            from crossband import products

            words = f"of folders these are read: {products.kinds_of_folders()}"
        raise InputError(f"{text}: not a raster that can be opened: {words}") from error
    try:
        if dataset.driver in ("PNG", "VRT"):
            for name in dataset.files:
                if name.lower().endswith(".png") and not remote.is_remote(name):
                    check_png(name)
        if dataset.count == 0:
            parts = ", ".join(dataset.subdatasets[:3])
            raise InputError(
                f"{text}: it has no bands of its own"
                + (f"; open one of its parts: {parts}" if parts else "")
            )
        if any(d.startswith("complex") for d in dataset.dtypes):
            raise InputError(f"{text}: complex numbers; give amplitude or intensity instead")
        if dataset.colorinterp[0] == ColorInterp.palette:
            raise InputError(
                f"{text}: a colour table, not bands; expand it first: gdal_translate -expand rgb"
            )
    except BaseException:
        dataset.close()
        raise
    return dataset


def _opened(path: str) -> Any:
    if remote.is_remote(path):
        return PatientRaster(path, gdal)
    with gdal():
        dataset = rasterio.open(path)
        if dataset.driver != "VRT" or not any(map(remote.is_remote, dataset.files)):
            return dataset
        dataset.close()
    return PatientRaster(path, gdal)


def reason(error: BaseException) -> str:
    """One line of GDAL's reason, without the path that the message repeats."""
    cause = error.__cause__ or error
    return " ".join(str(cause).split()) or type(error).__name__


def _grid(dataset: Any) -> Grid:
    gcps, gcps_crs = dataset.gcps
    return Grid(
        dataset.height, dataset.width, dataset.transform, dataset.crs, tuple(gcps), gcps_crs
    )


def _alpha_band(dataset: Any, used: set[int]) -> int | None:
    """Return the number of the alpha band, unless it holds one of the bands in use or has a name.

    GDAL calls the fourth band of an 8-bit RGB + NIR picture alpha when its writer did not say
    otherwise; a description ("nir"), an explicit choice or a sensor whose files have their bands in
    one order says otherwise.
    """
    for number, colour in enumerate(dataset.colorinterp, start=1):
        label = dataset.descriptions[number - 1] or ""
        named = label.strip().lower() not in ("", colour.name)
        if colour == ColorInterp.alpha and number not in used and not named:
            return number
    return None
