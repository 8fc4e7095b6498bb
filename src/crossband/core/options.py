"""Options as fields of frozen dataclasses, each with its default and its help.

Each field is a keyword argument in Python and, where it has a flag, an option of the command line.
`from_keywords` and `crossband.cli.options` build the dataclass from either.
"""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from crossband.errors import CrossbandError

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
    """Build options from the keyword arguments that belong to them; others are ignored.

    Raises:
        CrossbandError: a value is of another type than its field.
    """
    known = keywords(options)
    declared = {f.name: str(f.type) for f in dataclasses.fields(cast(Any, options))}
    for name, value in given.items():
        if name in known:
            check_type(name, value, declared[known[name]])
    return options(**{known[name]: value for name, value in given.items() if name in known})


def check_type(name: str, value: Any, annotation: str) -> None:
    """Raise CrossbandError for a value of another type than an annotation says.

    Args:
        name: of the argument.
        value: its value.
        annotation: as it stands in the code. Types that are not known here take any value.
    """
    if not _is_of(value, annotation):
        words = " or ".join(_WORDS.get(kind, kind) for kind in _kinds(annotation))
        raise CrossbandError(
            f"{name}={_shown(value)} is a {type(value).__name__}; it takes {words}"
        )


#: Name in an annotation -> what is taken for it; NumPy's numbers register with `numbers`.
_TYPES: dict[str, Callable[[Any], bool]] = {
    "None": lambda value: value is None,
    "bool": lambda value: type(value).__name__ in ("bool", "bool_"),  # NumPy's, too
    "int": lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "Path": lambda value: isinstance(value, os.PathLike),
    "Mapping": lambda value: isinstance(value, Mapping),
    "Sequence": lambda value: isinstance(value, Sequence) and not isinstance(value, str | bytes),
    "tuple": lambda value: isinstance(value, Sequence) and not isinstance(value, str | bytes),
    # By their names, as their modules import torch and rasterio.
    "Model": lambda value: any(kind.__name__ == "Model" for kind in type(value).__mro__),
    "Box": lambda value: type(value).__name__ == "Box",
}
_WORDS = {
    "None": "None",
    "bool": "True or False",
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "Path": "a path",
    "Mapping": "a dictionary",
    "Sequence": "a list",
    "tuple": "a tuple",
    "Model": "a loaded model, see crossband.load",
    "Box": "a crossband.raster.grid.Box",
}


def _kinds(annotation: str) -> list[str]:
    """Return the names of the types of an annotation.

    >>> _kinds("Mapping[str, int | str] | None")
    ['Mapping', 'None']
    """
    found, depth, name = [], 0, ""
    for letter in f"{annotation}|":
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "|" and not depth:
            found.append(name.split("[", maxsplit=1)[0].strip())
            name = ""
        else:
            name += letter
    return found


def _is_of(value: Any, annotation: str) -> bool:
    kinds = _kinds(annotation)
    return any(kind not in _TYPES or _TYPES[kind](value) for kind in kinds)


def _shown(value: Any) -> str:
    """Return a value for a message, in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."
