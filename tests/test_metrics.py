"""Metrics against independent implementations and hand values; each check must be able to fail."""

import json
import math

import numpy as np
import pytest
import spyndex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage import metrics as sk
from torchmetrics import functional as tm

from crossband import metrics
from crossband.errors import BandError, UnitError
from crossband.evaluation.comparison import compare_to_baseline, geometric_mean
from crossband.metrics import Moments, PairScorer, Target, index_values
from crossband.metrics.families.ssim import SSIMWindows, valid_windows


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def image(rng):
    """Smooth truth, a prediction that follows it, a mask of about 80%, in reflectance."""
    row, col = np.mgrid[:47, :61]
    truth = 0.3 + 0.1 * np.sin(row / 5) * np.cos(col / 7) + rng.normal(0, 0.02, row.shape)
    prediction = 0.9 * truth + 0.05 + rng.normal(0, 0.03, row.shape)
    return prediction.astype(np.float32), truth.astype(np.float32), rng.random(row.shape) > 0.2


def ssim(p, t, limit, mask=None):
    """Sum of SSIM over the valid windows, and their number."""
    p, t = (np.asarray(a, np.float64) for a in (p, t))
    if mask is not None:
        p, t = np.where(mask, p, 0.0), np.where(mask, t, 0.0)
    windows = SSIMWindows(t, 0.0, limit, mask)
    return windows.sums(p)[0], windows.count


def mean_ssim(p, t, limit, mask=None):
    total, count = ssim(p, t, limit, mask)
    return total / count


def index_mae(name, predicted, true):
    """Score an index whose bands are all synthetic."""
    bands = list(true)
    p, t = (np.stack([side[b] for b in bands]) for side in (predicted, true))
    target = Target(t, bands, "reflectance", indices=[name])
    return PairScorer(target, ["index"]).score(p).numbers()[f"{name}_mae"]


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(a, np.float64)) for a in arrays]


# ---- per pixel, against others --------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_pixel_metrics_equal_independent_ones(image, masked):
    p, t, mask = image
    mask = mask if masked else np.ones_like(mask)
    tp, tt = tensors(p[mask], t[mask])
    expected = {
        "mae": tm.mean_absolute_error(tp, tt),
        "rmse": tm.mean_squared_error(tp, tt, squared=False),
        "r2": tm.r2_score(tp, tt),
        "r": stats.pearsonr(p[mask].astype(float), t[mask].astype(float))[0],
        "psnr": tm.image.peak_signal_noise_ratio(tp, tt, data_range=1.0),
        "bias": np.mean(p[mask].astype(float) - t[mask].astype(float)),
    }
    ours = {
        "mae": Moments.of(p, t, mask).mae,
        "rmse": Moments.of(p, t, mask).rmse,
        "r2": Moments.of(p, t, mask).r2,
        "r": Moments.of(p, t, mask).r,
        "psnr": Moments.of(p, t, mask).psnr(1.0),
        "bias": Moments.of(p, t, mask).bias,
    }
    for name, value in ours.items():
        loose = 1e-6 if name == "psnr" else 1e-9  # torchmetrics takes the logarithm in float32
        assert value == pytest.approx(float(expected[name]), rel=loose, abs=1e-12), name


def test_hand_values():
    p, t = [0.2, 0.4, 0.9], [0.1, 0.4, 0.6]
    assert Moments.of(p, t).mae == pytest.approx(0.4 / 3)
    assert Moments.of(p, t).rmse == pytest.approx(math.sqrt(0.1 / 3))
    assert Moments.of(p, t).bias == pytest.approx(0.4 / 3)
    assert Moments.of(t, p).bias == pytest.approx(-0.4 / 3)
    # mean t = 11/30; deviations -8/30, 1/30, 7/30; sum of squares 114/900
    assert Moments.of(p, t).r2 == pytest.approx(1 - 0.1 / (114 / 900))
    assert Moments.of(p, t).psnr(2.0) == pytest.approx(10 * math.log10(4 / (0.1 / 3)))


