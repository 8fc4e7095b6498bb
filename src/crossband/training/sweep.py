"""Hyper-parameter search: run a recipe with different options, and write the best recipe.

Optuna chooses the values; every trial is an ordinary run of `fit` in its own folder. The values of
a trial are a pure function of the seed, the trial's number and the earlier trials, so that a
resumed sweep tries the same values as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import importlib
import json
import math
import re
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from crossband.core.atomic import atomic_file, write_text_atomically
from crossband.core.file_names import check_output_name
from crossband.core.hidden_folder import folder_of, remove_leftovers
from crossband.core.messages import say
from crossband.core.own_files import check_own_files, check_own_folder
from crossband.core.yaml_text import parse_yaml, read_yaml
from crossband.errors import CrossbandError, OutputError, RecipeError, TrainingError
from crossband.model.adapt import first_difference
from crossband.training import recipe, recipe_parser
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.fit import fit
from crossband.training.methods.base import Method
from crossband.training.run_folder import (
    CHECKPOINTS,
    CONFIG,
    LOCK,
    is_empty,
    is_recipe,
    locked_folder,
)
from crossband.training.search_space import SearchSpace, read

SPEC, RECIPE, STORE, TABLE, FINAL = (
    "sweep.yaml",
    "recipe.yaml",
    "trials.db",
    "trials.csv",
    "best.yaml",
)
#: All of them; what is left of a kill while they are deleted is a sweep, or `_is_beginning`.
FILES = (TABLE, FINAL, STORE, SPEC, RECIPE)
#: Trials fit no baselines: only the network's own score counts.
ALONE = ["--baselines", "null", "--blend", "null"]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: its folder is `trial-<number>`.
        state: `complete`, `pruned`, `failed` or `running`.
        score: best validation score; None where there was none.
        parameters: option -> value.
    """

    number: int
    state: str
    score: float | None
    parameters: dict[str, Any]


def sweep(
    name: str | Path,
    spec: Path,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    fast_run: bool = False,
) -> tuple[list[Trial], Path]:
    """Search for the best values of some options of a recipe.

    Args:
        name: recipe; see `crossband.training.recipe.locate`.
        spec: YAML file of the search space; see `crossband.training.search_space`.
        overrides: options for every trial.
        output: folder; `runs/<name>-sweep` where None. Gets a folder for each trial, `trials.csv`,
            `best.yaml`, and the files that `resume` needs.
        resume: continue a sweep; finished trials are kept, a stopped trial is resumed.
        overwrite: replace an existing sweep.
        fast_run: two trials of two steps, to test the sweep.

    Returns:
        All trials, and the recipe with the best values.

    Raises:
        RecipeError: unknown names, wrong values; nothing is written.
        OutputError: a sweep exists already, or there is none to resume.
        TrainingError: no trial has a score.
        Interrupted: Ctrl-C; continue with `resume`.
        Preempted: SIGTERM or SIGUSR1; continue with `resume`.
    """
    _optuna()
    wanted = read(spec)
    trials = min(wanted.trials, 2) if fast_run else wanted.trials
    base = _check(name, overrides, wanted)
    folder = output or Path("runs") / f"{base['name']}-sweep"
    _check_folder(folder, wanted, base, resume, overwrite)
    stop_request = StopRequest()
    with _removed_if_empty(folder), locked_folder(folder):
        _check_folder(folder, wanted, base, resume, overwrite)  # another process may be first
        if not resume:
            _prepare(folder, wanted, base)
        try:
            with stop_request.handle_signals(), _quiet():
                study = _Study(folder, wanted, trials, fast_run)
                study.run()
                rows = study.rows()
        except KeyboardInterrupt:
            raise stop_request.error() from None
        except CrossbandError as error:
            # Bad input that only the first trial detects (a manifest, a start) leaves no files.
            bad_input = error.exit_code == CrossbandError.exit_code  # a signal has another
            if bad_input and not resume and not (folder / TABLE).exists():
                _clear(folder)
            raise
    if _best(rows) is None:
        raise TrainingError(f"no trial gave a score; see {folder / TABLE}")
    return rows, folder / FINAL


