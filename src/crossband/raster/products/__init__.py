"""Products: folders, archives and items whose bands lie in several files, opened as one scene.

Each kind of product is one file here, with a subclass of `ProductReader`; adding one touches no
other file. Other installed packages join through the entry point group `crossband.product`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from crossband.core.file_names import check_input_name
from crossband.core.registry import available
from crossband.errors import InputError
from crossband.raster.products.base import Band, Product, ProductReader
from crossband.raster.remote import address
from crossband.raster.source import RASTERS, Source, split_item_id

__all__ = [
    "Band",
    "Product",
    "ProductReader",
    "Source",
    "acquisition_time",
    "find",
    "is_metadata_name",
    "readable_folders",
    "refuse",
]


def find(
    path: str | Path,
    bands: Mapping[str, int | str] | None = None,
    *,
    allow_local: bool = False,
) -> Product | None:
    """Return the product that a path names; None for a raster that GDAL opens.

    Args:
        path: folder, archive, metadata file or address.
        bands: as the user gives them; they may name files in a folder.
        allow_local: a file on a server may refer to files of this machine.

    Raises:
        InputError: a product that is not supported, or whose metadata cannot be read.
        BandError: a band names no file, or several.
    """
    text = address(path)
    # Without access to the disk: training opens thousands of single rasters.
    if text.lower().endswith(RASTERS) or text.startswith("pack://"):
        return None
    source = Source(text, bands or {}, allow_local=allow_local)
    if source.is_local:
        check_input_name(split_item_id(text)[0])
    for reader in _readers():
        found = reader.bands(source)
        if found is not None:
            return Product(text, tuple(found))
    return None


def is_metadata_name(path: str | Path) -> bool:
    """Return whether a file has the name of metadata that stand for a product."""
    name = Path(path).name
    return any(fnmatchcase(name, p) for reader in _readers() for p in reader.metadata_names)


def acquisition_time(path: str | Path) -> tuple[str, str] | None:
    """Return the acquisition time of a product as its metadata state it, and the metadata key.

    Args:
        path: folder, archive, metadata file or address.

    Returns:
        None if it is no product, or its metadata state no time.

    Raises:
        InputError: metadata that cannot be read.
    """
    text = address(path)
    if text.lower().endswith(RASTERS):
        return None
    source = Source(text, {})
    return next(
        (found for reader in _readers() if (found := reader.when(source)) is not None), None
    )


def readable_folders() -> str:
    """List the known products, for the message on a folder that is none of them."""
    return "; ".join(reader.title for reader in _readers())


def refuse(path: str | Path, why: str) -> None:
    """Raise InputError for a product, where only a single raster is accepted."""
    if find(path) is not None or Path(path).is_dir():
        raise InputError(f"{path}: a product of several files {why}")


@functools.cache
def _readers() -> tuple[ProductReader, ...]:
    """Return one reader of each kind; `Files` comes first, because the user names the files."""
    readers = available(ProductReader).items()
    return tuple(reader() for _, reader in sorted(readers, key=lambda k: k[0] != "Files"))
