"""List all files that a raster is read from, those that nested VRTs name included.

GDAL lists only the files that a VRT names directly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from crossband.raster import remote
from crossband.raster.gdal import gdal
from crossband.raster.retry import RetryingRaster

#: Prefix of a source of a VRT that is a raster with options, as `vrt://in.tif?bands=1`.
_VRT_PREFIX = "vrt://"
#: Bytes at the beginning of a file in which GDAL looks for the signature of a VRT.
_HEAD = 1024


def member_files(files: Iterable[str]) -> tuple[str, ...]:
    """Return the files, and those that VRTs and parts of files (`NETCDF:a.nc:b`) among them name.

    Each file is listed once, even if VRTs name each other in a circle. A missing file is listed,
    without the files that it would name.

    Args:
        files: as `Scene.files` gives them.
    """
    found: dict[str, str] = {}
    waiting = list(files)
    while waiting:
        name = waiting.pop(0)
        key = name if remote.is_remote(name) else os.path.realpath(name)
        if key not in found:
            found[key] = name
            waiting += _named(name)
    return tuple(name for name in found.values() if not name.startswith(_VRT_PREFIX))


def _named(name: str) -> list[str]:
    """Return the files that a VRT or a part of a file names; nothing for other files."""
    if name.startswith(_VRT_PREFIX):
        inner = name.removeprefix(_VRT_PREFIX).partition("?")[0]
        return [inner, *_listed(inner)]
    return _listed(name) if _is_vrt(name) or _is_part(name) else []


def _is_vrt(name: str) -> bool:
    if remote.is_remote(name):
        return name.split("?", maxsplit=1)[0].lower().endswith(".vrt")
    try:
        with open(name, "rb") as file:
            return b"<VRTDataset" in file.read(_HEAD)
    except OSError:
        return False


def _is_part(name: str) -> bool:
    """Return whether a name may be a part of a file, as `NETCDF:a.nc:b`."""
    return not remote.is_remote(name) and ":" in name and not Path(name).exists()


def _listed(name: str) -> list[str]:
    opened: Callable[..., Any]
    opened = partial(RetryingRaster, env=gdal) if remote.is_remote(name) else rasterio.open
    try:
        with gdal(), opened(name) as dataset:
            return list(dataset.files)
    except (RasterioError, OSError):
        return []  # reading the raster reports the error
