"""Build the options of the command line from their dataclasses; see `core.options`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

T = TypeVar("T")
_TYPES = {"int": int, "float": float}


def add_options(parser: Any, options: type[Any], only: Collection[str] | None = None) -> None:
    """Add the flags of a class of options.

    Args:
        parser: argparse's parser, or a group of it.
        options: the class; fields without a flag are left out.
        only: names of fields; by default all.
    """
    for field in dataclasses.fields(options):
        flag = field.metadata.get("flag")
        if flag is None or (only is not None and field.name not in only):
            continue
        how: dict[str, Any] = {"help": field.metadata["help"], "default": field.default}
        kind = field.type.split(" | ")[0]  # a string: annotations are not evaluated
        if kind == "bool":
            how["action"] = "store_true"
        elif isinstance(field.default, tuple):
            how |= {"action": "append", "default": None}
        else:
            if field.metadata["metavar"] is not None:
                how["metavar"] = field.metadata["metavar"]
            if kind in _TYPES:
                how["type"] = _TYPES[kind]
        parser.add_argument(flag, **how)


def parsed_options(options: type[T], arguments: argparse.Namespace) -> T:
    """Build options from parsed arguments; flags that a command does not have keep their defaults.

    Raises:
        CrossbandError: what an option's own parser raises.
    """
    given: dict[str, Any] = {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        flag = field.metadata.get("flag")
        name = "" if flag is None else flag.removeprefix("--").replace("-", "_")
        if not hasattr(arguments, name):
            continue
        value = getattr(arguments, name)
        if isinstance(field.default, tuple):
            value = tuple(value or ())
        elif value is not None and field.metadata["parse"] is not None:
            value = field.metadata["parse"](value)
        given[field.name] = value
    return options(**given)
