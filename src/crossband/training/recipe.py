"""Recipes: find, override and check YAML files that name a method, networks, losses and data.

jsonargparse turns a recipe into constructor calls. Before that, this module looks up every class
and option name, so that an unknown name is an error in one line with the nearest known name.
"""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import difflib
import functools
import importlib
import inspect
import math
import re
import types
import typing
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import lightning
import torch

from crossband.core.devices import DEVICES, PRECISIONS
from crossband.core.memory import total_memory
from crossband.core.registry import Registered, find, import_modules
from crossband.core.yaml_text import TooMuchError, parse_yaml, read_yaml
from crossband.data.module import Pairs
from crossband.errors import CrossbandError, RecipeError, nearest
from crossband.model.description import check_line
from crossband.networks.size_limit import TooLargeError, size_limit
from crossband.training.loggers import LoggerName
from crossband.training.methods import Method

#: Processes on a machine, and machines, at most.
MOST_PROCESSES = 4096


@dataclasses.dataclass(frozen=True)
class TrainerOptions:
    """The options of the Trainer that a recipe may set.

    Attributes:
        devices: processes on one machine; more than one trains with DDP.
        num_nodes: number of machines.
        max_time: stop after `DD:HH:MM:SS`.
        logger: logger of metrics and images; one name or a list.
        checkpoint_every: generator steps between two checkpoints.
        keep_last: number of checkpoints kept under the name of their step, beside the last one.
        monitor: the validation metric that selects the best checkpoint.
        mode: whether lower (`min`) or higher (`max`) values of it are better.
    """

    devices: int = 1
    num_nodes: int = 1
    max_time: str | None = None
    logger: LoggerName | list[LoggerName] = "tensorboard"
    checkpoint_every: int = 500
    keep_last: int = 0
    monitor: str = "val/score"
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        """Check what Lightning would refuse in its own way, or take for something else."""
        for name, value in (("devices", self.devices), ("num_nodes", self.num_nodes)):
            if not 1 <= value <= MOST_PROCESSES:
                raise RecipeError(f"trainer.{name} must be 1 to {MOST_PROCESSES}, not {value}")
        if self.max_time is not None and not re.fullmatch(r"\d+(:[0-5]?\d){3}", self.max_time):
            raise RecipeError(f"trainer.max_time must be DD:HH:MM:SS, not {self.max_time!r:.60}")


#: The keys of a recipe: key -> type, default, help text.
KEYS: dict[str, tuple[Any, Any, str]] = {
    "name": (str, "model", "name of the model"),
    "task": (str, "", "task of the model, as in rgb2nir"),
    "source": (str, "", "paper or system that it follows, cited in one line"),
    "seed": (int, 0, "seed of all random numbers"),
    "device": (Literal[DEVICES], "auto", "where to compute"),
    "precision": (Literal[PRECISIONS], "auto", "auto uses bf16 if the device supports it"),
    "weights": (Literal["last", "best"], "last", "which checkpoint becomes the model"),
    "start": (str | None, None, "model whose weights training starts from: name, folder, hf://"),
    "method": (Method, None, "the training method and its networks"),
    "data": (lightning.LightningDataModule, None, "the pairs"),
    "trainer": (TrainerOptions, None, "a few options of the Trainer"),
    "baselines": (list[str] | None, None, "recipes of the baselines that are fitted too"),
    "blend": (
        dict[str, float] | None,
        None,
        "share of each baseline in the output, as in {mlp: 0.5}",
    ),
    "blend_by": (
        Literal["share", "familiarity"],
        "share",
        "blend everywhere, or only where the surroundings are unlike those of training",
    ),
}


#: What constructors raise for values that they do not take.
REFUSALS = (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError)
#: Bytes that a weight takes in training: itself, its gradient, two moments. Parameters and modules
#: of all networks, at most. Memory of a machine whose system does not say.
BYTES_OF_WEIGHT, MOST_PARTS, MUCH_MEMORY = 16, 50_000, 2**40
#: Parsed configurations that are kept: a sweep parses a few again after every trial.
KEPT = 16
_parsed: dict[str, Any] = {}


def available() -> dict[str, Path]:
    """Return the recipes inside the package: name -> file."""
    root = Path(str(resources.files("crossband") / "recipes"))
    files = sorted(root.rglob("*.yaml"))
    return {f.relative_to(root).with_suffix("").as_posix(): f for f in files}


