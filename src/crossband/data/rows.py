"""The options for reading source and target that the columns of a row state.

Training, evaluation and `data check` open the files of a manifest by this module, so that all of
them read the same pixels. It needs no torch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd

from crossband.core.dates import Date, date_cell, days_apart
from crossband.data.manifest import TARGET_OWN
from crossband.data.packed.raster import PackedRaster
from crossband.data.packed.read import Packs, is_packed
from crossband.errors import BandError, InputError, ManifestError, UnitError
from crossband.raster.acquired import acquisition_date
from crossband.raster.bands import parse_bands
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box, Grid
from crossband.raster.open import open_raster, open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.scene import Scene

#: Columns that map stored numbers to physical values.
MAPPING = ("scale", "offset")


def open_side(row: Mapping[str, Any], side: str, needed: list[str]) -> Scene:
    """Open the source or the target of a row for reading the bands `needed`.

    Args:
        row: of the table that `manifest.read` returns.
        side: `source` or `target`.
        needed: common names, in the order in which they are read.

    Raises:
        InputError, BandError, UnitError: see `open_scene`.
        ManifestError: a window that cannot be parsed.
    """
    options = row_options(row, side, needed)
    try:
        with columns_in_words(side):
            return open_scene(row[side], options, needed=needed, opened=packed_file(row, side))
    except BandError as error:
        raise BandError(explain_bands(error, row, {side: needed})) from error


def explain_bands(error: BandError, row: Mapping[str, Any], needed: Mapping[str, list[str]]) -> str:
    """Return the message of missing bands for a manifest, which has columns and no options.

    Args:
        error: of opening a side, or both.
        row: of the table that `manifest.read` returns.
        needed: side -> common names of the bands that are read.
    """
    for side, bands in needed.items():
        cell = row[f"{side}_bands"]
        named = [] if pd.isna(cell) else list(parse_bands(cell))
        if named and not set(named) & set(bands):
            verb = {"source": "takes", "target": "makes", "guide": "is guided by"}[side]
            return (
                f"the manifest's {side} is {', '.join(named)}, the model {verb} "
                f"{', '.join(bands)}: take a model for these pairs, or pairs for this model"
            )
    columns = " or ".join(f"{side}_bands" for side in needed)
    words = str(error).partition("; in Python")[0]
    words = words.replace("--bands ", f"the column {columns}, as ")
    sensor = "guide_sensor" if "guide" in needed else "sensor"
    return words.replace("declare --sensor NAME", f"declare the sensor in the column {sensor}")


@contextmanager
def columns_in_words(side: str) -> Iterator[None]:
    """Name the columns of a side in messages about units; a manifest has no options."""
    try:
        yield
    except UnitError as error:
        prefix = {"source": "", "target": "target_", "guide": "guide_"}[side]
        words = re.sub(r"--(sensor|scale|offset|nodata)\b", rf"the column {prefix}\1", str(error))
        raise UnitError(words.replace("declare them: ", "declare them in ")) from error


def open_guide(row: Mapping[str, Any], needed: list[str]) -> Scene:
    """Open the guide of a row for reading the bands `needed`; see `open_side`."""
    options = guide_options(row, needed)
    try:
        with columns_in_words("guide"):
            file = packed_file(row, "guide")
            return open_scene(row["guide"], options, needed=needed, opened=file)
    except BandError as error:
        raise BandError(explain_bands(error, row, {"guide": needed})) from error


def guide_options(row: Mapping[str, Any], needed: list[str]) -> ReadOptions:
    """Return how the guide of a row is read; see `open_side`."""
    sensor = None if pd.isna(row["guide_sensor"]) else row["guide_sensor"]
    return ReadOptions(_bands(row, "guide_bands", needed), sensor)


def place_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return longitude and latitude of a row: its own, else those of its file; NaN if unknown."""
    if pd.notna(row["lon"]) and pd.notna(row["lat"]):
        return float(row["lon"]), float(row["lat"])
    side = "source" if pd.notna(row["source"]) else "target"
    with suppress(InputError):  # as of a product's folder, or of a pack
        grid, window = _grid_of(row[side]), parse_window(row, side)
        return (grid if window is None else grid.crop(window)).lonlat()
    return float("nan"), float("nan")


