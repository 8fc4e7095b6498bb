"""GDAL options for all rasters that Crossband opens, and GDAL's error messages in one line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import get_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from crossband.raster import lost_errors, remote

#: GDAL options for every raster that Crossband opens. A truncated JPEG is an error, and not half
#: grey. Sidecar files (a mask, a world file) are looked up by name, without listing folders. The
#: cache of decoded blocks is bounded, in bytes.
GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_CACHEMAX": 64 * 2**20,
    **remote.OPTIONS,
}

#: What rasterio raises where a raster cannot be read: its own errors, errors of GDAL as they are,
#: and errors about texts that are not UTF-8.
READ_ERRORS = (RasterioError, CPLE_BaseError, OSError, UnicodeDecodeError)

lost_errors.install()


def gdal_options() -> dict[str, Any]:
    """Return `GDAL_OPTIONS` without those that the user has set, in any way."""
    wanted = {}
    for name, value in GDAL_OPTIONS.items():
        known = get_gdal_config(name, normalize=False)
        if name == "GDAL_CACHEMAX":  # rasterio returns a value even if nobody has set one
            known = os.environ.get(name)
        # An equal value may be set by another thread of ours for a moment only.
        if known is None or known == ("ON" if value is True else str(value)):
            wanted[name] = value
    return wanted


@contextmanager
def gdal(**options: Any) -> Iterator[None]:
    """Set our GDAL options in this context, without warnings of rasters without georeference."""
    with warnings.catch_warnings(), rasterio.Env(**gdal_options(), **options):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def reason(error: BaseException) -> str:
    """Return GDAL's message of an error in one line."""
    cause = error.__cause__ or error
    if isinstance(cause, UnicodeDecodeError):  # of rasterio
        return f"a text that is not UTF-8: {shorten(lost_errors.decode(cause), 200)}"
    return " ".join(str(cause).split()) or type(error).__name__
