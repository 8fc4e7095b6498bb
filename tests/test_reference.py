"""Reference runs: options, curves and claims by hand; a run of two steps on tiny pairs, resumed."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from scipy.ndimage import gaussian_filter

from crossband import Model, load
from crossband.core.signature import Signature, UnitRange
from crossband.metrics.distances import kid_full
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.raster.grid import Grid, Window
from crossband.translate.window import translate_window

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


def test_draws_are_judged_as_a_distribution(shown):
    """Of one place draws lie 1 below and 1 above the truth, of the other one both 3 above."""
    around = np.array([[[-1.0, 0.0]], [[1.0, 2.0]]]), np.array([[0.0, 1.0]])
    beside = np.full((2, 1, 4), 3.0), np.zeros((1, 4))
    found = shown.judge_draws([around, beside])
    assert found["places"] == 2
    assert found["mae_of_mean"] == pytest.approx(1.5)
    assert found["crps"] == pytest.approx((0.0 + 3.0) / 2)  # 1 - 2 / 2, and 3
    assert found["spread"] == pytest.approx(np.sqrt(2) / 2)
    three = [(np.array([[[-w]], [[w]]]) + e, np.zeros((1, 1))) for w, e in ((1, 0), (2, 3), (3, 5))]
    assert shown.judge_draws(three)["spread_error"] == pytest.approx(1.0)


def test_members_are_judged_alone(shown, monkeypatch):
    """Members that differ by 0.2, the truth between them: each errs by half, the score is 0."""
    pyramid = {"width": 4, "depth": 1, "hidden": 2, "levels": 1, "bins": 0, "members": 2}
    torch.manual_seed(0)
    network = LocalPyramid(3, 1, **pyramid)
    first, second = network.members
    with torch.no_grad():
        first.pixel_out.weight *= 0.1  # nothing is clipped
        first.pixel_out.bias.fill_(0.4)
        second.load_state_dict(first.state_dict())
        second.pixel_out.bias += 0.2
    signature = Signature(
        ["red", "green", "blue"],
        ["nir"],
        {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])},
    )
    model = Model(network.eval(), signature, name="n", task="t")
    grid = Grid(32, 32)
    values = np.random.default_rng(0).random((3, 32, 32), np.float32)
    mask = np.ones((32, 32), bool)
    source = Window(values, mask, grid, tuple(signature.source), "reflectance")
    both = translate_window(model, source).values
    monkeypatch.setattr(shown, "read_pairs", lambda *_: [(source, both, mask)])
    found = shown._members(model, pd.DataFrame())
    step = 0.006  # of bfloat16
    assert found["mae_of_mean"] == pytest.approx(0.0, abs=step)
    assert found["spread"] == pytest.approx(0.2 / np.sqrt(2), abs=step)
    assert found["crps"] == pytest.approx(0.1 - 0.2 / 2, abs=step)
    assert len(model.network.members) == 2  # the model stays as it is


def waves(count, seed, rough=1.0, level=0.0):
    """Pictures of smooth noise around a level, of different sizes."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        noise = gaussian_filter(rng.normal(size=(64, 64 + 4 * (number % 2))), 3 / rough)
        found.append(np.clip(0.5 + level + 0.15 * noise / noise.std(), 0, 1)[None])
    return found


def test_the_distance_of_sets_of_pictures(shown):
    """It is 0 of the same pictures, about 0 of the same kind, and grows with what is changed."""
    limits = [(0.0, 1.0)]
    truth = shown.described(waves(24, 0), limits)

    def distance(pictures):
        return kid_full(truth, shown.described(pictures, limits), paired=True)

    assert truth.shape == (24, 32 + 16 * 9)
    np.testing.assert_allclose(np.linalg.norm(truth, axis=1), np.sqrt(2 * truth.shape[1]))
    assert distance(waves(24, 0)) == pytest.approx(0.0, abs=1e-9)
    alike = distance(waves(24, 1))
    warmer, rougher = distance(waves(24, 1, level=0.1)), distance(waves(24, 1, rough=3.0))
    empty = distance([np.full_like(p, 0.5) for p in waves(24, 1)])
    assert abs(alike) < 0.2 * min(warmer, rougher)
    assert empty > max(warmer, rougher) > 0