def test_masked_pixels_have_no_influence(image):
    p, t, mask = image
    spoiled = np.where(mask, p, 1e6)
    assert Moments.of(spoiled, t, mask) == Moments.of(p, t, mask)
    assert Moments.of(spoiled, t).mae > 1000


def test_psnr_depends_on_the_stated_range(image):
    p, t, _ = image
    assert Moments.of(p, t).psnr(2.0) - Moments.of(p, t).psnr(1.0) == pytest.approx(
        20 * math.log10(2)
    )
    assert Moments.of(t, t).psnr(1.0) == math.inf
    assert {u: metrics.data_range(u) for u in ("reflectance", "display")} == {
        "reflectance": 1.0,
        "display": 1.0,
    }
    with pytest.raises(UnitError, match="no data range"):
        metrics.data_range("furlong")


def test_small_spread_on_a_large_mean_keeps_its_digits(rng):
    base = rng.normal(0, 0.01, 100_000)
    noise = rng.normal(0, 0.01, base.size)
    near = Moments.of(base + noise, base)
    t, p = 300.0 + base, 300.0 + (base + noise)
    parts = zip(np.array_split(p, 50), np.array_split(t, 50), strict=True)
    far = sum((Moments.of(a, b) for a, b in parts), Moments())
    assert far.r == pytest.approx(near.r, abs=1e-9)
    assert far.r2 == pytest.approx(near.r2, abs=1e-8)
    naive = (t**2).astype(np.float32).sum() - t.size * np.float32(t.mean()) ** 2
    assert abs(naive / (base**2).sum() - 1) > 0.1  # what the central moments are for


# ---- degenerate cases speak ------------------------------------------------------------------


def test_nothing_valid_gives_nan_and_zero():
    s = (
        PairScorer(
            Target(
                np.zeros((1, 16, 16)),
                ["nir"],
                "reflectance",
                np.zeros((16, 16), bool),
                other_bands={"red": np.ones((16, 16))},
                indices=["NDVI"],
            )
        )
        .score(np.ones((1, 16, 16)))
        .numbers()
    )
    assert (s["n_pixels"], s["n_valid"], s["n_windows"], s["NDVI_n"]) == (256, 0, 0, 0)
    assert all(math.isnan(s[m]) for m in (*metrics.METRICS, "NDVI_mae"))


@pytest.mark.parametrize("level", [0.0, 0.3, 0.1 + 0.2])
def test_constant_target_has_no_correlation(rng, level):
    t = np.full((20, 20), level)
    p = t + rng.normal(0, 0.1, t.shape)
    assert math.isnan(Moments.of(p, t).r)
    assert math.isnan(Moments.of(p, t).r2)
    assert Moments.of(p, t).mae > 0
    assert math.isnan(Moments.of(t, p).r)
    assert Moments.of(t, p).r2 <= 0  # a constant guess has an R2, and none is above the mean's
    halves = [Moments.of(p[a:b], t[a:b]) for a, b in ((0, 9), (9, 20))]
    assert math.isnan((halves[0] + halves[1]).r)
    other = Moments.of(p, t + 0.1)
    assert not math.isnan((halves[0] + other).r)  # constant within each, but not together


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_output_is_counted_and_never_averaged_away(image, bad):
    p, t, mask = image
    p = p.copy()
    p[mask & (np.arange(61) == 30)] = bad
    n = int(mask[:, 30].sum())
    red = {"red": np.full(t.shape, 0.1)}
    s = PairScorer(
        Target(t[None], ["nir"], "reflectance", mask, other_bands=red, indices=["NDVI"])
    ).score(p[None])
    numbers = s.numbers()
    assert (numbers["n_valid"], numbers["n_nonfinite"]) == (int(mask.sum()), n)
    assert all(math.isnan(numbers[m]) for m in (*metrics.METRICS, "NDVI_mae"))
    whole = PairScorer(Target(t[None], ["nir"], "reflectance")).score(p[None])
    assert whole.numbers()["n_windows"] > 0  # there are whole windows beside the bad column
    assert math.isnan(whole.numbers()["ssim"])
    assert math.isnan(whole.band_numbers()["nir"]["ssim"])
    good = PairScorer(Target(t[None], ["nir"], "reflectance", mask)).score(t[None])
    pooled = (s + good).numbers()  # one bad image is not hidden among good ones
    assert math.isnan(pooled["mae"])
    assert pooled["n_nonfinite"] == n
    outside = np.where(mask, image[0], bad)  # where there is no truth it does not matter
    assert (
        PairScorer(Target(t[None], ["nir"], "reflectance", mask)).score(outside[None]).n_nonfinite
        == 0
    )


