"""Train a recipe: from a name and a manifest to a model folder."""

from __future__ import annotations

import logging
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from crossband.core.devices import keep_freed_memory, resolve_device, resolve_precision
from crossband.core.version import __version__
from crossband.data import manifest as manifests
from crossband.data.module import Pairs
from crossband.data.workers import original
from crossband.errors import (
    Interrupted,
    Preempted,
    RecipeError,
    TrainingError,
    UnreadableError,
    nearest,
)
from crossband.model import Model
from crossband.networks.generators.blend import Blend
from crossband.training import fine_tune as start
from crossband.training import loggers, recipe, run_folder
from crossband.training.callbacks import checkpoints
from crossband.training.callbacks.checkpoints import BEST, Checkpoints
from crossband.training.callbacks.health import Health
from crossband.training.callbacks.memory import OutOfMemoryAdvice
from crossband.training.callbacks.progress import TrainingProgress
from crossband.training.callbacks.skipped import SkippedFiles
from crossband.training.callbacks.stopping import StopRequest, no_requeue, was_launched
from crossband.training.methods.base import Method
from crossband.training.methods.parallel import UnwrappedDDPStrategy
from crossband.training.run_folder import CHECKPOINTS, CONFIG, MODEL, PAIRS, is_first_process

#: What a baseline takes from the main run's data: which pairs it sees, not how they are cut.
SHARED_DATA_OPTIONS = (
    "manifest",
    "shares",
    "balance",
    "min_valid",
    "degradation",
    "resize",
    "on_error",
    "val_fraction",
    "stratify",
    "fold",
    "folds",
    "scale",
    "cache_mb",
    "workers",
    "seed",
)


