"""How GDAL is set for every raster that Crossband opens, and its reasons in one line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rasterio
from rasterio.env import get_gdal_config
from rasterio.errors import NotGeoreferencedWarning

from crossband.raster import remote

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


def reason(error: BaseException) -> str:
    """One line of GDAL's reason, without the path that the message repeats."""
    cause = error.__cause__ or error
    return " ".join(str(cause).split()) or type(error).__name__
