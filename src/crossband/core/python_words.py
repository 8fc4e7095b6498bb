"""Messages name options of the command; for callers in Python they name keywords instead."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import Field, fields
from typing import Any, ParamSpec, TypeVar

from crossband.core.options import check_type
from crossband.core.sensors import SENSORS
from crossband.errors import CrossbandError

P = ParamSpec("P")
R = TypeVar("R")

#: True in the command, whose messages name its options.
_in_command: ContextVar[bool] = ContextVar("in_command", default=False)
#: Keyword of each option that messages to the caller of a public function name, and whether it is
#: True or False.
_spoken_of: ContextVar[Mapping[str, tuple[str, bool]]] = ContextVar("options", default={})  # noqa: B039, it is only read
#: What stands for a value that the caller has to fill in.
_PLACEHOLDERS = ("NUMBER", "NAME")
#: A band's number or name, as in `red=3`.
_PAIR = r"[\w-]+=[^\s,;()]+"
#: An option and what follows it: pairs, numbers, a word before a colon, or one of known names.
_OPTION = re.compile(
    rf"(--[a-z][a-z-]*)(?:[ =]({_PAIR}(?:,{_PAIR})*|-?[\d.][\d.,e+-]*\b|[\w.-]+))?"
)


@contextmanager
def naming_options() -> Iterator[None]:
    """Keep the names of the command's options in messages."""
    token = _in_command.set(True)
    try:
        yield
    finally:
        _in_command.reset(token)


def public(*options: type[Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator of a public function: it checks its arguments, and speaks of keywords.

    An argument of another type than its annotation says is a CrossbandError. Errors, and what is
    warned of with `core.warned`, name `overwrite=True` instead of the command's `--overwrite`.

    Args:
        *options: classes whose fields are keywords of the function beside its own parameters, see
            `core.options`.
    """

    def decorator(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        declared = {
            name: str(parameter.annotation)
            for name, parameter in signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and parameter.annotation is not parameter.empty
        }
        own = {f"--{name.replace('_', '-')}": (name, kind == "bool")
               for name, kind in declared.items()}  # fmt: skip
        spoken = own | _keywords_of(options)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            token = _spoken_of.set(spoken)
            try:
                with suppress(TypeError):  # of the call, which raises it again
                    for name, value in signature.bind(*args, **kwargs).arguments.items():
                        if name in declared:
                            check_type(name, value, declared[name])
                return function(*args, **kwargs)
            except CrossbandError as error:
                if error.args:
                    error.args = (to_caller(str(error.args[0])), *error.args[1:])
                raise
            finally:
                _spoken_of.reset(token)

        return wrapper

    return decorator


def to_caller(text: str) -> str:
    """Return a message in the words of whoever called: the command, or Python."""
    return text if _in_command.get() else _in_words(text, _spoken_of.get())


def python_words(text: str, *options: type[Any]) -> str:
    """Return a message with keywords of Python instead of options of the command.

    Args:
        text: the message.
        *options: see `public`.

    >>> from crossband.translate.options import WriteOptions
    >>> python_words("a.tif: exists; give --overwrite", WriteOptions)
    'a.tif: exists; give overwrite=True'
    """
    return _in_words(text, _keywords_of(options))


def _keywords_of(options: Iterable[type[Any]]) -> dict[str, tuple[str, bool]]:
    return {
        field.metadata["flag"]: (_keyword(field), isinstance(field.default, bool))
        for kind in options
        for field in fields(kind)
        if field.metadata.get("flag")
    }


def _in_words(text: str, flags: Mapping[str, tuple[str, bool]]) -> str:
    def replaced(match: re.Match[str]) -> str:
        flag, value = match.groups()
        if flag not in flags:
            return match[0]
        (keyword, is_switch), between = flags[flag], match[0][len(flag) : len(flag) + 1]
        if is_switch:
            return f"{keyword}=True{between}{value or ''}"
        before_colon = text[match.end() : match.end() + 1] == ":"
        if value is None or not (before_colon or _is_value(value)):
            return f"{keyword}{between}{value or ''}"
        return f"{keyword}={_literal(value)}"

    return _OPTION.sub(replaced, text)


def _keyword(field: Field[Any]) -> str:
    return field.metadata.get("keyword") or field.name


def _is_value(value: str) -> bool:
    """Return whether a word is a value, as a sensor or `float32`, and no word of a sentence."""
    return value in (*SENSORS, *_PLACEHOLDERS) or any(letter in "=0123456789" for letter in value)


def _literal(value: str) -> str:
    """Return the value of an option as Python writes it.

    >>> _literal("red=3,nir=B08"), _literal("naip"), _literal("0.5")
    ('{"red": 3, "nir": "B08"}', '"naip"', '0.5')
    """
    if "=" in value:
        pairs: Mapping[str, str] = dict(part.split("=", 1) for part in value.split(","))
        items = (f'"{name}": {_literal(one)}' for name, one in pairs.items())
        return "{" + ", ".join(items) + "}"
    if "," in value:
        return f"({', '.join(value.split(','))})"
    return value if _is_number(value) or value in _PLACEHOLDERS else f'"{value}"'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
