"""Hyper-parameter search: run a recipe with different options, and write the best recipe.

Optuna chooses the values; every trial is an ordinary run of `fit` in its own folder. The values of
a trial are a pure function of the seed, the trial's number and the earlier trials, so that a
resumed sweep tries the same values as an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossband.core.python_words import public
from crossband.core.yaml_text import parse_yaml
from crossband.errors import CrossbandError, RecipeError, TrainingError
from crossband.training import recipe, recipe_parser
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.run_folder import locked_folder
from crossband.training.search_space import SearchSpace, read
from crossband.training.study import ALONE, Study, optuna_module, quiet
from crossband.training.sweep_folder import (
    FINAL,
    TABLE,
    check_folder,
    clear,
    prepare,
    removed_if_empty,
)
from crossband.training.trials import Trial, best_trial
from crossband.translate.options import WriteOptions


@public(WriteOptions)
def sweep(
    name: str | Path,
    spec: str | Path,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
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
        output: folder; by default `runs/<name>-sweep`. Gets a folder for each trial, `trials.csv`,
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
    optuna_module()
    wanted = read(Path(spec))
    trials = min(wanted.trials, 2) if fast_run else wanted.trials
    base = _check(name, overrides, wanted)
    folder = Path(output or Path("runs") / f"{base['name']}-sweep")
    check_folder(folder, wanted, base, resume, overwrite)
    stop_request = StopRequest()
    with removed_if_empty(folder), locked_folder(folder):
        check_folder(folder, wanted, base, resume, overwrite)  # another process may be first
        if not resume:
            prepare(folder, wanted, base)
        try:
            with stop_request.handle_signals(), quiet():
                study = Study(folder, wanted, trials, fast_run)
                study.run()
                rows = study.rows()
        except KeyboardInterrupt:
            raise stop_request.error() from None
        except CrossbandError as error:
            # Bad input that only the first trial detects (a manifest, a start) leaves no files.
            bad_input = error.exit_code == CrossbandError.exit_code  # a signal has another
            if bad_input and not resume and not (folder / TABLE).exists():
                clear(folder)
            raise
    if best_trial(rows) is None:
        raise TrainingError(f"no trial gave a score; see {folder / TABLE}")
    return rows, folder / FINAL


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
