"""Reference runs: options, curves and claims by hand; a run of two steps on tiny pairs, resumed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from crossband import load

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPT = FOLDER / "reference.py"
NAME = "rgb2nir/discrete-flow-matching"


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import reference_shown

    return reference_shown


@pytest.fixture
def reference(shown):
    import reference

    return reference


def points(*values):
    return pd.DataFrame({"step": 100 * np.arange(1, len(values) + 1), "value": values})


def test_the_crps_of_draws(shown):
    """Of one that is right always 0; of two, half of their distance less than the mean error."""
    truth = np.array([0.0, 1.0])
    assert shown.crps(np.zeros((4, 2)), truth).tolist() == [0.0, 1.0]
    assert shown.crps(np.array([[-1.0, 0.0], [1.0, 4.0]]), truth).tolist() == [0.0, 0.0]
    rng = np.random.default_rng(0)
    drawn, true = rng.normal(size=(16, 4000)), rng.normal(size=4000)
    # Of a standard normal by itself it is 1 / sqrt(pi).
    assert shown.crps(drawn, true).mean() == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)
    apart = np.abs(drawn[:, None] - drawn[None]).sum(axis=(0, 1)) / (16 * 15)
    by_hand = np.abs(drawn - true).mean(axis=0) - 0.5 * apart
    np.testing.assert_allclose(shown.crps(drawn, true), by_hand)


def test_the_slope_is_that_of_the_last_half(shown):
    assert shown.slope(points(9.0, 9.0, 9.0, 2.0, 1.5, 1.0)) == pytest.approx(-100.0)
    assert shown.slope(points(5.0, 4.0, 3.0, 3.0)) == pytest.approx(0.0)
    assert math.isnan(shown.slope(points()))


def test_what_falls(shown):
    assert shown.falls("error", points(3.0, 2.0, 1.0, 1.0, 1.0)).holds
    assert not shown.falls("error", points(1.0, 1.0, 1.0, 1.0, 2.0)).holds
    assert not shown.falls("error", points()).holds
    assert not shown.less("MAE", math.nan, "mean", 1.0).holds


def test_options_of_a_reference_run(reference, tmp_path):
    from crossband.training import recipe

    for name in reference.names():
        words = reference.options(name, tmp_path / "pairs.csv")
        config = recipe.load(name, words)
        assert config["baselines"] == []
        assert config["trainer"]["logger"] == "csv"
        for key, value in config["reference"].items():
            assert f"--{key}={json.dumps(value)}" in words
        short = recipe.load(name, reference.options(name, tmp_path / "pairs.csv", 4))
        assert short["method"]["init_args"]["max_steps"] == 4


@pytest.fixture
def script(interpreters, tmp_path):
    table = pd.read_csv(tiny.pairs(tmp_path / "pairs", "rgb2nir", 6, 72, 80))
    table["split"] = ["train"] * 3 + ["val"] + ["test"] * 2
    table["group"] = [f"place {n}" for n in range(6)]
    for side in ("source", "target"):
        table[side] = [str(tmp_path / "pairs" / name) for name in table[side]]
    table.to_csv(tmp_path / "own.csv", index=False)

    def run(what, *more):
        return interpreters.run(
            SCRIPT, what, "--only", NAME, "--output", tmp_path / "runs",
            "--manifest", tmp_path / "own.csv", "--steps", 2, *more,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_a_run_is_fitted_judged_and_shown_once(script, tmp_path):
    assert "not finished" in script("table").stdout
    done = script("run")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / NAME
    found = json.loads((folder / "shown.json").read_text())
    assert found["draws"]["places"] == 2
    assert 0 < found["draws"]["crps"] < found["draws"]["mae_of_mean"] * 2
    line = next(x for x in script("table").stdout.splitlines() if NAME in x)
    assert f"| {2 * 16:,} | - |" in line  # two points have no slope
    assert "MAE of the mean of 16 draws" in line and "linear" in line  # noqa: PT018
    assert "error at unseen places: from" in line
    assert script("curves").stdout.strip() == str(tmp_path / "runs" / "reference.png")
    assert (tmp_path / "runs" / "reference.png").stat().st_size > 1000
    assert "finished" in script("run").stdout
    # What is there is kept: without its end the run is judged again and not trained.
    weights = folder / "run" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (folder / "shown.json").unlink()
    assert script("run").returncode == 0
    assert weights.stat().st_mtime_ns == before
    assert json.loads((folder / "shown.json").read_text()) == found
    # Stopped before its model was saved, it goes on from the checkpoint.
    trained = weights.read_bytes()
    shutil.rmtree(folder / "run" / "model")
    (folder / "shown.json").unlink()
    assert script("run").returncode == 0
    assert weights.read_bytes() == trained
    assert load(folder / "run" / "model").about["training"]["resumed"] is True


def test_an_unknown_run_is_named(interpreters):
    done = interpreters.run(SCRIPT, "run", "--only", "rgb2nir/mlp")
    assert done.returncode == 2
    assert "no reference run: rgb2nir/mlp; known: " in done.stderr
