"""The options of a recipe with their defaults, as `crossband fit RECIPE --help` prints them."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from crossband.training import recipe, recipe_parser
from crossband.training.recipe_keys import KEYS, TrainerOptions

#: Keys that say something of a recipe, and change no run.
TEXTS = ("differs", "reference")


def recipe_help(name: str | Path) -> str:
    """Return a line for each option of a recipe: its name, its default and its meaning.

    Args:
        name: see `crossband.training.recipe.locate`.
    """
    known = recipe.load(name)
    if "manifest" not in (known["data"].get("init_args") or {}):
        recipe.set_option(known, "data.manifest", "MANIFEST")
    config = yaml.safe_load(recipe_parser.dump(recipe_parser.parse(known)))
    lines = [f"options of {name}, with their defaults:"]
    for key, default, meaning in _options(config):
        lines.append(f"  --{key} {default}")
        lines += [f"      {meaning}"] if meaning else []
    return "\n".join(lines)


def _options(config: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    trainer = _meanings(TrainerOptions)
    for key, value in config.items():
        if key in TEXTS:
            continue
        if key == "trainer":
            for name, default in value.items():
                yield f"{key}.{name}", _shown(default), trainer.get(name, "")
        else:
            yield from _of(key, value, KEYS[key][2])


def _of(key: str, value: Any, meaning: str) -> Iterator[tuple[str, str, str]]:
    """Yield an option; of a class also those of its arguments, of a list of classes each class."""
    if isinstance(value, dict) and "class_path" in value:
        module, _, name = value["class_path"].rpartition(".")
        yield key, name, meaning
        meanings = _meanings(getattr(sys.modules[module], name))  # parsing has found it there
        for argument, inner in (value.get("init_args") or {}).items():
            yield from _of(f"{key}.{argument}", inner, meanings.get(argument, ""))
    elif isinstance(value, list) and any(isinstance(v, dict) and "class_path" in v for v in value):
        for number, inner in enumerate(value):
            yield from _of(f"{key}.{number}", inner, meaning)
    else:
        yield key, _shown(value), meaning


def _shown(value: Any) -> str:
    """Return a default in YAML, as it may be typed."""
    if isinstance(value, str):
        return shlex.quote(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    return text if re.fullmatch(r"[\w./:+-]+", text) else f"'{text}'"


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Return what the docstrings of a class and of its bases say of its arguments."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        part = re.search(r"^(?:Args|Attributes):\n((?: +.*\n?|\n)+)", text, re.MULTILINE)
        if part is None:
            continue
        for name, words in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", part[1], re.MULTILINE):
            found[name] = " ".join(words.split())
    return found
