"""The folder of a sweep: which files are its own, and who may write there."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from crossband.core.atomic import write_text_atomically
from crossband.core.file_names import check_output_name
from crossband.core.hidden_folder import folder_of, remove_leftovers
from crossband.core.own_files import check_own_files, check_own_folder
from crossband.core.yaml_text import read_yaml
from crossband.errors import OutputError, RecipeError
from crossband.model.adapt import first_difference
from crossband.training.run_folder import CONFIG, LOCK, is_empty, is_recipe
from crossband.training.search_space import SearchSpace

SPEC, RECIPE, STORE, TABLE, FINAL = (
    "sweep.yaml",
    "recipe.yaml",
    "trials.db",
    "trials.csv",
    "best.yaml",
)
#: All of them; what is left of a kill while they are deleted is a sweep, or `_is_beginning`.
FILES = (TABLE, FINAL, STORE, SPEC, RECIPE)


def check_folder(
    folder: Path, spec: SearchSpace, base: dict[str, Any], resume: bool, overwrite: bool
) -> None:
    """Raise OutputError if a sweep may not be written to a folder; changes nothing."""
    check_output_name(folder)
    check_own_folder(folder)
    is_sweep = (folder / SPEC).is_file() and is_recipe(folder / RECIPE)
    if resume and overwrite:
        raise RecipeError("--resume and --overwrite exclude each other")
    if resume and not is_sweep:
        raise OutputError(f"{folder}: nothing to resume: no {SPEC} in it")
    if is_sweep:
        check_own_files(folder / name for name in FILES)
    if resume:
        for path, now in ((SPEC, spec.fixed()), (RECIPE, base)):
            before = read_yaml(folder / path, RecipeError)
            found = first_difference(before, now)
            if found is not None:
                raise RecipeError(
                    f"--resume: {found[0]} was {found[1]} in this sweep and is {found[2]} now; "
                    f"--overwrite begins anew"
                )
        return
    if is_empty(folder, (RECIPE, SPEC)) or _is_beginning(folder):
        return
    if not is_sweep:
        raise OutputError(f"{folder}: exists and is no sweep; choose another --output")
    if not overwrite:
        raise OutputError(f"{folder}: a sweep is there already; use --resume or --overwrite")


def _is_beginning(folder: Path) -> bool:
    """Return whether a folder holds what a sweep leaves that was killed at its beginning."""
    known = (RECIPE, LOCK, *(folder_of(folder / name).name for name in (RECIPE, SPEC)))
    return is_recipe(folder / RECIPE) and all(p.name in known for p in folder.iterdir())


def prepare(folder: Path, spec: SearchSpace, base: dict[str, Any]) -> None:
    """Write the first files of a sweep; the one that names it as a sweep comes last."""
    try:
        clear(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
    write_text_atomically(folder / RECIPE, yaml.safe_dump(base, sort_keys=False))
    write_text_atomically(folder / SPEC, yaml.safe_dump(spec.fixed(), sort_keys=False))


def clear(folder: Path) -> None:
    """Delete the files of a sweep, and nothing else; what names it as a sweep comes last."""
    for trial in folder.glob("trial-*"):
        if trial.is_symlink() or not re.fullmatch(r"trial-\d{3,}", trial.name, re.ASCII):
            continue
        if is_recipe(trial / CONFIG):
            shutil.rmtree(trial)
            continue
        remove_leftovers(trial / CONFIG)  # of a trial that failed at its beginning
        with contextlib.suppress(OSError):  # it contains something
            trial.rmdir()
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder after an error if nothing is left in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it contains something
            folder.rmdir()
        raise
