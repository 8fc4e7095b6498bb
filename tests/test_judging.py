"""Intervals against loops of their own, ties, breakdowns, and files that another tool made."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import rasterio
from scipy import stats

from crossband.data import manifest as manifests
from crossband.errors import InputError, ManifestError
from crossband.evaluation import intervals
from crossband.evaluation.baselines import fit_baselines, infer_signature, untrained_baselines
from crossband.evaluation.breakdown import classify
from crossband.evaluation.comparison import _compare_two, compare_models, difference, ratio
from crossband.evaluation.evaluate import evaluate, report_text
from crossband.evaluation.report.comparison_tables import rank_text, undecided
from crossband.evaluation.report.verdicts import verdicts
from crossband.metrics import MODEL, PairScorer, Score, Target
from crossband.raster.grid import Grid, Window

pytestmark = pytest.mark.usefixtures("no_figures")

RNG = np.random.default_rng(5)
SIZE = 20


def scores(count, size=72):
    """Scores of different groups, bands of some texture and a red band beside."""
    out = []
    for n in range(count):
        rng = np.random.default_rng(n)
        target = rng.uniform(0.1, 0.5, (1, size + n, size)).cumsum(axis=2) % 0.4 + 0.1
        beside = {"red": rng.uniform(0.05, 0.2, target.shape[1:])}
        scorer = PairScorer(
            Target(target, ["nir"], "reflectance", other_bands=beside, indices=["NDVI"])
        )
        made = target + rng.normal(0.01 * n, 0.02 + 0.01 * n, target.shape)
        out.append(scorer.score(np.clip(made, 0, 1).astype(np.float32)))
    return out


def test_intervals_over_pixels_equal_a_loop_over_draws():
    groups = [s.light() for s in scores(6)]
    weights = intervals.bootstrap_weights(6)
    values = {}
    for row in weights[:40].astype(int):
        total = None
        for group, times in zip(groups, row, strict=True):
            for _ in range(times):
                total = group if total is None else total + group
        for name, value in total.numbers().items():
            values.setdefault(name, []).append(value)
    found = intervals._moment_metrics(groups, weights[:40])
    for name in groups[0].sums:
        found |= intervals._sum_metrics([g.sums[name] for g in groups], groups[0], weights[:40])
    checked = [n for n in found if not np.isnan(values[n]).any()]
    assert {"mae", "rmse", "bias", "r2", "r", "psnr", "ssim", "NDVI_mae", "NDVI_r", "swd"} <= set(
        checked
    )
    for name in checked:
        assert found[name] == pytest.approx(values[name], rel=1e-9, abs=1e-12), name


def test_an_interval_is_the_percentiles_of_its_draws():
    groups = scores(5)
    found = intervals.pixel_intervals(groups)
    drawn = intervals._moment_metrics(groups, intervals.bootstrap_weights(5))["mae"]
    assert found["mae"] == pytest.approx(np.percentile(drawn, (2.5, 97.5)))
    own = sum(groups[1:], groups[0]).numbers()
    for name, (low, high) in found.items():
        assert low <= own[name] <= high, name
    assert intervals.pixel_intervals(groups[:4]) == {}


def test_an_output_that_is_not_finite_has_no_interval():
    groups = scores(5)
    bad = Score(**{**vars(groups[0]), "n_nonfinite": 1})
    assert intervals.pixel_intervals([bad, *groups[1:]]) == {}


def test_intervals_over_images_and_of_ratios():
    rng = np.random.default_rng(0)
    groups = [{"mae": (float(rng.uniform(1, 2)) * n, n)} for n in range(1, 9)]
    weights = intervals.bootstrap_weights(8)
    sums = np.array([g["mae"] for g in groups])
    means = [(row @ sums[:, 0]) / (row @ sums[:, 1]) for row in weights]
    assert intervals.image_intervals(groups)["mae"] == pytest.approx(
        np.percentile(means, (2.5, 97.5))
    )
    ratios = rng.uniform(0.5, 1.5, 8)
    logs = [row @ np.log(ratios) / 8 for row in weights]
    wanted = np.exp(np.percentile(logs, (2.5, 97.5)))
    assert intervals.ratio_interval(list(ratios)) == pytest.approx(wanted)
    assert intervals.ratio_interval([0.5, 0.0, 1, 1, 1]) is None
    assert intervals.ratio_interval([0.5] * 4) is None


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        one = rng.normal(0.3, 1.0, 40)
        low, high = difference(one, np.zeros(40)).interval
        inside += low <= 0.3 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_a_paired_difference_with_its_sign_test():
    one = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 0.7, 0.95])
    two = one + np.array([0.1, 0.2, 0.1, 0.0, 0.3, 0.1, -0.05, 0.2])
    found = difference(one, two)
    assert found.value == pytest.approx((one - two).mean())
    assert (found.n_groups, found.n_better, found.n_worse) == (8, 6, 1)
    assert found.p == pytest.approx(stats.binomtest(6, 7).pvalue)
    assert found.verdict == "tie"  # a p of 0.125: the signs alone could be chance
    surely = difference(one, one + 0.1)
    assert (surely.verdict, surely.n_better) == ("better", 8)
    assert difference(one, one + 0.1, less=False).verdict == "worse"
    assert ratio(one + 0.1, one).verdict == "worse"
    assert ratio(one, one).verdict == "tie"
    assert ratio(one, one).p == 1.0
    few = difference(one[:4], one[:4] + 1)
    assert (few.interval, few.verdict) == (None, "undecided")


def record(label, errors, n_valid=100):
    groups = [
        {
            "sensor": "s",
            "unit": "reflectance",
            "group": f"g{n}",
            "n_valid": n_valid,
            "scores": {MODEL: {"pixels": {"n_valid": n_valid, "mae": e, "ssim": 1 - (e or 0)}}},
        }
        for n, e in enumerate(errors)
    ]
    return {"label": label, "groups": groups}


BETTER = {"mae": "less", "ssim": "more"}


def test_a_ranking_says_when_it_is_a_tie():
    rng = np.random.default_rng(2)
    base = rng.uniform(0.05, 0.1, 12)
    noise = rng.normal(1.0, 0.02, 12)
    found = compare_models(
        [record("far", base * 2), record("one", base), record("two", base * noise)], BETTER
    )
    ranks = {r["label"]: (r["rank"], r["tie"]) for r in found["ranking"]}
    assert ranks == {"one": (1, True), "two": (1, True), "far": (3, False)}
    assert found["n_groups"] == 12
    assert found["same_pixels"]
    (pair,) = [
        p for p in found["pairs"] if (p["first"], p["second"], p["kind"]) == ("far", "one", "ratio")
    ]
    assert pair["value"] == pytest.approx(2.0)
    assert pair["verdict"] == "worse"
    (pair,) = [
        p
        for p in found["pairs"]
        if (p["first"], p["second"], p["metric"]) == ("far", "one", "ssim")
    ]
    assert pair["unit"] == "reflectance"
    assert pair["value"] == pytest.approx(-base.mean())
    assert pair["verdict"] == "worse"


def test_a_copy_of_the_truth_has_no_rank_and_is_told():
    own, copy = record("own", [0.1] * 6), record("copy", [0.0] * 6)
    found = compare_models([own, copy], BETTER)
    assert [(r["label"], r["rank"]) for r in found["ranking"]] == [("own", 1), ("copy", None)]
    said = verdicts({"manifest": {}, "models": [], "versus": found})
    assert [s["text"] for s in said] == [
        "copy has no rank: its error is 0 in a group, as that of a copy of the truth is.",
        "Best of the models that have a rank: own.",
    ]


def test_few_groups_decide_nothing():
    """Two groups cannot tell models apart, and that is no tie."""
    found = compare_models([record("far", [0.2, 0.2]), record("near", [0.1, 0.1])], BETTER)
    assert {pair["verdict"] for pair in found["pairs"]} == {"undecided"}
    assert undecided(found) == "undecided: 2 groups, a comparison needs 6"
    assert rank_text(found["ranking"][0], found) == "-"


def test_only_common_groups_are_compared_and_an_undefined_model_has_no_rank():
    one, two = record("one", [0.1] * 6), record("two", [0.2] * 5)
    found = compare_models([one, two], BETTER)
    assert (found["n_groups"], found["n_left_out"]) == (5, 1)
    bad = record("bad", [0.1, None, 0.1, 0.1, 0.1, 0.1])
    found = compare_models([one, bad], BETTER)
    assert [(r["label"], r["rank"]) for r in found["ranking"]] == [("one", 1), ("bad", None)]
    mae = next(p for p in found["pairs"] if p["metric"] == "mae")
    assert mae["n_undefined"] == 1
    assert not compare_models([one, record("two", [0.2] * 6, n_valid=90)], BETTER)["same_pixels"]


def test_classes_of_a_column():
    few = pd.Series([3, 1, 3, np.nan])
    assert classify(few) == (["3", "1", "3", "unknown"], ["1", "3", "unknown"])
    many = pd.Series(np.arange(100.0))
    texts, order = classify(many)
    assert order == ["0 to 24.75", "24.75 to 49.5", "49.5 to 74.25", "74.25 to 99"]
    assert [texts.count(name) for name in order] == [25, 25, 25, 25]
    written = pd.Series([*map(str, range(100)), None])  # as a CSV has it
    assert classify(written)[1] == [
        "0 to 24.75",
        "24.75 to 49.5",
        "49.5 to 74.25",
        "74.25 to 99",
        "unknown",
    ]
    assert classify(pd.Series(["10", "2", None]))[1] == ["2", "10", "unknown"]
    assert classify(pd.Series(["10.5", "-2"]))[1] == ["-2", "10.5"]
    codes = [f"{n:03}" for n in range(20)]
    assert classify(pd.Series(codes)) == (codes, codes)
    assert classify(pd.Series([12345678, 9]))[1] == ["9", "12345678"]
    assert classify(pd.Series([None, None], dtype=object)) == (["unknown"] * 2, ["unknown"])


# ---- files that another tool made -------------------------------------------------------------


class Made:
    """Pairs with a second tool's answers: nir = green + 0.2, the tool gives green + 0.25."""

    def __init__(self, folder, splits=("train", "test", "test", "test", "test", "test")):
        self.folder, self.rows, self.tool = folder, [], folder / "tool"
        self.tool.mkdir()
        for n, split in enumerate(splits):
            rng = np.random.default_rng(n)
            rgb = rng.integers(500, 4000, (3, SIZE, SIZE)).astype("uint16")
            nir = rgb[1:2] + 2000
            self.write(folder / f"place{n}_rgb.tif", rgb)
            self.write(folder / f"place{n}_nir.tif", nir.astype("uint16"))
            self.write(self.tool / f"place{n}_nir_ours.tif", (nir + 500).astype("uint16"))
            self.rows.append(
                {
                    "source": f"place{n}_rgb.tif",
                    "target": f"place{n}_nir.tif",
                    "source_bands": "red=1,green=2,blue=3",
                    "target_bands": "nir=1",
                    "sensor": "reflectance",
                    "scale": 1e-4,
                    "offset": 0.0,
                    "split": split,
                    "group": f"g{n}",
                    "terrain": "hill" if n % 2 else "plain",
                }
            )

    @staticmethod
    def write(path, values):
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(values),
            height=values.shape[1],
            width=values.shape[2],
            dtype=values.dtype,
            crs="EPSG:32633",
            transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        ) as out:
            out.write(values)

    def manifest(self):
        pd.DataFrame(self.rows).to_csv(self.folder / "pairs.csv", index=False)
        return self.folder / "pairs.csv"

    def judge(self, **options):
        return evaluate(
            [], self.manifest(), self.folder / "out", predictions=[self.tool], pictures=0, **options
        )


