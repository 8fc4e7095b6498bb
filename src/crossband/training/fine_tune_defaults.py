"""Defaults of a recipe for fine-tuning: lower rates, fewer steps, the best validation is kept.

The rates of a recipe are for random weights. A trained model forgets at them more than a few pairs
can teach it again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from crossband.data.module import Pairs
from crossband.training.recipe import set_option

#: Factor of the recipe's learning rates, and number of steps at most.
RATE_FACTOR, MOST_STEPS = 0.1, 200
#: Validations in a fine-tuning, and the share of its steps in which the rates rise.
VALIDATIONS, WARMUP_SHARE = 8, 0.1


def set_fine_tuning(config: dict[str, Any], given: Collection[str]) -> str:
    """Set the options of a recipe for fine-tuning, but none that the user has given.

    Args:
        config: a checked recipe; changed in place.
        given: dotted names of the options that the user has given.

    Returns:
        One line that says what was set; empty for a method without an optimiser.
    """
    if not any(key.endswith("optimizer") for key in config["method"].get("init_args") or {}):
        return ""  # it is solved for, and takes no start
    names = {name.replace(".init_args", "") for name in given}
    said = _lower_rates(config, names)
    method = config["method"].setdefault("init_args", {})
    if "method.max_steps" not in names:
        set_option(config, "method.max_steps", min(method.get("max_steps", 1000), MOST_STEPS))
        said.append(f"{method['max_steps']} steps")
    steps = method.get("max_steps")
    if isinstance(steps, int):  # its parser refuses other values
        said += _set_warmup(method, steps, names)
        said += _set_validations(config, steps, names)
    if "weights" not in names:
        config["weights"] = "best"
        said.append("the best validation, that of the start included, becomes the model")
    return f"fine-tuning: {', '.join(said)}" if said else "fine-tuning: all options as given"


def _lower_rates(config: dict[str, Any], given: Collection[str]) -> list[str]:
    method = config["method"].setdefault("init_args", {})
    lowered = []
    for key, optimizer in method.items():
        arguments = optimizer.get("init_args") if isinstance(optimizer, dict) else None
        if not key.endswith("optimizer") or not isinstance(arguments, dict):
            continue
        if any(name.startswith(f"method.{key}") for name in given):
            continue
        for name, value in arguments.items():
            if name.rpartition("_")[2] == "lr" and isinstance(value, int | float):
                arguments[name] = float(f"{RATE_FACTOR * value:.6g}")
                lowered.append(f"{arguments[name]:g}")
    return [f"learning rate {' and '.join(lowered)}"] if lowered else []


def _set_warmup(method: dict[str, Any], steps: int, given: Collection[str]) -> list[str]:
    if any(name.startswith("method.schedule") for name in given):
        return []
    schedule = method.get("schedule") or "Cosine"  # the default of every method
    schedule = {"class_path": schedule} if isinstance(schedule, str) else schedule
    warmup = round(WARMUP_SHARE * steps)
    schedule["init_args"] = (schedule.get("init_args") or {}) | {"warmup": warmup}
    method["schedule"] = schedule
    return [f"warm-up {warmup}"]


def _set_validations(config: dict[str, Any], steps: int, given: Collection[str]) -> list[str]:
    data = config["data"]
    own = (data.get("init_args") or {}).get("steps", 250)
    pairs = str(data.get("class_path", "")).rpartition(".")[2] == Pairs.__name__
    if "data.steps" in given or not pairs or not isinstance(own, int):
        return []
    every = min(own, max(steps // VALIDATIONS, 1))
    set_option(config, "data.steps", every)
    return [f"a validation every {every}"]
