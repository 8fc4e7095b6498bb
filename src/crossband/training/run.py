"""One training: objects from a recipe, Lightning's Trainer, and the model at the end."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
import yaml
from lightning.pytorch.callbacks import Callback, Timer

from crossband.core.devices import keep_freed_memory, resolve_device, resolve_precision
from crossband.core.messages import say
from crossband.core.version import __version__
from crossband.data import manifest as manifests
from crossband.data.module import Pairs
from crossband.data.reader import PairReader
from crossband.data.workers import is_lost_worker, original
from crossband.errors import (
    Interrupted,
    Preempted,
    RecipeError,
    TrainingError,
    UnreadableError,
)
from crossband.model import Model
from crossband.training import loggers, recipe_keys, recipe_parser
from crossband.training.callbacks import checkpoints
from crossband.training.callbacks.checkpoints import BEST, Checkpoints
from crossband.training.callbacks.health import Health
from crossband.training.callbacks.memory import OutOfMemoryAdvice
from crossband.training.callbacks.progress import TrainingProgress
from crossband.training.callbacks.skipped import SkippedFiles
from crossband.training.callbacks.stopping import StopRequest, no_requeue, was_launched
from crossband.training.methods.base import Method
from crossband.training.methods.parallel import UnwrappedDDPStrategy
from crossband.training.run_folder import (
    CHECKPOINTS,
    PAIRS,
    is_first_process,
    method_difference,
)
from crossband.training.training_pairs import hash_pairs, units_of


class TrainingRun:
    """One training: its settings, method, data and Trainer.

    Args:
        settings: the parsed recipe.
        title: what is trained, for the loggers and the progress bar, as `fitting baseline mlp`.
        folder: the run folder; None for a baseline, which writes no checkpoints and no logs.
        stop_request: made by signals.
        callbacks: further callbacks of the Trainer.
    """

    def __init__(
        self,
        settings: Any,
        title: str,
        folder: Path | None,
        stop_request: StopRequest,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.callbacks = list(callbacks)
        self.settings, self.title, self.folder = settings, title, folder
        self.stop_request = stop_request
        lightning.seed_everything(int(settings.seed), workers=False, verbose=False)
        built = recipe_parser.instantiate(settings)
        self.method: Method = built.method
        self.data: lightning.LightningDataModule = built.data
        self.options: recipe_keys.TrainerOptions = built.trainer
        self.method.seed = int(settings.seed)
        if isinstance(self.data, Pairs) and self.data.scale != self.method.generator.scale:
            raise RecipeError(
                f"data.scale is {self.data.scale}, but the generator's is "
                f"{self.method.generator.scale}: set method.generator.scale (where it has one) and "
                "data.scale alike"
            )
        self.device = resolve_device(str(settings.device))
        if self.device.type == "cpu":
            keep_freed_memory()
        self.precision = resolve_precision(self.device, str(settings.precision))
        self.checkpoints = Checkpoints(
            folder / CHECKPOINTS if folder else None,
            self.options.checkpoint_every,
            keep=self.options.keep_last,
            monitor=self.options.monitor,
            mode=self.options.mode,
            stop_request=stop_request,
        )
        self.skipped = SkippedFiles()
        self.is_first_process = True
        self._begun: Path | None = None  # checkpoint to go on from

    def prepare(self) -> None:
        """Read the manifest, before anything is written; print what a split lacks."""
        if isinstance(self.data, Pairs):
            self.data.load(self.method.signature, self.method.seed)
            if is_first_process():
                for leak in self.data.leaks(self.method.seed):
                    say(f"crossband: {leak}", error=True)
                if self.folder and not self.data.has_validation:
                    say(
                        "crossband: no pair to validate on, so no checkpoint is the best: make "
                        "some with 'crossband data split', or give --data.val_fraction",
                        error=True,
                    )

    def load_newest(self) -> None:
        """Load the newest checkpoint of the run folder, from which `train` then goes on.

        Raises:
            TrainingError: it does not fit the recipe.
        """
        assert self.checkpoints.folder is not None
        if is_first_process():
            self.checkpoints.remove_temporary_files()
        quiet = not is_first_process()
        found = checkpoints.newest(self.checkpoints.folder, quiet=quiet)
        if found is not None:
            self._load_weights(*found)
            self.method.on_load_checkpoint(found[1])
            self._begun = found[0]
            if self.method.step > self.method.max_steps:
                raise RecipeError(
                    f"the run is at step {self.method.step} already, and max_steps is "
                    f"{self.method.max_steps}"
                )

    def train(self) -> dict[str, Any]:
        """Train to the last step and return the weights of the model."""
        if not self.method.finished:
            self._fit(self._begun, validate=self._begun is None and self._has_start)
        best = self.checkpoints.folder / BEST if self.checkpoints.folder else None
        if self.settings.weights == "best" and best and best.is_file():
            self._load_weights(best, checkpoints.read(best))
        return self.method.model_network.state_dict()

    def check_same_pairs(self) -> None:
        """Raise RecipeError where a run that goes on would be trained on other pairs than before.

        The files of a run say what its weights were trained on.
        """
        assert self.folder is not None
        if not isinstance(self.data, Pairs) or not (self.folder / PAIRS).is_file():
            return
        before = manifests.read(self.folder / PAIRS, lenient=True)
        now = self.data.manifest_with_split(self.method.seed)
        old, new = (_trained_on(table) for table in (before, now))
        if old != new:
            raise RecipeError(
                f"{self.folder}: it was trained on other pairs: {(new - old).total()} of "
                f"{new.total()} are new, and {(old - new).total()} of {old.total()} are not there; "
                "begin a new run, with --start to go on from its weights"
            )

    def training_pairs(self) -> list[tuple[str, str]]:
        """Return name and hash of each training pair; see `hash_pairs`."""
        reader = self._training_reader
        return [] if reader is None else hash_pairs(reader)

    def training_units(self) -> dict[str, int]:
        """Return the number of training pairs of each unit; see `units_of`."""
        reader = self._training_reader
        return {} if reader is None else units_of(reader)

    @cached_property
    def _training_reader(self) -> PairReader | None:
        if not isinstance(self.data, Pairs):
            return None
        return self.data.training_reader(self.method.signature, self.method.seed)

    @property
    def _has_start(self) -> bool:
        return self.folder is not None and self.settings.start is not None

    def _fit(self, checkpoint: Path | None, *, validate: bool = False) -> None:
        """Train, from a checkpoint if there is one.

        Args:
            checkpoint: to go on from.
            validate: validate before the first step, too: the start is a model to beat.
        """
        memory = OutOfMemoryAdvice()
        phase = "" if self.folder else f"while {self.title}"
        trainer = self._trainer(memory)
        try:
            with self.stop_request.during_training(phase), memory.explained():
                if validate:
                    trainer.validate(self.method, self.data, verbose=False)
                trainer.fit(self.method, self.data, ckpt_path=checkpoint, weights_only=True)
        except (Interrupted, Preempted):
            if was_launched(trainer):
                raise SystemExit(0) from None
            raise
        except UnreadableError as error:
            raise original(error) from error
        except RuntimeError as error:
            if not is_lost_worker(error):
                raise
            raise TrainingError(
                "a loading process was killed, as by a system without memory: fewer --data.workers "
                "or less --data.cache_mb need less; go on with --resume"
            ) from error
        except SystemExit as error:  # Lightning exits at a second Ctrl-C
            raise KeyboardInterrupt from error
        finally:
            loggers.close(trainer.loggers)
        self.is_first_process = trainer.is_global_zero
        ended = self.options.max_time and not self.method.finished
        if self.folder and ended and self.is_first_process:
            say(
                f"crossband: trainer.max_time is over at step {self.method.step} of "
                f"{self.method.max_steps}: --resume goes on",
                error=True,
            )

    def _load_weights(self, path: Path, state: dict[str, Any]) -> None:
        """Load a checkpoint into the method; TrainingError if it does not fit."""
        try:
            self.method.load_state_dict(state["state_dict"])
        except (RuntimeError, KeyError) as error:
            why = self._difference() or "its weights have other names or shapes"
            raise TrainingError(f"{path}: does not fit this recipe: {why}") from error

    def _difference(self) -> str:
        """Return what the recipe changes of that of the run folder, in words; empty if nothing."""
        assert self.folder is not None
        return method_difference(self.folder, yaml.safe_load(recipe_parser.dump(self.settings)))

    def _trainer(self, memory: OutOfMemoryAdvice) -> lightning.Trainer:
        several = self.options.devices * self.options.num_nodes > 1
        return lightning.Trainer(
            accelerator=self.device.type,
            devices=self.options.devices,
            num_nodes=self.options.num_nodes,
            strategy=UnwrappedDDPStrategy() if several else "auto",
            precision="bf16-mixed" if self.precision == "bf16" else "32-true",
            max_epochs=-1,
            logger=loggers.make(self.options.logger, self.folder, self.title),
            callbacks=[
                memory,
                self.checkpoints,
                TrainingProgress(f"training {self.title}" if self.folder else self.title),
                Health(),
                self.skipped,
                *([_TimeLimit(self.options.max_time)] if self.options.max_time else ()),
                *self.callbacks,
            ],
            plugins=no_requeue(),
            limit_val_batches=1.0 if self.folder is not None else 0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.folder,
        )


def _trained_on(table: pd.DataFrame) -> Counter[tuple[str, ...]]:
    """Return what tells the training rows of a manifest apart, wherever its files lie."""
    rows = table[table["split"] == "train"]
    files = [[Path(str(v).rpartition("#")[2]).name for v in rows[s]] for s in ("source", "target")]
    names = ("group", "sensor", "scale", "offset", "degradation")
    sides = [f"{side}_{what}" for side in ("source", "target") for what in ("window", "bands")]
    others = [rows[name].map(lambda v: "" if pd.isna(v) else str(v)) for name in (*names, *sides)]
    return Counter(zip(*files, *others, strict=True))


class _TimeLimit(Timer):
    """Ends a training after some time, counted from its start or from where it goes on.

    Lightning's own takes the time of a checkpoint into account: one that ended by it ends at once.
    """

    def __init__(self, duration: str) -> None:
        super().__init__(duration=duration, verbose=False)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing that a checkpoint would keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing from a checkpoint."""