def test_bands_of_another_tool_are_found_by_their_names(tmp_path):
    """A file with as many bands as the target was read in the target's order."""
    rng = np.random.default_rng(0)
    (tmp_path / "tool").mkdir()
    true = rng.uniform(1000, 3000, (5, 24, 24)).astype("uint16")
    Made.write(tmp_path / "a.tif", true)
    Made.write(tmp_path / "tool" / "a.tif", true[[4, 3]].astype(np.float32) * np.float32(1e-4))
    with rasterio.open(tmp_path / "tool" / "a.tif", "r+") as file:
        file.descriptions, file.units = ("swir16", "nir"), ("reflectance",) * 2
    row = {"source": "a.tif", "target": "a.tif", "source_bands": "red=1,green=2,blue=3"}
    row |= {"target_bands": "nir=4,swir16=5", "sensor": "reflectance", "scale": 1e-4, "offset": 0.0}
    pd.DataFrame([row]).to_csv(tmp_path / "pairs.csv", index=False)
    given = {"predictions": [tmp_path / "tool"], "pictures": 0}
    report = evaluate([], tmp_path / "pairs.csv", tmp_path / "out", **given)
    (sensor,) = report.metrics["models"][0]["sensors"]
    assert sensor["scores"][MODEL]["pixels"]["mae"] == pytest.approx(0, abs=1e-6)


