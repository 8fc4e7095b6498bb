"""List all files that a raster is read from, those that nested VRTs name included.

GDAL lists only the files that a VRT names directly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.dataset import open_path
from crossband.raster.gdal import READ_ERRORS
from crossband.raster.opener import VRT_PREFIX, read_head
from crossband.raster.references import is_vrt


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
    return tuple(name for name in found.values() if not name.startswith(VRT_PREFIX))


def _named(name: str) -> list[str]:
    """Return the files that a VRT or a part of a file names; nothing for other files."""
    if name.startswith(VRT_PREFIX):
        inner = name.removeprefix(VRT_PREFIX).partition("?")[0]
        return [inner, *_listed(inner)]
    return _listed(name) if _is_vrt(name) or _is_part(name) else []


def _is_vrt(name: str) -> bool:
    if remote.is_remote(name):
        return name.split("?", maxsplit=1)[0].lower().endswith(".vrt")
    return is_vrt(read_head(name))


def _is_part(name: str) -> bool:
    """Return whether a name may be a part of a file, as `NETCDF:a.nc:b`."""
    return not remote.is_remote(name) and ":" in name and not Path(name).exists()


def _listed(name: str) -> list[str]:
    try:
        # To open the scene, it was looked at.
        with open_path(name, allow_local=True) as dataset:
            return list(dataset.files)
    except (InputError, *READ_ERRORS):
        return []  # reading the raster reports the error
