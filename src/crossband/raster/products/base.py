"""What a product is: bands in files, and what its metadata says of their numbers."""

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
    """Turns stored numbers into physical ones by a rule that depends on the place."""

    def __call__(self, stored: NDArray[np.generic], box: Box) -> NDArray[np.float32]:
        """Return float32 [H, W]; 0 where a pixel holds nothing.

        Args:
            stored: numbers [H, W].
            box: where they lie in the file.
        """


@dataclass(frozen=True)
class Band:
    """A band of a product. What is None or empty is told by the file itself.

    Attributes:
        label: the product's own name of it, as `B04`.
        name: common name; None where the product states none, so that a sensor may know the label;
            empty where the band is not to be found by name.
        href: what GDAL opens.
        number: 1-based band number in that file.
        scale: physical = stored x scale + offset.
        offset: see scale.
        nodata: stored number that means "no data".
        invalid: other stored numbers that are no values; they are masked, too.
        unit: as a file's band says it, `reflectance`, `kelvin`, `power` (linear, becomes decibels).
        calibration: makes what turns stored numbers into those that scale and offset are for.
        files: files on disk that it depends on, beside those that GDAL lists.
        alone: the file must have no other band.
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


@dataclass(frozen=True)
class Product:
    """The bands of a product, in the shape in which `raster.bands` looks for names in a file."""

    path: str
    bands: tuple[Band, ...]

    @property
    def count(self) -> int:
        """How many bands."""
        return len(self.bands)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The product's own names."""
        return tuple(b.label for b in self.bands)

    @property
    def colorinterp(self) -> tuple[ColorInterp, ...]:
        """Nothing: a product names its bands."""
        return (ColorInterp.undefined,) * self.count

    def tags(self, number: int) -> dict[str, str]:
        """Return the common name of a band (1-based) as a file would have it."""
        name = self.bands[number - 1].name
        return {} if name is None else {"common_name": name}


class ProductReader(Registered, family="Product", package="crossband.raster.products"):
    """A kind of product."""

    #: What it is, as messages name it.
    title: ClassVar[str]

    def bands(self, source: Source) -> list[Band] | None:
        """Return the bands of a product; None where the source is something else.

        Raises:
            InputError: it is of this kind, but cannot be read.
        """
        raise NotImplementedError

    def when(self, source: Source) -> tuple[str, str] | None:
        """Return the time of acquisition as the metadata write it, and the key that says it.

        None where the source is something else, or its metadata say none.

        Raises:
            InputError: metadata that cannot be read.
        """
        return None