def trials_table(rows: Sequence[Trial]) -> str:
    """Return the trials as text, with the best one marked."""
    if not rows:
        return ""
    names = list(rows[0].parameters)
    short = [n.rpartition(".")[2] for n in names]
    heads = [s if short.count(s) == 1 else n for n, s in zip(names, short, strict=True)]
    best = _best(rows)
    lines = [["trial", "state", "score", *heads]]
    for row in rows:
        score = "-" if row.score is None else f"{row.score:.5f}"
        mark = "*" if row is best else ""
        values = [_text(row.parameters.get(n)) for n in names]
        lines.append([str(row.number), row.state, score + mark, *values])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*text, "* best: lowest validation score"])


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
            raise _optuna().TrialPruned


class _Study:
    """Optuna's study, stored in the output folder, and the runs of its trials."""

    def __init__(self, folder: Path, spec: SearchSpace, trials: int, fast_run: bool) -> None:
        self.folder, self.spec, self.trials, self.fast_run = folder, spec, trials, fast_run
        self.optuna = _optuna()
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
                _lowest(trial.intermediate_values),
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
        score = _lowest(self.study.trials[trial.number].intermediate_values)
        if score is None and state == "COMPLETE":
            state, why = "FAIL", ": no validation score that is finite"
        self.study.tell(trial, score if state == "COMPLETE" else None, state=states[state])
        row = self.rows()[trial.number]
        text = "no score" if score is None else f"score {score:.5f}"
        values = " ".join(f"{k.rpartition('.')[2]}={_text(v)}" for k, v in row.parameters.items())
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
            best = _best(rows)
            for row in rows:
                values = [_text(row.parameters.get(n)) for n in names]
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


def _best(rows: Sequence[Trial]) -> Trial | None:
    """Return the best of the completed trials; pruned ones do not count."""
    scored = [(row.score, row.number, row) for row in rows if row.state == "complete"]
    known = [item for item in scored if item[0] is not None]
    return min(known, key=lambda item: item[:2])[2] if known else None


def _lowest(values: dict[int, float]) -> float | None:
    finite = [value for value in values.values() if math.isfinite(value)]
    return min(finite) if finite else None


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _check(name: str | Path, overrides: Sequence[str], spec: SearchSpace) -> dict[str, Any]:
    """Return the full recipe, after building it with each choice or end of a range."""
    base = recipe_parser.parse(recipe.load(name, overrides))
    tried = [base]
    for parameter in spec.parameters:
        for value in parameter.samples():
            text = f"--{parameter.name}={json.dumps(value)}"
            tried.append(recipe_parser.parse(recipe.load(name, [*overrides, *ALONE, text])))
            recipe_parser.instantiate(tried[-1])
    if any(settings.trainer.devices * settings.trainer.num_nodes > 1 for settings in tried):
        raise RecipeError("a sweep runs each trial in one process: set trainer.devices to 1")
    full: dict[str, Any] = parse_yaml(recipe_parser.dump(base))
    return full


def _check_folder(
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


def _prepare(folder: Path, spec: SearchSpace, base: dict[str, Any]) -> None:
    """Write the first files of a sweep; the one that names it as a sweep comes last."""
    try:
        _clear(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
    write_text_atomically(folder / RECIPE, yaml.safe_dump(base, sort_keys=False))
    write_text_atomically(folder / SPEC, yaml.safe_dump(spec.fixed(), sort_keys=False))


def _clear(folder: Path) -> None:
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
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder after an error if nothing is left in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it contains something
            folder.rmdir()
        raise


def _optuna() -> Any:
    """Import Optuna, which is an optional dependency."""
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise CrossbandError(
            "a sweep needs Optuna, which is not installed: pip install 'crossband[sweep]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's messages; ours report the same with the names of the recipe."""
    optuna = _optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"optuna\..*")
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
