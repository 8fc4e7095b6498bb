"""Train a recipe: from a name and a manifest to a model folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from crossband.core.atomic import atomic_file, write_text_atomically
from crossband.core.messages import say
from crossband.core.python_words import public
from crossband.core.registry import warn_of_unknown_class
from crossband.data.module import Pairs
from crossband.errors import RecipeError
from crossband.model import Model
from crossband.model.description import check_line
from crossband.model.files import BASELINES
from crossband.training import fine_tune as start
from crossband.training import fit_baselines, loggers, recipe, recipe_parser, run_folder
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.fine_tune_defaults import set_fine_tuning
from crossband.training.run import TrainingRun, describe, trained_model
from crossband.training.run_folder import CHECKPOINTS, CONFIG, MODEL, PAIRS, is_first_process
from crossband.training.start_to_beat import keep_start_if_better
from crossband.training.unguided import set_unguided_network, take_unguided
from crossband.translate.options import WriteOptions


@public(WriteOptions)
def fit(
    name: str | Path,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    fast_run: bool = False,
    baselines: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train a recipe and save the model with its baselines.

    Args:
        name: recipe inside the package (`rgb2nir/local-unet`) or a YAML file.
        overrides: `--data.manifest pairs.csv --method.max_steps 20`; see `training.recipe.load`.
        output: folder of the run; by default `runs/` and the recipe's key `name`. Gets
            `config.yaml`, `pairs.csv` (the manifest with the split that was used), `checkpoints/`,
            `logs/` and `model/`.
        resume: resume from `checkpoints/last.ckpt`, or from the newest readable checkpoint.
        overwrite: replace an existing run.
        fast_run: two steps only, to test the recipe.
        baselines: also fit the recipe's baselines; without them there is no blend either.
        callbacks: further callbacks of the Trainer, not used for the baselines.

    Returns:
        The model folder.

    Raises:
        RecipeError: unknown names, wrong values.
        ManifestError: unusable data.
        OutputError: a run exists already, or there is none to resume.
        TrainingError: a loss is not finite, the memory is full, or the checkpoint does not fit the
            network.
        Interrupted: Ctrl-C; `last.ckpt` is up to date.
        Preempted: SIGTERM or SIGUSR1; `last.ckpt` is up to date, exit code 75.
    """
    config = recipe.load(name, overrides)
    given = recipe.given_options(overrides)
    if not baselines:
        fit_baselines.leave_out(config, given)
    if fast_run:
        fit_baselines.shorten(config)
    fit_baselines.check_names(config.get("baselines"))  # before the training, not after it
    folder = Path(output or run_folder.default(str(config.get("name", "model"))))
    if resume and config.get("start") is None:
        config["start"] = start.begun_from(folder / CHECKPOINTS)
    unguided = set_unguided_network(config)
    settings = recipe_parser.parse(config)
    # A file that names a start has rates for it; a run's own config.yaml is such a file.
    if settings.start and not fast_run and not recipe.load(name).get("start"):
        settings = _for_fine_tuning(config, given, settings, folder / CHECKPOINTS, resume)
    _check(settings)
    run_folder.check(folder, resume, overwrite)
    stop_request = StopRequest()
    run = TrainingRun(settings, str(settings.name), folder, stop_request, callbacks)
    begun = _begin(run, unguided, folder / CHECKPOINTS, resume)
    try:
        with stop_request.handle_signals(), _quiet(), ExitStack() as stack:
            run.prepare()
            if is_first_process():
                stack.enter_context(run_folder.run_folder(folder, resume, overwrite))
            if resume:
                run.load_newest()  # before its recipe is replaced
                run.check_same_pairs()
            if is_first_process():
                _write_inputs(run, begun, folder)
            trained = run.train()
            if not run.is_first_process:
                return folder / MODEL
            model = trained_model(run, settings, trained)
            about = describe(run, settings)
            model.about["training"] = {**about, "resumed": resume, "start": begun}
            if settings.licence:
                model.about["licence"] = settings.licence
            model.save(folder / MODEL)
            model.baselines = fit_baselines.fit_baselines(
                settings, fast_run, stop_request, folder / CHECKPOINTS / BASELINES
            )
            model = _with_start(_blended(model, run), run, begun)
            if model.baselines or begun:
                model.save(folder / MODEL)
            start_is_kept = bool(begun and begun.get("kept"))
            own = [] if start_is_kept else run.training_pairs()
            start.keep_training_data(begun, unguided, own, folder / MODEL)
    except KeyboardInterrupt:
        raise stop_request.error() from None
    return folder / MODEL


