"""One way of discovery for all that can be added: classes found by name, arguments remembered.

Networks, losses, methods, schedules, transforms, layouts, degradations, metrics and products are
families of classes. The base of a family (`Generator`, `Loss`) inherits from `Registered`. Every
subclass is then found by its name. Every instance remembers the arguments of its constructor in
`arguments`, so that name and arguments rebuild it; a model folder stores nothing else.

Our own classes lie in one package for each family, whose modules are imported when a class is asked
for. Another installed package joins through the entry point group `crossband.<family>`, in small
letters. CONTRIBUTING.md lists the families.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

from crossband.errors import CrossbandError, nearest

T = TypeVar("T", bound="Registered")
#: Arguments of several instances of a class.
Examples = tuple[Mapping[str, Any], ...]


class Registered:
    """Base of a family of classes that are found by name.

    Attributes:
        family: what the classes are, as in `Generator`.
        package: the package whose modules define our own classes of the family.
        key: the attribute of a class by which it is found.
        remember: whether an instance keeps its arguments.
        known: the classes that are imported, by name; `available` imports all of them.
        examples: arguments of small instances, which tests build. The first has sizes only: it
            makes any instance small, also that of a recipe. The others are put over it, one for
            each form that behaves differently. An argument that is itself a class is written as in
            a recipe. Empty where an instance needs a file.
        arguments: of the constructor, as an instance was built with.
    """

    family: ClassVar[str] = ""
    package: ClassVar[str] = ""
    key: ClassVar[str] = "__name__"
    remember: ClassVar[bool] = True
    known: ClassVar[dict[str, type[Any]]] = {}
    examples: ClassVar[Examples] = ({},)
    arguments: dict[str, Any]

    def __init_subclass__(
        cls,
        family: str | None = None,
        package: str = "",
        key: str = "__name__",
        remember: bool = True,
        **kwargs: Any,
    ) -> None:
        """Start a family (`family="Generator"`, `package="crossband.networks"`) or join one.

        Args:
            family: see `Registered`, as are the others. Without one the class joins the family of
                its base. An underscore before its name keeps it out: it is for subclasses.
            package: see above.
            key: see above.
            remember: see above.
            kwargs: for other bases.
        """
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family, cls.package, cls.known = family, package, {}
            cls.key, cls.remember, cls.arguments = key, remember, {}
        elif not cls.__name__.startswith("_"):
            name = getattr(cls, cls.key)
            other = cls.known.get(name)
            if other is not None and other.__module__ != cls.__module__:
                raise TypeError(f"two {cls.family} classes are called {name}")
            cls.known[name] = cls
        if cls.remember and "__init__" in cls.__dict__:
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
    _load_all(base.family)
    return dict(base.known)


def find(base: type[T], name: str) -> type[T]:
    """Return the subclass of `base` with this name; no import path is ever followed."""
    if name not in base.known and base.package:
        import_modules(base.package)
    if name not in base.known:
        load_entry_points(base.family, name)
    if name not in base.known:
        known = available(base)
        raise CrossbandError(f"unknown {base.family} {name!r}: {nearest(name, known)}")
    return base.known[name]


def load_entry_points(family: str, name: str | None = None) -> None:
    """Import what other installed packages offer of a family: one class by name, or all.

    Raises:
        CrossbandError: another package's module cannot be imported.
    """
    for entry in entry_points(group=f"crossband.{family.lower()}"):
        if name in (None, entry.name):
            try:
                entry.load()
            except Exception as error:
                raise CrossbandError(
                    f"the {family} {entry.name!r} of another package ({entry.value}) cannot be "
                    f"imported: {error}"
                ) from error


@functools.cache
def _load_all(family: str) -> None:
    """Look for other packages once: reading what is installed takes milliseconds."""
    load_entry_points(family)


def build(base: type[T], name: str, arguments: dict[str, Any]) -> T:
    """Build a registered class from its name and arguments; wrong arguments are one-line errors."""
    cls = find(base, name)
    accepted = inspect.signature(cls.__init__).parameters
    for key in arguments:
        if key not in accepted or key == "self":
            known = [k for k in accepted if k != "self"]
            raise CrossbandError(f"{cls.__name__} has no argument {key!r}: {nearest(key, known)}")
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise CrossbandError(
            f"{cls.__name__} cannot be built from its arguments: {error}"
        ) from error