def test_what_is_unpaired_is_judged_beside_mean_and_luminance(shown, monkeypatch):
    """A model that gives the truth has no error and no distance; a grey one has both."""
    signature = Signature(
        ["red", "green", "blue"], ["thermal"],
        {"display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])},
    )  # fmt: skip
    grid, mask, places = Grid(64, 64), np.ones((64, 64), bool), []
    for picture in waves(12, 0)[::2] + waves(12, 2)[::2]:
        colour = np.repeat(picture, 3, axis=0).astype(np.float32)
        source = Window(colour, mask, grid, tuple(signature.source), "display")
        places.append((source, shown.luminance(colour) + np.float32(0.05), mask))
    truth = {id(source): target for source, target, _ in places}

    def grey(row, source, grid):
        return dataclasses.replace(source, values=np.full((1, 64, 64), 0.55, np.float32))

    monkeypatch.setattr(shown, "read_pairs", lambda *_: places)
    monkeypatch.setattr(shown, "fit_baselines", lambda *_: {"mean": grey})
    monkeypatch.setattr(
        shown, "translate_window", lambda _, s: dataclasses.replace(s, values=truth[id(s)])
    )
    model = types.SimpleNamespace(signature=signature)
    found = shown._unpaired(model, pd.DataFrame({"split": ["test"]}))
    assert found["model"] == {"mae": 0.0, "kid": pytest.approx(0.0, abs=1e-9)}
    assert found["luminance"]["mae"] == pytest.approx(0.05, abs=1e-6)
    errors = [np.abs(0.55 - target).mean() for _, target, _ in places]
    assert found["mean"]["mae"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["mean"]["kid"] > 2 * found["luminance"]["kid"] > 0.01


def test_the_luminance_of_a_colour(shown):
    colour = np.array([1.0, 0.5, 0.25], np.float32)[:, None, None]
    assert shown.luminance(colour).tolist() == [[[pytest.approx(0.299 + 0.2935 + 0.0285)]]]


def test_the_slope_is_that_of_the_last_half(shown):
    assert shown.slope(points(9.0, 9.0, 9.0, 2.0, 1.5, 1.0)) == pytest.approx(-100.0)
    assert shown.slope(points(5.0, 4.0, 3.0, 3.0)) == pytest.approx(0.0)
    assert math.isnan(shown.slope(points()))


def test_what_falls(shown):
    assert shown.falls("error", points(3.0, 2.0, 1.0, 1.0, 1.0)).holds
    assert not shown.falls("error", points(1.0, 1.0, 1.0, 1.0, 2.0)).holds
    assert not shown.falls("error", points()).holds
    assert not shown.less("MAE", math.nan, "mean", 1.0).holds


@pytest.mark.parametrize(("distance", "holds"), [(0.1, True), (0.3, False)])
def test_thermalgan_must_show_the_histogram_of_temperatures(distance, holds, shown, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "run" / "logs").mkdir(parents=True)
    lines = [("model", 0.1, 0.1, distance), ("mean", 0.2, 0.2, 0.2), ("linear", 0.15, 0.1, 0.2)]
    images = pd.DataFrame(lines, columns=["by", "mae", "rmse", "swd"])
    images.to_csv(tmp_path / "report" / "per_image.csv")
    log = pd.DataFrame({"step": [1, 2], "val/score": [2.0, 1.0]})
    log.to_csv(tmp_path / "run" / "logs" / "metrics.csv")
    (tmp_path / "shown.json").write_text('{"options": []}')
    found = {claim.text: claim.holds for claim in shown.claims("rgb2thermal/thermalgan", tmp_path)}
    assert found[f"histogram distance {distance:.4f}, mean 0.2000"] is holds
    assert found["MAE 0.1000, linear 0.1500"] is True
    others = shown.claims("rgb2thermal/pix2pix", tmp_path)
    assert not any("histogram" in claim.text for claim in others)


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


def make_script(interpreters, tmp_path, name, side, judged=2):
    task = name.split("/")[0]
    table = pd.read_csv(tiny.pairs(tmp_path / "pairs", task, 6, side, side + 8))
    table["split"] = ["train"] * (5 - judged) + ["val"] + ["test"] * judged
    table["group"] = [f"place {n}" for n in range(6)]
    for side in ("source", "target"):
        table[side] = [str(tmp_path / "pairs" / name) for name in table[side]]
    table.to_csv(tmp_path / "own.csv", index=False)

    def run(what, *more):
        return interpreters.run(
            SCRIPT, what, "--only", name, "--output", tmp_path / "runs",
            "--manifest", tmp_path / "own.csv", "--steps", 2, *more,
        )  # fmt: skip

    return run


@pytest.fixture
def script(interpreters, tmp_path):
    return make_script(interpreters, tmp_path, NAME, 72)


@pytest.mark.slow
def test_a_run_is_fitted_judged_and_shown_once(script, tmp_path):
    assert "not finished" in script("table").stdout
    done = script("run")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / NAME
    found = json.loads((folder / "shown.json").read_text())
    assert found["draws"]["places"] == 2
    assert 0 < found["draws"]["crps"] < found["draws"]["mae_of_mean"] * 2
    assert found["members"]["places"] == 2
    assert found["members"]["spread"] > 0
    line = next(x for x in script("table").stdout.splitlines() if NAME in x)
    assert f"| {2 * 16:,} | - |" in line  # two points have no slope
    for text in ("MAE of the mean of 16 draws", "linear", "members of rgb2nir/local-pyramid"):
        assert text in line
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
    # What a run of an earlier version does not show is added, and the rest stays.
    older = {key: value for key, value in found.items() if key != "members"}
    (folder / "shown.json").write_text(json.dumps(older | {"draws": {"crps": 9.0}}))
    assert "not judged: members" in script("table").stdout
    assert script("judge").returncode == 0
    again = json.loads((folder / "shown.json").read_text())
    assert again["members"] == found["members"]
    assert again["draws"] == {"crps": 9.0}
    # Stopped before its model was saved, it goes on from the checkpoint.
    trained = weights.read_bytes()
    shutil.rmtree(folder / "run" / "model")
    (folder / "shown.json").unlink()
    assert script("run").returncode == 0
    assert weights.read_bytes() == trained
    assert load(folder / "run" / "model").about["training"]["resumed"] is True


@pytest.mark.slow
def test_a_run_without_pairs_shows_its_distance_from_the_true_pictures(interpreters, tmp_path):
    script = make_script(interpreters, tmp_path, "rgb2thermal/cyclegan", 128, judged=3)
    assert "not finished" in script("judge").stdout
    done = script("run")
    assert done.returncode == 0, done.stderr
    shown_at = tmp_path / "runs" / "rgb2thermal" / "cyclegan" / "shown.json"
    found = json.loads(shown_at.read_text())["unpaired"]
    assert set(found) == {"model", "mean", "luminance"}
    assert all(value["kid"] > 0 and value["mae"] > 0 for value in found.values())
    images = pd.read_csv(shown_at.parent / "report" / "per_image.csv").groupby("by")["mae"].mean()
    assert found["mean"]["mae"] == pytest.approx(images["mean"], rel=1e-4)
    assert found["model"]["mae"] == pytest.approx(images["model"], rel=1e-4)
    line = next(x for x in script("table").stdout.splitlines() if "cyclegan" in x)
    for text in ("KID", "luminance", "cycle error: from"):
        assert text in line


def test_an_unknown_run_is_named(interpreters):
    done = interpreters.run(SCRIPT, "run", "--only", "rgb2nir/mlp")
    assert done.returncode == 2
    assert "no reference run: rgb2nir/mlp; known: " in done.stderr
