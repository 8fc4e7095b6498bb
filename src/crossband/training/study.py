"""Optuna's study of a sweep, and the runs of its trials."""

from __future__ import annotations

import contextlib
import csv
import gc
import importlib
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from crossband.core.atomic import atomic_file, write_text_atomically
from crossband.core.messages import say
from crossband.errors import CrossbandError, RecipeError, TrainingError
from crossband.training import recipe, recipe_parser
from crossband.training.fit import fit
from crossband.training.methods.base import Method
from crossband.training.run_folder import CHECKPOINTS
from crossband.training.search_space import SearchSpace
from crossband.training.sweep_folder import FINAL, RECIPE, STORE, TABLE
from crossband.training.trials import Trial, best_trial, lowest, value_text

#: Trials fit no baselines: only the network's own score counts.
ALONE = ["--baselines", "null", "--blend", "null"]


class PruningCallback(Callback):
    """Reports the score of each validation to Optuna, and stops a trial that Optuna prunes.

    Args:
        trial: Optuna's trial.
        prune: stop bad trials.
    """

    def __init__(self, trial: Any, prune: bool) -> None:
        self.trial, self.prune = trial, prune

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Raise RecipeError if there is no validation data."""
        if not sum(map(int, trainer.num_val_batches)):
            raise RecipeError(
                "a sweep compares validation scores, and there is nothing to validate on: give "
                "rows of split 'val', or data.val_fraction above 0"
            )

    # The checkpoint follows at the end of the epoch. A trial that is killed before it reports the
    # same step again when resumed; Optuna keeps the first report.
    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Report the score, and stop if it is worse than the median of the other trials."""
        assert isinstance(pl_module, Method)
        if trainer.sanity_checking or pl_module.score is None:
            return
        self.trial.report(pl_module.score, pl_module.step)
        if self.prune and self.trial.should_prune():
            raise optuna_module().TrialPruned


class Study:
    """Optuna's study, stored in the output folder, and the runs of its trials."""

    def __init__(self, folder: Path, spec: SearchSpace, trials: int, fast_run: bool) -> None:
        self.folder, self.spec, self.trials, self.fast_run = folder, spec, trials, fast_run
        self.optuna = optuna_module()
        self.written = -1  # number of the trial in best.yaml
        self.points = spec.grid() if spec.sampler == "grid" else []
        pruner = self.optuna.pruners.MedianPruner(
            n_startup_trials=spec.startup_trials, n_warmup_steps=spec.warmup_steps
        )
        self.study = self.optuna.create_study(
            storage=f"sqlite:///{(folder / STORE).resolve()}",
            study_name="sweep",
            direction="minimize",
            pruner=pruner,
            load_if_exists=True,
        )

    def run(self) -> None:
        """Resume trials that were stopped, then start new ones."""
        for frozen in self.study.get_trials(deepcopy=False):
            if not frozen.state.is_finished():
                self._sampler(frozen.number)
                # Resume a stopped trial under its number; Optuna itself would mark it as failed
                # and start another one.
                self._run(self.optuna.Trial(self.study, frozen._trial_id))
        while len(self.study.get_trials(deepcopy=False)) < self.trials:
            self._sampler(len(self.study.get_trials(deepcopy=False)))
            self._run(self.study.ask())
        self._write()

    def rows(self) -> list[Trial]:
        """Return all trials."""
        named = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        parameters = {p.name: p for p in self.spec.parameters}
        return [
            Trial(
                trial.number,
                named.get(trial.state.name, "running"),
                lowest(trial.intermediate_values),
                {k: p.value(trial.params[k]) for k, p in parameters.items() if k in trial.params},
            )
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def _sampler(self, number: int) -> None:
        """Seed the sampler with the trial's number, so that a resumed sweep draws new values."""
        samplers, seed = self.optuna.samplers, self.spec.seed
        own = (seed + 1_000_003 * (number + 1)) % 2**32
        if self.spec.sampler == "grid":
            # Optuna's own grid sampler needs its loop, which cannot resume a trial.
            base = samplers.RandomSampler(seed=own)
            self.study.sampler = samplers.PartialFixedSampler(self.points[number], base)
        elif self.spec.sampler == "random":
            self.study.sampler = samplers.RandomSampler(seed=own)
        else:
            self.study.sampler = samplers.TPESampler(seed=own)

    def _run(self, trial: Any) -> None:
        gc.collect()  # free the previous Trainer and networks, which reference each other
        chosen = {p.name: p.suggest(trial) for p in self.spec.parameters}
        folder = self.folder / f"trial-{trial.number:03d}"
        overrides = [f"--{name}={json.dumps(value)}" for name, value in chosen.items()]
        resume = any(folder.glob(f"{CHECKPOINTS}/*.ckpt"))
        states, state = self.optuna.trial.TrialState, "COMPLETE"
        started, why = time.monotonic(), ""
        try:
            fit(
                self.folder / RECIPE,
                [*ALONE, *overrides],
                folder,
                resume=resume,
                overwrite=not resume and folder.exists(),
                fast_run=self.fast_run,
                callbacks=[PruningCallback(trial, self.spec.prune)],
            )
        except self.optuna.TrialPruned:
            state = "PRUNED"
        except (TrainingError, torch.OutOfMemoryError) as error:
            state, why = "FAIL", f": {str(error).splitlines()[0]}"
        except CrossbandError as error:
            # Stopped, or bad input, which would fail in every trial. The trial stays unfinished, so
            # that a resumed sweep continues it.
            raise type(error)(f"trial {trial.number}: {error}") from error
        score = lowest(self.study.trials[trial.number].intermediate_values)
        if score is None and state == "COMPLETE":
            state, why = "FAIL", ": no validation score that is finite"
        self.study.tell(trial, score if state == "COMPLETE" else None, state=states[state])
        row = self.rows()[trial.number]
        text = "no score" if score is None else f"score {score:.5f}"
        values = " ".join(
            f"{k.rpartition('.')[2]}={value_text(v)}" for k, v in row.parameters.items()
        )
        say(
            f"trial {trial.number} of {self.trials}: {row.state}{why}, {text}, "
            f"{time.monotonic() - started:.0f} s, {values}",
            error=True,
        )
        self._write()

    def _write(self) -> None:
        """Write the table and the best recipe; called after every trial."""
        rows = self.rows()
        names = [p.name for p in self.spec.parameters]
        with (
            atomic_file(self.folder / TABLE) as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            out = csv.writer(file)
            out.writerow(["trial", "state", "score", "best", *names])
            best = best_trial(rows)
            for row in rows:
                values = [value_text(row.parameters.get(n)) for n in names]
                score = "" if row.score is None else repr(row.score)
                out.writerow([row.number, row.state, score, "*" if row is best else "", *values])
        if best is not None and best.number != self.written:
            self.written = best.number
            config = recipe.load(self.folder / RECIPE)
            for name, value in best.parameters.items():
                recipe.set_option(config, name, value)
            write_text_atomically(
                self.folder / FINAL, recipe_parser.dump(recipe_parser.parse(config))
            )


def optuna_module() -> Any:
    """Import Optuna, which is an optional dependency."""
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise CrossbandError(
            "a sweep needs Optuna, which is not installed: pip install 'crossband[sweep]'"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's messages; ours report the same with the names of the recipe."""
    optuna = optuna_module()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"optuna\..*")
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
