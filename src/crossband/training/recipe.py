"""Recipes: find and read YAML files that name a method, networks, losses and data; override them.

The keys of a recipe are in `recipe_keys`. `recipe_classes` looks up every class and option that a
recipe names, and `recipe_parser` builds them.
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from crossband.core.yaml_text import TooMuchError, parse_yaml, read_yaml
from crossband.errors import RecipeError, nearest
from crossband.model.description import check_line, check_name
from crossband.training.recipe_classes import check_mapping, check_names
from crossband.training.recipe_keys import KEYS

#: Keys of a recipe whose options its reference run may set.
REFERENCED = ("method", "data")


def available() -> dict[str, Path]:
    """Return the recipes inside the package: name -> file."""
    root = Path(str(resources.files("crossband") / "recipes"))
    files = sorted(root.rglob("*.yaml"))
    return {f.relative_to(root).with_suffix("").as_posix(): f for f in files}


def locate(name: str | Path) -> Path:
    """Return the file of a recipe from its name (`rgb2nir/local-unet`) or path, or RecipeError."""
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

    Raises:
        RecipeError: no such recipe, not a recipe, an unknown name, or a value out of its range.
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
        check_names(value, KEYS[key][0], str(key))
    changed = [key for key, _ in _pairs(overrides) if key.partition(".")[0] != "reference"]
    if not changed:  # its options are of the recipe as it stands
        reference_options(config)
    for key in ("name", "task"):
        check_line(f"--{key}", config.get(key, ""), RecipeError)
    check_name(config.get("name", "model"), RecipeError)
    seed = config.get("seed", 0)
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        raise RecipeError(f"--seed must be 0 to {2**32 - 1}")
    return config


def reference_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a recipe's reference run: dotted name -> value; empty without one.

    Raises:
        RecipeError: `reference` is no mapping, or names an option that the recipe does not have.
    """
    found = config.get("reference") or {}
    if not isinstance(found, dict):
        raise RecipeError("--reference is a mapping, as in {method.max_steps: 20000}")
    changed = {key: copy.deepcopy(config[key]) for key in REFERENCED if key in config}
    for name, value in found.items():
        if str(name).partition(".")[0] not in changed:
            raise RecipeError(f"--reference: {name!r:.60} begins with none of {', '.join(changed)}")
        set_option(changed, str(name), copy.deepcopy(value))
    for key, value in changed.items():
        check_names(value, KEYS[key][0], f"reference.{key}")
    return found


def given_options(overrides: Sequence[str]) -> list[str]:
    """Return the dotted names of the options among overrides."""
    return [key for key, _ in _pairs(overrides)]


def set_option(config: dict[str, Any], key: str, value: Any) -> None:
    """Set one option of a recipe by its dotted name; RecipeError if a key on the way is null."""
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
        if not (part.isascii() and part.isdigit()) or int(part) >= len(node):
            raise RecipeError(f"--{key}: {part!r} is none of the {len(node)} numbered from 0")
        return node, int(part)
    if not isinstance(node, dict):
        raise RecipeError(f"--{key}: {node!r} has no option {part!r}")
    if "class_path" in node and part not in ("class_path", "init_args"):
        node["init_args"] = node.get("init_args") or {}
        check_mapping(node["init_args"], key)
        return node["init_args"], part
    return node, part


def _pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Split `--key value` and `--key=value`; values are YAML."""
    found, rest = [], []
    for word in overrides:
        if not isinstance(word, str | int | float | os.PathLike):
            raise RecipeError(f"unexpected {word!r:.60}: options are texts, numbers and paths")
        rest.append(str(word))
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
            found.append((key, _option(key, text)))
        except TooMuchError as error:
            raise RecipeError(f"--{key}: {error}") from error
    return found


def _option(key: str, text: str) -> Any:
    """Return the value of an option: YAML, but for names of files that are there, and for names."""
    if key == "data.manifest" and os.path.exists(text):
        return text
    value = _value(text)
    plain = not isinstance(value, str | list | dict) and value is not None
    return text if key in ("name", "licence") and plain else value  # as 2024 and 1.0


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
        if value.lower().lstrip("+-.") in ("inf", "infinity"):
            raise RecipeError(f"--{path} must be a finite number, not {value}")
    elif isinstance(value, float) and math.isnan(value):
        raise RecipeError(f"--{path} is no number")
    elif isinstance(value, float) and math.isinf(value):
        raise RecipeError(f"--{path} must be a finite number, not {value}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise RecipeError(f"--{path} is too large a number")
