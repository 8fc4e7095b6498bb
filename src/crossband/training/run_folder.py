"""The folder of a training run: names of its files, and checks before writing."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from crossband.core.file_names import check_output_name
from crossband.errors import OutputError, RecipeError

CONFIG, PAIRS, CHECKPOINTS, LOGS, MODEL = (
    "config.yaml",
    "pairs.csv",
    "checkpoints",
    "logs",
    "model",
)


def check(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise OutputError if a run may not be written to a folder; changes nothing."""
    check_output_name(folder)
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
    """Return whether this process may write to the output folder; works without a Trainer."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def make(folder: Path) -> None:
    """Create an empty run folder, or delete the files of an existing run."""
    try:
        if (folder / CONFIG).is_file():  # --overwrite; nothing else is ever removed
            (folder / CONFIG).unlink()
            for part in (CHECKPOINTS, LOGS, MODEL):
                shutil.rmtree(folder / part, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