def test_a_file_that_names_one_band_of_two_is_refused(tmp_path):
    (tmp_path / "tool").mkdir()
    true = np.random.default_rng(0).uniform(1000, 3000, (5, 24, 24)).astype("uint16")
    Made.write(tmp_path / "a.tif", true)
    Made.write(tmp_path / "tool" / "a.tif", true[[4, 3]].astype(np.float32) * np.float32(1e-4))
    with rasterio.open(tmp_path / "tool" / "a.tif", "r+") as file:
        file.set_band_description(1, "swir16")
        file.units = ("a unit of theirs",) * 2  # the columns count
    row = {"source": "a.tif", "target": "a.tif", "source_bands": "red=1,green=2,blue=3"}
    row |= {"target_bands": "nir=4,swir16=5", "sensor": "reflectance", "scale": 1e-4, "offset": 0.0}
    pd.DataFrame([row]).to_csv(tmp_path / "pairs.csv", index=False)
    given = {"predictions": [tmp_path / "tool"], "pictures": 0}
    with pytest.raises(
        ManifestError, match="its band 1 is called swir16, where the target has nir"
    ):
        evaluate([], tmp_path / "pairs.csv", tmp_path / "out", **given)


def test_a_file_of_another_tool_is_of_the_window_or_of_the_whole_target(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "tool").mkdir()
    true = rng.uniform(1000, 3000, (4, 50, 50)).astype("uint16")
    Made.write(tmp_path / "a.tif", true)
    row = {"source": "a.tif", "target": "a.tif", "source_bands": "red=1,green=2,blue=3"}
    row |= {"target_bands": "nir=4", "sensor": "reflectance", "scale": 1e-4, "offset": 0.0}
    row |= {"source_window": "20,20,16,16", "target_window": "20,20,16,16"}
    pd.DataFrame([row]).to_csv(tmp_path / "pairs.csv", index=False)
    given = {"predictions": [tmp_path / "tool"], "pictures": 0}
    for values, right in (
        (true[3:], True),
        (true[3:, 20:36, 20:36], True),
        (np.repeat(np.repeat(true[3:], 2, 1), 2, 2), False),
    ):
        (tmp_path / "tool" / "a.tif").unlink(missing_ok=True)
        Made.write(tmp_path / "tool" / "a.tif", values)
        output = tmp_path / f"out{values.shape[1]}"
        if not right:
            with pytest.raises(ManifestError, match="100 x 100 pixels, and the target has 16 x 16"):
                evaluate([], tmp_path / "pairs.csv", output, **given)
            return
        report = evaluate([], tmp_path / "pairs.csv", output, **given)
        (sensor,) = report.metrics["models"][0]["sensors"]
        assert sensor["scores"][MODEL]["pixels"]["mae"] == pytest.approx(0, abs=1e-6)