def fit(
    name: str | Path,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    fast_run: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train a recipe and save the model with its baselines.

    Args:
        name: recipe inside the package (`rgb2nir/local-unet`) or a YAML file.
        overrides: `--data.manifest pairs.csv --method.max_steps 20`; see `training.recipe.load`.
        output: folder of the run; `runs/<name>` where None. Gets `config.yaml`, `pairs.csv` (the
            manifest with the split that was used), `checkpoints/`, `logs/` and `model/`.
        resume: go on from `checkpoints/last.ckpt`, or from the newest one that can be read.
        overwrite: replace a run that is there.
        fast_run: two steps of everything, to see that it works.
        callbacks: more that watches the training (not that of the baselines).

    Returns:
        The model folder.

    Raises:
        RecipeError: unknown names, wrong values.
        ManifestError: unusable data.
        OutputError: there is a run already, or nothing to resume.
        TrainingError: a loss is not finite, the memory is full, or the checkpoint is of another
            network.
        Interrupted: Ctrl-C; `last.ckpt` is up to date.
        Preempted: SIGTERM or SIGUSR1; `last.ckpt` is up to date, exit code 75.
    """
    started = time.time()
    config = recipe.load(name, overrides)
    if fast_run:
        _shorten(config)
    settings = recipe.parse(config)
    for baseline in settings.baselines or []:
        recipe.load(baseline)  # an unknown name is said before the training, not after
    _check_blend(settings)
    loggers.check(settings.trainer.logger)
    folder = output or Path("runs") / str(settings.name)
    run_folder.check(folder, resume, overwrite)
    stop_request = StopRequest()
    run = _Run(settings, str(settings.name), folder, stop_request, callbacks)
    begun = start.load_start(
        run.method,
        settings.start,
        folder / CHECKPOINTS,
        resume=resume,
        quiet=not is_first_process(),
    )
    try:
        with stop_request.handle_signals(), _quiet():
            run.prepare()
            if is_first_process():
                if not resume:
                    run_folder.make(folder)
                (folder / CONFIG).write_text(recipe.dump(settings))
                start.write_start(begun, folder / CHECKPOINTS)
                if isinstance(run.data, Pairs):
                    split = run.data.manifest_with_split(run.method.seed)
                    split.to_csv(folder / PAIRS, index=False)
            trained = run.train(resume)
            if not run.is_first_process:
                return folder / MODEL
            model = _model(run, settings, trained)
            model.about["training"] = _about(run, settings, time.time() - started)
            model.about["training"]["resumed"] = resume
            model.about["training"]["start"] = begun
            model.save(folder / MODEL)
            for baseline in settings.baselines or []:
                short = Path(baseline).stem
                model.baselines[short] = _fit_baseline(
                    baseline, config, settings, fast_run, stop_request
                )
            if settings.blend:
                model = _blended(model, settings.blend)
            if model.baselines:
                model.save(folder / MODEL)
    except KeyboardInterrupt:
        raise stop_request.error() from None
    return folder / MODEL


class _Run:
    """One training: its configuration, its objects, its Trainer."""

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
        built = recipe.instantiate(settings)
        self.method: Method = built.method
        self.data: lightning.LightningDataModule = built.data
        self.options: recipe.TrainerOptions = built.trainer
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

    def prepare(self) -> None:
        """Read the manifest before anything is written."""
        if isinstance(self.data, Pairs):
            self.data.load(self.method.signature, self.method.seed)
            if is_first_process():
                for leak in self.data.leaks(self.method.seed):
                    sys.stderr.write(f"crossband: {leak}\n")

    def train(self, resume: bool = False) -> dict[str, Any]:
        """Train to the last step, and return the weights that become the model's."""
        found = None
        if self.checkpoints.folder and resume:
            quiet = not is_first_process()
            found = checkpoints.newest(self.checkpoints.folder, quiet=quiet)
        if found is not None:
            self._load_weights(*found)
            self.method.on_load_checkpoint(found[1])
        if not self.method.finished:
            self._fit(found[0] if found else None)
        best = self.checkpoints.folder / BEST if self.checkpoints.folder else None
        if self.settings.weights == "best" and best and best.is_file():
            self._load_weights(best, checkpoints.read(best))
        return self.method.model_network.state_dict()

    def _fit(self, checkpoint: Path | None) -> None:
        memory = OutOfMemoryAdvice()
        trainer = self._trainer(memory)
        try:
            with self.stop_request.during_training(), memory.explained():
                trainer.fit(self.method, self.data, ckpt_path=checkpoint, weights_only=True)
        except (Interrupted, Preempted):
            if was_launched(trainer):
                raise SystemExit(0) from None
            raise
        except UnreadableError as error:
            raise original(error) from error
        except SystemExit as error:  # Lightning's answer to a second Ctrl-C
            raise KeyboardInterrupt from error
        finally:
            loggers.close(trainer.loggers)
        self.is_first_process = trainer.is_global_zero

    def _load_weights(self, path: Path, state: dict[str, Any]) -> None:
        """Load a checkpoint into the method; TrainingError where it does not fit."""
        try:
            self.method.load_state_dict(state["state_dict"])
        except (RuntimeError, KeyError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(f"{path}: does not fit this recipe: {first}") from error

    def _trainer(self, memory: OutOfMemoryAdvice) -> lightning.Trainer:
        several = self.options.devices * self.options.num_nodes > 1
        return lightning.Trainer(
            accelerator=self.device.type,
            devices=self.options.devices,
            num_nodes=self.options.num_nodes,
            strategy=UnwrappedDDPStrategy() if several else "auto",
            precision="bf16-mixed" if self.precision == "bf16" else "32-true",
            max_epochs=-1,
            max_time=self.options.max_time,
            logger=loggers.make(self.options.logger, self.folder, self.title),
            callbacks=[
                memory,
                self.checkpoints,
                TrainingProgress(self.title),
                Health(),
                self.skipped,
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


def _fit_baseline(
    name: str, config: dict[str, Any], settings: Any, fast_run: bool, stop_request: StopRequest
) -> Model:
    """Fit a baseline on the same pairs, with the same inputs, normalisation and seed."""
    own = recipe.load(name)
    arguments = own["method"].setdefault("init_args", {})
    signature = settings.method.init_args.signature
    arguments["signature"] = config["method"]["init_args"]["signature"]
    recipe.set_option(own, "method.generator.in_channels", len(signature.source))
    recipe.set_option(own, "method.generator.out_channels", len(signature.target))
    if "scale" in (own["method"]["init_args"]["generator"].get("init_args") or {}):
        recipe.set_option(own, "method.generator.scale", _scale(config))
    theirs = config["data"]
    if theirs["class_path"].rpartition(".")[2] == Pairs.__name__:
        same = {
            k: v for k, v in (theirs.get("init_args") or {}).items() if k in SHARED_DATA_OPTIONS
        }
        own["data"]["init_args"] = (own["data"].get("init_args") or {}) | same
    else:
        own["data"] = theirs
    for key in ("seed", "device", "precision"):
        if key in config:
            own[key] = config[key]
    if fast_run:
        _shorten(own)
    parsed = recipe.parse(own)
    run = _Run(parsed, f"baseline {Path(name).stem}", None, stop_request)
    run.prepare()
    return _model(run, parsed, run.train())


def _scale(config: dict[str, Any]) -> int:
    """Return the scale that a recipe's data has."""
    return int((config["data"].get("init_args") or {}).get("scale", 1))


def _check_blend(settings: Any) -> None:
    """See that a blend names baselines of the recipe, and leaves a share for the network."""
    shares = settings.blend or {}
    known = [Path(b).stem for b in settings.baselines or []]
    for name in shares:
        if name not in known:
            raise RecipeError(
                f"--blend: {name!r} is no baseline of this run: {nearest(name, known)}"
            )
    if shares and not (min(shares.values()) > 0 and sum(shares.values()) < 1):
        raise RecipeError(f"--blend: shares must be above 0 and sum to less than 1, not {shares}")


def _blended(model: Model, shares: dict[str, float]) -> Model:
    """Return the model whose answer is a weighted mean of its own and its baselines'."""
    networks = [model.network, *(model.baselines[name].network for name in shares)]
    weights = [1.0 - sum(shares.values()), *shares.values()]
    network = Blend.of(networks, weights).eval().requires_grad_(False)
    blended = Model(network, model.signature, name=model.name, task=model.task, about=model.about)
    blended.baselines = model.baselines
    return blended


def _model(run: _Run, settings: Any, weights: dict[str, Any]) -> Model:
    """Return the trained network as a model."""
    network = run.method.model_network
    network.load_state_dict(weights)
    network = network.cpu().float().eval().requires_grad_(False)
    return Model(network, run.method.signature, name=str(settings.name), task=str(settings.task))


def _about(run: _Run, settings: Any, seconds: float) -> dict[str, Any]:
    """Return what must be known to train the model again."""
    import numpy
    import rasterio

    about: dict[str, Any] = {
        "seed": run.method.seed,
        "steps": run.method.step,
        "samples": run.method.consumed,
        "seconds": round(seconds, 1),
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
        "config": yaml.safe_load(recipe.dump(settings)),
    }
    if isinstance(run.data, Pairs):
        train, val = run.data.split(run.data.seed_of(run.method.seed))
        about["data"] = {
            "manifest": " + ".join(path.name for path in run.data.manifests),
            "fingerprint": manifests.fingerprint(train),
            "pairs": len(train),
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


def _shorten(config: dict[str, Any]) -> None:
    recipe.set_option(config, "method.max_steps", 2)
    if "class_path" not in config.get("data", {}) or "Pairs" in config["data"]["class_path"]:
        for key, value in (("steps", 2), ("val_windows", 1), ("val_tile", 64)):
            recipe.set_option(config, f"data.{key}", value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says that means nothing to a user."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    loggers = [logging.getLogger(name) for name in names]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", module=r"torch\.utils\.data\..*")
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
