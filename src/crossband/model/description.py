"""Read `model.json`. The file is not trusted: each value is checked before use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossband.core.json_text import read_strict_json
from crossband.core.signature import Signature
from crossband.errors import CrossbandError, ModelError, nearest
from crossband.model.files import DESCRIPTION, FORMAT

#: Characters of a model's name, and of its task, at most.
LONGEST = 200
_LINE = f"a line of at most {LONGEST} characters"
#: Data types of stored weights.
DTYPES = ("float32", "bfloat16", "float16")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


#: What each value must be: a test of it, and its words.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "text": (_is_text, _LINE),
    "name": (lambda v: _is_text(v) and v.strip() != "", f"{_LINE}, and not empty"),
    "number": (_is_count, "a whole number of at least 0"),
    "size": (lambda v: _is_count(v) and v > 0, "a whole number of at least 1"),
    "margin": (lambda v: v is None or _is_count(v), "a whole number of at least 0, or null"),
    "mapping": (lambda v: isinstance(v, dict), "an object"),
    "hash": (_is_hash, "64 digits of a SHA-256"),
    "dtype": (lambda v: v in DTYPES, f"one of {', '.join(DTYPES)}"),
    "string": (lambda v: isinstance(v, str), "a text"),
    "strings": (_is_list_of_text, "a list of texts"),
}
#: The keys, each after the mapping that it is in.
_SCHEMA = {
    "name": "name",
    "task": "text",
    "crossband": "text",
    "network": "mapping",
    "network.class": "text",
    "network.arguments": "mapping",
    "network.margin": "margin",
    "network.stride": "size",
    "network.scale": "size",
    "network.parameters": "number",
    "signature": "mapping",
    "weights": "mapping",
    "weights.sha256": "hash",
    "weights.dtype": "dtype",
    "about": "mapping",
}
#: Keys of `about` that are read; they may be missing, as may all its others.
_ABOUT = {"about.description": "string", "about.sensors": "strings", "about.measured": "strings"}
_KEYS = ("format", *(key for key in _SCHEMA if "." not in key))


def read_description(folder: Path) -> tuple[dict[str, Any], Signature]:
    """Return the content of a folder's model.json, and the signature in it.

    Raises:
        ModelError: no such file, not JSON, an unknown or missing key, a value of another kind.
    """
    path = folder / DESCRIPTION
    if not os.path.exists(path):  # where Path.exists raises, this is False
        raise ModelError(f"{folder}: no {DESCRIPTION}, so not a model folder")
    data = read_strict_json(path, ModelError)
    try:
        return checked_description(data)
    except CrossbandError as error:
        raise ModelError(f"{path}: {error}") from error


def checked_description(data: Any) -> tuple[dict[str, Any], Signature]:
    """Return the content of a model.json, and the signature in it.

    Raises:
        CrossbandError: an unknown or missing key, a value of another kind.
    """
    _check(data)
    return data, Signature.from_json(data["signature"])


def check_line(what: str, text: Any, error: type[CrossbandError] = ModelError) -> None:
    """Raise an error for a name or task that a model cannot have: no text, or not of one line."""
    if not _is_text(text):
        raise error(f"{what} must be {_LINE}, not {text!r:.60}")


def check_name(text: Any, error: type[CrossbandError] = ModelError) -> None:
    """Raise an error for a name that a model cannot have."""
    check_line("the name of a model", text, error)
    if not text.strip():
        raise error("a model needs a name, which is not empty")


def _check(data: Any) -> None:
    if not isinstance(data, dict):
        raise ModelError("must hold one object")
    for key in _KEYS:
        if key not in data:
            raise ModelError(f"the key {key!r} is missing")
    for key in data:
        if key not in _KEYS:
            raise ModelError(f"unknown key {key!r:.60}: {nearest(key, _KEYS)}")
    if data["format"] != FORMAT or isinstance(data["format"], bool):
        raise ModelError(f"format {_shown(data['format'])}, this version reads {FORMAT}")
    for key, kind in (_SCHEMA | _ABOUT).items():
        outer, _, inner = key.rpartition(".")
        place = data[outer] if outer else data
        if inner not in place:
            if key in _ABOUT:
                continue
            raise ModelError(f"the key {key} is missing")
        test, words = _RULES[kind]
        if not test(place[inner]):
            raise ModelError(f"{key} must be {words}, not {_shown(place[inner])}")


def _shown(value: Any) -> str:
    """Return the beginning of a value as JSON."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
