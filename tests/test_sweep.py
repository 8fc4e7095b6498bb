"""`--sweep`: what is tried, what is written, stopping and going on, bad input."""

from __future__ import annotations

import csv
import math
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml
from commands import one_line, wait_until
from fitting import RECIPE, options, pairs  # noqa: F401  (a fixture)
from tiers import slow

from crossband import load
from crossband.cli.main import main
from crossband.errors import CrossbandError, Interrupted, OutputError, RecipeError, TrainingError
from crossband.training import recipe
from crossband.training.fit import fit
from crossband.training.losses.pixel import L1
from crossband.training.methods.base import Method
from crossband.training.search_space import Parameter, read
from crossband.training.sweep import sweep
from crossband.training.trials import trials_table

pytest.importorskip("optuna", reason="Optuna is not installed (the extra 'sweep')")

LR = "method.optimizer.lr"
WIDTH = "method.generator.width"
DEPTH = "method.generator.depth"
#: Two validations in a trial of six steps.
SHORT = ["--method.max_steps", "6", "--data.steps", "3", "--trainer.logger", "none"]


def spec(folder, **changes):
    """Write a sweep of three trials."""
    content = {
        "trials": 3,
        "prune": False,
        "seed": 4,
        "parameters": {
            LR: {"low": "1e-4", "high": "1e-2", "log": True},
            DEPTH: {"low": 0, "high": 2},
        },
    }
    content |= changes
    path = folder / "what.yaml"
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def after_step(monkeypatch, at, happens):
    """Let something happen after the nth training step of all."""
    original, seen = Method.training_step, [0]

    def step(self, batch, index):
        original(self, batch, index)
        seen[0] += 1
        if seen[0] == at:
            happens()

    monkeypatch.setattr(Method, "training_step", step)


def tried(rows):
    return [(row.number, row.state, row.score, row.parameters) for row in rows]


