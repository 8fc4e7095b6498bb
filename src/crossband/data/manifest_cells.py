"""Cells of a manifest: texts, numbers, dates and paths, as CSV and parquet give them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from crossband.core.dates import Date, cell_text
from crossband.core.file_names import not_text
from crossband.errors import InputError, ManifestError
from crossband.raster.source import split_item_id

#: Sizes of numbers above which they are no place or no pixel on the Earth.
LARGEST = {"lon": 360.0, "lat": 90.0, "gsd": 4e7}


def named_path(
    manifest: Path, row: int, column: str, files: Callable[[str], str], name: str | None
) -> str | None:
    """Return the path of a cell; the error for a file that is not there names the row."""
    try:
        return None if name is None else files(name)
    except InputError as error:
        raise ManifestError(f"{manifest}: row {row}: {column} {error}") from error


def file_in(folder: Path, lenient: bool, name: str) -> str:
    """Return the path of a file that a manifest in this folder names."""
    if "://" in name or name.startswith("/vsi"):
        return name
    path = folder / name  # an absolute path stays as it is
    if not lenient:
        try:
            os.stat(split_item_id(str(path))[0])
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            why = "no such file" if missing else getattr(error, "strerror", None)
            raise InputError(f"{path}: {why or not_text(str(path)) or error}") from error
    return os.path.realpath(path)


def relative_to(source: str, folder: Path) -> str:
    """Return a path relative to the folder of a manifest; an address as it is."""
    if not Path(source).is_absolute() or source.startswith("/vsi"):
        return source
    try:
        return Path(os.path.relpath(source, folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return source


def text_of(value: Any) -> str | None:
    """Return the text of a cell; None where it is empty."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a group 7 beside an empty cell is read as 7.0
    return str(value).strip() or None


def texts_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return the texts of a column; 7 for 7.0, where pandas has written integers as floats.

    It does so in a column with empty cells, and then in each cell.
    """
    texts = [text_of(value) for value in column]
    found = [re.fullmatch(r"(-?\d+)\.0", text) for text in texts if text is not None]
    if all(found):
        texts = [text and text.removesuffix(".0") for text in texts]
    return pd.Series(texts, dtype=object)


def number_of(manifest: Path, row: int, column: str, value: Any) -> float:
    """Return the number of a cell, NaN where it is empty; ManifestError where it cannot be."""
    text = text_of(value)
    if text is None:
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        raise ManifestError(f"{manifest}: row {row}: {column} {text!r} is not a number") from None
    if column in LARGEST and abs(number) > LARGEST[column]:  # NaN: not known
        raise ManifestError(f"{manifest}: row {row}: {column} {number:g} is not on the Earth")
    infinite = math.isinf(number) and not column.endswith("nodata")  # floats may mark pixels by it
    if infinite or (column == "gsd" and number <= 0):
        raise ManifestError(f"{manifest}: row {row}: {column} {number:g} cannot be")
    return number


def date_of(manifest: Path, row: int, column: str, value: Any) -> str | None:
    """Return the date of a cell as ISO 8601, None where it is empty; ManifestError for no date."""
    text = cell_text(value)
    try:
        return str(Date.parse(text)) if text else None
    except ValueError:
        raise ManifestError(
            f"{manifest}: row {row}: {column} {text!r} is no date as 2024-05-01 or "
            f"2024-05-01T10:30:00Z"
        ) from None


def below(name: str, folder: Path) -> str:
    """Return a path relative to a folder that it lies in; any other as it is."""
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else name
