"""Train a recipe: from a name and a manifest to a model folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from crossband.core.atomic import atomic_file, write_text_atomically
from crossband.data.module import Pairs
from crossband.training import fine_tune as start
from crossband.training import fit_baselines, loggers, recipe, recipe_parser, run_folder
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.run import TrainingRun, describe, trained_model
from crossband.training.run_folder import CHECKPOINTS, CONFIG, MODEL, PAIRS, is_first_process


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
        resume: resume from `checkpoints/last.ckpt`, or from the newest readable checkpoint.
        overwrite: replace an existing run.
        fast_run: two steps only, to test the recipe.
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
    if fast_run:
        fit_baselines.shorten(config)
    fit_baselines.check_names(config.get("baselines"))  # before the training, not after it
    settings = recipe_parser.parse(config)
    fit_baselines.check_blend(settings)
    loggers.check(settings.trainer.logger)
    folder = output or Path("runs") / str(settings.name)
    run_folder.check(folder, resume, overwrite)
    stop_request = StopRequest()
    run = TrainingRun(settings, str(settings.name), folder, stop_request, callbacks)
    begun = start.load_start(
        run.method,
        settings.start,
        folder / CHECKPOINTS,
        resume=resume,
        quiet=not is_first_process(),
    )
    try:
        with stop_request.handle_signals(), _quiet(), ExitStack() as stack:
            run.prepare()
            if is_first_process():
                stack.enter_context(run_folder.run_folder(folder, resume, overwrite))
                write_text_atomically(folder / CONFIG, recipe_parser.dump(settings))
                start.write_start(begun, folder / CHECKPOINTS)
                if isinstance(run.data, Pairs):
                    split = run.data.manifest_with_split(run.method.seed)
                    with atomic_file(folder / PAIRS) as part:
                        split.to_csv(part, index=False)
            trained = run.train(resume)
            if not run.is_first_process:
                return folder / MODEL
            model = trained_model(run, settings, trained)
            model.about["training"] = describe(run, settings)
            model.about["training"]["resumed"] = resume
            model.about["training"]["start"] = begun
            model.save(folder / MODEL)
            for baseline in settings.baselines or []:
                short = Path(baseline).stem
                model.baselines[short] = fit_baselines.fit_baseline(
                    baseline, config, settings, fast_run, stop_request
                )
            if settings.blend:
                model = fit_baselines.blended_model(model, settings, run.data, run.method.seed)
            if model.baselines:
                model.save(folder / MODEL)
    except KeyboardInterrupt:
        raise stop_request.error() from None
    return folder / MODEL


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence messages and warnings of Lightning that do not concern users."""
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
