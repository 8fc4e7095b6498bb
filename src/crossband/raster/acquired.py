"""When a raster or a product was taken, as its metadata state it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crossband.core.dates import Date
from crossband.errors import InputError
from crossband.raster import products
from crossband.raster.open import open_raster

#: Tags of files that state the date of acquisition: domain and name, regardless of case.
TAGS = (
    ("IMAGERY", "ACQUISITIONDATETIME"),  # set by GDAL's drivers of products
    (None, "ACQUISITIONDATETIME"),
    (None, "ACQUISITION_DATETIME"),
    (None, "SENSING_TIME"),  # HLS
    (None, "DATE_ACQUIRED"),
    (None, "ACQUISITION_DATE"),
    (None, "DATETIME"),
    (None, "EXIF_DateTimeOriginal"),
    (None, "TIFFTAG_DATETIME"),
)


def acquisition_time(
    path: str | Path,
    bands: Mapping[str, int | str] | None = None,
    *,
    allow_local: bool = False,
) -> tuple[str, str] | None:
    """Return the time of acquisition and where it is stated; None if nothing states it.

    A product's metadata say it, or the tags of a single file. The DateTime of a TIFF comes last, as
    some writers set it to the time of acquisition and others to the time of writing.

    Args:
        path: as `open_scene` takes it.
        bands: as the caller gives them; they may name files in a folder.
        allow_local: a file on a server may refer to files of this machine.

    Raises:
        InputError: it cannot be opened, or its metadata cannot be read.
    """
    found = products.acquisition_time(path)
    if found is None and products.find(path, bands) is None:
        found = _tagged(path, allow_local=allow_local)
    return found


def acquisition_date(path: str | Path) -> Date | None:
    """Return the date of acquisition; None if nothing states it.

    Raises:
        InputError: see `acquisition_time`; or a statement that is no date.
    """
    found = acquisition_time(path)
    if found is None:
        return None
    text, key = found
    try:
        return Date.parse(text)
    except ValueError:
        raise InputError(f"{path}: {key} says {text!r}, which is no date") from None


def _tagged(path: str | Path, *, allow_local: bool) -> tuple[str, str] | None:
    """Return the first date in the tags of a file, and the name of its tag."""
    with open_raster(path, allow_local=allow_local) as dataset:
        tags = {domain: dataset.tags(ns=domain) for domain in {domain for domain, _ in TAGS}}
    for domain, name in TAGS:
        for key, value in tags[domain].items():
            if key.lower() == name.lower() and value.strip():
                # HLS states several times for a mosaic of one pass; the first one is taken.
                return value.split(";")[0].strip(), key
    return None