@pytest.mark.slow
def test_what_a_sweep_leaves(pairs, linear, tmp_path, capsys):  # noqa: F811
    arguments = options(pairs, *SHORT, "--baselines", f"[{linear}]")
    rows, best = sweep(RECIPE, spec(tmp_path), arguments, tmp_path / "s")
    assert best == tmp_path / "s/best.yaml"
    assert {p.name for p in (tmp_path / "s").iterdir()} == {
        *("sweep.yaml", "recipe.yaml", "trials.db", "trials.csv", "best.yaml"),
        *("trial-000", "trial-001", "trial-002"),
    }
    assert [(row.number, row.state) for row in rows] == [(n, "complete") for n in range(3)]
    for row in rows:
        model = load(tmp_path / f"s/trial-{row.number:03d}/model")
        init = model.about["training"]["config"]["method"]["init_args"]
        assert init["optimizer"]["init_args"]["lr"] == row.parameters[LR]
        assert init["generator"]["init_args"]["depth"] == row.parameters[DEPTH]
        assert isinstance(row.parameters[DEPTH], int)
        assert 1e-4 <= row.parameters[LR] <= 1e-2
        assert not model.baselines
        state = torch.load(
            tmp_path / f"s/trial-{row.number:03d}/checkpoints/best.ckpt", weights_only=True
        )
        lowest = min(c["best"] for c in state["callbacks"].values() if "best" in c)
        assert row.score == pytest.approx(lowest)
    assert len({row.parameters[LR] for row in rows}) == 3
    winner = min(rows, key=lambda row: row.score)
    with (tmp_path / "s/trials.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["best"] for line in lines] == ["*" if r is winner else "" for r in rows]
    assert [float(line["score"]) for line in lines] == [row.score for row in rows]
    text = trials_table(rows).splitlines()
    assert text[0].split() == ["trial", "state", "score", "lr", "depth"]
    assert [line.split()[0] for line in text if "*" in line] == [str(winner.number), "*"]
    assert text[winner.number + 1].split()[2] == f"{winner.score:.5f}*"
    assert capsys.readouterr().err.count("\ntrial ") == 3
    # The best recipe is whole: it runs as it is, with its baselines, and to the trial's weights.
    config = yaml.safe_load(best.read_text())
    assert config["baselines"] == [str(linear)]
    again = load(fit(best, [], tmp_path / "best"))
    assert set(again.baselines) == {"linear"}
    of_trial = load(tmp_path / f"s/trial-{winner.number:03d}/model").network.state_dict()
    assert all(torch.equal(of_trial[k], v) for k, v in again.network.state_dict().items())


@pytest.mark.parametrize(("sampler", "trials"), [slow("tpe", 13), slow("random", 4)])
def test_the_same_seed_tries_the_same(pairs, tmp_path, monkeypatch, sampler, trials):  # noqa: F811
    """Trials are replaced by a formula: what counts here is what the sampler suggests."""

    def formula(name, overrides, folder, *, callbacks, **rest):
        chosen = dict(o[2:].split("=") for o in overrides if "=" in o)
        callbacks[0].trial.report(abs(float(chosen[LR]) - 3e-3) + float(chosen[DEPTH]), 1)

    monkeypatch.setattr("crossband.training.study.fit", formula)
    arguments = options(pairs)
    whole = spec(tmp_path, trials=trials, sampler=sampler)
    one, _ = sweep(RECIPE, whole, arguments, tmp_path / "one")
    other = spec(tmp_path, trials=2, sampler=sampler, seed=5)
    assert tried(sweep(RECIPE, other, arguments, tmp_path / "other")[0]) != tried(one[:2])
    # Begun with some and gone on to the end: the same as all at once.
    part = spec(tmp_path, trials=trials // 2, sampler=sampler)
    begun, _ = sweep(RECIPE, part, arguments, tmp_path / "parts")
    assert tried(begun) == tried(one[: trials // 2])
    whole = spec(tmp_path, trials=trials, sampler=sampler)
    rows, _ = sweep(RECIPE, whole, arguments, tmp_path / "parts", resume=True)
    assert tried(rows) == tried(one)
    if sampler == "tpe":  # it learned that a depth of 0 is best
        assert sum(row.parameters[DEPTH] == 0 for row in rows[-3:]) >= 2


@pytest.mark.slow
def test_a_grid_tries_every_point_once(pairs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        "crossband.training.study.fit",
        lambda *a, callbacks, **k: callbacks[0].trial.report(1.0, 1),
    )
    parameters = {
        "method.optimizer.betas": {"choices": [[0.9, 0.99], [0.8, 0.9]]},
        "method.clip": {"low": 0.5, "high": 1.5, "step": 0.5},
        DEPTH: {"low": 1, "high": 2},
    }
    path = spec(tmp_path, trials=50, sampler="grid", parameters=parameters)
    rows, _ = sweep(RECIPE, path, options(pairs), tmp_path / "s")
    points = {tuple(map(str, row.parameters.values())) for row in rows}
    assert len(rows) == len(points) == 12
    assert rows[0].parameters["method.optimizer.betas"] in ([0.9, 0.99], [0.8, 0.9])


@pytest.mark.slow
def test_bad_trials_are_pruned(pairs, tmp_path):  # noqa: F811
    """A learning rate of nothing stays where it began; the median of the others is better."""
    parameters = {LR: {"choices": [1e-9, 0.02]}}
    path = spec(
        tmp_path, trials=6, sampler="random", parameters=parameters, prune={"startup_trials": 2}
    )
    arguments = options(pairs, *SHORT, "--method.schedule", "Constant")
    rows, _ = sweep(RECIPE, path, arguments, tmp_path / "s")
    states = {
        row.parameters[LR]: {r.state for r in rows[2:] if r.parameters == row.parameters}
        for row in rows
    }
    assert states[1e-9] == {"pruned"}
    assert "complete" in states[0.02]
    for row in rows:
        ended = (tmp_path / f"s/trial-{row.number:03d}/model").exists()
        assert ended == (row.state == "complete")
        assert row.score is not None


@pytest.mark.slow
def test_a_failed_trial_does_not_end_the_sweep(pairs, tmp_path, monkeypatch, capsys):  # noqa: F811
    calls = []

    def counting(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("no memory left\nand a page of numbers")
        with monkeypatch.context() as patch:
            if len(calls) == 2:
                patch.setattr(L1, "forward", lambda self, p: p.output.mean((1, 2, 3)) * math.nan)
            return fit(*arguments, **keywords)

    monkeypatch.setattr("crossband.training.study.fit", counting)
    rows, _ = sweep(RECIPE, spec(tmp_path, trials=4), options(pairs, *SHORT), tmp_path / "s")
    assert [row.state for row in rows] == ["complete", "failed", "failed", "complete"]
    err = capsys.readouterr().err
    assert "trial 1 of 4: failed: step 1: L1 is nan" in err
    assert "trial 2 of 4: failed: no memory left, no score" in err
    # Finished trials, failed ones too, are not run again.
    sweep(RECIPE, spec(tmp_path, trials=4), options(pairs, *SHORT), tmp_path / "s", resume=True)
    assert len(calls) == 4


@pytest.mark.slow
def test_a_sweep_in_which_all_fail_says_so(pairs, tmp_path, monkeypatch):  # noqa: F811
    def broken(*arguments, **keywords):
        raise TrainingError("step 1: L1 is nan")

    monkeypatch.setattr("crossband.training.study.fit", broken)
    with pytest.raises(TrainingError, match=r"no trial gave a score; see .*trials\.csv"):
        sweep(RECIPE, spec(tmp_path), options(pairs), tmp_path / "s")
    assert (tmp_path / "s/trials.csv").read_text().count("failed") == 3


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_to_the_same_end(pairs, tmp_path, monkeypatch):  # noqa: F811
    arguments = options(pairs, *SHORT)
    whole, best = sweep(RECIPE, spec(tmp_path), arguments, tmp_path / "whole")
    with monkeypatch.context() as patch:
        after_step(patch, 11, lambda: signal.raise_signal(signal.SIGINT))  # trial 1, step 5
        with pytest.raises(Interrupted, match="trial 1: stopped after step 5; go on with") as error:
            sweep(RECIPE, spec(tmp_path), arguments, tmp_path / "parts")
    assert error.value.exit_code == 130
    done = (tmp_path / "parts/trial-000/model/model.safetensors").stat().st_mtime_ns
    rows, again = sweep(RECIPE, spec(tmp_path), arguments, tmp_path / "parts", resume=True)
    assert tried(rows) == tried(whole)
    assert again.read_text() == best.read_text()
    after = (tmp_path / "parts/trial-000/model/model.safetensors").stat().st_mtime_ns
    assert after == done
    weights = "trial-001/model/model.safetensors"
    assert (tmp_path / "parts" / weights).read_bytes() == (
        tmp_path / "whole" / weights
    ).read_bytes()


@pytest.mark.slow
def test_killed_in_a_process_of_its_own(interpreters, pairs, tmp_path):  # noqa: F811
    arguments = ["fit", RECIPE, "--sweep", spec(tmp_path), "-o", tmp_path / "s", *options(pairs)]
    arguments += ["--method.max_steps", "4000", "--data.steps", "20", "--trainer.logger", "none"]
    process = interpreters.start("-m", "crossband", *arguments)
    last = tmp_path / "s/trial-000/checkpoints/last.ckpt"
    wait_until(last.exists, process)
    process.kill()
    process.wait()
    step = torch.load(last, weights_only=True)["crossband"]["step"]
    assert 0 < step < 4000
    longer = [*options(pairs), "--method.max_steps", "4000", "--data.steps", "20"]
    with pytest.raises(RecipeError, match=r"trainer\.logger was none in this sweep"):
        sweep(RECIPE, spec(tmp_path), longer, tmp_path / "s", resume=True)
    # To keep the test short the recipe of the sweep is shortened as if it had always been so.
    kept = tmp_path / "s/recipe.yaml"
    kept.write_text(kept.read_text().replace("max_steps: 4000", f"max_steps: {step + 3}"))
    longer = [*longer, "--method.max_steps", str(step + 3), "--trainer.logger", "none"]
    rows, _ = sweep(RECIPE, spec(tmp_path, trials=1), longer, tmp_path / "s", resume=True)
    assert [(row.number, row.state) for row in rows] == [(0, "complete")]
    training = load(tmp_path / "s/trial-000/model").about["training"]
    assert (training["resumed"], training["steps"]) == (True, step + 3)


@pytest.mark.slow
def test_the_folder(pairs, tmp_path):  # noqa: F811
    arguments, path = options(pairs), spec(tmp_path)
    with pytest.raises(OutputError, match=r"nothing to resume: no sweep\.yaml"):
        sweep(RECIPE, path, arguments, tmp_path / "s", resume=True)
    rows, _ = sweep(RECIPE, path, arguments, tmp_path / "s", fast_run=True)
    assert len(rows) == 2
    with pytest.raises(OutputError, match="a sweep is there already; use --resume or --overwrite"):
        sweep(RECIPE, path, arguments, tmp_path / "s")
    with pytest.raises(RecipeError, match="exclude each other"):
        sweep(RECIPE, path, arguments, tmp_path / "s", resume=True, overwrite=True)
    with pytest.raises(RecipeError, match="seed was 4 in this sweep and is 9 now"):
        sweep(RECIPE, spec(tmp_path, seed=9), arguments, tmp_path / "s", resume=True)
    (tmp_path / "s/mine.txt").write_text("keep")
    (tmp_path / "s/trial-notes").mkdir()
    path = spec(tmp_path, seed=9)
    again, _ = sweep(RECIPE, path, arguments, tmp_path / "s", overwrite=True, fast_run=True)
    assert again[0].parameters != rows[0].parameters
    assert (tmp_path / "s/mine.txt").read_text() == "keep"
    assert (tmp_path / "s/trial-notes").is_dir()
    with pytest.raises(OutputError, match="exists and is no sweep"):
        sweep(RECIPE, path, arguments, tmp_path, overwrite=True)


@pytest.mark.slow
def test_bad_input_in_the_first_trial_leaves_nothing(pairs, tmp_path):  # noqa: F811
    path = spec(tmp_path)
    for more, words in (
        (["--data.manifest", "none.csv"], "trial 0: none.csv: no such manifest"),
        (["--data.val_fraction", "0"], "trial 0: .* nothing to validate on"),
        (["--start", "nowhere"], "trial 0: unknown model 'nowhere'"),
    ):
        with pytest.raises(CrossbandError, match=words):
            sweep(RECIPE, path, options(pairs, *more), tmp_path / "s")
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 3}, "unknown key 'trails': did you mean 'trials'?"),
        ({"trials": 0}, "trials must be a whole number of at least 1, not 0"),
        ({"trials": "many"}, "trials must be a whole number"),
        ({"sampler": "tpa"}, "unknown sampler 'tpa': did you mean 'tpe'?"),
        ({"prune": {"warmup": 3}}, "unknown key 'warmup': did you mean 'warmup_steps'?"),
        ({"prune": "yes please"}, "prune must be a mapping"),
        ({"seed": -1}, "seed must be"),
        ({"parameters": None}, "parameters is missing"),
        ({"parameters": {LR: {"low": 1, "hihg": 2}}}, "unknown key 'hihg': did you mean 'high'?"),
        ({"parameters": {LR: {"low": 1}}}, f"{LR}: high is missing"),
        ({"parameters": {LR: [1, 2]}}, f"{LR} must be a mapping"),
        ({"parameters": {LR: {"low": 2, "high": 1}}}, "low must be below high"),
        ({"parameters": {LR: {"low": "a", "high": 1}}}, "low must be a number, not 'a'"),
        ({"parameters": {LR: {"low": 0, "high": 1, "log": True}}}, "low must be above 0"),
        ({"parameters": {LR: {"low": 0.0, "high": 1, "step": 0.3}}}, "a number of steps of 0.3"),
        ({"parameters": {LR: {"choices": []}}}, "choices must be a list"),
        ({"parameters": {LR: {"choices": [1], "low": 1}}}, "either choices, or low and high"),
        ({"parameters": {LR: {"choices": [1, 1]}}}, "a value is there twice"),
        ({"parameters": {"blend": {"choices": [1]}}}, "score does not depend on it"),
        (
            {"sampler": "grid", "parameters": {LR: {"low": 0.1, "high": 0.2}}},
            "a grid needs choices",
        ),
        # Names and values that only the recipe can judge.
        ({"parameters": {"method.optimizer.lrr": {"low": 1, "high": 2}}}, "did you mean"),
        ({"parameters": {WIDTH: {"choices": [8, "wide"]}}}, "Expected a int. Got value: wide"),
        ({"parameters": {WIDTH: {"low": 0, "high": 8}}}, "must be at least 1"),
        (
            {"parameters": {"method.generator": {"choices": ["LocalUnt"]}}},
            "did you mean 'LocalUNet'",
        ),
        ({"parameters": {"trainer.devices": {"choices": [2]}}}, "each trial in one process"),
    ],
)
def test_a_wrong_sweep_is_one_line_and_writes_nothing(pairs, tmp_path, changes, words):  # noqa: F811
    with pytest.raises(RecipeError) as error:
        sweep(RECIPE, spec(tmp_path, **changes), options(pairs), tmp_path / "s")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "s").exists()