def test_quartiles_of_large_numbers_are_told_apart():
    days = pd.Series(20240101 + 7 * np.arange(12))
    rows, classes = classify(days)
    assert len(classes) == 4
    assert [rows.count(one) for one in classes] == [3, 3, 3, 3]


def test_a_place_with_a_part_that_is_not_finite_is_compared_by_nothing():
    def groups(*errors):
        keys = [("s2", "reflectance", "g1"), ("hls", "reflectance", "g1")]
        keys += [("s2", "reflectance", f"g{n}") for n in range(2, 8)]
        return {key: {"mae": error} for key, error in zip(keys, errors, strict=True)}

    one, other = groups(np.nan, *[0.01] * 7), groups(*[0.02] * 8)
    (ratio, difference) = _compare_two(
        "one", "other", {"one": one, "other": other}, [*one], {"mae": "less"}
    )
    for found in (ratio, difference):
        assert found["n_groups"] == 6
        assert found["n_undefined"] == 2


def test_files_of_another_tool_are_judged_beside_baselines(tmp_path):
    made = Made(tmp_path)
    report = made.judge(by=["terrain"])
    (found,) = report.metrics["models"]
    (sensor,) = found["sensors"]
    got = {who: s["pixels"] for who, s in sensor["scores"].items()}
    assert got[MODEL]["mae"] == pytest.approx(0.05, abs=1e-6)
    assert got[MODEL]["bias"] == pytest.approx(0.05, abs=1e-6)
    assert got["linear"]["mae"] == pytest.approx(0.0, abs=1e-6)  # the truth is a line here
    with rasterio.open(tmp_path / "place0_nir.tif") as file:
        level = file.read().mean() / 1e4  # the only train row
    wanted = []
    for n in range(1, 6):
        with rasterio.open(tmp_path / f"place{n}_nir.tif") as file:
            wanted.append(np.abs(file.read() / 1e4 - level).mean())
    assert got["mean"]["mae"] == pytest.approx(np.mean(wanted), rel=1e-5)
    assert found["predictions"] == {"folder": str(made.tool), "n_files": 6, "n_used": 5}
    assert "tool" in report_text(report)
    (terrain,) = found["breakdowns"]
    assert [(v["value"], v["n_images"]) for v in terrain["values"]] == [("hill", 3), ("plain", 2)]
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    interval = stored["models"][0]["sensors"][0]["scores"][MODEL]["intervals"]["pixels"]["mae"]
    assert interval == pytest.approx([0.05, 0.05], abs=1e-6)


