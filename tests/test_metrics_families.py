"""What every family of metrics must hold; a new one is tested by being there."""

import math
import pickle
import warnings

import numpy as np
import pytest

from crossband import metrics
from crossband.errors import CrossbandError
from crossband.metrics import COUNTS, OF_INDEX, PairScorer, Target, known_families, known_metrics
from crossband.metrics.family import Family, Output, Sums

RGB = ("red", "green", "blue")
FAMILY_NAMES = list(known_families())
CASES = ("nir", "thermal", "rgb", "radar")


def picture(rng, bands, side=192):
    """Smooth and rough at once, in 0.05..0.75."""
    row, col = np.mgrid[:side, :side]
    base = 0.4 + 0.2 * np.sin(row / rng.uniform(4, 9)) * np.cos(col / rng.uniform(4, 9))
    blocks = np.kron(rng.uniform(-0.1, 0.1, (side // 16, side // 16)), np.ones((16, 16)))
    return np.clip(base + blocks + rng.normal(0, 0.02, (bands, side, side)), 0.05, 0.75)


def case(name, seed=0, mask=None):
    """Arguments of Target, and an output; each family applies to at least one of the cases."""
    rng = np.random.default_rng(seed)
    options = {"mask": mask}
    t = picture(rng, 3 if name == "rgb" else 2 if name == "radar" else 1)
    p = 0.9 * t + 0.03 + rng.normal(0, 0.03, t.shape)
    if name == "nir":
        given = (t, ("nir",), "reflectance")
        options |= {
            "other_bands": dict(zip(RGB, picture(rng, 3), strict=True)),
            "indices": ("NDVI", "EVI", "NDWI"),
        }
    elif name == "thermal":
        t, p = 270 + 50 * t, 270 + 50 * p
        given = (t, ("thermal",), "kelvin")
    elif name == "radar":
        t, p = 40 * t - 25, 40 * p - 25
        given = (t, ("vv", "vh"), "db")
    else:
        given = (t, RGB, "display")
        coarse = t.reshape(3, 96, 2, 96, 2).mean(axis=(2, 4))
        options |= {"scale": 2, "source": dict(zip(RGB, coarse, strict=True))}
    return given, options, p


def scored(name, seed=0, mask=None, families=None):
    given, options, p = case(name, seed, mask)
    return PairScorer(Target(*given, **options), families).score(p)


def metric_values(score):
    """Return the metrics of a score: at least one, where its families have any."""
    numbers = score.numbers().items()
    found = {k: v for k, v in numbers if k not in COUNTS and not k.endswith("_n")}
    assert found or not any(known_families()[name].metrics for name in score.sums)
    return found


def close(a, b, tolerance=1e-9):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key] == pytest.approx(b[key], rel=tolerance, abs=1e-12, nan_ok=True), key


def cases_of(family):
    return [c for c in CASES if family in PairScorer(Target(*case(c)[0], **case(c)[1])).families]


# ---- the catalogue ---------------------------------------------------------------------------


def test_every_number_is_in_the_catalogue_and_every_metric_appears():
    seen = set()
    for name in CASES:
        numbers = metric_values(scored(name))
        seen |= numbers.keys()
        assert all(math.isfinite(v) for v in numbers.values()), name
    indices = {f"{i}_{m.name}" for i in ("NDVI", "EVI", "NDWI") for m in OF_INDEX}
    assert seen == set(known_metrics()) | indices
    assert all(n in known_metrics() for n in metrics.METRICS)


@pytest.mark.parametrize("metric", [*known_metrics().values(), *OF_INDEX], ids=lambda m: m.name)
def test_each_metric_says_what_it_is(metric):
    assert metric.heading
    assert metric.about
    assert metric.unit in ("data", "dB", "degrees", "%", "")
    assert metric.better in ("less", "more", "zero", "")
    assert format(1.5, metric.format)


def test_metrics_of_an_index():
    assert metrics.of_index("NDVI", "mae").name == "NDVI_mae"
    with pytest.raises(KeyError):
        metrics.of_index("NDVI", "n")


def test_units_without_a_zero_have_no_relative_metrics():
    numbers = scored("radar").numbers()
    assert not {"sam", "ergas", "uqi", "hot_contrast"} & numbers.keys()
    assert {"swd", "ms_ssim", "edge_f1", "spectrum_db"} <= numbers.keys()


def test_the_next_metric_is_one_class():
    class Widest(Sums):
        pass

    from dataclasses import dataclass

    @dataclass(frozen=True, eq=False)
    class Errors(Widest):
        total: float = 0.0

        def numbers(self, unit, scale):
            return {"total_error": self.total}

    class Total(Family):
        name = "total"
        metrics = (metrics.Metric("total_error", "total", "data", "less", "sum of |p - t|"),)

        def sums(self, output: Output):
            return Errors(float(np.abs(output.flat - self.target.flat).sum()))

    try:
        given, options, p = case("nir")
        one = PairScorer(Target(*given, **options)).score(p)
        expected = 2 * float(np.abs(p - given[0]).sum())
        assert (one + one).numbers()["total_error"] == pytest.approx(expected)
    finally:
        del Family.known[Total.name]


# ---- every family: adding up -----------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_order_of_images_changes_only_the_last_digits(family):
    there = cases_of(family)
    assert there, "no case has what this family needs: add one"
    for name in there:
        scores = [scored(name, seed, families=[family]) for seed in range(4)]
        a, b, c, d = scores
        one, other = ((a + b) + c) + d, (d + b) + (c + a)
        close(one.numbers(), other.numbers())
        close(flat(one), flat(other))
        assert one.n_pixels == 4 * a.n_pixels


def flat(score):
    return {(b, k): v for b, n in score.band_numbers().items() for k, v in n.items()}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_an_image_twice_has_the_metrics_of_one(family):
    for name in cases_of(family):
        one = scored(name, families=[family])
        values = metric_values(one)
        close(metric_values(one + one), values)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_scores_travel_between_processes(family):
    for name in cases_of(family):
        one = scored(name, families=[family])
        close(pickle.loads(pickle.dumps(one)).numbers(), one.numbers())


def test_the_families_alone_are_all_together():
    for name in CASES:
        together, apart = scored(name).numbers(), {}
        for family in known_families():
            apart |= metric_values(scored(name, families=[family]))
        close(apart, {k: v for k, v in together.items() if k in apart})
        assert apart.keys() == metric_values(scored(name)).keys()


def test_a_score_does_not_depend_on_earlier_ones():
    given, options, p = case("nir")
    scorer = PairScorer(Target(*given, **options))
    scorer.score(given[0] * 0.5)
    close(scorer.score(p).numbers(), scored("nir").numbers(), 1e-15)


# ---- every family: masks and gaps ------------------------------------------------------------


@pytest.fixture
def holed():
    mask = np.ones((192, 192), bool)
    mask[:3, :] = mask[100, 177] = mask[186:, 185:] = False
    return mask


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_masked_pixels_have_no_influence(family, holed):
    for name in cases_of(family):
        given, options, p = case(name, mask=holed)
        t, bands, unit = given
        one = PairScorer(Target(*given, **options), [family]).score(p)
        for bad in (1e4, -7.0, np.nan):
            spoiled = np.where(holed, t, bad), np.where(holed, p, -3 * bad)
            two = PairScorer(Target(spoiled[0], bands, unit, **options), [family]).score(spoiled[1])
            close(one.numbers(), two.numbers(), 1e-7)
        assert one.n_valid == holed.sum()
        full = scored(name, families=[family])
        if metric_values(full):
            assert metric_values(one) != metric_values(full)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_all_masked_gives_nan_and_says_so(family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in cases_of(family):
            one = scored(name, mask=np.zeros((192, 192), bool), families=[family])
            assert one.n_valid == 0
            assert all(math.isnan(v) for v in metric_values(one).values())
            full = scored(name, families=[family])
            close((one + full).numbers() | {"n_pixels": 0}, full.numbers() | {"n_pixels": 0})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_gap_in_the_output_is_counted_and_never_averaged_away(family, bad):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in cases_of(family):
            given, options, p = case(name)
            p[:, 1, 1:4] = bad
            one = PairScorer(Target(*given, **options), [family]).score(p)
            assert one.n_nonfinite == 3
            good = scored(name, 1, families=[family])
            assert all(math.isnan(v) for v in metric_values(one).values())
            assert all(math.isnan(v) for v in metric_values(one + good).values())
            assert one.spectrum() == {}
            hidden = np.ones((192, 192), bool)
            hidden[1, 1:4] = False
            masked = PairScorer(Target(*given, **(options | {"mask": hidden})), [family]).score(p)
            assert masked.n_nonfinite == 0
            assert all(math.isfinite(v) for v in metric_values(masked).values())


CONSTANT_IS_UNDEFINED = {"r2", "r", "spectrum_db", "hot_contrast", "edge_f1"}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_constant_target_speaks(family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in cases_of(family):
            (t, bands, unit), options, p = case(name)
            level = float(t.mean())
            options |= {"source": {b: np.full((96, 96), level) for b in options.get("source", ())}}
            scorer = PairScorer(Target(np.full_like(t, level), bands, unit, **options), [family])
            for output in (p, np.full_like(t, level), np.full_like(t, level * 1.01)):
                for metric, value in metric_values(scorer.score(output)).items():
                    if metric in CONSTANT_IS_UNDEFINED - {"edge_f1"}:
                        assert math.isnan(value), metric
                    elif metric.endswith(("_r2", "_r")):
                        continue  # red varies, so the index does
                    elif output is p:
                        assert math.isfinite(value), metric


@pytest.mark.parametrize("side", [1, 2, 3, 7, 10, 24])
@pytest.mark.parametrize("name", CASES)
def test_small_images_speak(name, side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given, options, p = case(name)
        t, bands, unit = given
        side = side * 2 if name == "rgb" else side
        options = options | {
            key: {b: v[: side // s, : side // s] for b, v in options[key].items()}
            for key, s in (("other_bands", 1), ("source", 2))
            if key in options
        }
        one = PairScorer(Target(t[:, :side, :side], bands, unit, **options)).score(
            p[:, :side, :side]
        )
        numbers = one.numbers()
        assert math.isfinite(numbers["mae"])
        assert math.isnan(numbers["ms_ssim"])
        assert math.isnan(numbers["spectrum_db"])
        assert math.isfinite(numbers["ssim"]) == (side >= 11)
        assert one.spectrum() == {}


def test_what_does_not_fit_is_refused():
    given, options, p = case("rgb")
    scorer = PairScorer(Target(*given, **options))
    with pytest.raises(ValueError, match=r"output is \(3, 191, 192\), the target \(3, 192, 192\)"):
        scorer.score(p[:, 1:])
    with pytest.raises(ValueError, match=r"2 bands, but the target is \(3, 192, 192\)"):
        PairScorer(Target(given[0], ("red", "green"), "display"))
    with pytest.raises(ValueError, match="scale 4"):
        PairScorer(Target(*given, **(options | {"scale": 4})))
    with pytest.raises(CrossbandError, match="unknown family of metrics 'edge': did you mean"):
        PairScorer(Target(*given), ["edge"])
    with pytest.raises(CrossbandError, match="scale 2 and 1"):
        scorer.score(p) + PairScorer(Target(*given)).score(p)


# ---- every family: what per-pixel means ------------------------------------------------------


@pytest.mark.parametrize("family", ["pixel", "sam", "ergas", "swd", "hot", "index", "profiles"])
def test_the_order_of_pixels_changes_only_the_last_digits(family):
    order = np.random.default_rng(3).permutation(192 * 192)

    def shuffled(values):
        return values.reshape(-1, 192 * 192)[:, order].reshape(values.shape)

    for name in cases_of(family):
        (t, bands, unit), options, p = case(name)
        one = PairScorer(Target(t, bands, unit, **options), [family]).score(p)
        options = {k: v for k, v in options.items() if k not in ("source", "scale")}
        if "other_bands" in options:
            options["other_bands"] = {b: shuffled(v) for b, v in options["other_bands"].items()}
        scale = one.scale
        scorer = PairScorer(Target(shuffled(t), bands, unit, **options, scale=scale), [family])
        two = scorer.score(shuffled(p))
        close(one.numbers(), two.numbers())
        for band, profile in one.profiles().items():
            assert np.array_equal(profile.scatter, two.profiles()[band].scatter)


def test_memory_does_not_grow_with_the_number_of_images():
    one = scored("rgb")
    size = len(pickle.dumps(one))
    total = one
    for seed in range(1, 6):
        total = total + scored("rgb", seed)
    assert len(pickle.dumps(total)) < 1.01 * size
    assert len(pickle.dumps(total.light())) < 0.3 * len(pickle.dumps(total))
    assert total.light().profiles() == {}
    close(total.light().numbers(), total.numbers())
