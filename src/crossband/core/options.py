"""Options as fields of frozen dataclasses, each with its default and its help.

Each field is a keyword argument in Python and, where it has a flag, an option of the command line.
`from_keywords` and `crossband.cli.options` build the dataclass from either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def option(
    default: T,
    text: str,
    *,
    flag: str | None = None,
    keyword: str | None = None,
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
) -> T:
    """Return a dataclass field for an option.

    Args:
        default: value of the option where it is not given.
        text: description; the command line shows it as help.
        flag: name on the command line, as `--out-scale`; None where it is not an option there.
        keyword: name as a keyword argument; by default the field's name.
        metavar: name of the value in the command line's help.
        parse: converts the text of the command line; by default by the field's type.
    """
    metadata = {"help": text, "flag": flag, "keyword": keyword, "metavar": metavar, "parse": parse}
    made: T = dataclasses.field(default=default, metadata=metadata)
    return made


def keywords(options: type[Any]) -> dict[str, str]:
    """Return keyword -> field name of a class of options."""
    return {f.metadata.get("keyword") or f.name: f.name for f in dataclasses.fields(options)}


def from_keywords(options: type[T], given: Mapping[str, Any]) -> T:
    """Build options from the keyword arguments that belong to them; others are ignored."""
    known = keywords(options)
    return options(**{known[name]: value for name, value in given.items() if name in known})