def test_target_that_is_nan_is_masked(image):
    p, t, _ = image
    holed = t.copy()
    holed[:5] = np.nan
    s = PairScorer(Target(holed[None], ["nir"], "reflectance")).score(p[None]).numbers()
    assert s["n_valid"] == t[5:].size
    assert s["n_nonfinite"] == 0
    assert s["mae"] == pytest.approx(Moments.of(p[5:], t[5:]).mae)


def test_shapes_that_differ_are_refused(image):
    p, t, _ = image
    with pytest.raises(ValueError, match="differ in shape"):
        Moments.of(p[:-1], t)
    with pytest.raises(ValueError, match="the output is"):
        PairScorer(Target(t[None], ["nir"], "reflectance")).score(p[None, :-1])


# ---- SSIM ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1.0, 0.5])
def test_ssim_equals_skimage_and_torchmetrics(image, limit):
    p, t, _ = image
    p, t = p.astype(np.float64), t.astype(np.float64)
    ours = mean_ssim(p, t, limit)
    reference = sk.structural_similarity(
        t, p, data_range=limit, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ours == pytest.approx(reference, abs=1e-10)
    a, b = tensors(p[None, None], t[None, None])
    # torchmetrics also counts windows that reach into the reflected border; without these:
    _, full = tm.image.structural_similarity_index_measure(
        a, b, data_range=limit, return_full_image=True
    )
    assert ours == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-6)
    assert 0.1 < ours < 0.95


