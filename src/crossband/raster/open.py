"""Open a scene: a raster that GDAL reads, a product of several files, or a STAC item.

Bands and radiometry come from the file's metadata, from the caller's explicit options, or from the
sensor that the caller declares. They are never guessed from pixel values.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rasterio.enums import ColorInterp

from crossband.core import sensors
from crossband.errors import InputError
from crossband.raster import dataset, products, remote
from crossband.raster.bands import find_bands, named_bands, named_otherwise
from crossband.raster.file_reader import FileReader
from crossband.raster.gdal import READ_ERRORS, reason
from crossband.raster.grid import Box
from crossband.raster.options import ReadOptions
from crossband.raster.products.band_stack import open_band_stack
from crossband.raster.radiometry import radiometry_of
from crossband.raster.scene import Scene


def open_scene(
    path: str | Path,
    options: ReadOptions = ReadOptions(),
    *,
    needed: Sequence[str],
    opened: Any = None,
) -> Scene:
    """Open a scene for reading the bands `needed`.

    Args:
        path: anything that GDAL reads, or a product of several files: see `raster.products`.
        options: bands, sensor, scale, offset, nodata and part as the caller states them; they
            override what the file says. Beside a mask, the nodata number of the file is ignored,
            and the caller's is used.
        needed: common names, in the order that `Scene.read` returns.
        opened: an open dataset, for rasters that GDAL cannot open: see `data.packed`.

    Raises:
        InputError: missing, not an image, complex numbers, a colour table, a window outside.
        BandError: a needed band is not there or not named.
        UnitError: the physical unit is not declared anywhere.
    """
    product = None
    if opened is None and not options.self_contained:
        allowed = options.allow_local_references
        product = products.find(path, options.bands, allow_local=allowed)
    if product is not None:
        scene = open_band_stack(product, options, needed)
    else:
        scene = _open_file(path, options, needed, opened)
    try:
        if options.window is not None:
            scene.part(options.window)
        if options.extent is not None:
            scene.part(_touched(scene, options.extent), seen=True)
        return scene
    except BaseException:
        scene.close()
        raise


def _touched(scene: Scene, extent: tuple[float, float, float, float]) -> Box:
    """Return the pixels that an extent touches; InputError where there are none."""
    grid, asked = scene.grid, ",".join(f"{side:.10g}" for side in extent)
    if grid.transform.is_identity:
        raise InputError(f"{scene.path}: --extent is in map coordinates, and it has none")
    box = grid.touched(extent)
    if min(box.height, box.width) < 1:
        corners = [grid.transform @ (x, y) for x in (0, grid.width) for y in (0, grid.height)]
        xs, ys = zip(*corners, strict=True)
        own = ",".join(f"{side:.10g}" for side in (min(xs), min(ys), max(xs), max(ys)))
        raise InputError(f"{scene.path}: --extent {asked} does not touch it: it has {own}")
    return box


def _open_file(path: str | Path, options: ReadOptions, needed: Sequence[str], opened: Any) -> Scene:
    declared = sensors.get(options.sensor) if options.sensor is not None else None
    if opened is None:
        opened = open_raster(
            path,
            allow_local=options.allow_local_references,
            self_contained=options.self_contained,
        )
    raster = opened
    try:
        numbers = find_bands(raster, path, needed, options.bands or {}, declared)
        radiometry = radiometry_of(
            raster, path, numbers, declared, options.scale, options.offset, options.nodata
        )
        # A band that any source names is not an alpha band, even if it is not needed.
        named = {
            n
            for source in named_bands(raster, declared)
            for n, name in source.items()
            if name != ColorInterp.alpha.name
        }
        reader = FileReader(raster, str(path), tuple(numbers.values()), named)
        others = named_otherwise(raster, options.bands or {}, declared)
    except READ_ERRORS as error:
        raster.close()
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    except BaseException:
        raster.close()
        raise
    marked = options.nodata is not None
    return Scene(str(path), numbers, radiometry, reader, marked=marked, named_otherwise=others)


def known_bands(
    path: str | Path, sensor: str | None = None, *, allow_local: bool = False, opened: Any = None
) -> tuple[str, ...]:
    """Return the common names that a file's metadata or a declared sensor give to its bands.

    They are in the order of the file, each once.

    Args:
        path: see `open_scene`.
        sensor: declared.
        allow_local: a file on a server may refer to files of this machine.
        opened: see `open_scene`; it stays open.

    Raises:
        InputError: missing, not an image, complex numbers, a colour table.
        UnitError: an unknown sensor.
    """
    declared = sensors.get(sensor) if sensor is not None else None
    named = {}
    product = opened or products.find(path, allow_local=allow_local)
    raster = open_raster(path, allow_local=allow_local) if product is None else nullcontext(product)
    with raster as dataset:
        for source in reversed(named_bands(dataset, declared)):
            named.update(source)
    names = (named[number] for number in sorted(named))
    return tuple(dict.fromkeys(n for n in names if n in sensors.COMMON_NAMES))


def is_one_unnamed_band(path: str | Path, sensor: str | None = None, opened: Any = None) -> bool:
    """Return whether a file has a single band, and nothing says which one it is."""
    if products.find(path) is not None or known_bands(path, sensor, opened=opened):
        return False
    with nullcontext(opened) if opened is not None else open_raster(path) as raster:
        return bool(raster.count == 1)


def open_raster(
    path: str | Path, *, allow_local: bool = False, self_contained: bool = False
) -> Any:
    """Open a raster with GDAL; see `dataset.open_dataset`.

    Raises:
        InputError: it cannot be opened. For a folder, the message lists the known products.
    """
    text = remote.address(path)
    try:
        return dataset.open_dataset(path, allow_local=allow_local, self_contained=self_contained)
    except InputError as error:
        if remote.is_remote(text) or not os.path.isdir(text):
            raise
        raise InputError(
            f"{text}: not a raster that can be opened: of folders these are read: "
            f"{products.readable_folders()}"
        ) from error
