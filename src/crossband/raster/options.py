"""Options of reading a scene."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

from crossband.core.options import option
from crossband.errors import CrossbandError
from crossband.raster.bands import parse_bands

if TYPE_CHECKING:  # `crossband --help` must not wait for rasterio
    from crossband.raster.grid import Box


def parse_extent(text: str) -> tuple[float, float, float, float]:
    """Parse `XMIN,YMIN,XMAX,YMAX`.

    >>> parse_extent("0,-1.5,10,2e3")
    (0.0, -1.5, 10.0, 2000.0)
    """
    return checked_extent(text.split(","), text)


def checked_extent(sides: Sequence[Any], text: str) -> tuple[float, float, float, float]:
    """Return least x and y, greatest x and y; CrossbandError for what is no rectangle.

    Args:
        sides: numbers or texts.
        text: of them, for messages.
    """
    try:
        left, bottom, right, top = (float(side) for side in sides)
    except (TypeError, ValueError):
        raise CrossbandError(f"--extent {text}: not XMIN,YMIN,XMAX,YMAX") from None
    if not (isfinite(right - left) and isfinite(top - bottom)):
        raise CrossbandError(f"--extent {text}: not finite")
    if left >= right or bottom >= top:
        raise CrossbandError(f"--extent {text}: XMIN is below XMAX, and YMIN below YMAX")
    return left, bottom, right, top


@dataclass(frozen=True)
class ReadOptions:
    """The caller's statements on a scene; what is None comes from the file or the sensor."""

    bands: Mapping[str, int | str] | None = option(
        None,
        "as in red=3,green=2,blue=1: band numbers or names in the file; for a folder as INPUT its "
        "files: red=B04.tif,green=B03.tif,blue=B02.tif",
        flag="--bands",
        parse=parse_bands,
    )
    sensor: str | None = option(
        None, "sensor of the scene; 'crossband sensors' lists them", flag="--sensor"
    )
    scale: float | None = option(None, "physical = stored x SCALE + OFFSET", flag="--scale")
    offset: float | None = option(
        None, "see --scale; both override those of the file and the sensor", flag="--offset"
    )
    nodata: float | None = option(
        None,
        'stored number that means "no data"; it overrides that of the file, and adds to a mask',
        keyword="source_nodata",
    )
    window: Box | None = option(None, "part of the source; by default all of it")
    extent: tuple[float, float, float, float] | None = option(
        None,
        "XMIN,YMIN,XMAX,YMAX: only the pixels that touch this rectangle, in the scene's CRS "
        "(if it begins with a minus, write --extent=-3.5,48,-3,48.4)",
        flag="--extent",
        parse=parse_extent,
    )
    allow_local_references: bool = option(
        False,
        "let a STAC item or a VRT on a server refer to files of this machine and of its local "
        "network, and to overviews in another place than their raster. By default these are "
        "refused, because the server could choose which of your files are read",
        flag="--allow-local-references",
    )
    self_contained: bool = option(
        False,
        "open only files that refer to no others: GeoTIFF, JPEG 2000, JPEG, PNG or WebP",
    )

    def __post_init__(self) -> None:
        """Refuse what is no part of a scene.

        Raises:
            CrossbandError: that.
        """
        if self.extent is not None:
            checked_extent(self.extent, ",".join(f"{side}" for side in self.extent))
        if self.window is not None:
            box = self.window
            sides = box.row, box.col, box.height, box.width
            if not all(isinstance(side, Integral) for side in sides):
                raise CrossbandError(f"window: rows and columns are whole numbers, not {box}")

    def only(self, bands: Collection[str]) -> Self:
        """Return the same options with these bands only; a manifest may name more bands."""
        if self.bands is None:
            return self
        return replace(self, bands={k: v for k, v in self.bands.items() if k in bands})

    def over(self, others: ReadOptions) -> ReadOptions:
        """Return these options, with those that are not stated taken from `others`."""
        stated = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}
        return replace(others, **stated)