def test_values_as_yaml_writes_them(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "parameters:\n  a: {low: 1e-4, high: 1e-2, log: true}\n  b: {choices: [1e-3, x, null]}\n"
        "  c: {low: 1, high: 5, step: 2}\n  d: {low: 0, high: 1, step: 0.5}\n"
    )
    found = read(path)
    assert (found.trials, found.sampler, found.prune, found.startup_trials) == (20, "tpe", True, 5)
    a, b, c, d = found.parameters
    assert a == Parameter("a", (), 1e-4, 1e-2, None, True)
    assert b.choices == (1e-3, "x", None)
    assert c.is_integer
    assert c.grid() == [1, 3, 5]
    assert not d.is_integer
    assert d.grid() == [0.0, 0.5, 1.0]


def test_several_processes_are_refused(pairs, tmp_path):  # noqa: F811
    with pytest.raises(RecipeError, match="one process"):
        sweep(RECIPE, spec(tmp_path), options(pairs, "--trainer.devices", "2"), tmp_path / "s")


def test_without_optuna_it_says_what_to_install(pairs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CrossbandError, match=r"pip install 'crossband\[sweep\]'"):
        sweep(RECIPE, spec(tmp_path), options(pairs), tmp_path / "s")
    assert not (tmp_path / "s").exists()
    recipe.load(RECIPE)  # and everything else works
    fit(RECIPE, options(pairs), tmp_path / "run", fast_run=True)


@pytest.mark.slow
def test_the_command(crossband_command, pairs, tmp_path, capsys):  # noqa: F811
    parameters = {WIDTH: {"choices": [8, 12]}, "method.clip": {"low": 1, "high": 2}}
    path = spec(tmp_path, parameters=parameters)
    arguments = ["fit", RECIPE, "--sweep", path, "-o", tmp_path / "s", "--data.manifest", pairs]
    done = crossband_command(*arguments, "--fast-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["trial", "state", "score", "width", "clip"]
    assert lines[-1] == str(tmp_path / "s/best.yaml")
    assert Path(lines[-1]).is_file()
    assert "Traceback" not in done.stderr
    assert "[I " not in done.stderr  # Optuna's own lines
    one_line(crossband_command(*arguments), "--resume", "--overwrite")
    # A finished sweep only says again what it found.
    assert main([*map(str, arguments), "--fast-run", "--resume"]) == 0
    assert capsys.readouterr().out == done.stdout
    for wrong, words in (
        (["fit", "--sweep", str(path)], "--sweep needs a recipe"),
        (["fit", str(RECIPE), "--sweep", "none.yaml"], "--sweep none.yaml: no such file"),
    ):
        assert main(wrong) == 2
        assert words in capsys.readouterr().err
