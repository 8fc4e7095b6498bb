"""Error profiles against NumPy's histograms; totals of an aggregate; the benchmark."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossband import metrics
from crossband.evaluation.aggregate import Aggregate, GroupKey
from crossband.evaluation.evaluation import profile_records
from crossband.evaluation.report import plots
from crossband.metrics import MODEL, PairScorer, Target
from crossband.metrics.families.profiles import NDVI_EDGES, error_edges, value_edges

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "metrics.py"


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def nir(rng):
    """Truth, output [1, 40, 50], red beside, mask; within the ranges."""
    t = rng.uniform(0.01, 0.99, (1, 40, 50))
    p = (t + rng.normal(0, 0.1, t.shape)).clip(0.001, 0.999)
    return p, t, rng.uniform(0.05, 0.3, (40, 50)), rng.random((40, 50)) > 0.25


def profile(p, t, red, mask=None):
    beside = {"red": red} if red is not None else None
    score = PairScorer(Target(t, ["nir"], "reflectance", mask, other_bands=beside)).score(p)
    return score.profiles()["nir"]


def test_histograms_equal_numpys(nir):
    p, t, red, mask = nir
    found = profile(p, t, red, mask)
    a, b = t[0][mask], p[0][mask]
    assert found.values[[0, 50, 100]] == pytest.approx([0, 0.5, 1])
    expected, _, _ = np.histogram2d(a, b, bins=[found.values] * 2)
    assert np.array_equal(found.scatter, expected)
    assert found.errors[[0, 100, 200]] == pytest.approx([-0.5, 0, 0.5])
    assert np.array_equal(found.error, np.histogram(b - a, found.errors)[0])


def test_errors_by_brightness_and_ndvi_equal_masks(nir):
    p, t, red, mask = nir
    found = profile(p, t, red, mask)
    a, b, r = t[0][mask], p[0][mask], red[mask]
    ndvi = (a - r) / (a + r)
    for table, value in ((found.brightness, a), (found.ndvi, ndvi)):
        assert table.n.sum() == mask.sum()
        for low, high, n, mae, bias in zip(
            table.low, table.high, table.n, table.mae, table.bias, strict=True
        ):
            here = (value >= low) & (value < high)
            assert n == here.sum() > 0
            assert mae == pytest.approx(np.abs(b - a)[here].mean())
            assert bias == pytest.approx((b - a)[here].mean())
    assert found.ndvi.low.tolist() == [-math.inf, *NDVI_EDGES]
    assert found.brightness.high[:-1] == pytest.approx(np.arange(1, 10) / 10)


def test_what_lies_beyond_counts_to_the_ends():
    t, p = np.array([[[-0.2, 0.5, 1.7]]]), np.array([[[9.0, 0.5, -9.0]]])
    found = profile(p, t, None)
    assert [found.scatter[i] for i in ((0, 99), (50, 50), (99, 0))] == [1, 1, 1]
    assert (found.error[0], found.error[-1], found.error.sum()) == (1, 1, 3)
    assert found.brightness.n[[0, 5, 9]].tolist() == [1, 1, 1]
    assert math.isnan(found.brightness.mae[1])
    assert found.ndvi is None


def test_ndvi_counts_only_where_it_is_defined():
    t = np.array([[[0.005, 0.3]]])
    found = profile(t + 0.1, t, np.array([[0.001, 0.1]]))
    assert found.ndvi.n.tolist() == [0, 0, 0, 1, 0, 0]
    assert found.brightness.n.sum() == 2


def test_pixels_without_an_output_are_left_out_and_counted(nir):
    p, t, red, _ = nir
    p[0, 3, :5] = np.nan
    score = PairScorer(Target(t, ["nir"], "reflectance", other_bands={"red": red})).score(p)
    found = score.profiles()["nir"]
    assert score.n_nonfinite == 5
    for table in (found.scatter, found.error, found.brightness.n, found.ndvi.n):
        assert table.sum() == 1995


@pytest.mark.parametrize(
    ("unit", "values", "half"),
    [("kelvin", (230, 330), 50), ("db", (-25, 5), 15), ("display", (0, 1), 0.5)],
)
def test_ranges_of_units(unit, values, half):
    assert tuple(value_edges(unit)[[0, -1]]) == values
    assert np.ptp(values) == metrics.data_range(unit)
    assert tuple(error_edges(unit)[[0, -1]]) == (-half, half)
    t = np.full((1, 4, 4), np.mean(values))
    score = PairScorer(Target(t, ["one"], unit)).score(t + 0.3 * half)
    found = score.profiles()["one"]
    at = int(np.flatnonzero(found.error)[0])
    assert found.errors[at] <= 0.3 * half + 1e-9
    assert found.errors[at + 1] > 0.3 * half - 1e-9


def test_an_aggregate_keeps_profiles_by_sensor_and_not_by_group(nir):
    p, t, red, _ = nir
    aggregate = Aggregate(["mean"])
    scorer = PairScorer(
        Target(t, ["nir"], "reflectance", other_bands={"red": red}, indices=["NDVI"])
    )
    scores = {MODEL: scorer.score(p), "mean": scorer.score(t * 0 + 0.5)}
    for group in ("a", "b", "b"):
        aggregate.add(GroupKey("s2", "reflectance", group), scores)
    (kind, total), *rest = aggregate.totals().items()
    assert (kind, rest) == (("s2", "reflectance"), [])
    assert total[MODEL].profiles()["nir"].scatter.sum() == 3 * 2000
    assert total["mean"].numbers()["mae"] == pytest.approx(scores["mean"].numbers()["mae"])
    assert [g["n_images"] for g in aggregate.groups()] == [1, 2]
    record = aggregate.sensors()[0]["scores"]
    for name, value in total[MODEL].numbers().items():
        assert record[MODEL]["pixels"][name] == pytest.approx(value, nan_ok=True), name
    assert all(s.profiles() == {} for e in aggregate._groups.values() for s in e.scores.values())


def test_a_model_without_a_spectrum_stands_beside_baselines_that_have_one(rng):
    t = rng.uniform(0.1, 0.9, (1, 64, 96))
    p = t.copy()
    p[0, 0, 0] = np.nan
    scorer = PairScorer(Target(t, ["nir"], "reflectance"))
    records = profile_records({MODEL: scorer.score(p), "mean": scorer.score(t * 0.9)})
    assert set(records["nir"]["spectrum"]["power"]) == {"true", "mean"}
    assert len(records["nir"]["spectrum"]["frequency"]) == 32


@pytest.mark.slow
def test_the_benchmark_times_every_family(tmp_path):
    command = [sys.executable, BENCHMARK, "--pairs", "1", "--side", "64", "--masked", "--json"]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "t.json")],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loads = json.loads((tmp_path / "t.json").read_text())["loads"]
    seen = {family for load in loads.values() for family in load["families"]}
    assert seen == set(metrics.known_families())
    assert all(load["wall"] > 0 for load in loads.values())
    assert "| 1,000 pairs, elapsed |" in done.stdout


def test_a_constant_output_does_not_flatten_the_spectrum_of_others():
    powers = {"true": [1e-2, 1e-4], "model": [1e-3, 2e-5], "mean": [1e-2, 1e-60]}
    low, high = plots._power_range([*powers.values()])
    assert 1e-6 < low < 2e-5
    assert 1e-2 < high < 1
