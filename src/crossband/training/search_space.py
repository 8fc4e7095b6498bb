"""The search space of a sweep: the YAML file of `--sweep`, read and checked.

```
trials: 20
prune: {startup_trials: 5, warmup_steps: 500}   # or true, or false
sampler: tpe                                    # or random, or grid
seed: 0
parameters:
  method.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
  method.generator.depth: {low: 1, high: 3}
  method.generator.width: {choices: [16, 32, 64]}
```
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossband.core.yaml_text import read_yaml
from crossband.errors import RecipeError, nearest

SAMPLERS = ("tpe", "random", "grid")
#: Options that have no effect on the validation score.
WITHOUT_EFFECT = (
    "name",
    "task",
    "weights",
    "baselines",
    "blend",
    "blend_by",
    "trainer.logger",
    "method.log_every",
)


@dataclass(frozen=True)
class Parameter:
    """One option and the values to try: either choices or a range.

    Attributes:
        name: dotted name, as on the command line.
        choices: values of any kind; empty for a range.
        low: smallest value.
        high: largest value; if both are integers, only integers are tried.
        step: distance between values.
        log: sample on a logarithmic scale.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether both ends are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def samples(self) -> list[Any]:
        """Return all choices, or both ends of the range, to check them before the sweep."""
        return list(self.choices) or [self.low, self.high]

    def suggest(self, trial: Any) -> Any:
        """Let Optuna's trial choose a value; a resumed trial gets the same value again."""
        if self.choices:
            return self.value(
                trial.suggest_categorical(self.name, list(map(_stored, self.choices)))
            )
        if self.is_integer:
            step = int(self.step or 1)
            return trial.suggest_int(self.name, self.low, self.high, step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def value(self, stored: Any) -> Any:
        """Return the choice for the form in which Optuna stores it."""
        return next((c for c in self.choices if _equal(_stored(c), stored)), stored)

    def grid(self) -> list[Any]:
        """Return all values as Optuna stores them; RecipeError for a continuous range."""
        if self.choices:
            return list(map(_stored, self.choices))
        step = self.step or (1 if self.is_integer and not self.log else None)
        if step is None:
            raise RecipeError(f"{self.name}: a grid needs choices, or a range with a step")
        count = round((self.high - self.low) / step) + 1
        return [self.low + i * step for i in range(count)]


@dataclass(frozen=True)
class SearchSpace:
    """The settings of a sweep.

    Attributes:
        parameters: the options to vary.
        trials: number of runs; for a grid at most the number of its points.
        sampler: `tpe` uses the results of earlier trials, `random` does not, `grid` tries all.
        seed: seed of the sampler.
        prune: stop a trial whose best score so far is worse than the median of the other trials at
            the same step.
        startup_trials: number of first trials that are never pruned.
        warmup_steps: generator steps before a trial may be pruned.
    """

    parameters: tuple[Parameter, ...]
    trials: int = 20
    sampler: str = "tpe"
    seed: int = 0
    prune: bool = True
    startup_trials: int = 5
    warmup_steps: int = 0

    def grid(self) -> list[dict[str, Any]]:
        """Return all points of the grid, shuffled, so that the first ones cover all of it."""
        values = itertools.product(*(p.grid() for p in self.parameters))
        points = [dict(zip((p.name for p in self.parameters), v, strict=True)) for v in values]
        random.Random(self.seed).shuffle(points)
        return points

    def fixed(self) -> dict[str, Any]:
        """Return, as plain data, the settings that a resumed sweep must not change."""
        prune = {"startup_trials": self.startup_trials, "warmup_steps": self.warmup_steps}
        parameters = {
            p.name: {"choices": list(p.choices)}
            if p.choices
            else {"low": p.low, "high": p.high, "step": p.step, "log": p.log}
            for p in self.parameters
        }
        return {
            "sampler": self.sampler,
            "seed": self.seed,
            "prune": prune if self.prune else False,
            "parameters": parameters,
        }


def read(path: Path) -> SearchSpace:
    """Read the file of `--sweep`.

    Raises:
        RecipeError: no such file, not YAML, an unknown key, an invalid range.
    """
    try:
        data = read_yaml(path, RecipeError)
    except RecipeError as error:  # begins with the path
        raise RecipeError(f"--sweep {error}") from error
    try:
        return _spec(data)
    except RecipeError as error:
        raise RecipeError(f"--sweep {path}: {error}") from error


def _spec(data: Any) -> SearchSpace:
    _known(data, ("trials", "sampler", "seed", "prune", "parameters"), "a sweep")
    sampler = data.get("sampler", "tpe")
    if sampler not in SAMPLERS:
        raise RecipeError(f"unknown sampler {str(sampler)!r}: {nearest(str(sampler), SAMPLERS)}")
    prune = data.get("prune", True)
    if not isinstance(prune, bool):
        _known(prune, ("startup_trials", "warmup_steps"), "prune")
    settings = prune if isinstance(prune, dict) else {}
    options = data.get("parameters")
    if not isinstance(options, dict) or not options:
        raise RecipeError("parameters is missing: options and the values to try")
    spec = SearchSpace(
        tuple(_parameter(str(name), values) for name, values in options.items()),
        trials=_count(data, "trials", 20, least=1),
        sampler=sampler,
        seed=_count(data, "seed", 0),
        prune=prune is not False,
        startup_trials=_count(settings, "startup_trials", 5),
        warmup_steps=_count(settings, "warmup_steps", 0),
    )
    if sampler != "grid":
        return spec
    return replace(spec, trials=min(spec.trials, len(spec.grid())))


def _parameter(name: str, values: Any) -> Parameter:
    if name in WITHOUT_EFFECT:
        raise RecipeError(f"{name}: the validation score does not depend on it")
    _known(values, ("low", "high", "step", "log", "choices"), name)
    return (_choices if "choices" in values else _range)(name, values)


def _choices(name: str, values: dict[str, Any]) -> Parameter:
    choices = values["choices"]
    if len(values) > 1:
        raise RecipeError(f"{name}: either choices, or low and high")
    if not isinstance(choices, list) or not choices:
        raise RecipeError(f"{name}: choices must be a list of values")
    plain = [_plain(c) for c in choices]
    if any(_equal(a, b) for a, b in itertools.combinations(map(_stored, plain), 2)):
        raise RecipeError(f"{name}: a value is there twice")
    return Parameter(name, tuple(plain))


def _range(name: str, values: dict[str, Any]) -> Parameter:
    for key in ("low", "high"):
        if key not in values:
            raise RecipeError(f"{name}: {key} is missing")
    low, high = (_number(values[key], f"{name}: {key}") for key in ("low", "high"))
    step = None if values.get("step") is None else _number(values["step"], f"{name}: step")
    log = values.get("log", False)
    if not isinstance(log, bool):
        raise RecipeError(f"{name}: log must be true or false, not {log!r}")
    if low >= high:
        raise RecipeError(f"{name}: low must be below high, not {low} and {high}")
    if log and (low <= 0 or step is not None):
        raise RecipeError(f"{name}: with log, low must be above 0 and there is no step")
    if step is not None:
        whole = (high - low) / step if step > 0 else -1.0
        if whole < 0 or abs(whole - round(whole)) > 1e-6:
            raise RecipeError(f"{name}: {high} is not {low} and a number of steps of {step}")
        if isinstance(low, int) and isinstance(high, int) and not isinstance(step, int):
            low, high = float(low), float(high)
    return Parameter(name, (), low, high, step, log)


def _known(data: Any, keys: tuple[str, ...], what: str) -> None:
    if not isinstance(data, dict):
        raise RecipeError(f"{what} must be a mapping with {', '.join(keys)}, not {data!r}")
    for key in data:
        if key not in keys:
            raise RecipeError(f"{what}: unknown key {str(key)!r}: {nearest(str(key), keys)}")


def _count(data: dict[str, Any], key: str, default: int, least: int = 0) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RecipeError(f"{key} must be a whole number of at least {least}, not {value!r}")
    return value


def _number(value: Any, what: str) -> float:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(f"{what} must be a number, not {value!r}")
    return value


def _plain(value: Any) -> Any:
    """Convert numbers like 1e-3, which YAML 1.1 parses as strings."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value):
        return float(value)
    return value


def _stored(choice: Any) -> Any:
    """Return a choice as Optuna stores it: lists and mappings as JSON."""
    plain = choice is None or isinstance(choice, bool | int | float | str)
    return choice if plain else json.dumps(choice)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
