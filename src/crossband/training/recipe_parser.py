"""Turn a recipe into constructor calls, by jsonargparse; its messages become one line."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import jsonargparse

from crossband.core.memory import total_memory
from crossband.errors import CrossbandError, RecipeError
from crossband.networks.size_limit import TooLargeError, size_limit
from crossband.training.methods import Method
from crossband.training.recipe_keys import KEYS, TrainerOptions

#: What constructors raise for values that they do not take.
REFUSALS = (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError)
#: Bytes that a weight takes in training: itself, its gradient, two moments. Parameters and modules
#: of all networks, at most. Memory of a machine whose system does not say.
BYTES_OF_WEIGHT, MOST_PARTS, MUCH_MEMORY = 16, 50_000, 2**40
#: Parsed configurations that are kept: a sweep parses a few again after every trial.
KEPT = 16
_parsed: dict[str, Any] = {}


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
            _check_optimizers(built.method)
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


def _check_optimizers(method: Method) -> None:
    try:
        method.configure_optimizers()
    except (ValueError, TypeError) as error:  # in the words of torch, which name no option
        raise RecipeError(f"an optimizer of the method: {_plain(str(error))}") from error


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


def _plain(message: str) -> str:
    """Shorten jsonargparse's nested message to `--a.b.c: reason`."""
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    missing = re.search(r"following arguments are required: (.*)", message)
    if missing:
        name = missing[1].split(",")[0].strip()
        option = f"--{keys + '.' if keys else ''}{name}"
        example = ", as in --data.manifest pairs.csv" if option == "--data.manifest" else ""
        return f"{option} is missing, and has no default{example}"
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
