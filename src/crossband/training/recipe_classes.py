"""The classes that a recipe names: check their names and arguments, and build them.

Every name is looked up before anything is built, so that an unknown one is an error in one line
with the nearest known name.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import functools
import importlib
import inspect
import types
import typing
from typing import Any

import lightning
import torch

from crossband.core.registry import Registered, find, import_modules
from crossband.data.module import Pairs
from crossband.errors import CrossbandError, RecipeError, nearest
from crossband.training.methods import Method


def build_method(config: dict[str, Any]) -> Method:
    """Build the method of a loaded recipe without checking the types of its values.

    This takes a tenth of the time of `parse` and `instantiate`, for recipes that are known to be
    valid. Under `torch.device("meta")` no weights are initialised either.
    """
    method: Method = construct(config["method"], Method)
    return method


def construct(value: Any, hint: Any) -> Any:
    """Build a part of a recipe, such as a loss, without checking the types of its values.

    Args:
        value: plain data, as in the YAML.
        hint: base class of what it is, or another type.
    """
    kind, inner = _kind(hint)
    if kind == "list" and isinstance(value, list):
        return [construct(item, inner) for item in value]
    if kind == "dict" and isinstance(value, dict):
        return {key: construct(item, inner) for key, item in value.items()}
    if kind == "dataclass" and isinstance(value, dict):
        cls, arguments = inner, value
    elif kind == "class" and isinstance(value, str | dict):
        name, arguments = value, {}
        if isinstance(value, dict):
            name, arguments = value["class_path"], value.get("init_args") or {}
        cls = _resolve(inner, str(name), "method")
    else:
        return value
    hints = _hints(cls)
    built = {key: construct(item, hints.get(key)) for key, item in arguments.items()}
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer):
        return functools.partial(cls, **built)  # called with the parameters later
    return cls(**built)


def check_names(value: Any, hint: Any, path: str) -> None:
    """Check every class and argument name below one option."""
    kind, inner = _kind(hint)
    if kind == "list" and isinstance(value, list):
        for number, item in enumerate(value):
            check_names(item, inner, f"{path}.{number}")
    elif kind == "dict" and isinstance(value, dict):
        for key, item in value.items():
            check_names(item, inner, f"{path}.{key}")
    elif kind == "dataclass" and value is not None:
        _check_arguments(inner, value, path)
    elif kind == "class" and isinstance(value, str):
        _check_arguments(_resolve(inner, value, path), {}, path)
    elif kind == "class" and isinstance(value, dict):
        if inner is lightning.LightningDataModule and "class_path" not in value:
            value["class_path"], arguments = "Pairs", dict(value)
            for key in arguments:
                del value[key]
            value["init_args"] = arguments
        if "class_path" not in value:
            raise RecipeError(f"--{path} needs the name of a class (class_path)")
        for key in value:
            if key not in ("class_path", "init_args"):
                raise RecipeError(f"{path}: unknown key {key!r}: known: class_path, init_args")
        value["class_path"] = _class_name(str(value["class_path"]))
        cls = _resolve(inner, value["class_path"], path)
        _check_arguments(cls, value.get("init_args") or {}, path)


def check_mapping(options: Any, path: str) -> None:
    """Raise RecipeError for options that are not given by name."""
    if not isinstance(options, dict):
        raise RecipeError(f"--{path}: {options!r:.40} is no mapping; give its options by name")


def _class_name(name: str) -> str:
    """Leave out the module of our own classes: that in `config.yaml` of older runs has moved."""
    return name.rpartition(".")[2] if name.startswith("crossband.") else name


def _check_arguments(cls: Any, arguments: dict[str, Any], path: str) -> None:
    if not inspect.isclass(cls):
        raise RecipeError(f"--{path}: {getattr(cls, '__name__', cls)!r} is not a class")
    check_mapping(arguments, path)
    hints = _hints(cls)
    known = [n for n in hints if n not in ("args", "kwargs", "params")]
    for key, value in arguments.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean --{path}.{close[0]}?" if close else nearest(str(key), known)
            raise RecipeError(f"unknown option --{path}.{key} ({cls.__name__}): {hint}")
        check_names(value, hints.get(key), f"{path}.{key}")


def _hints(cls: Any) -> dict[str, Any]:
    """Return the type of each constructor argument; `**options` stands for the base class's."""
    if dataclasses.is_dataclass(cls):
        return typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        hints = typing.get_type_hints(base.__init__)
        parameters = [*inspect.signature(base.__init__).parameters.values()][1:]
        plain = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        found = {p.name: hints.get(p.name) for p in plain} | found
        if len(plain) == len(parameters):
            break
    return found


def _kind(hint: Any) -> tuple[str, Any]:
    """Return the kind of a type hint (list, dict, dataclass, class or "") and its inner type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(part) for part in inner]
        return next((k for k in kinds if k[0]), ("", None))
    if origin in (list, dict):
        return origin.__name__, inner[-1]
    if origin is collections.abc.Callable and inner[-1] is torch.optim.Optimizer:
        return "class", torch.optim.Optimizer
    if not inspect.isclass(hint):
        return "", None
    families = Registered | lightning.LightningDataModule
    kind = "dataclass" if dataclasses.is_dataclass(hint) else "class"
    return (kind, hint) if kind == "dataclass" or issubclass(hint, families) else ("", None)


def _resolve(base: Any, name: str, path: str) -> Any:
    """Find a class by its name among the subclasses of `base`, or by its import path."""
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a module may fail in any way
            raise RecipeError(f"--{path}: cannot import {name}: {error}") from error
    if issubclass(base, Registered):
        try:
            return find(base, name)
        except CrossbandError as error:
            raise RecipeError(f"--{path}: {error}") from error
    if base is torch.optim.Optimizer:
        import_modules(Method.package)  # our own optimisers lie beside them
        known = {n: c for n, c in vars(torch.optim).items() if inspect.isclass(c)}
        own = (c for c in _subclasses(base) if c.__module__.startswith("crossband."))
        known |= {c.__name__: c for c in own}
    else:
        known = {c.__name__: c for c in _subclasses(base)}
    if name not in known:
        raise RecipeError(f"--{path}: unknown class {name!r}: {nearest(name, known)}")
    return known[name]


def _subclasses(base: Any) -> list[Any]:
    return [s for c in base.__subclasses__() for s in (c, *_subclasses(c))]


_ = Pairs  # named in recipes as data's default class
