"""Parse JSON from others; every error is a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossband.core.regular_file import MOST_TEXT, read_text
from crossband.errors import CrossbandError, InputError

#: How deep lists and mappings of our own formats may nest.
DEEPEST = 64
TOO_DEEP = f"nested more than {DEEPEST} deep"


def parse_json(content: str | bytes) -> Any:
    """Return what JSON holds.

    Raises:
        ValueError: it is no JSON, not of a known encoding, or is nested too deeply.

    >>> parse_json("[" * 10**5)
    Traceback (most recent call last):
    ValueError: its brackets are nested too deeply
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def parse_strict_json(text: str) -> Any:
    """Return what JSON of one of our own formats holds.

    Raises:
        ValueError: see `parse_json`; also a key that is twice in one object.

    >>> parse_strict_json('{"width": [8, 1.5]}')
    {'width': [8, 1.5]}
    >>> parse_strict_json('{"width": 8, "width": 9}')
    Traceback (most recent call last):
    ValueError: the key 'width' is there twice
    """
    try:
        data = json.loads(text, object_pairs_hook=_mapping)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(data)
    return data


def read_json(
    path: str | Path, error: type[CrossbandError] = InputError, most: int = MOST_TEXT
) -> Any:
    """Return the data of a file; see `parse_json` and `regular_file.read_text`."""
    try:
        return parse_json(read_text(path, error, most))
    except ValueError as problem:
        raise error(f"{path}: not JSON: {problem}") from problem


def read_strict_json(path: str | Path, error: type[CrossbandError] = InputError) -> Any:
    """Return the data of a file; see `parse_strict_json` and `regular_file.read_text`."""
    try:
        return parse_strict_json(read_text(path, error))
    except ValueError as problem:
        raise error(f"{path}: not readable JSON: {problem}") from problem


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _check_depth(data: Any) -> None:
    """Raise ValueError where lists and mappings nest too deeply; it goes down level by level."""
    level = [data]
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        level = inner
    raise ValueError(TOO_DEEP)
