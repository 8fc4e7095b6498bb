"""Relations that papers report: options of the arms, KID by place, and intervals by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import relations_shown

    return relations_shown


@pytest.fixture
def relations(shown):
    import relations

    return relations


def test_arms_of_a_relation_differ_in_one_thing(relations, tmp_path):
    from crossband.training import recipe, recipe_classes

    methods = {}
    for arm, given in relations.ARMS.items():
        config = recipe.load(given["recipe"], relations.options(arm, tmp_path / "pairs.csv"))
        methods[arm] = recipe_classes.build_method(config)
    for relation in relations.RELATIONS.values():
        first, second = (dict(relations.ARMS[arm]) for arm in relation.arms)
        differ = {k for k in first | second if first.get(k) != second.get(k)}
        assert differ in (
            {"method.adversarial_weight"},
            {"method.losses"},
            {"method.discriminator.conditional"},
            {"method.penalty", "method.weight_clip"},
            {"method.max_steps"},
            {"method.penalty_reduction"},
            {"method.generator", "method.discriminator"},
        ), relation
    assert methods["l1"].discriminator is None
    assert methods["l1-gan"].discriminator.conditional
    assert not methods["gan-unconditional"].discriminator.conditional
    assert len(methods["gan-conditional"].losses) == 0
    assert (methods["wgan-clipping"].penalty, methods["wgan-clipping"].weight_clip) == (0.0, 0.01)
    grown = [methods[arm].generator.grown for arm in ("progressive", "full-size")]
    assert grown[0] > 100 * grown[1] == 100


def test_places_share_kid(relations):
    """The mean of the shares is the unbiased KID of pairs; a shift costs, a copy nothing."""
    from crossband.metrics.distances import kid_full

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    spread = x.std(axis=0)
    for y in (x, x + 1.0, rng.normal(size=(40, 6))):
        shares = relations.kid_shares(x, y)
        assert shares.shape == (40,)
        found = kid_full(x / spread, y / spread, paired=True)
        assert shares.mean() == pytest.approx(found, abs=1e-9)
    assert relations.kid_shares(x, x) == pytest.approx(np.zeros(40))
    assert relations.kid_shares(x, x + 1.0).mean() > 0.1


def test_features_see_blur(relations):
    network = relations.random_network(1)
    rng = np.random.default_rng(0)
    sharp = rng.uniform(size=(1, 64, 64))
    blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2)) / 3
    one, other = (relations.features(network, x) for x in (sharp, blurred))
    assert one.shape == (32 + 64 + 128 + 128,)
    assert np.abs(one - other).max() > 0.05 * np.abs(one).max()
    assert (relations.features(relations.random_network(1), sharp) == one).all()


def test_an_interval_is_over_places_and_seeds(shown):
    rng = np.random.default_rng(0)
    places = rng.normal(size=200)
    first = np.stack([places - 1.0, places - 1.0, places - 1.0])
    mean, low, high = shown.difference(first, np.stack([places] * 3))
    assert (mean, low, high) == pytest.approx((-1.0, -1.0, -1.0))  # paired: places cancel
    noise = rng.normal(size=(3, 200))
    mean, low, high = shown.difference(noise, np.zeros((3, 200)))
    assert low < mean < high
    assert 0.5 < (high - low) / (2 * 1.96 / math.sqrt(600)) < 2.5
    seeds = np.array([[-1.0], [0.0], [1.0]]) * np.ones((3, 200))
    _, low, high = shown.difference(seeds, np.zeros((3, 200)))
    assert low < -0.5
    assert high > 0.5


@pytest.mark.parametrize(
    ("first_is", "low", "high", "wanted"),
    [
        ("lower", -2.0, -1.0, "shown"),
        ("lower", -1.0, 1.0, "not shown"),
        ("lower", 1.0, 2.0, "opposite"),
        ("higher", 1.0, 2.0, "shown"),
        ("higher", -2.0, -1.0, "opposite"),
    ],
)
def test_what_an_interval_shows(shown, first_is, low, high, wanted):
    assert shown.verdict(shown.Claim("mae", first_is), low, high) == wanted


def test_the_table_says_what_is_not_finished(shown, tmp_path):
    relation = shown.RELATIONS["gan-and-l1"]
    for arm, error in zip(relation.arms, (0.2, 0.1), strict=True):
        for seed in shown.SEEDS:
            folder = tmp_path / arm / f"seed-{seed}"
            folder.mkdir(parents=True)
            columns = {m: np.full(5, error) for m in shown.MEASURES}
            pd.DataFrame({"group": [f"p{n}" for n in range(5)], **columns}).to_csv(
                folder / "places.csv", index=False
            )
    lines = shown.table(shown.collect(tmp_path)).splitlines()
    assert "| MAE (higher) | 0.2000 | 0.1000 | 0.1000 (0.1000 to 0.1000) | shown |" in lines[2]
    assert "| 0.20 | 0.10 | 0.10 (0.10 to 0.10) | opposite |" in lines[3]
    assert all(line.endswith("| not finished |") for line in lines[4:])
    assert len(lines) == 2 + sum(len(r.claims) for r in shown.RELATIONS.values())


@pytest.mark.slow
def test_an_arm_is_trained_judged_and_kept(relations, monkeypatch, tmp_path):
    table = pd.read_csv(tiny.pairs(tmp_path / "pairs", "rgb2nir", 6, 72, 80))
    table["split"] = ["train"] * 2 + ["val"] + ["test"] * 3
    table["group"] = [f"place {n}" for n in range(6)]
    for side in ("source", "target"):
        table[side] = [str(tmp_path / "pairs" / name) for name in table[side]]
    monkeypatch.setattr(relations, "pairs", lambda manifests, output: table)
    monkeypatch.setattr(relations, "SEEDS", (0,))
    monkeypatch.setattr(relations.os, "nice", lambda by: 0)
    arguments = ["relations.py", "run", "--only", "gan-and-l1", "--steps", "2"]
    monkeypatch.setattr("sys.argv", [*arguments, "--output", str(tmp_path / "runs")])
    assert relations.main() == 0
    path = tmp_path / "runs" / "l1-gan" / "seed-0" / "places.csv"
    places = pd.read_csv(path)
    assert list(places["group"]) == ["place 3", "place 4", "place 5"]
    assert (places["mae"] > 0).all()
    written = path.stat().st_mtime_ns
    assert relations.main() == 0
    assert path.stat().st_mtime_ns == written
    monkeypatch.setattr("sys.argv", [*arguments[:-1], "3", "--output", str(tmp_path / "runs")])
    assert relations.main() == 2  # other options: nothing is mixed
