"""Loggers of metrics and images; they write to the run's folder unless configured otherwise.

The x axis is always the generator step. A resumed run continues the same logs.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from crossband.core.atomic import write_text_atomically
from crossband.errors import RecipeError
from crossband.training.run_folder import is_first_process

LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow", "none"]
#: The folder of the logs inside the run's folder.
LOGS = "logs"
#: logger -> modules that it needs, which an extra of pyproject.toml installs.
NEEDS = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


def make(names: LoggerName | Sequence[LoggerName], folder: Path | None, title: str) -> list[Logger]:
    """Return the loggers of a run; none without a folder.

    Args:
        names: one or more of tensorboard, csv, wandb, mlflow; or `none`.
        folder: folder of the run.
        title: name of the run, for loggers that show names.

    Raises:
        RecipeError: a package is not installed, or an account is missing.
    """
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    check(wanted)
    makers = {"tensorboard": _tensorboard, "csv": _csv, "wandb": _wandb, "mlflow": _mlflow}
    if folder is None:
        return []
    return [makers[name](folder, title) for name in wanted if name != "none"]


def check(names: LoggerName | Sequence[LoggerName]) -> None:
    """Raise a RecipeError that says what to install if a logger's package is missing."""
    for name in [names] if isinstance(names, str) else names:
        if any(importlib.util.find_spec(module) is None for module in NEEDS.get(name, ())):
            raise RecipeError(
                f"--trainer.logger {name} needs a package that is not installed: "
                f"pip install 'crossband[{name}]'"
            )


@rank_zero_only
def log_images(logger: Logger, images: Mapping[str, Tensor], step: int) -> None:
    """Log images to a logger that supports them.

    Args:
        logger: any of Lightning's loggers.
        images: name -> float [3, h, w] in 0..1.
        step: generator steps done.
    """
    for name, image in images.items():
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [_pixels(image)], step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(
                logger.run_id, _pixels(image), key=name, step=step, synchronous=True
            )


@rank_zero_only
def close(loggers: Sequence[Logger]) -> None:
    """Close loggers that would otherwise continue into the next run of this process."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
        elif isinstance(logger, MLFlowLogger):
            import mlflow

            mlflow.flush_async_logging()


def _pixels(image: Tensor) -> Any:
    """Return uint8 [h, w, 3]."""
    return (image.permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def _tensorboard(folder: Path, title: str) -> Logger:
    return TensorBoardLogger(folder, name="", version=LOGS)


def _csv(folder: Path, title: str) -> Logger:
    # Flush every line: with Lightning's default a kill loses the lines in memory.
    logger = CSVLogger(folder, name="", version=LOGS, flush_logs_every_n_steps=1)
    table = folder / LOGS / "metrics.csv"
    kept = table.with_name(".metrics.before.csv")
    if is_first_process() and (table.is_file() or kept.is_file()):
        # In a resumed run Lightning would delete this file and start a new one.
        if not kept.exists():  # else of a run that was killed in here
            os.replace(table, kept)
        before = kept.read_text(encoding="utf-8")
        writer: Any = logger.experiment
        write_text_atomically(table, before)
        writer.metrics_keys = before.partition("\n")[0].strip().split(",")
        kept.unlink()
    return logger


def _wandb(folder: Path, title: str) -> Logger:
    import wandb

    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "name": title,
        "project": os.environ.get("WANDB_PROJECT", "crossband"),
        "id": _identity(folder / LOGS / "wandb.id"),
    }
    if not is_first_process():
        return WandbLogger(**options)  # only the first process writes
    try:
        run = wandb.init(
            **options,
            dir=folder / LOGS,
            resume="allow",
            # No summary of the run, and no capture of the terminal's output.
            settings=wandb.Settings(silent=True, console="off"),
        )
    except (wandb.errors.Error, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise RecipeError(
            f"--trainer.logger wandb: {first} (WANDB_MODE=offline needs no account)"
        ) from error
    # Lightning's name for the step that `log_metrics` gets, which is the generator step.
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(**options, experiment=run)


def _identity(path: Path) -> str:
    """Return the id of a run, which stays the same after --resume."""
    if not path.is_file() and is_first_process():
        path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _mlflow(folder: Path, title: str) -> Logger:
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logs = (folder / LOGS).resolve()
    logs.mkdir(parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    known = logs / "mlflow.id"
    try:
        logger = MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", "crossband"),
            run_name=title,
            # MLflow no longer writes plain files.
            tracking_uri=uri or f"sqlite:///{logs / 'mlflow.db'}",
            artifact_location=None if uri else (logs / "mlflow").as_uri(),
            run_id=known.read_text(encoding="utf-8") if known.is_file() else None,
            # In another thread: the database takes tens of milliseconds for each line.
            synchronous=False,
        )
        if is_first_process():
            known.write_text(str(logger.run_id), encoding="utf-8")
        if not uri:
            # The logger sets this variable, but the next run of this process has its own folder.
            os.environ.pop("MLFLOW_TRACKING_URI", None)
    except mlflow.exceptions.MlflowException as error:
        first = str(error).strip().splitlines()[0]
        raise RecipeError(f"--trainer.logger mlflow: {first}") from error
    return logger
