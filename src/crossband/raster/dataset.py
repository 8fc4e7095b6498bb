"""Open one raster with GDAL; errors are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError, RasterioIOError

from crossband.core.file_names import check_input_name
from crossband.errors import InputError
from crossband.raster import remote
from crossband.raster.gdal import gdal, reason
from crossband.raster.labels import with_labels
from crossband.raster.png import check_png
from crossband.raster.retry import RetryingRaster
from crossband.raster.source import split_item_id


def check_exists(path: str | Path) -> None:
    """Raise InputError for a local path that is not UTF-8, does not exist, or is an empty file."""
    text = split_item_id(str(path))[0]
    check_input_name(text)
    if remote.is_remote(text):
        return
    if not Path(text).exists():
        raise InputError(f"{text}: no such file")
    if Path(text).is_file() and Path(text).stat().st_size == 0:
        raise InputError(f"{text}: the file is empty")


def open_dataset(path: str | Path) -> Any:
    """Open a raster with GDAL, as a dataset of rasterio.

    Raises:
        InputError: it cannot be opened, or has no bands, complex numbers or a colour table.
    """
    text = remote.address(path)
    check_exists(text)
    try:
        dataset = _opened(text)
    except (RasterioIOError, RasterioError, OSError, UnicodeDecodeError) as error:
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
        return with_labels(dataset)
    except BaseException:
        dataset.close()
        raise


def _files(dataset: Any, path: str) -> list[str]:
    """Return the files of a dataset; InputError where rasterio cannot read their names."""
    try:
        return list(dataset.files)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: it names a file by {reason(error)}") from error


def _opened(path: str) -> Any:
    if remote.is_remote(path):
        return RetryingRaster(path, gdal)
    with gdal():
        dataset = rasterio.open(path)
        if dataset.driver != "VRT" or not any(map(remote.is_remote, _files(dataset, path))):
            return dataset
        dataset.close()
    return RetryingRaster(path, gdal)
