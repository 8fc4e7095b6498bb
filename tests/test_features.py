"""Formulas on given features against closed forms, loops and other libraries; then the sets."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.distance import cdist
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from crossband.errors import BandError, CrossbandError, UnitError
from crossband.metrics import as_json
from crossband.metrics import distances as formulas
from crossband.metrics import extractors as features
from crossband.metrics.distances import ClassSums, FeatureMoments
from crossband.metrics.extractors.base import Distance, Extractor, Features, resized
from crossband.metrics.extractors.channels import FILL, Channels
from crossband.metrics.extractors.sets import NUMBERS, DistanceSet, FeatureSet, collect


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def two(rng):
    """Two overlapping clouds, 60 and 45 rows of 7 features that are not independent."""
    turn = rng.normal(size=(7, 7))
    return rng.normal(size=(60, 7)) @ turn, rng.normal(0.4, 0.8, (45, 7)) @ turn


def gaussian(mean, covariance, n=1000):
    covariance = np.asarray(covariance, float)
    return FeatureMoments(n, np.asarray(mean, float), covariance * (n - 1))


# ---- FID ------------------------------------------------------------------------------------


def test_fid_of_gaussians_in_closed_form():
    one = gaussian([0, 0, 0], np.diag([1.0, 4.0, 9.0]))
    two = gaussian([1, -2, 0], np.diag([4.0, 4.0, 0.25]))
    # Covariances that commute: |dm|^2 and the squared differences of the deviations.
    assert formulas.fid(one, two) == pytest.approx(5 + 1 + 0 + 2.5**2, rel=1e-12)


def test_fid_equals_scipys_matrix_root(two):
    x, y = two
    a, b = np.cov(x.T), np.cov(y.T)
    apart = x.mean(0) - y.mean(0)
    expected = apart @ apart + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    found = formulas.fid(FeatureMoments.of(x), FeatureMoments.of(y))
    assert found == pytest.approx(expected, rel=1e-9)
    assert formulas.fid(FeatureMoments.of(y), FeatureMoments.of(x)) == pytest.approx(found)


def test_fid_where_the_covariances_are_singular(rng):
    x, y = rng.normal(size=(9, 40)), rng.normal(0.3, 1.5, (12, 40))
    # Through the rows: tr (S1 S2)^(1/2) is the nuclear norm of X1 X2^T / sqrt((n1 - 1)(n2 - 1)).
    shared = linalg.svdvals((x - x.mean(0)) @ (y - y.mean(0)).T).sum() / math.sqrt(8 * 11)
    apart = x.mean(0) - y.mean(0)
    expected = apart @ apart + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T)) - 2 * shared
    one, two = FeatureMoments.of(x), FeatureMoments.of(y)
    assert formulas.fid(one, two) == pytest.approx(expected, rel=1e-5)
    assert 0 <= formulas.fid(one, one) < 1e-5
    constant = FeatureMoments.of(np.ones((5, 40)))
    assert formulas.fid(constant, FeatureMoments.of(np.zeros((5, 40)))) == pytest.approx(40)


def test_moments_add_up(two):
    x = two[0] + 300.0
    parts = FeatureMoments.of(x[:1]) + FeatureMoments.of(x[1:20]) + FeatureMoments.of(x[20:])
    parts = FeatureMoments.of(x[:0]) + parts + FeatureMoments.of(x[:0])
    assert parts.n == 60
    np.testing.assert_allclose(parts.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(parts.covariance, np.cov(x.T), rtol=1e-11)
    np.testing.assert_allclose(parts.root @ parts.root, np.cov(x.T), rtol=1e-9, atol=1e-12)


class Given(nn.Module):
    """For torchmetrics: the pictures are the features already."""

    num_features = 7

    def forward(self, x):
        return x.flatten(1)


def as_pictures(rows):
    return torch.from_numpy(np.asarray(rows, np.float64))[:, :, None, None]


def test_fid_and_kid_equal_torchmetrics(two):
    x, y = two[0][:45], two[1]
    fid = FrechetInceptionDistance(feature=Given(), normalize=True, input_img_size=(7, 1, 1))
    kid = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=45, normalize=True)
    fid.set_dtype(torch.float64)
    for metric in (fid, kid):
        metric.update(as_pictures(x), real=True)
        metric.update(as_pictures(y), real=False)
    ours = formulas.fid(FeatureMoments.of(x), FeatureMoments.of(y))
    assert ours == pytest.approx(float(fid.compute()), rel=1e-6)
    assert formulas.kid_full(x, y) == pytest.approx(float(kid.compute()[0]), rel=1e-5)


# ---- KID ------------------------------------------------------------------------------------


def loops(x, y, paired):
    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    one = [kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j]
    two = [kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j]
    both = [kernel(x[i], y[j]) for i in range(n) for j in range(m) if not (paired and i == j)]
    return np.mean(one) + np.mean(two) - 2 * np.mean(both)


@pytest.mark.parametrize("paired", [False, True])
def test_kid_equals_loops(two, paired, monkeypatch):
    x, y = two[0][: 45 if paired else 60], two[1]
    expected = loops(x, y, paired)
    assert formulas.kid_full(x, y, paired=paired) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(formulas, "_BLOCK", 13)
    assert formulas.kid_full(x, y, paired=paired) == pytest.approx(expected, rel=1e-10)


def test_pairs_bias_kid_unless_they_are_left_out(two):
    x = two[0]
    assert formulas.kid_full(x, x) < -0.1  # a row and itself are nearer than any two
    assert formulas.kid_full(x, x, paired=True) == 0.0


def test_subsets_of_all_rows_are_the_whole(two):
    x, y = two[0][:45], two[1]
    mean, std = formulas.kid(x, y, size=45, subsets=3)
    assert mean == pytest.approx(formulas.kid_full(x, y), rel=1e-10)
    assert std == pytest.approx(0.0, abs=1e-10)


def test_subsets_are_drawn_by_seed_and_straddle_the_whole(two):
    x, y = two
    first = formulas.kid(x, y, size=20, subsets=200, seed=1)
    assert first == formulas.kid(x, y, size=20, subsets=200, seed=1)
    assert first != formulas.kid(x, y, size=20, subsets=200, seed=2)
    assert first[0] == pytest.approx(formulas.kid_full(x, y), abs=4 * first[1] / math.sqrt(200))
    assert first[1] > 0


def test_paired_subsets_share_no_pair():
    # Rows at right angles: the kernel is 1, but of a row with itself, which is far more.
    x = 10 * np.eye(12)
    assert formulas.kid(x, x, size=6, subsets=20, paired=True) == (0.0, 0.0)
    assert formulas.kid(x, x, size=6, subsets=20)[0] < -1


def test_too_few_rows_have_no_number(two):
    x, y = two
    assert math.isnan(formulas.kid_full(x[:1], y))
    assert all(map(math.isnan, formulas.kid(x, y, size=46)))
    assert all(map(math.isnan, formulas.kid(x[:45], y, size=23, paired=True)))
    assert all(map(math.isnan, formulas.kid(x, y, size=1)))
    assert math.isnan(formulas.fid(FeatureMoments.of(x[:1]), FeatureMoments.of(y)))
    assert all(map(math.isnan, formulas.precision_recall(x[:3], y)))
    assert all(map(math.isnan, formulas.inception_score([[0.5, 0.5]], splits=2)))


def test_what_is_no_feature_array_is_refused(two):
    x, y = two
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        formulas.kid_full(x[0], y)
    with pytest.raises(ValueError, match="finite"):
        FeatureMoments.of([[np.nan]])
    with pytest.raises(ValueError, match="7 features against 6"):
        formulas.precision_recall(x, y[:, :6])
    with pytest.raises(ValueError, match="as many outputs"):
        formulas.kid_full(x, y, paired=True)


# ---- precision and recall, Inception Score, halves ------------------------------------------


def test_precision_and_recall_by_hand():
    # k = 1. Truth 0, 1, 3 has radii 1, 1, 2; output 2, 6, 7 has radii 4, 1, 1.
    truth, output = np.array([[0.0], [1.0], [3.0]]), np.array([[2.0], [6.0], [7.0]])
    precision, recall = formulas.precision_recall(truth, output, neighbours=1)
    assert precision == pytest.approx(1 / 3)  # only 2, on the border of 1's ball and within 3's
    assert recall == 1.0  # all within 4 of 2


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_and_recall_equal_loops(two, neighbours, monkeypatch):
    monkeypatch.setattr(formulas, "_BLOCK", 11)
    x, y = two
    y = y + 1.5

    def inside(points, centres):
        radii = np.sort(cdist(centres, centres), axis=1)[:, neighbours]
        return np.mean((cdist(points, centres) <= radii).any(axis=1))

    expected = inside(y, x), inside(x, y)
    assert formulas.precision_recall(x, y, neighbours=neighbours) == pytest.approx(expected)
    assert min(expected) > 0
    assert max(expected) < 1


def test_precision_and_recall_at_their_ends(two):
    x = two[0]
    assert formulas.precision_recall(x, x) == (1.0, 1.0)
    assert formulas.precision_recall(x, x + 1e4) == (0.0, 0.0)
    many = np.repeat(x[:5] * 1e3 + 7e4, 6, axis=0)  # radius 0: only the same row lies inside
    assert formulas.precision_recall(many, many) == (1.0, 1.0)


def test_inception_score_by_hand_and_from_sums(rng):
    p = rng.dirichlet(np.ones(6), 40)
    mean = p.mean(0)
    expected = math.exp((p * np.log(p / mean)).sum(1).mean())
    assert formulas.inception_score(p, splits=1) == (pytest.approx(expected), 0.0)
    assert (ClassSums.of(p[:7]) + ClassSums.of(p[7:])).score == pytest.approx(expected)
    parts = [formulas.inception_score(part, splits=1)[0] for part in np.split(p, 4)]
    found = formulas.inception_score(p, splits=4)
    assert found == pytest.approx((np.mean(parts), np.std(parts)))
    assert formulas.inception_score(np.eye(5), splits=1)[0] == pytest.approx(5)
    assert formulas.inception_score(np.full((5, 4), 0.25), splits=1)[0] == pytest.approx(1)


def test_inception_score_equals_torchmetrics(rng):
    logits = torch.from_numpy(rng.normal(size=(30, 7)))
    metric = InceptionScore(feature=Given(), splits=1)
    metric.update(as_pictures(logits))
    ours = formulas.inception_score(logits.softmax(1).numpy(), splits=1)[0]
    assert ours == pytest.approx(float(metric.compute()[0]), rel=1e-6)


def test_halves_share_no_group():
    groups = [f"g{i % 7}" for i in range(60)]
    one, two, split = formulas.halves(60, groups, seed=3)
    assert split == "groups"
    assert sorted([*one, *two]) == list(range(60))
    assert not {groups[i] for i in one} & {groups[i] for i in two}
    assert 20 <= len(one) <= 40
    again = formulas.halves(60, groups, seed=3)
    assert np.array_equal(one, again[0])
    others = [formulas.halves(60, groups, seed=s)[0].tolist() for s in range(5)]
    assert any(o != one.tolist() for o in others)


def test_halves_of_one_group_are_images():
    one, two, split = formulas.halves(9, ["a"] * 9)
    assert (len(one), len(two), split) == (4, 5, "images")
    assert sorted([*one, *two]) == list(range(9))
    assert formulas.halves(0)[0].size == 0


# ---- channels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "black", "white"),
    [("reflectance", 0, 1), ("display", 0, 1), ("db", -25, 5), ("kelvin", 230, 330)],
)
def test_values_become_0_to_255_by_the_unit(unit, black, white):
    channels = Channels.of(["one"], unit)
    values = np.array([[[black, white, (black + white) / 2, white + 9, black - 9, np.nan]]])
    picture = channels.picture(values, np.ones((1, 6), bool))
    assert picture.shape == (3, 1, 6)
    assert picture.dtype == np.float32
    for channel in picture:
        np.testing.assert_allclose(channel[0], [0, 255, 127.5, 255, 0, FILL], atol=1e-4)


def test_bands_are_chosen_by_name():
    values = np.arange(4.0).reshape(4, 1, 1) / 10
    mask = np.ones((1, 1), bool)
    target = ["blue", "green", "red", "nir"]

    def shown(channels, of):
        return [round(float(v), 3) for v in channels.picture(of, mask)[:, 0, 0] / 255]

    assert shown(Channels.of(target[:3], "reflectance"), values[:3]) == [0.2, 0.1, 0.0]
    assert shown(Channels.of(["vv", "vh", "x"], "display"), values[:3]) == [0.0, 0.1, 0.2]
    chosen = Channels.of(target, "reflectance", ["nir", "red", "green"], (0.0, 0.5))
    assert shown(chosen, values) == [0.6, 0.4, 0.2]
    assert chosen.about() == {
        "bands": ["nir", "red", "green"],
        "unit": "reflectance",
        "limits": [0.0, 0.5],
    }
    assert Channels.of(target, "reflectance", ["nir"]).about()["bands"] == ["nir"]


@pytest.mark.parametrize(
    ("target", "bands", "message"),
    [
        (["blue", "green", "red", "nir"], None, "choose one or three of blue, green"),
        (["a", "b"], None, "2 bands"),
        (["a", "b"], ["a", "b"], "not 2"),
        (["red", "nir"], ["nri"], "did you mean 'nir'"),
    ],
)
def test_bands_that_do_not_follow_are_asked_for(target, bands, message):
    with pytest.raises(BandError, match=message):
        Channels.of(target, "reflectance", bands)


def test_units_and_limits_are_checked():
    with pytest.raises(UnitError, match="did you mean 'kelvin'"):
        Channels.of(["a"], "kelvins")
    with pytest.raises(UnitError, match="below white"):
        Channels.of(["a"], "display", limits=(1.0, 1.0))


def test_resizing_averages_and_keeps_what_fits():
    board = torch.tensor([0.0, 255.0]).repeat(8).repeat(3, 16, 1)
    board[:, 1::2] = 255 - board[:, 1::2]
    grey = resized(board, 4)
    assert grey.shape == (3, 4, 4)
    assert (grey - 127.5).abs().max() < 16  # each pixel leaves its neighbours a little weight
    plain = nn.functional.interpolate(board[None], (4, 4), mode="bilinear")[0]
    shifted = nn.functional.interpolate(board[None, :, 1:, 1:], (5, 5), mode="bilinear")[0]
    assert (plain - 127.5).abs().max() < 1  # by chance of the places
    assert (shifted - 127.5).abs().max() > 100  # what leaving pixels out can do
    assert (resized(board[:, 1:, 1:], 5) - 127.5).abs().max() < 16
    assert torch.equal(resized(board, 16), board)


# ---- sets -----------------------------------------------------------------------------------


class Tiny(Extractor):
    """Means over 16 parts of the picture and a little of their squares; four classes."""

    name, weights_hash = "tiny", "0" * 64

    def __init__(self, size=None):
        self.size, self.calls = size, []

    def __call__(self, pictures):
        self.calls.append(len(pictures))
        small = nn.functional.adaptive_avg_pool2d(pictures / 255, 4).flatten(1)
        values = torch.cat([small, small[:, ::3] ** 2], dim=1)
        return Features(values, (4 * small[:, :4]).softmax(1))


class Apart(Distance):
    """The mean absolute difference."""

    name, weights_hash, min_side = "apart", "1" * 64, 8

    def __call__(self, truth, output):
        return (truth - output).abs().mean(dim=(1, 2, 3))


NIR = Channels.of(["nir"], "reflectance")


def images(count=24, side=12, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.1, 0.6, (count, 1, side, side)) + rng.uniform(0, 0.3, (count, 1, 1, 1))
    good = truth + rng.normal(0, 0.01, truth.shape)
    bad = rng.uniform(0.4, 1.0, truth.shape)
    return truth, {"model": good, "mean": bad}


def filled(order=None, extractor=None, channels=NIR, groups=4, **options):
    truth, outputs = images()
    collected = FeatureSet(extractor or Tiny(), channels, list(outputs), **options)
    for i in range(len(truth)) if order is None else order:
        own = {name: values[i] for name, values in outputs.items()}
        assert collected.add(truth[i], own, group=f"g{i % groups}")
    return collected


def test_a_set_is_the_formulas_on_its_features():
    truth, outputs = images()
    result = filled(subset=8, subsets=5).result()

    def rows(values):
        shown = [NIR.picture(v, np.ones((12, 12), bool)) for v in values]
        return Tiny()(torch.from_numpy(np.stack(shown))).values.numpy()

    x, y = rows(truth), rows(outputs["mean"])
    found = result["scores"]["mean"]
    expected = formulas.fid(FeatureMoments.of(x), FeatureMoments.of(y))
    assert found["fid"] == pytest.approx(expected, rel=1e-6)
    assert found["kid_full"] == pytest.approx(formulas.kid_full(x, y, paired=True), rel=1e-9)
    assert (found["precision"], found["recall"]) == formulas.precision_recall(x, y)
    p = nn.functional.softmax(4 * torch.from_numpy(y[:, :4]), 1).numpy()
    assert found["inception_score"] == pytest.approx(formulas.inception_score(p, splits=1)[0])
    assert found["kid"] == pytest.approx(found["kid_full"], abs=4 * found["kid_std"])
    assert found["kid_std"] > 0
    assert result["scores"]["model"]["fid"] < 0.1 * found["fid"]
    assert result["extractor"]["name"] == "tiny"
    keys = ("n", "n_left_out", "n_groups", "n_features", "kid_subset", "kid_subsets")
    assert [result[k] for k in keys] == [24, 0, 4, 64, 8, 5]


def test_the_floor_holds_groups_apart():
    result = filled().result()
    floor = result["floor"]
    assert floor["split"] == "groups"
    assert floor["n"] == [12, 12]
    assert floor["kid_subset"] == 6
    assert all(math.isfinite(floor[k]) for k in NUMBERS)
    assert floor["fid"] < result["scores"]["mean"]["fid"]
    assert abs(floor["kid"]) < result["scores"]["mean"]["kid"]
    assert filled(groups=1).result()["floor"]["split"] == "images"
    # The halves are whole groups: where a group has a look of its own, the floor sees it.
    truth, _ = images()
    apart = FeatureSet(Tiny(), NIR, ["model"])
    for i, t in enumerate(truth):
        shade = t * 0.1 + 0.5 * (i % 2)
        apart.add(shade, {"model": shade}, group=f"g{i % 2}")
    assert apart.result()["floor"]["fid"] > 20 * floor["fid"]


def close(one, two):
    for here, there in (
        (one["floor"], two["floor"]),
        *((one["scores"][who], two["scores"][who]) for who in ("model", "mean")),
    ):
        for key in NUMBERS:
            assert here[key] == pytest.approx(there[key], rel=1e-5, abs=1e-6), key
        assert here.get("n") == there.get("n")
        assert here.get("inception_score") == pytest.approx(there.get("inception_score"))
    for key in one:
        if key not in ("floor", "scores"):
            assert one[key] == two[key], key


def test_order_and_batches_do_not_matter(rng):
    plain = filled().result()
    close(plain, filled(order=rng.permutation(24)).result())
    close(plain, filled(batch=1).result())
    big = Tiny()
    close(plain, filled(extractor=big, batch=1000).result())
    assert big.calls == [72]
    assert filled().result() == plain  # and the same again is the same bit for bit


def test_the_truth_itself_is_at_zero():
    truth, _ = images()
    collected = FeatureSet(Tiny(), NIR, ["model"])
    for t in truth:
        collected.add(t, {"model": t})
    result = collected.result()["scores"]["model"]
    assert result["fid"] < 1e-6
    assert (result["kid_full"], result["precision"], result["recall"]) == (0.0, 1.0, 1.0)


def test_masked_pixels_do_not_matter_and_half_must_be_valid():
    truth, outputs = images(12)
    mask = np.ones((12, 12), bool)
    mask[:6] = False
    one, two = (FeatureSet(Tiny(), NIR, list(outputs)) for _ in range(2))
    for i, t in enumerate(truth):
        own = {name: values[i] for name, values in outputs.items()}
        one.add(t, own, mask)
        wild = {name: np.where(mask, v, 7.0) for name, v in own.items()}
        assert two.add(np.where(mask, t, np.nan), wild)
    less = mask.copy()
    less[6, 0] = False
    assert not two.add(truth[0], own, less)
    first, second = one.result(), two.result()
    assert first["scores"] == second["scores"]
    assert (second["n"], second["n_left_out"]) == (12, 1)
    assert any("less than half is valid: 1" in note for note in second["notes"])


def test_an_output_without_a_value_has_no_number():
    collected = filled()
    truth, outputs = images(1, seed=5)
    holed = outputs["model"][0].copy()
    holed[0, 3, 3] = np.inf
    mask = np.ones((12, 12), bool)
    collected.add(truth[0], {"model": holed, "mean": outputs["mean"][0]}, mask)
    mask[3, 3] = False
    collected.add(truth[0], {"model": outputs["model"][0], "mean": holed}, mask)
    scores = collected.result()["scores"]
    assert scores["model"]["n_nonfinite"] == 1
    assert all(math.isnan(scores["model"][k]) for k in (*NUMBERS, "inception_score"))
    assert scores["mean"]["n_nonfinite"] == 0
    assert all(math.isfinite(scores["mean"][k]) for k in NUMBERS)


def test_few_images_flag_fid(monkeypatch):
    result = filled().result()
    assert result["fid_flagged"]
    assert result["leads"] == "kid"
    assert result["notes"][0].startswith("FID of 24 images, fewer than 2,048, is biased upwards")
    assert "nir is shown three times" in result["notes"][1]
    monkeypatch.setattr(formulas, "FULL_RANK", 24)
    result = filled().result()
    assert not result["fid_flagged"]
    assert result["leads"] == "fid"
    assert not any("FID" in note for note in result["notes"])


def test_an_empty_set_has_no_numbers():
    result = as_json(FeatureSet(Tiny(), NIR, ["model"]).result())
    assert result["n"] == 0
    assert result["floor"]["fid"] is None
    assert result["scores"]["model"]["kid"] is None
    one = FeatureSet(Tiny(), NIR, ["model"])
    truth, _ = images(1)
    one.add(truth[0], {"model": truth[0]})
    assert as_json(one.result())["scores"]["model"]["fid"] is None
    json.dumps(as_json(one.result()), allow_nan=False)


def test_images_of_several_sizes():
    tiny, sized = Tiny(), Tiny(size=20)
    for extractor in (tiny, sized):
        collected = FeatureSet(extractor, NIR, ["model"], batch=4)
        for side in (8, 8, 16, 8, 12, 12):
            values = np.full((1, side, side), 0.5)
            collected.add(values, {"model": values})
        assert collected.result()["scores"]["model"]["fid"] == pytest.approx(0, abs=1e-6)
    assert sized.calls == [4, 4, 4]
    assert tiny.calls == [4, 2, 2, 4]


def test_only_features_are_kept():
    collected = FeatureSet(Tiny(), NIR, ["model"], batch=8)
    values = np.random.default_rng(0).uniform(size=(1, 96, 96))

    def add(count):
        for _ in range(count):
            collected.add(values, {"model": values})

    add(8)
    tracemalloc.start()
    add(8)
    before = tracemalloc.get_traced_memory()[0]
    add(200)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    features_kept = 200 * 2 * 64 * 4
    assert grown < features_kept + 200 * 600  # keys, groups, array headers
    assert 200 * values.nbytes > 20 * grown


def test_features_must_be_finite_and_shapes_agree():
    class Broken(Tiny):
        def __call__(self, pictures):
            return Features(torch.full((len(pictures), 2), torch.nan))

    truth, _ = images(1)
    collected = FeatureSet(Broken(), NIR, ["model"])
    collected.add(truth[0], {"model": truth[0]})
    with pytest.raises(CrossbandError, match="tiny: its features are not finite"):
        collected.result()
    with pytest.raises(ValueError, match="and the truth"):
        collected.add(truth[0], {"model": truth[0][:, 1:]})


def test_distances_are_means_over_images():
    truth, outputs = images()
    collected = collect(Apart(), NIR, list(outputs))
    assert isinstance(collected, DistanceSet)
    mask = np.ones((12, 12), bool)
    mask[:3] = False
    for i, t in enumerate(truth):
        collected.add(t, {name: values[i] for name, values in outputs.items()}, mask, "g")
    result = collected.result()
    apart = np.abs(truth - np.clip(outputs["mean"], 0, 1))[:, :, 3:].mean() * 255 * 0.75
    assert result["scores"]["mean"]["apart"] == pytest.approx(apart, rel=1e-5)
    assert result["n"] == 24
    small = np.zeros((1, 7, 9))
    with pytest.raises(CrossbandError, match="8 x 8 pixels at least, not 7 x 9"):
        collected.add(small, dict.fromkeys(outputs, small))
    holed = np.full_like(truth[0], np.nan)
    collected.add(truth[0], {"model": holed, "mean": truth[0]})
    assert math.isnan(collected.result()["scores"]["model"]["apart"])
    assert isinstance(collect(Tiny(), NIR, ["model"]), FeatureSet)


def test_listing_extractors_imports_nothing():
    code = (
        "import sys, crossband.metrics.extractors as f; print(f.names()); "
        "assert not {'torch', 'numpy', 'onnxruntime', 'lpips', 'torch_fidelity'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(features.names()), done.stderr
    assert features.FeatureSet is FeatureSet
    assert features.Channels is Channels
    with pytest.raises(AttributeError, match="nothing"):
        _ = features.nothing