@pytest.mark.slow
def test_files_stand_beside_a_model_with_its_baselines(tmp_path):
    made = Made(tmp_path)
    report = evaluate(
        ["rgb2nir"], made.manifest(), tmp_path / "out", predictions=[made.tool], pictures=0
    )
    one, two = report.metrics["models"]
    assert [m["label"] for m in (one, two)] == ["rgb2nir", "tool"]
    assert set(one["baselines"]) == set(two["baselines"]) == {"mean", "linear", "mlp"}
    for who in one["baselines"]:
        a, b = (m["sensors"][0]["scores"][who]["pixels"]["mae"] for m in (one, two))
        assert a == b
    assert report.metrics["versus"]["n_groups"] == 5


def test_a_window_of_a_row_is_cut_from_a_whole_prediction(tmp_path):
    made = Made(tmp_path)
    for row in made.rows:
        row["source_window"] = row["target_window"] = "2,4,10,8"
    (found,) = made.judge().metrics["models"]
    assert found["sensors"][0]["n_pixels"] == 5 * 80
    assert found["sensors"][0]["scores"][MODEL]["pixels"]["mae"] == pytest.approx(0.05, abs=1e-6)


def test_nodata_of_a_prediction_counts_as_not_finite(tmp_path):
    made = Made(tmp_path)
    with rasterio.open(made.tool / "place3_nir_ours.tif", "r+") as file:
        values = file.read()
        values[0, 5, 5:8] = 0
        file.write(values)
        file.nodata = 0
    (found,) = made.judge().metrics["models"]
    pixels = found["sensors"][0]["scores"][MODEL]["pixels"]
    assert pixels["n_nonfinite"] == 3
    assert math.isnan(pixels["mae"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("missing", "manifest row 4: no file in .*tool is named place3_nir or place3_rgb"),
        ("twice", "manifest row 3: 2 files in .* match place2_nir: .*ours.*theirs"),
        ("size", "manifest row 2: .*10 x 20 pixels, and the target has 20 x 20"),
        (
            "bands",
            "manifest row 2: .*it has 2 bands, of which none is named nir; .*nir in this order",
        ),
        ("empty", "there is no image in this folder"),
        ("nowhere", "no such folder"),
        ("unnamed", "the column target_bands must name the same bands in every row"),
    ],
)
def test_files_that_do_not_fit_are_one_line(tmp_path, wrong, message):
    made = Made(tmp_path)
    path = made.tool / "place1_nir_ours.tif"
    if wrong == "missing":
        (made.tool / "place3_nir_ours.tif").unlink()
    elif wrong == "twice":
        made.write(made.tool / "place2_nir_theirs.tif", np.ones((1, SIZE, SIZE), "uint16"))
    elif wrong == "size":
        made.write(path, np.ones((1, 10, SIZE), "uint16"))
    elif wrong == "bands":
        made.write(path, np.ones((2, SIZE, SIZE), "uint16"))
    elif wrong == "empty":
        for file in made.tool.iterdir():
            file.unlink()
    elif wrong == "nowhere":
        made.tool = tmp_path / "elsewhere"
    else:
        made.rows[2]["target_bands"] = None
    with pytest.raises((ManifestError, InputError), match=message) as caught:
        made.judge()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_train_rows_there_is_nothing_to_fit(tmp_path):
    made = Made(tmp_path, splits=["test"] * 3)
    full = manifests.read(made.manifest())
    signature, scale = infer_signature(full)
    assert (signature.source, signature.target, scale) == (["red", "green", "blue"], ["nir"], 1)
    assert fit_baselines(full[:0], full, signature, scale) == {}
    (found,) = made.judge().metrics["models"]
    assert found["baselines"] == {}


