"""The table of bundled recipes that `crossband models --recipes` prints.

Parameters are counted in networks that are built without initialised weights.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from crossband.data.module import Pairs
from crossband.networks import parameter_count
from crossband.training import recipe, recipe_classes


@dataclass(frozen=True)
class RecipeInfo:
    """The properties of a recipe.

    Attributes:
        name: name for `crossband fit`.
        task: task of the model.
        method: class of the method.
        paired: whether the method needs source and target of the same places.
        parameters: parameters of the generator, which becomes the model.
        trained: parameters of all networks in training, each counted once.
        source: paper or system that the recipe follows.
        differs: what differs from it, in sentences.
        reference: options of its reference run, in one line; empty without one.
    """

    name: str
    task: str
    method: str
    paired: bool
    parameters: int
    trained: int
    source: str
    differs: tuple[str, ...]
    reference: str


def recipe_info(name: str) -> RecipeInfo:
    """Return the properties of a recipe; its method is built on the meta device.

    Args:
        name: see `crossband.training.recipe.locate`.
    """
    config = recipe.load(name)
    with torch.device("meta"):
        method = recipe_classes.build_method(config)
    networks = [method.generator, *(n for _, part in method.parts().values() for n in part)]
    # By identity: networks may share weights.
    trained = {id(p): p.numel() for network in networks for p in network.parameters()}
    return RecipeInfo(
        name=name,
        task=str(config.get("task", "")),
        method=type(method).__name__,
        paired=_paired(config.get("data")),
        parameters=parameter_count(method.generator),
        trained=sum(trained.values()),
        source=str(config.get("source", "")),
        differs=tuple(map(str, config.get("differs") or ())),
        reference=", ".join(
            f"{key} {json.dumps(value)}" for key, value in recipe.reference_options(config).items()
        ),
    )


def _paired(data: Any) -> bool:
    default = inspect.signature(Pairs).parameters["paired"].default
    given = data.get("init_args", {}) if isinstance(data, dict) else {}
    return bool(given.get("paired", default))


def recipe_table(rows: list[RecipeInfo], width: int = 80, differs: bool = False) -> str:
    """Return the rows as text, grouped by task, each followed by its source.

    Args:
        rows: results of `recipe_info`.
        width: characters of a line; the numbers need at least 80.
        differs: whether to list what differs from the source, and the options of reference runs.
    """
    longest = max(len(row.name) for row in rows)
    kinds = max(len(row.method) for row in rows)

    def line(name: str, method: str, pairs: str, parameters: str, trained: str) -> str:
        text = f"{name:{longest}}  {method:{kinds}}  {pairs:5}  {parameters:>11}  {trained:>11}"
        return text.rstrip()

    out = [line("recipe", "method", "pairs", "parameters", "in training")]
    for task, group in groupby(rows, key=lambda row: row.task):
        out += ["", f"task {task}"]
        for row in group:
            more = f"{row.trained:,}" if row.trained != row.parameters else ""
            pairs = "yes" if row.paired else "no"
            out.append(line(row.name, row.method, pairs, f"{row.parameters:,}", more))
            out.append(_filled(row.source, width, "    "))
            if differs:
                out += [_filled(text, width, "      - ") for text in row.differs]
                if row.reference:
                    out.append(_filled(f"Reference run: {row.reference}", width, "      "))
    return "\n".join(out)


def _filled(text: str, width: int, before: str) -> str:
    indent = " " * len(before)
    return textwrap.fill(
        text, width, initial_indent=before, subsequent_indent=indent, break_on_hyphens=False
    )