def _check(settings: Any) -> None:
    """Raise RecipeError for settings of the run's end, before it begins."""
    fit_baselines.check_blend(settings)
    loggers.check(settings.trainer.logger)
    if settings.licence:
        check_line("licence", settings.licence, RecipeError)


def _write_inputs(run: TrainingRun, begun: dict[str, Any] | None, folder: Path) -> None:
    """Write the recipe, the record of the start and the manifest into the run folder."""
    write_text_atomically(folder / CONFIG, recipe_parser.dump(run.settings))
    start.write_start(begun, folder / CHECKPOINTS)
    if isinstance(run.data, Pairs):
        split = run.data.manifest_with_split(run.method.seed)
        with atomic_file(folder / PAIRS) as part:
            split.to_csv(part, index=False)


def _blended(model: Model, run: TrainingRun) -> Model:
    """Return the blend of a model and its baselines, where the recipe has one."""
    shares = run.settings.blend
    if not shares:
        return model
    say(f"blending {run.settings.name} with {', '.join(shares)}", error=True)
    return fit_baselines.blended_model(model, run.settings, run.data, run.method.seed)


def _with_start(model: Model, run: TrainingRun, begun: dict[str, Any] | None) -> Model:
    """Return the start instead of the model where it is better, which `begun` then says."""
    if not begun or run.settings.weights != "best" or not isinstance(run.data, Pairs):
        return model
    if "member" not in begun and not run.settings.blend:  # the checkpoints compared it
        return model
    return keep_start_if_better(model, begun["name"], run.data)


def _say_what_follows(settings: Any) -> None:
    """Print what is fitted after the training, which may take longer than a short training."""
    names = [str(name).rpartition("/")[2] for name in settings.baselines or []]
    if names:
        say(
            f"after the training these baselines are fitted to the same pairs: {', '.join(names)}; "
            "--no-baselines leaves them out",
            error=True,
        )


def _begin(
    run: TrainingRun, unguided: Model | None, checkpoints: Path, resume: bool
) -> dict[str, Any] | None:
    """Take the weights of other models; return the record of the start, if there is one.

    Print what will be done, and what was taken.
    """
    take_unguided(run.method, unguided)
    quiet = not is_first_process()
    if not quiet:
        warn_of_unknown_class(run.method.generator)
        _say_what_follows(run.settings)
    return start.load_start(run.method, run.settings.start, checkpoints, resume=resume, quiet=quiet)


def _for_fine_tuning(
    config: dict[str, Any], given: Sequence[str], settings: Any, checkpoints: Path, resume: bool
) -> Any:
    """Return the settings with defaults for fine-tuning, where the start can be fine-tuned."""
    targets = settings.method.init_args.signature.target
    if start.knows_targets(targets, settings.start, checkpoints, resume=resume):
        said = set_fine_tuning(config, given)
    else:
        said = "the start does not make all target bands: rates and steps are the recipe's"
    if said and is_first_process():
        say(said, error=True)
    return recipe_parser.parse(config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence messages and warnings of Lightning that do not concern users."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    silenced = [logging.getLogger(name) for name in names]
    levels = [log.level for log in silenced]
    for log in silenced:
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
        for log, level in zip(silenced, levels, strict=True):
            log.setLevel(level)
