"""Open one raster with GDAL; errors are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from crossband.core.file_names import check_input_name
from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.gdal import READ_ERRORS, gdal, reason
from crossband.raster.labels import with_labels
from crossband.raster.opener import Opener, check_regular_parts
from crossband.raster.png import check_png
from crossband.raster.retry import RetryingRaster
from crossband.raster.source import split_item_id
from crossband.raster.stated_numbers import LINE, check_stated_numbers


def check_exists(path: str | Path) -> None:
    """Raise InputError for a local path that cannot be read as a scene.

    It is not UTF-8, does not exist, is an empty file, or neither a folder nor a regular file.
    """
    text = split_item_id(str(path))[0]
    check_input_name(text)
    check_regular_parts(text)
    if remote.is_remote(text):
        return
    if not Path(text).exists():
        raise InputError(f"{text}: no such file")
    if Path(text).is_file() and Path(text).stat().st_size == 0:
        raise InputError(f"{text}: the file is empty")


def open_dataset(
    path: str | Path, *, allow_local: bool = False, self_contained: bool = False
) -> Any:
    """Open a raster with GDAL, as a dataset of rasterio.

    Args:
        path: as GDAL takes it, or a URL.
        allow_local: a file on a server may refer to files of this machine.
        self_contained: use only drivers of files that name no others.

    Raises:
        InputError: it cannot be opened, names what it must not, or has no bands, complex numbers or
            a colour table.
    """
    text = remote.address(path)
    check_exists(text)
    try:
        dataset = open_path(text, allow_local=allow_local, self_contained=self_contained)
    except READ_ERRORS as error:
        words = reason(error)
        if remote.is_remote(text) and "not recognized as being in" not in words:
            raise InputError(
                f"{text}: cannot be opened: {remote.explain(words) or words}"
            ) from error
        raise InputError(f"{text}: not a raster that can be opened: {words}") from error
    try:
        if dataset.driver in ("PNG", "VRT"):
            for name in _files(dataset, text):
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
        labelled = with_labels(dataset)
        check_stated_numbers(labelled, text, LINE)
        return labelled
    except READ_ERRORS as error:  # GDAL reads parts of a file when they are asked for
        dataset.close()
        raise InputError(f"{text}: not a raster that can be opened: {reason(error)}") from error
    except BaseException:
        dataset.close()
        raise


def _files(dataset: Any, path: str) -> list[str]:
    """Return the files of a dataset; InputError where rasterio cannot read their names."""
    try:
        return list(dataset.files)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: it names a file by {reason(error)}") from error


def open_path(path: str, *, allow_local: bool = False, self_contained: bool = False) -> Any:
    """Open a raster as GDAL does; requests to servers are repeated. See `open_dataset`.

    Raises:
        InputError: it names what it must not.
        RasterioError, OSError: it cannot be opened.
    """
    opener = Opener(path, allow_local, self_contained)
    if not remote.is_remote(path):
        opener.look()
        if not any(map(remote.is_remote, opener.sources)):
            with gdal():
                return opener.open_seen()
    return RetryingRaster(opener, gdal)
