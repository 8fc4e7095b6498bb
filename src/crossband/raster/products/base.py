"""Products: their bands in files, and what their metadata state of the stored numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from crossband.core.registry import Registered
from crossband.raster.grid import Box
from crossband.raster.source import Source


class Calibration(Protocol):
    """Converts stored numbers to physical ones by a rule that depends on the position."""

    def __call__(self, stored: NDArray[np.generic], box: Box) -> NDArray[np.float32]:
        """Return float32 [H, W]; 0 for pixels without a value.

        Args:
            stored: numbers [H, W].
            box: their rectangle in the file.
        """


@dataclass(frozen=True)
class Band:
    """A band of a product. The file itself states what is None or empty here.

    Attributes:
        label: the name in the product, as `B04`.
        name: common name; None if the product states none, so that a sensor may know the label;
            empty if the band must not be found by its common name.
        href: the path that GDAL opens.
        number: 1-based band number in that file.
        scale: physical = stored x scale + offset.
        offset: see scale.
        nodata: stored number that means "no data".
        invalid: other stored numbers that are no values; they are masked too.
        unit: as files state it, `reflectance`, `kelvin`, `power` (linear, becomes decibels).
        calibration: returns the calibration, which is applied before scale and offset.
        files: files on disk that the band depends on, beside those that GDAL lists.
        alone: the file must have no other band.
        origin: address of what names the file; empty where that is on this machine.
    """

    label: str
    name: str | None
    href: str
    number: int = 1
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    invalid: tuple[float, ...] = ()
    unit: str = ""
    calibration: Callable[[], Calibration] | None = None
    files: tuple[str, ...] = ()
    alone: bool = False
    origin: str = ""


@dataclass(frozen=True)
class Product:
    """The bands of a product, with the attributes of a dataset that `raster.bands` looks at."""

    path: str
    bands: tuple[Band, ...]

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """Names of the bands in the product."""
        return tuple(b.label for b in self.bands)

    @property
    def colorinterp(self) -> tuple[ColorInterp, ...]:
        """Undefined for all bands: a product names them."""
        return (ColorInterp.undefined,) * self.count

    def tags(self, number: int) -> dict[str, str]:
        """Return the common name of a band (1-based) as a tag."""
        name = self.bands[number - 1].name
        return {} if name is None else {"common_name": name}


class ProductReader(Registered, family="Product", package="crossband.raster.products"):
    """Reads one kind of product.

    A subclass has a `title` and `bands`, and may have `when`.
    """

    #: What messages call this kind of product.
    title: ClassVar[str]
    #: Patterns of the names of metadata files that stand for a product.
    metadata_names: ClassVar[tuple[str, ...]] = ()

    def bands(self, source: Source) -> list[Band] | None:
        """Return the bands of a product; None if the source is something else.

        Raises:
            InputError: a product of this kind that cannot be read.
        """
        raise NotImplementedError

    def when(self, source: Source) -> tuple[str, str] | None:
        """Return the acquisition time as the metadata state it, and the key that states it.

        None if the source is something else, or its metadata state no time.

        Raises:
            InputError: metadata that cannot be read.
        """
        return None
