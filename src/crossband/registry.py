"""Constructors are the configuration: classes kept by name, arguments remembered.

A family (`Generator`, `Discriminator`, `Loss`, `Transform`) inherits from `Registered`. Every
subclass is then found by its class name, and every instance remembers the arguments of its
constructor in `arguments`, so that name + arguments rebuild it. Nothing else is stored in a model
folder. Another installed package joins through the entry point group `crossband.<family>`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

from crossband.errors import CrossbandError, nearest

T = TypeVar("T", bound="Registered")


class Registered:
    """Base of a family of classes that are found by name."""

    family: ClassVar[str] = ""
    known: ClassVar[dict[str, type[Any]]] = {}
    arguments: dict[str, Any]

    def __init_subclass__(cls, family: str | None = None, **kwargs: Any) -> None:
        """Start a family (`family="Generator"`) or join one."""
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family, cls.known = family, {}
            return
        if not cls.__name__.startswith("_"):  # an underscore marks what subclasses share
            other = cls.known.get(cls.__name__)
            if other is not None and other.__module__ != cls.__module__:
                raise TypeError(f"two {cls.family} classes are called {cls.__name__}")
            cls.known[cls.__name__] = cls
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is wrapped:  # not when called through super() by a subclass
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            # object.__setattr__: an nn.Module is not ready for attributes before its own __init__.
            object.__setattr__(self, "arguments", dict(list(bound.arguments.items())[1:]))
        init(self, *args, **kwargs)

    return wrapped


def find(base: type[T], name: str) -> type[T]:
    """Return the subclass of `base` with this class name; no import path is ever followed."""
    if name not in base.known:
        join(base.family, name)
    if name not in base.known:
        raise CrossbandError(f"unknown {base.family} {name!r}: {nearest(name, base.known)}")
    return base.known[name]


def join(family: str, name: str) -> None:
    """Import the class of that name from another installed package that offers it.

    Args:
        family: as in `Generator`, or `Method`: the entry points' group is `crossband.<family>`.
        name: of the class, and of its entry point.
    """
    for entry in entry_points(group=f"crossband.{family.lower()}"):
        if entry.name == name:
            entry.load()


def build(base: type[T], name: str, arguments: dict[str, Any]) -> T:
    """Build a registered class from its name and arguments; wrong arguments are one-line errors."""
    cls = find(base, name)
    accepted = inspect.signature(cls.__init__).parameters
    for key in arguments:
        if key not in accepted or key == "self":
            known = [k for k in accepted if k != "self"]
            raise CrossbandError(f"{name} has no argument {key!r}: {nearest(key, known)}")
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise CrossbandError(f"{name} cannot be built from its arguments: {error}") from error
