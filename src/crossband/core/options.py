"""Options as values: fields of frozen dataclasses, each with its default and its help, said once.

The same field is a keyword argument in Python and, where it has a flag, an option of the command
line; `from_keywords` and `crossband.cli.options` read both off the dataclass.
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
        default: its value where nobody gives one.
        text: what it does; the help of the command line and the documentation.
        flag: its name on the command line, as `--out-scale`; None where it has none there.
        keyword: its name as a keyword argument; the field's own name where None.
        metavar: what the command line's help shows for the value.
        parse: from the command line's text to the value; by the field's type where None.
    """
    metadata = {"help": text, "flag": flag, "keyword": keyword, "metavar": metavar, "parse": parse}
    made: T = dataclasses.field(default=default, metadata=metadata)
    return made


def keywords(options: type[Any]) -> dict[str, str]:
    """Return keyword -> field name of a class of options."""
    return {f.metadata.get("keyword") or f.name: f.name for f in dataclasses.fields(options)}


def from_keywords(options: type[T], given: Mapping[str, Any]) -> T:
    """Build options from those keyword arguments that are theirs; others are left alone."""
    known = keywords(options)
    return options(**{known[name]: value for name, value in given.items() if name in known})
