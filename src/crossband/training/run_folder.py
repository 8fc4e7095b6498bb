"""The folder of a training run: what lies where, and who may write there."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from crossband.errors import OutputError, RecipeError

CONFIG, PAIRS, CHECKPOINTS, LOGS, MODEL = (
    "config.yaml",
    "pairs.csv",
    "checkpoints",
    "logs",
    "model",
)


def check(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise OutputError where a run may not be written into a folder; nothing is changed."""
    if resume and overwrite:
        raise RecipeError("--resume and --overwrite exclude each other")
    if resume and not (folder / CONFIG).is_file():
        raise OutputError(f"{folder}: nothing to resume: no training run")
    if not is_first_process():
        return  # the first process has made the folder
    if resume or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / CONFIG).is_file():
        raise OutputError(f"{folder}: exists and is no training run; choose another --output")
    if not overwrite:
        raise OutputError(f"{folder}: a run is there already; use --resume or --overwrite")


def is_first_process() -> bool:
    """Say so before there is a Trainer: only one process may touch the output folder."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def make(folder: Path) -> None:
    """Make an empty run folder, or empty the run that is there."""
    try:
        if (folder / CONFIG).is_file():  # --overwrite; nothing else is ever removed
            (folder / CONFIG).unlink()
            for part in (CHECKPOINTS, LOGS, MODEL):
                shutil.rmtree(folder / part, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
