"""The folder of a training run: names of its files, its lock, and checks before writing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from crossband.core.file_names import check_output_name
from crossband.core.hidden_folder import folder_of
from crossband.core.locks import locked
from crossband.core.own_files import check_own_files, check_own_folder
from crossband.core.yaml_text import read_yaml
from crossband.errors import CrossbandError, OutputError, RecipeError

CONFIG, PAIRS, CHECKPOINTS, LOGS, MODEL = (
    "config.yaml",
    "pairs.csv",
    "checkpoints",
    "logs",
    "model",
)
#: Locked by the process that writes the folder.
LOCK = ".lock"
#: Where an earlier run lies until the one that replaces it has a checkpoint.
ASIDE = ".before"
#: Of this folder: all of the earlier run is there.
_WHOLE = "whole"
#: Where launchers say which process this is: the first that is there counts. Lightning, too, reads
#: them, but when it is imported.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def default(name: str) -> Path:
    """Return the folder of a run where none is named; RecipeError where it lies elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise RecipeError(f"name {name!r:.60} is no name of a folder in runs/: give --output")
    return Path("runs") / name


def check(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise OutputError if a run may not be written to a folder; changes nothing."""
    check_output_name(folder)
    if resume and overwrite:
        raise RecipeError("--resume and --overwrite exclude each other")
    if resume and not (folder / CONFIG).is_file():
        raise OutputError(f"{folder}: nothing to resume: no training run")
    if not is_first_process():
        return  # the first process has made the folder
    check_own_folder(folder)
    if is_empty(folder):
        return
    if not is_recipe(folder / CONFIG):
        raise OutputError(f"{folder}: exists and is no training run; choose another --output")
    if not (resume or overwrite):
        raise OutputError(f"{folder}: a run is there already; use --resume or --overwrite")
    _check_parts(folder)


def is_first_process() -> bool:
    """Return whether this process may write to the output folder; works without a Trainer."""
    told = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    node = os.environ.get("NODE_RANK", "0") if "MASTER_ADDR" in os.environ else "0"
    return {told, node, str(getattr(rank_zero_only, "rank", 0) or 0)} == {"0"}


def is_empty(folder: Path, begun: Sequence[str] = (CONFIG,)) -> bool:
    """Return whether there is nothing in a folder, or no folder; a lock does not count.

    Args:
        folder: of a run or a sweep.
        begun: its first files; what a kill leaves while they are written does not count either.
    """
    ours = (LOCK, *(folder_of(folder / name).name for name in begun))
    return not folder.exists() or all(path.name in ours for path in folder.iterdir())


def is_recipe(path: Path) -> bool:
    """Return whether a file is a recipe, as those are that name a folder as a run or a sweep."""
    try:
        config = read_yaml(path)
    except CrossbandError:
        return False
    return isinstance(config, dict) and {"method", "data"} <= set(config)


def method_difference(folder: Path, recipe: Mapping[str, Any]) -> str:
    """Return the first option of the method that a recipe changes, in words; empty if none.

    Args:
        folder: of the run, whose recipe counts as the one before.
        recipe: the new one.
    """
    try:
        before = read_yaml(folder / CONFIG)
    except CrossbandError:
        return ""
    return _difference(before.get("method"), recipe.get("method"), "method")


def _difference(before: Any, now: Any, name: str) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        # Networks, which are mappings, decide whether weights fit, and numbers of steps do not.
        keys = dict.fromkeys([*before, *now])
        for key in sorted(keys, key=lambda k: (k != "class_path", type(before.get(k)) is not dict)):
            inner = name if key in ("init_args", "arguments") else f"{name}.{key}"
            if found := _difference(before.get(key), now.get(key), inner):
                return found
        return ""
    return "" if before == now else f"{name} was {before!s:.100}, and now is {now!s:.100}"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Create a folder, and hold its lock; OutputError if another process writes to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
    with locked(folder / LOCK, folder):
        yield


@contextmanager
def run_folder(folder: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the lock of a run folder, which is empty at first, or that of the run to resume."""
    with locked_folder(folder):
        check(folder, resume, overwrite)  # another process may have written to it meanwhile
        try:
            _put_back(folder, whole=not resume)  # a run that was killed goes on without the earlier
            if not resume:
                _set_aside(folder)
        except OSError as error:
            raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
        try:
            yield
        finally:
            _put_back(folder)


def _set_aside(folder: Path) -> None:
    """Put an existing run aside, for the case that the new one fails at once.

    What names it as a run stays until the new run replaces it, so that a kill leaves a run.
    """
    if not (folder / CONFIG).is_file():
        return
    aside = folder / ASIDE
    aside.mkdir()
    for name in (CONFIG, PAIRS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, aside / name)
    for part in (CHECKPOINTS, LOGS, MODEL):
        if (folder / part).is_dir():
            (folder / part).rename(aside / part)
    (aside / _WHOLE).touch()


def _put_back(folder: Path, *, whole: bool = True) -> None:
    """Put back a run that was put aside, unless the new one has a checkpoint or a model.

    Args:
        folder: of both.
        whole: put it back where all of it is aside; else only what a kill has left there of a run
            that was not put aside to the end.
    """
    aside = folder / ASIDE
    if not aside.is_dir():
        return
    is_whole = (aside / _WHOLE).exists()
    if is_whole and not whole:
        return
    begun = any((folder / CHECKPOINTS).glob("*.ckpt")) or (folder / MODEL).is_dir()
    if not (is_whole and begun):
        for part in (CHECKPOINTS, LOGS, MODEL):
            if (aside / part).is_dir():
                shutil.rmtree(folder / part, ignore_errors=True)
                (aside / part).rename(folder / part)
        for name in (PAIRS, CONFIG) if is_whole else ():
            if (aside / name).is_file():
                (aside / name).replace(folder / name)
    shutil.rmtree(aside, ignore_errors=True)


def forget_earlier(folder: Path) -> None:
    """Delete the run that was put aside: the new one has a checkpoint."""
    if (folder / ASIDE / _WHOLE).exists():
        shutil.rmtree(folder / ASIDE, ignore_errors=True)


def _check_parts(folder: Path) -> None:
    """Raise OutputError where a link, or a file of somebody else, has the name of one of ours."""
    check_own_files(folder / name for name in (CONFIG, PAIRS, LOCK))
    for part in (CHECKPOINTS, LOGS, MODEL, ASIDE):
        check_own_folder(folder / part)
    if (folder / LOGS).is_dir():
        check_own_files((folder / LOGS).iterdir())
    for path in (folder / CHECKPOINTS).glob("*"):
        # One checkpoint may have several names: a hard link, which is replaced and never written.
        if path.is_symlink():
            raise OutputError(f"{path}: a link; nothing is written through it. Remove it")