@functools.lru_cache(64)  # rows of one file mostly follow each other
def _grid_of(path: str) -> Grid:
    with gdal(), open_raster(path) as file:
        return Grid(file.height, file.width, file.transform, file.crs)


def packed_file(row: Mapping[str, Any], side: str) -> PackedRaster | None:
    """Open a source, target or guide of a row if it lies in a pack; None where it is a file."""
    return _packs().open_if_packed(row[side])


@functools.cache
def _packs() -> Packs:
    return Packs()


def guide_age(row: Mapping[str, Any]) -> float:
    """Return the days between the guide and the source of a row; NaN where they are not known.

    Raises:
        InputError: a date that is none.
    """
    stated = date_cell(row)
    path = row["target"] if pd.isna(row["source"]) else row["source"]
    try:
        taken = Date.parse(stated[1]) if stated is not None else _date_of(path)
    except ValueError:
        raise InputError(f"{stated and stated[0]} {stated and stated[1]!r} is no date") from None
    text = row["guide_datetime"]
    guide = Date.parse(text) if isinstance(text, str) else _date_of(row["guide"])
    if taken is None or guide is None:
        return float("nan")
    return days_apart(taken, guide)


def _date_of(path: str) -> Date | None:
    """Return when a file was taken; a pack has the dates in its columns, where they are known."""
    return None if is_packed(path) else acquisition_date(path)


def row_options(row: Mapping[str, Any], side: str, needed: list[str]) -> ReadOptions:
    """Return how the source or the target of a row is read; see `open_side`."""
    bands = _bands(row, f"{side}_bands", needed)
    return _options(row, side, bands)


def joint_options(row: Mapping[str, Any], side: str, needed: list[str]) -> ReadOptions:
    """Return how a file that is both source and target is read, with the bands of both columns."""
    bands = _bands(row, "source_bands", needed) | _bands(row, "target_bands", needed)
    return _options(row, side, bands)


def has_own(row: Mapping[str, Any]) -> bool:
    """Return whether the row states a radiometry for the target alone."""
    return any(pd.notna(row[c]) for c in ("target_sensor", *TARGET_OWN))


def parse_window(row: Mapping[str, Any], side: str) -> Box | None:
    """Return the part of a file that a row names; None for all of it.

    Raises:
        ManifestError: the text cannot be parsed.
    """
    text = row[f"{side}_window"]
    if pd.isna(text):
        return None
    try:
        return Box.parse(text)
    except ValueError:
        raise ManifestError(
            f"{side}_window {text!r} is not column,row,width,height in pixels"
        ) from None


def _bands(row: Mapping[str, Any], column: str, needed: list[str]) -> dict[str, int | str]:
    """Parse a column of bands; a manifest may name more bands than are read."""
    if pd.isna(row[column]):
        return {}
    return {k: v for k, v in parse_bands(row[column]).items() if k in needed}


def _options(row: Mapping[str, Any], side: str, bands: Mapping[str, int | str]) -> ReadOptions:
    """Return how a side is read.

    A target with a sensor of its own has all its radiometry from the columns `target_...`. Any
    other has that of the source where these are empty; scale and offset belong together.
    """

    def stated(name: str) -> Any:
        value = row[name]
        return None if pd.isna(value) else value

    def is_own(*columns: str) -> bool:
        return side == "target" and any(pd.notna(row[f"target_{c}"]) for c in columns)

    sensor, mapping, nodata = (
        "target_" if is_own("sensor", *columns) else "" for columns in ((), MAPPING, ("nodata",))
    )
    return ReadOptions(
        bands,
        stated(f"{sensor}sensor"),
        stated(f"{mapping}scale"),
        stated(f"{mapping}offset"),
        stated(f"{nodata}nodata"),
        parse_window(row, side),
    )
