"""Constructors are the configuration: classes kept by name, arguments remembered.

A family (`Generator`, `Discriminator`, `Loss`, `Transform`) inherits from `Registered`. Every
subclass is then found by its class name, and every instance remembers the arguments of its
constructor in `arguments`, so that name + arguments rebuild it. Nothing else is stored in a model
folder. The subclasses of our own lie in one package, whose modules are imported when a class is
asked for; another installed package joins through the entry point group `crossband.<family>`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

from crossband.errors import CrossbandError, nearest

T = TypeVar("T", bound="Registered")


class Registered:
    """Base of a family of classes that are found by name.

    Attributes:
        family: what the classes are, as in `Generator`.
        package: the package whose modules define our own classes of the family.
        known: the classes that are imported, by name; `available` imports all of them.
        arguments: of the constructor, as an instance was built with.
    """

    family: ClassVar[str] = ""
    package: ClassVar[str] = ""
    known: ClassVar[dict[str, type[Any]]] = {}
    arguments: dict[str, Any]

    def __init_subclass__(cls, family: str | None = None, package: str = "", **kwargs: Any) -> None:
        """Start a family (`family="Generator"`, `package="crossband.networks"`) or join one."""
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family, cls.package, cls.known = family, package, {}
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


@functools.cache
def import_modules(package: str) -> None:
    """Import every module below a package, so that the classes in them join their families."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        importlib.import_module(module.name)


def available(base: type[T]) -> dict[str, type[T]]:
    """Return every class of a family by name: our own, and those of other installed packages."""
    if base.package:
        import_modules(base.package)
    load_entry_points(base.family)
    return dict(base.known)


def find(base: type[T], name: str) -> type[T]:
    """Return the subclass of `base` with this class name; no import path is ever followed."""
    if name not in base.known and base.package:
        import_modules(base.package)
    if name not in base.known:
        load_entry_points(base.family, name)
    if name not in base.known:
        raise CrossbandError(f"unknown {base.family} {name!r}: {nearest(name, base.known)}")
    return base.known[name]


def load_entry_points(family: str, name: str | None = None) -> None:
    """Import what other installed packages offer of a family: one class by name, or all."""
    for entry in entry_points(group=f"crossband.{family.lower()}"):
        if name in (None, entry.name):
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