def test_bands_that_stay_bring_the_copy_and_finer_ones_bicubic():
    from crossband.core.signature import Signature, UnitRange

    units = {"reflectance": UnitRange([(0.0, 1.0)] * 2, [(0.0, 1.0)])}
    same = Signature(["red", "nir"], ["nir"], units)
    values = RNG.uniform(0, 1, (2, 6, 6)).astype(np.float32)
    mask = np.ones((6, 6), bool)
    source = Window(values, mask, Grid(6, 6), ("red", "nir"), "reflectance")
    copied = untrained_baselines(same, 1)["copy"]({}, source, source.grid)
    assert (copied.values == values[1:]).all()
    assert copied.bands == ("nir",)
    finer = untrained_baselines(same, 2)["bicubic"]({}, source, source.grid.zoom(2))
    assert finer.values.shape == (1, 12, 12)
    flat = Window(np.full_like(values, 0.3), mask, Grid(6, 6), ("red", "nir"), "reflectance")
    even = untrained_baselines(same, 2)["bicubic"]({}, flat, flat.grid.zoom(2))
    assert even.values == pytest.approx(0.3, abs=1e-6)
    assert untrained_baselines(Signature(["red", "nir"], ["thermal"], units), 1) == {}
    kelvin = {"reflectance": UnitRange([(0.0, 1.0)] * 2, [(200.0, 300.0)], "kelvin")}
    assert untrained_baselines(Signature(["red", "nir"], ["nir"], kelvin), 1) == {}


def test_workers_change_no_number(tmp_path):
    made = Made(tmp_path)
    one = made.judge(workers=1)
    two = evaluate(
        [], made.manifest(), tmp_path / "two", predictions=[made.tool], pictures=0, workers=3
    )
    pd.testing.assert_frame_equal(one.per_image, two.per_image)


def test_what_is_kept_does_not_grow_with_the_pairs():
    import pickle

    from crossband.evaluation.aggregate import Aggregate, GroupKey
    from crossband.evaluation.breakdown import Breakdowns

    made = scores(2, size=64)
    sizes = []
    for rounds in (2, 40):
        aggregate, table = Aggregate([]), pd.DataFrame({"terrain": ["hill", "plain"] * rounds})
        columns = Breakdowns(["terrain"], table, [])
        for n in range(2 * rounds):
            one = {MODEL: made[n % 2]}
            aggregate.add(GroupKey("s2", "reflectance", f"g{n % 2}"), one)
            columns.add(n, "reflectance", f"g{n % 2}", one)
        sizes.append(len(pickle.dumps((aggregate, columns.aggregates))))
    assert sizes[1] < 1.02 * sizes[0]


