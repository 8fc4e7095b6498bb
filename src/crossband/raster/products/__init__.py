"""Products: folders, archives and items whose bands lie in several files, opened as one scene.

Each kind of product is one file here, with a subclass of `ProductReader`; adding one touches no
other file. Other installed packages join through the entry point group `crossband.product`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from crossband.core.registry import available
from crossband.errors import InputError
from crossband.raster.products.base import Band, Product, ProductReader
from crossband.raster.remote import address
from crossband.raster.source import RASTERS, Source

__all__ = [
    "Band",
    "Product",
    "ProductReader",
    "Source",
    "acquisition_time",
    "find",
    "readable_folders",
    "refuse",
]


def find(path: str | Path, bands: Mapping[str, int | str] | None = None) -> Product | None:
    """Return the product that a path names; None for what is opened with GDAL.

    Args:
        path: folder, archive, metadata file or address.
        bands: as the user gives them; they may name files in a folder.

    Raises:
        InputError: a product that is not read, or whose metadata cannot be read.
        BandError: bands that name files, and not one file each.
    """
    text = address(path)
    # Without a look at the disk, as training opens thousands of plain rasters.
    if text.lower().endswith(RASTERS) or text.startswith("pack://"):
        return None
    source = Source(text, bands or {})
    for kind in _kinds():
        found = kind.bands(source)
        if found is not None:
            return Product(text, tuple(found))
    return None


def acquisition_time(path: str | Path) -> tuple[str, str] | None:
    """Return when a product was taken, as its metadata write it, and the key that says it.

    Args:
        path: folder, archive, metadata file or address.

    Returns:
        None where it is no product, or its metadata do not say it.

    Raises:
        InputError: metadata that cannot be read.
    """
    text = address(path)
    if text.lower().endswith(RASTERS):
        return None
    source = Source(text, {})
    return next((found for kind in _kinds() if (found := kind.when(source)) is not None), None)


def readable_folders() -> str:
    """Name the kinds, for a folder that is none of them."""
    return "; ".join(kind.title for kind in _kinds())


def refuse(path: str | Path, why: str) -> None:
    """Raise InputError for a product, where only a single raster will do."""
    if find(path) is not None or Path(path).is_dir():
        raise InputError(f"{path}: a product of several files {why}")


@functools.cache
def _kinds() -> tuple[ProductReader, ...]:
    """Return one of each kind; bands that name files come first, as the user's own word."""
    kinds = available(ProductReader).items()
    return tuple(kind() for _, kind in sorted(kinds, key=lambda k: k[0] != "Files"))