def locate(name: str | Path) -> Path:
    """Return the file of a recipe from its name (`rgb2nir/local-unet`) or path."""
    known = available()
    if str(name) in known:
        return known[str(name)]
    if Path(name).suffix in (".yaml", ".yml"):
        if not Path(name).is_file():
            raise RecipeError(f"{name}: no such recipe file")
        return Path(name)
    raise RecipeError(f"unknown recipe {str(name)!r}: {nearest(str(name), known)}")


def load(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return a recipe with overrides as plain data, with all names checked.

    Args:
        name: see `locate`.
        overrides: `--data.manifest pairs.csv --method.max_steps=20`: keys of the YAML joined by
            dots. `init_args` may be left out; items of a list are addressed by number.
    """
    path = locate(name)
    config = read_yaml(path, RecipeError)
    if not isinstance(config, dict):
        raise RecipeError(f"{path}: a recipe is a YAML mapping with a method and data")
    for key, value in _pairs(overrides):
        set_option(config, key, value)
    for key, value in config.items():
        if key not in KEYS:
            raise RecipeError(
                f"unknown option --{key}: {nearest(f'--{key}', [f'--{k}' for k in KEYS])}"
            )
        if value is None and KEYS[key][1] is not None:
            raise RecipeError(f"--{key} is null; leave it out for {KEYS[key][1]!r}")
        _check_plain(value, str(key))
        _check(value, KEYS[key][0], str(key))
    for key in ("name", "task"):
        check_line(f"--{key}", config.get(key, ""), RecipeError)
    seed = config.get("seed", 0)
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        raise RecipeError(f"--seed must be 0 to {2**32 - 1}")
    return config


def set_option(config: dict[str, Any], key: str, value: Any) -> None:
    """Set one option of a recipe by its dotted name."""
    node: Any = config
    *path, last = key.split(".")
    for part in path:
        node, place = _place(node, part, key)
        inside = node.get(place, {}) if isinstance(node, dict) else node[place]
        if inside is None:
            raise RecipeError(f"--{key}: {part} is null; name its class first")
        node[place] = {"class_path": inside} if isinstance(inside, str) else inside
        node = node[place]
    node, place = _place(node, last, key)
    there = node.get(place) if isinstance(node, dict) else node[place]
    if isinstance(value, str) and isinstance(there, dict) and "class_path" in there:
        value = {"class_path": value}  # drop the arguments, which belong to the previous class
    node[place] = value


def _place(node: Any, part: str, key: str) -> tuple[Any, Any]:
    """Return the container and the key that one part of a dotted name refers to."""
    if isinstance(node, list):
        if not part.isdigit() or int(part) >= len(node):
            raise RecipeError(f"--{key}: {part!r} is none of the {len(node)} numbered from 0")
        return node, int(part)
    if not isinstance(node, dict):
        raise RecipeError(f"--{key}: {node!r} has no option {part!r}")
    if "class_path" in node and part not in ("class_path", "init_args"):
        node["init_args"] = node.get("init_args") or {}
        return node["init_args"], part
    return node, part


def parse(config: dict[str, Any]) -> Any:
    """Return the typed configuration with defaults; RecipeError for a wrong value."""
    key = repr(config)
    if key not in _parsed:
        try:
            found = _parser().parse_object(copy.deepcopy(config))  # it changes what it is given
        except (jsonargparse.ArgumentError, *REFUSALS) as error:
            raise RecipeError(_plain(str(error) or type(error).__name__)) from error
        if len(_parsed) >= KEPT:
            del _parsed[next(iter(_parsed))]
        _parsed[key] = found
    return _parsed[key].clone()


def instantiate(config: Any) -> Any:
    """Call the constructors, those of the optimisers, too.

    Raises:
        RecipeError: values that they refuse, or networks that do not fit the memory.
    """
    most = total_memory() or MUCH_MEMORY
    try:
        with size_limit(most // BYTES_OF_WEIGHT, MOST_PARTS):
            built = _parser().instantiate(config)
        if isinstance(built.method, Method):
            built.method.configure_optimizers()
        return built
    except TooLargeError as error:
        raise RecipeError(
            f"the networks have more than {MOST_PARTS:,} layers, or to train them takes more than "
            f"{most / 2**30:.3g} GiB, the memory of this machine"
        ) from error
    except CrossbandError:
        raise
    except (jsonargparse.ArgumentError, *REFUSALS) as error:
        raise RecipeError(_plain(str(error) or type(error).__name__)) from error


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


def dump(config: Any) -> str:
    """Return the full configuration, as `parse` gave it, as YAML."""
    return str(_parser().dump(config, skip_unset=False, skip_validation=True))


@functools.cache  # building it costs as much as a step of a small network
def _parser() -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for key, (kind, default, meaning) in KEYS.items():
        if kind is TrainerOptions:
            parser.add_argument(f"--{key}", type=kind, default=TrainerOptions(), help=meaning)
        elif key in ("method", "data"):
            parser.add_argument(f"--{key}", type=kind, required=True, help=meaning)
        else:
            parser.add_argument(f"--{key}", type=kind, default=default, help=meaning)
    return parser


def _pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Split `--key value` and `--key=value`; values are YAML."""
    found, rest = [], list(overrides)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise RecipeError(f"unexpected {word!r}: options are given as --method.max_steps 1000")
        key, sign, text = word[2:].partition("=")
        if not sign:
            if not rest or (rest[0].startswith("--") and not _number(rest[0])):
                raise RecipeError(f"--{key} needs a value")
            text = rest.pop(0)
        try:
            found.append((key, _value(text)))
        except TooMuchError as error:
            raise RecipeError(f"--{key}: {error}") from error
    return found


def _number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


def _value(text: str) -> Any:
    if _number(text) and not text.lstrip("+-").isdigit():
        return float(text)  # YAML 1.1 parses 1e-3 as a string
    try:
        return parse_yaml(text)
    except TooMuchError:
        raise
    except ValueError:
        return text


def _check_plain(value: Any, path: str) -> None:
    """Raise RecipeError for what no option can be, and at which libraries fail in their ways.

    jsonargparse reads a text as YAML where it needs a number; brackets without end in it would end
    the process.
    """
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            _check_plain(item, f"{path}.{key}")
    elif isinstance(value, str):
        try:
            _value(value)
        except TooMuchError as error:
            raise RecipeError(f"--{path}: {error}") from error
    elif isinstance(value, float) and math.isnan(value):
        raise RecipeError(f"--{path} is no number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise RecipeError(f"--{path} is too large a number")


def _check(value: Any, hint: Any, path: str) -> None:
    """Check every class and argument name below one option."""
    kind, inner = _kind(hint)
    if kind == "list" and isinstance(value, list):
        for number, item in enumerate(value):
            _check(item, inner, f"{path}.{number}")
    elif kind == "dict" and isinstance(value, dict):
        for key, item in value.items():
            _check(item, inner, f"{path}.{key}")
    elif kind == "dataclass" and isinstance(value, dict):
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


def _class_name(name: str) -> str:
    """Leave out the module of our own classes: that in `config.yaml` of older runs has moved."""
    return name.rpartition(".")[2] if name.startswith("crossband.") else name


def _check_arguments(cls: Any, arguments: dict[str, Any], path: str) -> None:
    if not inspect.isclass(cls):
        raise RecipeError(f"--{path}: {getattr(cls, '__name__', cls)!r} is not a class")
    hints = _hints(cls)
    known = [n for n in hints if n not in ("args", "kwargs", "params")]
    for key, value in arguments.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean --{path}.{close[0]}?" if close else nearest(str(key), known)
            raise RecipeError(f"unknown option --{path}.{key} ({cls.__name__}): {hint}")
        _check(value, hints.get(key), f"{path}.{key}")


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


def _plain(message: str) -> str:
    """Shorten jsonargparse's nested message to `--a.b.c: reason`."""
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    missing = re.search(r"following arguments are required: (.*)", message)
    if missing:
        name = missing[1].split(",")[0].strip()
        return f"--{keys + '.' if keys else ''}{name} is missing, and has no default"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    if "Errors:" in lines:  # of several types that are allowed: None is what was not meant
        own = lines[lines.index("Errors:") + 1 :]
        own = [
            line for line in own if not line.startswith(("Expected a <class 'NoneType'", "Given"))
        ]
        lines = own or lines
    reason = next((line for line in lines if line.startswith("Expected")), lines[-1])
    reason = re.sub(r"<class '([\w.]+)'>", r"\1", reason).replace("typing.", "")
    return f"--{keys}: {reason}" if keys else reason


_ = Pairs  # named in recipes as data's default class
