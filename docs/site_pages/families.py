"""Pages of what is found by name: networks, losses, methods, augmentations, degradations, layouts.

Each class stands with what its docstring says (papers included), its parameters, the recipes that
use it and the arguments of its constructor, which are the options of recipes.
"""

from __future__ import annotations

import inspect
from typing import Any

import docstring_parser
import torch

from crossband.core.registry import Registered, available
from crossband.data.degrade.base import Degradation
from crossband.data.transforms.base import Transform
from crossband.networks import Discriminator, Generator, parameter_count
from crossband.networks.generators.thermal_gan import Encoder
from crossband.networks.samplers.vector_field import Field
from crossband.training import recipe
from crossband.training.losses.base import Loss
from crossband.training.methods.base import Method
from crossband.training.methods.schedules import Schedule
from site_pages.markdown import cell, escape, table

#: Arguments without a default that count parameters alike: three bands to one.
BANDS = {"in_channels": 3, "out_channels": 1, "source_channels": 3, "target_channels": 1}
PAGES: dict[str, tuple[str, str, dict[str, type[Registered]]]] = {
    "networks": (
        "Which networks are there?",
        "Every network is one file. A recipe names one by its class, and its arguments are options "
        "of `crossband fit`, as `--method.generator.width 32`. `margin` and `stride` are explained "
        "in [tiles](../concepts/tiles.md). Parameters are counted with the default arguments, "
        "from three bands to one.",
        {
            "Generators": Generator,
            "Discriminators": Discriminator,
            "Encoders of a style": Encoder,
            "Fields of samplers": Field,
        },
    ),
    "training": (
        "Which methods, losses and schedules are there?",
        "A recipe combines these. Their arguments are options of `crossband fit`, as "
        "`--method.max_steps 5000` or `--method.losses.0.weight 2`.",
        {"Methods": Method, "Losses": Loss, "Schedules of the learning rate": Schedule},
    ),
    "data": (
        "Which augmentations and degradations are there?",
        "Augmentations change the samples of a training. Degradations make a coarse source from a "
        "fine target.",
        {"Augmentations": Transform, "Degradations": Degradation},
    ),
}


def pages() -> dict[str, str]:
    """Return name -> text of the pages."""
    used = _recipes()
    return {name: _page(*content, used) for name, content in PAGES.items()}


def _recipes() -> dict[str, list[str]]:
    """Return class name -> recipes whose text names it."""
    used: dict[str, list[str]] = {}
    for name in recipe.available():
        for word in sorted(_classes(recipe.load(name))):
            used.setdefault(word, []).append(name)
    return used


def _classes(data: Any) -> set[str]:
    if isinstance(data, dict):
        own = {str(data["class_path"]).rpartition(".")[2]} if "class_path" in data else set()
        return own.union(*map(_classes, data.values()))
    if isinstance(data, list):
        return set().union(*map(_classes, data))
    return {data} if isinstance(data, str) and data.isidentifier() else set()


def _page(
    title: str, intro: str, families: dict[str, type[Registered]], used: dict[str, list[str]]
) -> str:
    text = f"# {title}\n\n{intro}\n\n"
    for heading, base in families.items():
        classes = {
            n: c for n, c in available(base).items() if c.__module__.startswith("crossband.")
        }
        text += f"## {heading}\n\n"
        for name, cls in sorted(classes.items()):
            text += f"### {name}\n\n{_class(cls)}"
            if name in used:
                text += f"Recipes: {', '.join(f'`{one}`' for one in used[name])}.\n\n"
            text += f"Code: `src/{cls.__module__.replace('.', '/')}.py`.\n\n"
    return text


def _class(cls: type[Registered]) -> str:
    """Return the words of a class, its size and its arguments."""
    module = inspect.getdoc(inspect.getmodule(cls)) or ""
    own = docstring_parser.google.parse(inspect.getdoc(cls) or "")
    words = [own.short_description or "", own.long_description or ""]
    text = "\n\n".join(escape(part) for part in words if part)
    if "see the module" in text:
        text = escape(module)
    elif " et al" in module and " et al" not in text:
        text += f"\n\nAfter: {escape(' '.join(module.split()))}"
    text += "\n\n"
    if issubclass(cls, torch.nn.Module) and issubclass(cls, Generator | Discriminator):
        count = _parameters(cls)
        text += f"Parameters: {count:,}.\n\n" if count is not None else ""
    rows = _arguments(cls, _meanings(cls))
    return text + (table(["argument", "type", "default", "meaning"], rows) if rows else "")


def _meanings(cls: type[Registered]) -> dict[str, str]:
    """Return argument -> meaning, from the docstring of the class and those of its bases."""
    meanings: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        said = docstring_parser.google.parse(inspect.cleandoc(one.__doc__ or ""))
        meanings |= {p.arg_name: p.description or "" for p in said.params}
    return meanings


def _parameters(cls: type[Generator | Discriminator]) -> int | None:
    needed = [p.name for p in _given(cls) if p.default is p.empty]
    if not set(needed) <= set(BANDS):
        return None
    with torch.device("meta"):
        return parameter_count(cls(**{name: BANDS[name] for name in needed}))


def _given(cls: type[Any]) -> list[inspect.Parameter]:
    every = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [p for p in every if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _arguments(cls: type[Any], words: dict[str, str]) -> list[list[str]]:
    rows = []
    for p in _given(cls):
        kind = (
            p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "")
        )
        default = "" if p.default is p.empty else f"`{p.default!r}`".replace("|", "\\|")
        bars = kind.replace("|", "\\|")
        rows.append(
            [f"`{p.name}`", f"`{bars}`" if kind else "", default, cell(words.get(p.name, ""))]
        )
    return rows