def trained_model(run: TrainingRun, settings: Any, weights: dict[str, Any]) -> Model:
    """Return the trained network as a model."""
    network = run.method.model_network
    network.load_state_dict(weights)
    network = network.cpu().float().eval().requires_grad_(False)
    return Model(network, run.method.signature, name=str(settings.name), task=str(settings.task))


def describe(run: TrainingRun, settings: Any) -> dict[str, Any]:
    """Return the entries of the model description that are needed to train the model again."""
    import numpy
    import rasterio

    about: dict[str, Any] = {
        "seed": run.method.seed,
        "steps": run.method.step,
        "samples": run.method.consumed,
        "seconds": round(run.method.seconds, 1),
        "device": _device_name(run.device),
        "precision": run.precision,
        "versions": {
            "crossband": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning": str(lightning.__version__),
            "numpy": numpy.__version__,
            "rasterio": rasterio.__version__,
        },
        "config": yaml.safe_load(recipe_parser.dump(settings)),
    }
    if isinstance(run.data, Pairs):
        train, val = run.data.split(run.data.seed_of(run.method.seed))
        about["data"] = {
            "manifest": " + ".join(path.name for path in run.data.manifests),
            "fingerprint": manifests.fingerprint(train),
            "pairs": len(train),
            "units": run.training_units(),
            "groups": int(train["group"].nunique()),
            "val_groups": sorted(map(str, val["group"].unique())),
            "leakage": run.data.leaks(run.method.seed),
            "skipped": dict(run.skipped.counts),
        }
    return about


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