# ---- FID and its kin --------------------------------------------------------------------------


class Mean:
    """An extractor whose features are means of the channels: nothing to load."""

    @staticmethod
    def load(_text, device="auto"):
        import torch

        from crossband.metrics.extractors.base import Extractor, Features

        class Means(Extractor):
            name, weights_hash = "means", "0" * 64

            def __call__(self, pictures):
                flat = pictures.float().flatten(2)
                found = torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1)
                return Features(found)

        return Means()


def test_features_are_in_the_report(tmp_path, monkeypatch):
    from crossband.metrics import extractors as features

    monkeypatch.setattr(features, "load", Mean.load)
    made = Made(tmp_path, splits=["train"] + ["test"] * 8)
    report = made.judge(features="means")
    (found,) = report.metrics["models"][0]["features"]
    assert (found["unit"], found["n"], found["fid_flagged"]) == ("reflectance", 8, True)
    assert set(found["scores"]) == {MODEL, "mean", "linear"}
    assert found["scores"]["linear"]["fid"] == pytest.approx(0, abs=1e-3)
    assert found["scores"]["mean"]["fid"] > found["scores"][MODEL]["fid"] > 1
    text = report_text(report)
    assert "extractor name means" in text
    assert "truth against truth" in text
    assert "! FID of 8 images, fewer than 2,048" in text
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'id="features"' in page
    assert "truth against truth" in page


def test_feature_bands_need_an_extractor(tmp_path):
    with pytest.raises(ManifestError, match="--features"):
        Made(tmp_path).judge(feature_bands=["nir"])


def test_a_model_without_baselines_gets_those_of_the_train_rows(tmp_path):
    import crossband

    made = Made(tmp_path, splits=["train", "train", "test", "test"])
    bare = crossband.load("rgb2nir")
    bare.baselines = {}
    options = {"pictures": 0, "precision": "fp32"}
    report = evaluate([bare], made.manifest(), tmp_path / "out", **options)
    (found,) = report.metrics["models"]
    assert found["baselines"] == {"mean": "", "linear": ""}
    scored = found["sensors"][0]["scores"]
    assert scored["linear"]["pixels"]["mae"] == pytest.approx(0.0, abs=1e-6)
    (tmp_path / "bad.tif").write_bytes(b"no image")
    made.rows[0]["source"] = "bad.tif"
    with pytest.warns(UserWarning, match="has no baselines, and none can be fitted"):
        report = evaluate([bare], made.manifest(), tmp_path / "two", **options)
    assert report.metrics["models"][0]["baselines"] == {}


def test_a_place_that_several_sensors_have_seen_counts_once():
    def seen(label, errors, sensors):
        groups = [
            {
                "sensor": sensor,
                "unit": "reflectance",
                "group": f"place {n}",
                "n_valid": 100,
                "scores": {MODEL: {"pixels": {"n_valid": 100, "mae": error * times}}},
            }
            for sensor, times in sensors.items()
            for n, error in enumerate(errors)
        ]
        return {"label": label, "groups": groups}

    errors, worse = [0.03] * 5, [0.03 * (1.01 + 0.01 * n) for n in range(5)]
    found = []
    for sensors in ({"a": 1.0}, {"a": 1.0, "b": 1.1, "c": 1.2}):
        one, two = seen("one", errors, sensors), seen("two", worse, sensors)
        found.append(compare_models([one, two], {"mae": "less"}))
    alone, several = found
    assert alone["n_groups"] == several["n_groups"] == 5
    assert several["pairs"][0]["p"] == pytest.approx(alone["pairs"][0]["p"])
    assert several["pairs"][0]["interval"] == pytest.approx(alone["pairs"][0]["interval"])
    assert [r["rank"] for r in several["ranking"]] == [r["rank"] for r in alone["ranking"]]