def test_ssim_on_kelvin_equals_skimage(image):
    p, t, _ = (np.asarray(a, np.float64) * 50 + 270 for a in image)
    reference = sk.structural_similarity(
        t, p, data_range=100, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    score = PairScorer(Target(t[None], ["thermal"], "kelvin")).score(p[None])
    assert score.numbers()["ssim"] == pytest.approx(reference, abs=1e-9)


def test_ssim_of_bands_is_their_mean(image):
    p, t, _ = image
    target = Target(np.stack([t, t]), ["nir", "swir16"], "reflectance")
    both = PairScorer(target).score(np.stack([p, t])).numbers()["ssim"]
    assert both == pytest.approx((mean_ssim(p, t, 1.0) + 1.0) / 2)


def test_masked_ssim_is_the_mean_over_valid_windows(image):
    p, t, _ = (np.asarray(a, np.float64) for a in image)
    mask = np.ones(t.shape, bool)
    mask[20, 33] = mask[:, :3] = False
    mask[44:, 50:] = False
    _, full = sk.structural_similarity(
        t,
        p,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    centres = [
        (i, j)
        for i in range(5, t.shape[0] - 5)
        for j in range(5, t.shape[1] - 5)
        if mask[i - 5 : i + 6, j - 5 : j + 6].all()
    ]
    expected = np.mean([full[c] for c in centres])
    spoiled = np.where(mask, p, 1e4)
    total, count = ssim(spoiled, t, 1.0, mask)
    assert count == len(centres) == int(valid_windows(mask).sum())
    assert total / count == pytest.approx(expected, abs=1e-9)
    assert abs(expected - mean_ssim(p, t, 1.0)) > 1e-5


@pytest.mark.parametrize("shape", [(10, 40), (1, 1), (40, 1)])
def test_image_smaller_than_a_window_has_no_ssim(shape):
    assert ssim(np.ones(shape), np.ones(shape), 1.0) == (0.0, 0)
    one = PairScorer(Target(np.ones((1, *shape)), ["nir"], "reflectance"))
    assert math.isnan(one.score(np.ones((1, *shape))).numbers()["ssim"])
    assert mean_ssim(np.ones((11, 11)), np.ones((11, 11)), 1.0) == pytest.approx(1.0)


# ---- indices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["NDVI", "NDWI", "EVI", "SAVI", "MSAVI", "GNDVI", "OSAVI"])
def test_index_error_equals_spyndex(rng, name):
    g, r, n, wrong = rng.uniform(0.05, 0.4, (4, 30, 30))
    b = rng.uniform(0.02, 0.1, r.shape)  # EVI has a pole where blue is bright and red dark
    letters = {"N": n, "R": r, "G": g, "B": b}

    def reference(nir):
        needed = set(spyndex.indices[name].bands)
        params = {**letters, "N": nir, "g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0}
        if name == "SAVI":
            params["L"] = 0.5
        return spyndex.computeIndex(name, {k: v for k, v in params.items() if k in needed})

    own = {"blue": b, "green": g, "red": r}
    ours = index_mae(name, {**own, "nir": wrong}, {**own, "nir": n})
    assert ours == pytest.approx(np.abs(reference(wrong) - reference(n)).mean(), rel=1e-9)


def test_index_counts_only_where_the_truth_is_defined():
    red = np.array([[0.01, 0.1, 0.0, -0.03, 0.1]])
    nir = np.array([[0.005, 0.3, 0.5, 0.02, 0.3]])
    mask = np.array([[True, True, True, True, False]])
    wrong = {"red": red, "nir": np.array([[5.0, 0.1, 0.0, 9.0, 7.0]])}
    target = Target(
        nir[None], ["nir"], "reflectance", mask, other_bands={"red": red}, indices=["NDVI"]
    )
    m = PairScorer(target).score(wrong["nir"][None]).indices["NDVI"]
    # First: dark. Fourth: red clamps to 0 and N + R = 0.02 is not above the guard. Fifth: masked.
    # Second: 0.5 -> 0. Third: truth 1, prediction 0/0 held -> 0.
    assert m.n == 2
    assert m.abs_error == pytest.approx(0.5 + 1.0)


def test_index_takes_no_bonus_from_predictions_out_of_range():
    red, nir = np.full((2, 2), 0.1), np.full((2, 2), 0.3)
    true = {"red": red, "nir": nir}
    wild = index_mae("NDVI", {"red": red, "nir": nir - 5}, true)
    assert wild == pytest.approx(1.5)  # clamped to 0: NDVI -1 against 0.5
    dark = index_mae("NDVI", {"red": red * 0.01, "nir": nir * 0}, true)
    assert dark == pytest.approx(1.5)  # a denominator below the guard softens nothing


def test_index_values_stay_in_bounds(rng):
    bands = {"red": rng.normal(0.0, 0.05, 500), "nir": rng.normal(0.0, 0.05, 500)}
    values, defined = index_values("NDVI", bands, "reflectance")
    assert np.abs(values).max() <= 1.0
    assert 0 < defined.sum() < 500


def test_usable_indices():
    names, rgb = ["NDVI", "EVI", "NBR2", "NDWI"], ["red", "green", "blue"]
    use = metrics.usable_indices
    same = use(names, rgb, ["nir"], unit="reflectance", same_pixels=True)
    assert same == ["NDVI", "EVI", "NDWI"]
    assert use(names, rgb, ["nir"], unit="display", same_pixels=True) == ["NDVI", "NDWI"]
    assert use(names, rgb, ["nir"], unit="reflectance", same_pixels=False) == []
    both = use(names, ["vv", "vh"], ["red", "nir"], unit="reflectance", same_pixels=False)
    assert both == ["NDVI"]
    assert use(["NDVI"], [*rgb, "nir"], ["thermal"], unit="kelvin", same_pixels=False) == []
    with pytest.raises(BandError, match="NDVI"):
        use(["NDVII"], rgb, ["nir"], unit="reflectance", same_pixels=True)


# ---- adding up -------------------------------------------------------------------------------


def parts(rng, k=6):
    out = []
    for _ in range(k):
        t = rng.uniform(0, 0.6, (2, 15, 18))
        p = t * rng.uniform(0.8, 1.2) + rng.normal(0, 0.05, t.shape)
        mask = np.ones((15, 18), bool)
        mask[:, rng.integers(12, 18) :] = False
        out.append((p, t, mask, rng.uniform(0.02, 0.2, (15, 18))))
    return out


def scored(part):
    p, t, mask, red = part
    return PairScorer(
        Target(
            t, ["nir", "swir16"], "reflectance", mask, other_bands={"red": red}, indices=["NDVI"]
        )
    ).score(p)


def close(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key] == pytest.approx(b[key], rel=1e-10, abs=1e-12, nan_ok=True), key


def test_pooled_equals_all_pixels_at_once(rng):
    images = parts(rng)
    pooled = sum(map(scored, images[1:]), scored(images[0])).numbers()
    p, t, mask, red = (np.concatenate(x, axis=-1) for x in zip(*images, strict=True))
    both = np.broadcast_to(mask, t.shape)
    assert pooled["mae"] == pytest.approx(np.abs(p - t)[both].mean())
    assert pooled["rmse"] == pytest.approx(np.sqrt(((p - t)[both] ** 2).mean()))
    expected = np.mean([stats.pearsonr(p[b][mask], t[b][mask])[0] for b in (0, 1)])
    assert pooled["r"] == pytest.approx(expected)
    whole = PairScorer(
        Target(t, ["nir", "swir16"], "reflectance", mask, other_bands={"red": red})
    ).score(p)
    close({k: v for k, v in whole.numbers().items() if k in ("mae", "bias", "r2", "psnr")},
          {k: v for k, v in pooled.items() if k in ("mae", "bias", "r2", "psnr")})  # fmt: skip
    sums = [ssim(x[0][0], x[1][0], 1.0, x[2]) for x in images]
    a, n = sum(s for s, _ in sums), sum(n for _, n in sums)
    b = sum(ssim(x[0][1], x[1][1], 1.0, x[2])[0] for x in images)
    assert pooled["n_windows"] == n
    assert pooled["ssim"] == pytest.approx((a + b) / 2 / n)


def test_order_of_images_changes_only_the_last_digits(rng):
    scores = [scored(x) for x in parts(rng)]
    forward = sum(scores[1:], scores[0]).numbers()
    order = rng.permutation(len(scores))
    shuffled = [scores[i] for i in order]
    close(forward, sum(shuffled[1:], shuffled[0]).numbers())
    tree = (scores[0] + scores[1]) + ((scores[2] + scores[3]) + (scores[4] + scores[5]))
    close(forward, tree.numbers())


def test_order_of_pixels_changes_only_the_last_digits(image, rng):
    p, t, mask = (a.ravel() for a in image)
    order = rng.permutation(p.size)
    a, b = Moments.of(p, t, mask), Moments.of(p[order], t[order], mask[order])
    for name in ("mae", "rmse", "bias", "r2", "r"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-12)


@given(
    st.lists(
        st.lists(
            st.tuples(*[st.floats(-100, 100).filter(lambda v: v == 0 or abs(v) > 1e-6)] * 2),
            max_size=6,
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_moments_add_up_however_they_are_cut(chunks):
    total = Moments()
    for chunk in chunks:
        p, t = np.array(chunk).reshape(-1, 2).T
        total = total + Moments.of(p, t)
    p, t = np.array([pair for chunk in chunks for pair in chunk]).reshape(-1, 2).T
    whole = Moments.of(p, t)
    assert total.n == whole.n
    for name in ("mae", "rmse", "bias"):
        expected = getattr(whole, name)
        assert getattr(total, name) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert math.isnan(total.r) == math.isnan(whole.r)
    assert total.m2_t == pytest.approx(whole.m2_t, rel=1e-9, abs=1e-8)
    assert total.c_pt == pytest.approx(whole.c_pt, rel=1e-9, abs=1e-7)


def test_units_are_never_added():
    a = PairScorer(Target(np.ones((1, 3, 3)), ["nir"], "reflectance")).score(np.ones((1, 3, 3)))
    b = PairScorer(Target(np.ones((1, 3, 3)), ["nir"], "display")).score(np.ones((1, 3, 3)))
    with pytest.raises(UnitError, match="cannot be averaged"):
        a + b


def test_bands_stand_alone_too(rng):
    p, t, mask, red = parts(rng, 1)[0]
    numbers = scored((p, t, mask, red)).band_numbers()
    assert list(numbers) == ["nir", "swir16"]
    assert numbers["swir16"]["mae"] == pytest.approx(Moments.of(p[1], t[1], mask).mae)
    assert numbers["nir"]["ssim"] == pytest.approx(mean_ssim(p[0], t[0], 1.0, mask))


def test_json_has_no_nan():
    out = metrics.as_json({"a": np.float64("nan"), "b": [math.inf, np.int64(3)], "c": "x"})
    assert json.loads(json.dumps(out, allow_nan=False)) == {"a": None, "b": [None, 3], "c": "x"}


# ---- ratios ----------------------------------------------------------------------------------


def test_ratio_by_hand():
    model = {"a": 0.01, "b": 0.04, "c": 0.02, "d": math.nan}
    base = {"a": 0.02, "b": 0.02, "c": 0.02, "d": math.nan}
    r = compare_to_baseline(model, base, {"a": 10, "b": 1, "c": 1, "d": 0}, str)
    assert r.geometric_mean == pytest.approx(1.0)  # 0.5 x 2 x 1; groups count once, not by pixels
    assert (r.n_groups, r.n_won, r.n_empty, r.n_undefined) == (3, 1, 1, 0)
    assert list(r.lost.items()) == [("b", 2.0), ("c", 1.0)]


def test_a_place_that_two_sensors_saw_counts_once():
    model = {("a", 1): 0.04, ("a", 2): 0.01, ("b", 1): 0.01, ("b", 2): 0.01, ("c", 1): 0.01}
    base, counts = dict.fromkeys(model, 0.02), dict.fromkeys(model, 5) | {("c", 1): 0}
    r = compare_to_baseline(model, base, counts, lambda part: part[0])
    assert r.ratios == pytest.approx({"a": 1.0, "b": 0.5})
    assert (r.n_groups, r.n_won, r.n_empty) == (2, 1, 1)
    assert list(r.lost) == ["a"]


def test_ratio_does_not_hide_an_undefined_group():
    r = compare_to_baseline(
        {"a": 0.01, "b": math.nan}, {"a": 0.02, "b": 0.02}, {"a": 5, "b": 5}, str
    )
    assert math.isnan(r.geometric_mean)
    assert (r.n_undefined, r.n_won) == (1, 1)
    assert list(r.lost) == ["b"]


def test_ratio_equals_scipy(rng):
    model = {str(i): v for i, v in enumerate(rng.uniform(0.01, 1, 40))}
    base = {str(i): v for i, v in enumerate(rng.uniform(0.01, 1, 40))}
    expected = stats.gmean([model[k] / base[k] for k in model])
    got = compare_to_baseline(model, base, dict.fromkeys(model, 1), str)
    assert got.geometric_mean == pytest.approx(expected)
    assert got.n_won == sum(model[k] < base[k] for k in model)


def test_ratio_to_a_perfect_baseline():
    assert compare_to_baseline({"a": 0.0}, {"a": 0.0}, {"a": 1}, str).geometric_mean == 1.0
    assert compare_to_baseline({"a": 0.1}, {"a": 0.0}, {"a": 1}, str).geometric_mean == math.inf
    assert compare_to_baseline({"a": 0.0}, {"a": 0.1}, {"a": 1}, str).geometric_mean == 0.0
    assert math.isnan(geometric_mean({}))
    with pytest.raises(ValueError, match="same groups"):
        compare_to_baseline({"a": 1.0}, {"b": 1.0}, {"a": 1}, str)


def test_tensors_are_scored_as_arrays():
    generator = np.random.default_rng(0)
    t, p = (generator.random((1, 40, 40)).astype(np.float32) for _ in range(2))
    mask = generator.random((40, 40)) > 0.2
    whole = PairScorer(Target(t, ["nir"], "reflectance", mask)).score(p).numbers()
    target = Target(torch.from_numpy(t), ["nir"], "reflectance", torch.from_numpy(mask))
    found = PairScorer(target).score(torch.from_numpy(p)).numbers()
    assert found["mae"] == whole["mae"]
    assert found["r"] == whole["r"]
