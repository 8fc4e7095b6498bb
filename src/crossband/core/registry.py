"""The registry: find classes by name, and record the arguments of their instances.

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
import math
import numbers
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

from crossband.core.warned import warn
from crossband.errors import CrossbandError, nearest

T = TypeVar("T", bound="Registered")
#: Values among the stored arguments of an instance, at most.
MOST_ARGUMENTS = 10_000
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
        largest_number: largest whole number among the arguments, also within lists and mappings.
        files: arguments that name a file. `build` refuses them: what it is given may come from a
            model folder, which must not name other files.
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
    largest_number: ClassVar[int] = 2**53
    files: ClassVar[tuple[str, ...]] = ()
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
            for name, value in list(bound.arguments.items())[1:]:
                _check_numbers(self, name, value)
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
    """Return the subclass of `base` with this name, or CrossbandError; no path is imported."""
    if name not in base.known and base.package:
        import_modules(base.package)
    if name not in base.known:
        load_entry_points(base.family, name)
    if name not in base.known:
        known = available(base)
        raise CrossbandError(
            f"unknown {base.family} {name!r:.80}: {nearest(name, known)}; a class of your own is "
            f"found by an entry point crossband.{base.family.lower()}, or once it is imported"
        )
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


def warn_of_unknown_class(instance: Registered) -> None:
    """Warn of an instance whose class will not be found by its name in another process."""
    cls = type(instance)
    offered = {entry.name for entry in entry_points(group=f"crossband.{cls.family.lower()}")}
    if not cls.__module__.startswith("crossband.") and cls.__name__ not in offered:
        warn(
            f"{cls.__module__}.{cls.__name__} is found by no entry point "
            f"crossband.{cls.family.lower()}: the model can be loaded only in Python, once "
            f"{cls.__module__} is imported; see CONTRIBUTING.md"
        )


@functools.cache
def _load_all(family: str) -> None:
    """Look for other packages once: reading what is installed takes milliseconds."""
    load_entry_points(family)


def build(base: type[T], name: str, arguments: dict[str, Any]) -> T:
    """Build a registered class from its name and stored arguments.

    Raises:
        CrossbandError: no such class, or arguments that it does not take; in one line.
    """
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise CrossbandError(f"a {base.family} is a class and an object of arguments")
    if sum(1 for _ in _values(arguments)) > MOST_ARGUMENTS:
        raise CrossbandError(f"{name}: more than {MOST_ARGUMENTS:,} values among its arguments")
    cls = find(base, name)
    accepted = inspect.signature(cls.__init__).parameters
    for key, value in arguments.items():
        if key not in accepted or key == "self":
            known = [k for k in accepted if k != "self"]
            raise CrossbandError(
                f"{cls.__name__} has no argument {key!r:.80}: {nearest(key, known)}"
            )
        if key in cls.files and value is not None:
            raise CrossbandError(f"{cls.__name__}: {key} names a file; a stored network has none")
    _check_types(cls, arguments)
    try:
        return cls(**arguments)
    except CrossbandError:
        raise
    except Exception as error:
        # A constructor may fail in any way where its arguments are of the right types, but absurd.
        reason = str(error) or type(error).__name__
        raise CrossbandError(
            f"{cls.__name__} cannot be built from its arguments: {reason[:200]}"
        ) from error


def _values(data: Any) -> Iterator[Any]:
    """Yield the values within lists and mappings."""
    if isinstance(data, dict | list | tuple):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _values(item)
    else:
        yield data


def _check_numbers(of: Registered, name: str, argument: Any) -> None:
    """Raise CrossbandError for a number that is none, or is absurdly large."""
    for value in _values(argument):
        if isinstance(value, float) and math.isnan(value):
            raise CrossbandError(f"{type(of).__name__}: {name} is no number")
        if isinstance(value, int) and abs(value) > of.largest_number:
            words = name if value is argument else f"a number in {name}"
            most = f"{of.largest_number:,}"
            raise CrossbandError(f"{type(of).__name__}: {words} must be at most {most}")


def _check_types(cls: type[Any], arguments: Mapping[str, Any]) -> None:
    """Raise CrossbandError for plain data that is of another type than the constructor says."""
    try:
        hints = typing.get_type_hints(cls.__init__)
    except NameError:  # a name that another package imports for type checking only
        return
    for name, value in arguments.items():
        if name in hints and not _is_a(value, hints[name]):
            hint = hints[name]
            words = hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")
            raise CrossbandError(
                f"{cls.__name__} cannot be built from its arguments: {name} must be {words}, not "
                f"{value!r:.60}"
            )


def _is_a(value: Any, hint: Any) -> bool:
    """Return whether plain data is of a type; types of other data than plain one accept all."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, one) for one in inner)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(_is_a(v, inner[0]) for v in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_is_a(v, inner[1]) for v in value.values())
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str, type(None)) else True
